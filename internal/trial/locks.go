package trial

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/seccomp"
)

// locks does what stands between clone and execve of a program, each verified.
// The filter comes last, since it refuses the others.
func (t *tester) locks() {
	t.check(Keyring, newKeyring(), "a new session keyring was joined")
	t.check(Rlimits, coreLimit(), "core dumps were switched off (RLIMIT_CORE 1)")
	if t.job.Payload {
		t.third()
		if err := become(payload(t.job.Identity).UID, payload(t.job.Identity).GID); err != nil {
			t.fail(Caps, err)
			return
		}
	}
	left, err := dropCapabilities()
	t.check(Caps, err, "%s", left)
	if t.job.Payload {
		n, err := forkLimit()
		t.check(Nproc, err, "with a limit of %[2]d the process number %[1]d was refused (RLIMIT_NPROC)", n, n-1)
	}
	t.check(NNP, noNewPrivs(), "no_new_privs was set and read back")
	if t.job.LandlockABI > 0 {
		t.check(Landlock, restrict(t.job.LandlockABI), "ABI %d: rules applied, a write outside of them was refused", t.job.LandlockABI)
	}
	n, err := filter()
	t.check(Seccomp, err, "the default filter was installed (%d instructions): unshare gave EPERM, an unknown call ENOSYS", n)
}

// newKeyring leaves the login session's keyring for an anonymous one.
func newKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if errors.Is(err, unix.ENOSYS) {
		return nil // no keyrings in this kernel, nothing to leave
	}
	return err
}

func coreLimit() error {
	one := unix.Rlimit{Cur: 1, Max: 1}
	return unix.Prlimit(0, unix.RLIMIT_CORE, &one, nil)
}

// third must fail: the limit that pid 1 set is used up by the program's own
// user namespace.
func (t *tester) third() {
	var p forkexec.Program
	p.Add("end", unix.SYS_EXIT_GROUP, 0)
	child, err := forkexec.Start(&p, unix.CLONE_NEWUSER)
	if err == nil {
		_ = child.Wait()
		_, _ = unix.Wait4(child.Pid, nil, 0, nil)
		t.fail(Third, errors.New("a third user namespace could be made inside"))
		return
	}
	var errno unix.Errno
	if errors.As(err, &errno) && (errno == unix.ENOSPC || errno == unix.EPERM || errno == unix.EUSERS) {
		t.ok(Third, "a further one was refused (%s)", unix.ErrnoName(errno))
		return
	}
	t.fail(Third, err)
}

// become takes the ids of the program, on this thread.
func become(uid, gid uint32) error {
	for _, call := range []struct {
		text string
		trap uintptr
		id   uint32
	}{{"group", unix.SYS_SETRESGID, gid}, {"user", unix.SYS_SETRESUID, uid}} {
		// The call of package unix would change all threads; this one is
		// the only one that matters and ends with the process.
		if _, _, errno := unix.RawSyscall(call.trap, uintptr(call.id), uintptr(call.id), uintptr(call.id)); errno != 0 {
			return fmt.Errorf("become %s %d: %w", call.text, call.id, errno)
		}
	}
	return nil
}

// lastCapability is above all that exist; the kernel says EINVAL past its own.
const lastCapability = 63

// dropCapabilities empties every set of this thread and reads them back.
func dropCapabilities() (text string, err error) {
	for c := uintptr(0); c <= lastCapability; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break
		}
		// Without a user namespace there is no right to drop any.
		if err != nil && !errors.Is(err, unix.EPERM) {
			return "", fmt.Errorf("drop capability %d for good: %w", c, err)
		}
	}
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(header, &none[0]); err != nil {
		return "", fmt.Errorf("drop the capabilities: %w", err)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return "", err
	}
	sets := map[string]string{}
	for line := range strings.Lines(string(status)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.HasPrefix(name, "Cap") {
			sets[name] = strings.TrimSpace(value)
		}
	}
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if strings.Trim(sets[name], "0") != "" {
			return "", fmt.Errorf("%s is %s after dropping all", name, sets[name])
		}
	}
	if strings.Trim(sets["CapBnd"], "0") != "" {
		return "dropped; the bounding set can be emptied only in a user namespace", nil
	}
	return "all five sets of capabilities are empty", nil
}

// headroom is how many processes the limit leaves beyond the threads there are.
const headroom = 8

// forkLimit sets a small RLIMIT_NPROC and starts processes until one is
// refused. It returns how many there were with that one.
func forkLimit() (int, error) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &old); err != nil {
		return 0, err
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	limit := unix.Rlimit{Cur: uint64(len(threads) + headroom), Max: old.Max}
	if limit.Cur > limit.Max {
		return 0, fmt.Errorf("your own limit of processes is %d (`ulimit -u`): %w", limit.Max, unix.EAGAIN)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NPROC, &limit, nil); err != nil {
		return 0, err
	}
	defer func() { _ = unix.Prlimit(0, unix.RLIMIT_NPROC, &old, nil) }()
	var p forkexec.Program
	p.Add("sleep", unix.SYS_PPOLL, 0, 0, 0, 0, 0)
	var children []*forkexec.Child
	defer func() {
		for _, c := range children {
			_ = unix.Kill(c.Pid, unix.SIGKILL)
			_ = c.Wait()
			_, _ = unix.Wait4(c.Pid, nil, 0, nil)
		}
	}()
	for range 4 * headroom {
		c, err := forkexec.Start(&p, 0)
		if errors.Is(err, unix.EAGAIN) {
			return int(limit.Cur) + 1, nil
		}
		if err != nil {
			return 0, err
		}
		children = append(children, c)
	}
	return 0, fmt.Errorf("%d processes started under a limit of %d", len(children)+len(threads), limit.Cur)
}

func noNewPrivs() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	value, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err == nil && value != 1 {
		err = fmt.Errorf("it reads %d after it was set", value)
	}
	return err
}

// restrict applies rules that allow reading only, and tries to write.
func restrict(abi int) error {
	fd, err := landlock.Ruleset(abi, []landlock.Rule{{Path: "/", Access: landlock.Read}})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); errno != 0 {
		return fmt.Errorf("apply the rules: %w", errno)
	}
	file, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(file)
		return errors.New("the rules were applied and a write outside of them was allowed")
	}
	return nil
}

// unknownCall is a number that no kernel has.
const unknownCall = 0x3fff_0000

// filter installs the default system call filter on this thread and returns
// its length.
func filter() (int, error) {
	prog, err := seccomp.Build(seccomp.Options{Profile: seccomp.Default})
	if err != nil {
		return 0, err
	}
	fprog := &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(fprog))); errno != 0 {
		return 0, fmt.Errorf("install the filter: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0); errno != unix.EPERM {
		return 0, fmt.Errorf("the filter is installed and unshare gives %q", errno)
	}
	if _, _, errno := unix.RawSyscall(unknownCall, 0, 0, 0); errno != unix.ENOSYS {
		return 0, fmt.Errorf("the filter is installed and an unknown call gives %q", errno)
	}
	return len(prog), nil
}
