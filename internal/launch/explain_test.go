package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// Each errno of clone(2) has a cause of its own, and a next step.
func TestCloneErrors(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{
		unix.EACCES: "security module",
		unix.ENOSPC: "_namespaces",
		unix.EUSERS: "nested 32 deep",
		unix.EAGAIN: "ulimit -u",
		unix.EINVAL: "built without",
		unix.ENOSYS: "system call filter",
		unix.EPERM:  "", // depends on the host; see below
		unix.ENOMEM: "",
	} {
		// As os.StartProcess returns it.
		err := cloneError(&os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: errno})
		var clone *CloneError
		if !errors.As(err, &clone) || !errors.Is(err, errno) {
			t.Errorf("%v became %v of type %T", errno, err, err)
			continue
		}
		if !strings.Contains(err.Error(), errno.Error()) || !strings.Contains(err.Error(), words) {
			t.Errorf("%v: %q does not say %q", errno, err, words)
		}
		if strings.Contains(err.Error(), "/proc/self/exe") {
			t.Errorf("%q names what the user never typed", err)
		}
	}
	if err := cloneError(unix.EPERM); !strings.Contains(err.Error(), ": operation not permitted; ") {
		t.Errorf("EPERM without a hint: %q", err)
	}
	if err := cloneError(unix.ENOMEM); strings.Contains(err.Error(), ";") {
		t.Errorf("a hint where none is known: %q", err)
	}
	if err := cloneError(errors.New("no errno")); !strings.Contains(err.Error(), "no errno") {
		t.Errorf("%q", err)
	}
}

func TestStageErrors(t *testing.T) {
	p := &plan.Plan{Program: plan.Program{Inside: "/box/tool"}, User: plan.User{UID: 1000}, Process: plan.Process{Dir: "/box"}, Hostname: "h"}
	stages := p.Stages()
	last := len(stages) - 1
	host := -1
	for i, st := range stages {
		if st.Op == plan.OpHostname {
			host = i
		}
	}
	for _, c := range []struct {
		name string
		m    plan.Message
		want string
		is   error
	}{
		{
			"only the errno: the stage says what it was about",
			plan.Message{Stage: host, Text: "invalid argument", Errno: int(unix.EINVAL)},
			"name the host h: invalid argument", unix.EINVAL,
		},
		{
			"the text says it better, twice would be too much",
			plan.Message{Stage: host, Text: "name the host h: invalid argument", Errno: int(unix.EINVAL)},
			"name the host h: invalid argument", unix.EINVAL,
		},
		{
			"the program itself",
			plan.Message{Stage: last, Text: "run /box/tool: no such file or directory", Errno: int(unix.ENOENT), NotFound: true},
			"run /box/tool: no such file or directory", unix.ENOENT,
		},
		{
			"it may not be run",
			plan.Message{Stage: last, Text: "run /box/tool: exec format error", Errno: int(unix.ENOEXEC), NotRunnable: true},
			"run /box/tool: exec format error", unix.ENOEXEC,
		},
		{"a stage that is none", plan.Message{Stage: 1000, Text: "what", Errno: int(unix.EIO)}, "what", unix.EIO},
		{"a stage below all", plan.Message{Stage: -1, Text: "what", Errno: int(unix.EIO)}, "what", unix.EIO},
		{"no errno", plan.Message{Stage: host, Text: "what"}, "name the host h: what", nil},
	} {
		err := stageError(p, c.m)
		if !strings.HasSuffix(err.Error(), c.want) || len(err.Error()) > len(c.want)+2 {
			t.Errorf("%s: %q, want %q", c.name, err, c.want)
		}
		var stage *StageError
		if !errors.As(fmt.Errorf("around: %w", err), &stage) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %T that is no %v", c.name, err, c.is)
		}
		if c.is == nil && errors.Unwrap(err) != nil {
			t.Errorf("%s: wraps %v", c.name, errors.Unwrap(err))
		}
	}
}

// A profile that is in force for sbx itself is named where no switch is known.
func TestConfinedHint(t *testing.T) {
	for _, c := range []struct{ current, appArmor, want string }{
		{"", "", ""},
		{"unconfined", "Y", ""},
		{"docker-default (enforce)", "Y", "AppArmor profile docker-default"},
		{"/usr/bin/my tool (enforce)", "Y", "AppArmor profile"},
		{"x (complain)", "Y", ""},
		{"unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", "", ""},
		{"system_u:system_r:container_t:s0:c1,c2\x00", "", "SELinux runs sbx as system_u:system_r:container_t:s0:c1,c2 "},
		{"kernel", "N", ""},
	} {
		if got := confinedHint(c.current, c.appArmor); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%q: %q, want %q", c.current, got, c.want)
		}
	}
}

func TestDiskHint(t *testing.T) {
	p := &plan.Plan{Root: plan.Root{Bounded: true}}
	for i, st := range p.Stages() {
		if st.Op != plan.OpRoot {
			continue
		}
		if err := stageError(p, plan.Message{Stage: i, Text: "x", Errno: int(unix.EINVAL)}); !strings.Contains(err.Error(), "--disk") {
			t.Errorf("%q does not name the flag that it is about", err)
		}
	}
}

// An errno survives the border of a process.
func TestWorkerError(t *testing.T) {
	if err := error(&WorkerError{Text: "copy x: no space", Errno: unix.ENOSPC}); !errors.Is(err, unix.ENOSPC) || err.Error() != "copy x: no space" {
		t.Errorf("%v", err)
	}
	if err := error(&WorkerError{Text: "x"}); errors.Unwrap(err) != nil {
		t.Errorf("no errno wraps %v", errors.Unwrap(err))
	}
}

// The limit that is behind ENOSPC is named with its value.
func TestLimitHint(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"max_net_namespaces", "0\n", "user.max_net_namespaces is 0: ask the administrator for `sysctl user.max_net_namespaces=10000`"},
		{"max_user_namespaces", "1\n", "user.max_user_namespaces is 1"},
		{"max_user_namespaces", "7740\n", "a limit of namespaces is reached: see user.max_user_namespaces"},
		{"max_mnt_namespaces", "many", "a limit of namespaces is reached"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := limitHint(dir); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s with %q: %q", c.file, c.text, got)
		}
	}
}
