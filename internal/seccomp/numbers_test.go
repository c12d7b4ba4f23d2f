package seccomp

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The table must keep up with x/sys/unix: a call that it does not name is one that nobody decided about.
func TestTableKnowsAllOfXSys(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		needs(t, os.Geteuid() == 0, "the go command and the sources of golang.org/x/sys: "+errorText(err))
	}
	constant := regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)$`)
	for _, arch := range bothArchs {
		src, err := os.ReadFile(filepath.Join(dir, "unix", "zsysnum_linux_"+arch.String()+".go"))
		if err != nil {
			t.Fatal(err)
		}
		matches := constant.FindAllStringSubmatch(string(src), -1)
		if len(matches) < 300 {
			t.Fatalf("%s: only %d numbers found", arch, len(matches))
		}
		known := 0
		for _, m := range matches {
			name := strings.ToLower(m[1])
			number, _ := strconv.Atoi(m[2])
			if name == "arch_specific_syscall" {
				continue // where a range begins, no call
			}
			known++
			c, ok := callNamed(name)
			if !ok {
				t.Errorf("%s: %s (%d) is in x/sys and not in the table: go generate, then give it a group", arch, name, number)
				continue
			}
			if c.number(arch) != number {
				t.Errorf("%s: %s is %d, the table says %d", arch, name, number, c.number(arch))
			}
			if number >= numberLimit {
				t.Errorf("%s: %s has number %d, raise numberLimit", arch, name, number)
			}
		}
		for c := range call(callCount) {
			if c.number(arch) >= 0 {
				known--
			}
		}
		if known != 0 {
			t.Errorf("%s: x/sys has %+d calls more than the table", arch, known)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return "not found"
	}
	return err.Error()
}

// needs skips a test that lacks something, or fails it where the tests must find everything. Set must to false for what this machine or
// user cannot have.
func needs(t *testing.T, must bool, what string) {
	t.Helper()
	if must && os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("cannot: needs %s", what)
}
