package main_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

const (
	killRounds = 60
	// A run is set up within about this time; a round's moment of death is
	// drawn from it, so that every stage is hit now and then.
	killWindow = 250 * time.Millisecond
)

// SIGKILL of any of the three processes at any moment leaves no process behind,
// no mount, and no file that the next run or gc does not collect; neither in
// the store nor in a directory that was shared for writing.
func TestRandomKills(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	box.Dir = probeDir(t)
	box.MustRun(t, "run", "true")
	kept := box.Sandboxes(t)
	project := projectDir(t)
	before, mounts := tree(t, project), readFile(t, "/proc/self/mountinfo")
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for round := range killRounds {
		killOnce(t, box, random, round, project)
		if t.Failed() {
			return
		}
		if round%10 == 9 {
			box.MustRun(t, "gc")
			if left := box.Sandboxes(t); !slices.Equal(left, kept) {
				t.Fatalf("after gc the store has %v, before %v", left, kept)
			}
		}
	}
	box.MustRun(t, "run", "true")
	if after := tree(t, project); !slices.Equal(before, after) {
		t.Errorf("the shared directory changed:\n%v\n%v", before, after)
	}
	for line := range strings.Lines(readFile(t, "/proc/self/mountinfo")) {
		// Others may mount things meanwhile; what a run left names its store
		// or the directory that it shared.
		ours := strings.Contains(line, box.Home) || strings.Contains(line, project)
		if ours && !strings.Contains(mounts, line) {
			t.Errorf("a mount was left: %s", line)
		}
	}
}

func killOnce(t *testing.T, box sbxtest.Sandbox, random *rand.Rand, round int, project string) {
	t.Helper()
	mark := fmt.Sprintf("%d.%d", 90000+round, os.Getpid())
	args := []string{"run"}
	if os.Geteuid() != 0 && round%3 == 0 {
		args = append(args, "--rw", project+":/project")
	}
	args = append(args, "./probe", "sleep", mark)
	cmd := box.Command(t, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(random.Int64N(int64(killWindow))))
	family := descendants(cmd.Process.Pid)
	victim := family[random.IntN(len(family))]
	_ = syscall.Kill(victim.pid, syscall.SIGKILL)

	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if victim.pid != cmd.Process.Pid {
		// When a helper of the set-up was hit, or a process that had ended
		// by itself, the run may be alive and well: end it.
		time.Sleep(100 * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-done:
	case <-time.After(sbxtest.Patience(20 * time.Second)):
		t.Errorf("round %d: sbx hangs after the death of %v\n%s", round, victim, stderr.String())
		_ = cmd.Process.Kill()
		<-done
	}
	deadline := time.Now().Add(sbxtest.Patience(10 * time.Second))
	for {
		alive := slices.DeleteFunc(slices.Clone(family), func(p process) bool { return !p.alive() })
		marked := processesWith(mark)
		if len(alive) == 0 && len(marked) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("round %d: after the death of %v these live on: %v %v", round, victim, alive, marked)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// process is one process, told from a later one with the same number by the
// time of its start.
type process struct {
	pid   int
	start string
	name  string
}

func (p process) String() string { return fmt.Sprintf("%s (%d)", p.name, p.pid) }

// alive says whether the process is there and no zombie: one that waits for
// its parent to read its status is as good as gone.
func (p process) alive() bool {
	now, _, state, err := readStat(p.pid)
	return err == nil && now.start == p.start && state != "Z" && state != "X"
}

// readStat reads /proc/PID/stat; see proc_pid_stat(5). The name in parentheses
// may hold anything, so the fields are counted from the last one on.
func readStat(pid int) (p process, parent int, state string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, 0, "", err
	}
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if open < 0 || len(fields) < 20 {
		return p, 0, "", fmt.Errorf("odd stat line %q", data)
	}
	parent, err = strconv.Atoi(fields[1])
	return process{pid: pid, start: fields[19], name: string(data[open+1 : end])}, parent, fields[0], err
}

// descendants returns the process and everything below it, itself first.
func descendants(root int) []process {
	parents := map[int][]process{}
	var top process
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		p, parent, _, err := readStat(pid)
		if err != nil {
			continue
		}
		if pid == root {
			top = p
		}
		parents[parent] = append(parents[parent], p)
	}
	family := []process{top}
	for i := 0; i < len(family); i++ {
		family = append(family, parents[family[i].pid]...)
	}
	return family
}

// projectDir looks like a checkout: sbx holds the places of files that the
// host's git would execute.
func projectDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := exec.LookPath("git"); err == nil {
		if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	} else {
		bareRepository(t, filepath.Join(dir, ".git"))
	}
	if err := os.WriteFile(filepath.Join(dir, "main.c"), []byte("int main;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// bareRepository makes what git wants to see of a repository, on a host without git.
func bareRepository(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{"objects", "refs", "hooks"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"HEAD": "ref: refs/heads/main\n", "config": "[core]\n\trepositoryformatversion = 0\n"} {
		writeFile(t, filepath.Join(dir, name), text)
	}
}

// tree lists a directory with modes and sizes.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size := info.Size()
		if entry.IsDir() {
			size = 0
		}
		list = append(list, fmt.Sprintf("%s %v %d", strings.TrimPrefix(path, dir), info.Mode(), size))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
