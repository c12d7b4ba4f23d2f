package main_test

import (
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// careless is the first process of a container that waits for nobody but the child
// that it started, and then counts the zombies.
const careless = `
import os, sys
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    status = os.waitpid(pid, 0)[1]
    if status:
        sys.exit("sbx ended with %d" % status)
zombies = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    text = open("/proc/%s/stat" % pid).read()
    if text.rpartition(")")[2].split()[0] == "Z":
        zombies.append(text)
print("zombies:", *zombies)
`

// In a container whose first process reaps nobody a run leaves no zombie.
func TestNoZombieInAContainer(t *testing.T) {
	sbxtest.Need(t, sbxtest.Root(), sbxtest.Program("unshare"), sbxtest.Program("python3"))
	box := sbxtest.New(t)
	box.MustRun(t, "run", "true") // makes the image
	box.Prefix = []string{"unshare", "--pid", "--fork", "--mount-proc", "python3", "-c", careless}
	if result := box.MustRun(t, "run", "true"); result.Stdout != "zombies:\n" {
		t.Errorf("left behind: %v", result)
	}
}
