package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/initproc"
	"github.com/sbx-run/sbx/internal/plan"
)

// cloneError adds the cause to the errno of a refused clone(2). Each errno has
// its own meaning in clone(2) and user_namespaces(7); which switch of this host
// is behind it is read only now, when something has gone wrong.
func cloneError(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("start a process in new namespaces: %w", err)
	}
	e := &CloneError{Errno: errno}
	switch errno {
	case unix.EPERM:
		e.Hint = permissionHint()
	case unix.EACCES:
		e.Hint = "a security module forbids user namespaces to this program"
		if hint := RestrictedHint(); hint != "" {
			e.Hint += ": " + hint
		}
	case unix.ENOSPC:
		e.Hint = limitHint(procSysUser)
	case unix.EUSERS:
		e.Hint = "user namespaces are nested 32 deep already, or this user has too many: leave the outer sandboxes"
	case unix.EAGAIN:
		e.Hint = "the limit of processes (`ulimit -u`) or the cgroup's pids.max is reached"
	case unix.EINVAL:
		e.Hint = "this kernel was built without one of the namespaces: user, pid, net, ipc, uts and cgroup are needed"
	case unix.ENOSYS:
		e.Hint = "an outer container's system call filter hides clone(2) with namespaces"
	}
	return e
}

// procSysUser has the limits of namespaces, see namespaces(7).
const procSysUser = "/proc/sys/user"

// fewNamespaces is less than what a handful of sandboxes and a browser need.
const fewNamespaces = 64

// limitHint names the limit of namespaces that is low enough to be the cause. The
// kernel tells ENOSPC for any of them.
func limitHint(dir string) string {
	for _, kind := range []string{"user", "pid", "mnt", "uts", "ipc", "net", "cgroup"} {
		name := "max_" + kind + "_namespaces"
		limit, err := strconv.Atoi(value(filepath.Join(dir, name)))
		if err == nil && limit < fewNamespaces {
			return fmt.Sprintf("user.%s is %d: ask the administrator for `sysctl user.%s=10000`", name, limit, name)
		}
	}
	return "a limit of namespaces is reached: see user.max_user_namespaces and its neighbours, and whether sbx runs inside a sandbox that allows no further one"
}

func permissionHint() string {
	if value("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
		return "kernel.unprivileged_userns_clone is 0 on this host: ask the administrator for `sysctl kernel.unprivileged_userns_clone=1`"
	}
	if hint := RestrictedHint(); hint != "" {
		return hint
	}
	if inChroot() {
		return "sbx runs in a chroot, where the kernel refuses user namespaces: start it from the real root"
	}
	return "the host forbids user namespaces, or the container, chroot or sandbox that sbx runs in (there is no sandbox inside of one of sbx): for docker and podman see --security-opt seccomp=unconfined"
}

// appArmorHint is Ubuntu's restriction, since 23.10.
func appArmorHint() string {
	if value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != "1" {
		return ""
	}
	return "kernel.apparmor_restrict_unprivileged_userns is 1, so an AppArmor profile with `userns` for the path of this program is needed; `sbx doctor --admin` prints it for the administrator"
}

// inChroot: the kernel refuses a user namespace to a process whose root is not
// that of its mount namespace, see user_namespaces(7).
func inChroot() bool {
	var here, init unix.Stat_t
	if unix.Stat("/", &here) != nil || unix.Stat("/proc/1/root/.", &init) != nil {
		return false
	}
	return here.Dev != init.Dev || here.Ino != init.Ino
}

func value(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// StageError is what pid 1 reported: the stage, in the words of the plan, and
// the errno.
type StageError struct {
	Stage plan.Stage
	Text  string // finer than the stage's own text, and ends in the errno's
	Errno syscall.Errno
	Hint  string
	// NotFound and NotRunnable: it is the program itself that could not be run.
	NotFound, NotRunnable bool
}

func (e *StageError) Error() string {
	text := e.Text
	if !strings.HasPrefix(text, e.Stage.Text) && !e.NotFound && !e.NotRunnable && !strings.Contains(e.Stage.Text, firstWord(text)) {
		text = e.Stage.Text + ": " + text
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap makes errors.Is work across the process border.
func (e *StageError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

// stageError puts an error of pid 1's into the words of the plan.
func stageError(p *plan.Plan, err error) error {
	e := &StageError{Text: err.Error()}
	_ = errors.As(err, &e.Errno)
	var run *initproc.RunError
	if errors.As(err, &run) {
		e.NotFound, e.NotRunnable = run.NotFound, !run.NotFound
	}
	var at *initproc.StageError
	if stages := p.Stages(); errors.As(err, &at) && at.Stage >= 0 && at.Stage < len(stages) {
		e.Stage = stages[at.Stage]
	}
	if (e.Errno == unix.EPERM || e.Errno == unix.EACCES) && !e.NotRunnable {
		// The restricted user namespace of Ubuntu can be made and gives no
		// rights, so what fails is the first step that needs one.
		e.Hint = RestrictedHint()
	}
	if e.Stage.Op == plan.OpRoot && strings.Contains(e.Text, "(noexec)") {
		// The errno is that of the overlay, which was tried first.
		e.Hint = "a root lies on a file system that is mounted without noexec: set XDG_DATA_HOME to a directory on one, where the store is the reason"
	}
	if e.Errno == unix.EROFS && strings.Contains(e.Text, "/proc/sys/") {
		e.Hint = "/proc/sys is read-only, as is usual inside a container; start that container with --security-opt unmask=ALL (podman) or --security-opt systempaths=unconfined (docker)"
	}
	if e.Errno == unix.ENOSPC && strings.Contains(e.Text, "namespace") {
		e.Hint = limitHint(procSysUser) // clone(2); the host's limits hold in a namespace below too
	}
	if e.Stage.Op == plan.OpRoot && p.Root.Bounded {
		e.Hint = "--disk needs an overlay in a user namespace, which this kernel or file system does not give (Linux 5.11 or newer)"
	}
	return e
}
