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

	"github.com/sbx-run/sbx/internal/initproc"
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
		err  error
		want string
		is   error
	}{
		{
			"only the errno: the stage says what it was about",
			&initproc.StageError{Stage: host, Err: failure{"invalid argument", unix.EINVAL}},
			"name the host h: invalid argument", unix.EINVAL,
		},
		{
			"the text says it better, twice would be too much",
			&initproc.StageError{Stage: host, Err: failure{"name the host h: invalid argument", unix.EINVAL}},
			"name the host h: invalid argument", unix.EINVAL,
		},
		{
			"the program itself",
			notRun(last, true, failure{"run /box/tool: no such file or directory", unix.ENOENT}),
			"run /box/tool: no such file or directory", unix.ENOENT,
		},
		{
			"it may not be run",
			notRun(last, false, failure{"run /box/tool: exec format error", unix.ENOEXEC}),
			"run /box/tool: exec format error", unix.ENOEXEC,
		},
		{"a stage that is none", &initproc.StageError{Stage: 1000, Err: failure{"what", unix.EIO}}, "what", unix.EIO},
		{"a stage below all", &initproc.StageError{Stage: -1, Err: failure{"what", unix.EIO}}, "what", unix.EIO},
		{"no errno", &initproc.StageError{Stage: host, Err: failure{"what", 0}}, "name the host h: what", nil},
	} {
		err := stageError(p, c.err)
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
		if err := stageError(p, &initproc.StageError{Stage: i, Err: failure{"x", unix.EINVAL}}); !strings.Contains(err.Error(), "--disk") {
			t.Errorf("%q does not name the flag that it is about", err)
		}
	}
}

// failure is an error with a text of its own and an errno, 0 for none.
type failure struct {
	text  string
	errno unix.Errno
}

func (f failure) Error() string { return f.text }

func (f failure) Unwrap() error {
	if f.errno == 0 {
		return nil
	}
	return f.errno
}

func notRun(stage int, notFound bool, err error) error {
	return &initproc.StageError{Stage: stage, Err: initproc.NewRunError(notFound, err)}
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

// A store on a noexec file system serves as layers only: without an overlay it has
// to be elsewhere. No security module is to blame then.
func TestNoexecRoot(t *testing.T) {
	p := &plan.Plan{}
	for i, st := range p.Stages() {
		if st.Op != plan.OpRoot {
			continue
		}
		err := stageError(p, &initproc.StageError{Stage: i, Err: failure{"overlay: operation not permitted; full: the file system of /x allows no programs (noexec): permission denied", unix.EPERM}})
		if text := err.Error(); !strings.Contains(text, "permission denied; ") || !strings.Contains(text, "set XDG_DATA_HOME") {
			t.Errorf("no next step in %q", text)
		}
		return
	}
	t.Fatal("no stage makes the root")
}
