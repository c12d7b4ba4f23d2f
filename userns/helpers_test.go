package userns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// put makes an executable file in a directory of its own.
func put(t *testing.T, name string, mode os.FileMode, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindHelpersNotInstalled(t *testing.T) {
	_, err := findHelpers([]string{t.TempDir(), "/proc/self/no/such", "/etc/passwd"})
	if !errors.Is(err, ErrNotInstalled) || err.Error() != "find newuidmap: not installed" {
		t.Errorf("got %v", err)
	}
}

// Whatever a user can change is not root's, and is named as such even if setuid.
func TestFindHelpersUnsafe(t *testing.T) {
	path := put(t, "newuidmap", 0o757|os.ModeSetuid, "")
	_, err := findHelpers([]string{filepath.Dir(path)})
	if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestFindHelpersAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("cannot: needs files of root's")
	}
	for _, test := range []struct {
		name      string
		mode, dir os.FileMode
		want      error
	}{
		{"setuid root", 0o755 | os.ModeSetuid, 0o755, nil},
		{"not setuid", 0o755, 0o755, ErrNotPrivileged},
		{"setgid only", 0o755 | os.ModeSetgid, 0o755, ErrNotPrivileged},
		{"written by all", 0o757 | os.ModeSetuid, 0o755, ErrUnsafe},
		{"directory written by all", 0o755 | os.ModeSetuid, 0o777, ErrUnsafe},
		{"the same, sticky", 0o755 | os.ModeSetuid, 0o777 | os.ModeSticky, ErrUnsafe},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"newuidmap", "newgidmap"} {
				if err := os.Rename(put(t, name, test.mode, ""), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, test.dir); err != nil {
				t.Fatal(err)
			}
			h, err := findHelpers([]string{"/nonexistent", dir})
			if test.want == nil && mountedNosuid(t, dir) {
				test.want = ErrNotPrivileged
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v, want %v", h, err, test.want)
			}
			// A link elsewhere is judged by where it leads, and resolved.
			links := t.TempDir()
			for _, name := range []string{"newuidmap", "newgidmap"} {
				if err := os.Symlink(filepath.Join(dir, name), filepath.Join(links, name)); err != nil {
					t.Fatal(err)
				}
			}
			linked, err := findHelpers([]string{links})
			if !errors.Is(err, test.want) || linked != h {
				t.Errorf("by links: got %+v, %v, want %+v, %v", linked, err, h, test.want)
			}
		})
	}
}

func mountedNosuid(t *testing.T, path string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Flags&unix.ST_NOSUID != 0
}

// A file capability is as good as the setuid bit, if it is the right one.
func TestFileCapability(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("cannot: needs CAP_SETFCAP")
	}
	path := put(t, "newuidmap", 0o755, "")
	// Revision 2, effective flag; permitted CAP_SETUID; the rest zero.
	data := make([]byte, 20)
	data[0], data[3], data[4] = 1, 2, 1<<unix.CAP_SETUID
	if err := unix.Setxattr(path, "security.capability", data, 0); err != nil {
		skip(t, "security.capability on "+path+": "+err.Error())
	}
	if !hasFileCapability(path, unix.CAP_SETUID) || hasFileCapability(path, unix.CAP_SETGID) {
		t.Error("CAP_SETUID alone was not read back")
	}
}

// starters are the two ways to start a helper, which have the same manners.
func starters() map[string]func(timeout time.Duration, path string) error {
	return map[string]func(time.Duration, string) error{
		"for its answer": func(timeout time.Duration, path string) error { return startHelper(timeout, path).wait() },
		"for its deed":   func(timeout time.Duration, path string) error { return startMapHelper(forkExec, timeout, path).wait() },
	}
}

// A helper that ended in time did so, however late somebody asks.
func TestHelperThatIsWaitedForLate(t *testing.T) {
	h := startMapHelper(forkExec, time.Hour, put(t, "newuidmap", 0o755, "exit 3"))
	if err := unix.Waitid(unix.P_PID, h.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	h.kill()
	if err := h.wait(); err == nil || !strings.HasSuffix(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestStartHelper(t *testing.T) {
	for how, start := range starters() {
		t.Run(how, func(t *testing.T) { testStartHelper(t, start) })
	}
}

func testStartHelper(t *testing.T, start func(time.Duration, string) error) {
	for _, test := range []struct {
		name, script string
		want         string
	}{
		{"success", "exit 0", ""},
		{"silent failure", "exit 3", "exit status 3"},
		{"message with control characters", `printf 'no\033[31m way\n' >&2; exit 1`, `exit status 1: "no\x1b[31m way"`},
		{"environment and directory", `test "$(env | grep -vc -e ^LC_ALL=C -e ^PATH= -e ^PWD= -e ^_=)" = 0 && test "$(pwd)" = /`, ""},
		{"stdin is empty", "read x && exit 1; exit 0", ""},
		{"endless message", "head -c 1000000 /dev/zero >&2; exit 1", "exit status 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("LD_PRELOAD_TEST", "x")
			path := put(t, "helper", 0o755, test.script)
			err := start(10*time.Second, path)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var failed *HelperError
			if !errors.As(err, &failed) || failed.Path != path {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(err.Error(), "run "+path+": "+test.want) || len(failed.Stderr) > maxHelperMessage {
				t.Errorf("got %.500q", err)
			}
		})
	}
}

func TestStartHelperTimeout(t *testing.T) {
	path := put(t, "helper", 0o755, "exec sleep 100")
	for how, start := range starters() {
		begun := time.Now()
		if err := start(50*time.Millisecond, path); err == nil || time.Since(begun) > 5*time.Second {
			t.Errorf("%s: after %v: %v", how, time.Since(begun), err)
		}
	}
}

func TestStartHelperMissing(t *testing.T) {
	for how, start := range starters() {
		if err := start(time.Second, "/nonexistent/newuidmap"); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: got %v", how, err)
		}
	}
}

func TestHelperArgs(t *testing.T) {
	got := strings.Join(helperArgs(42, Map{{0, 1001, 1}, {1, 100000, 65536}}), " ")
	if got != "42 0 1001 1 1 100000 65536" {
		t.Error(got)
	}
}
