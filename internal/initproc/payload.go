package initproc

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/landlock"
)

// securebits keep uid 0 from meaning anything (NOROOT, NO_SETUID_FIXUP,
// NO_CAP_AMBIENT_RAISE, each locked; capabilities(7)). A fake root needs the
// first two unset, or its capabilities would be gone at the next execve.
const (
	securebitsUser     = 0x01 | 0x02 | 0x04 | 0x08 | 0x40 | 0x80
	securebitsFakeRoot = 0x40 | 0x80
)

// lastCapability is asked for by trying in dropBounding: a number that the
// kernel does not know ends the list (EINVAL).
const lastCapability = 63

// payload is a program of system calls on its way to execve, and what has to
// stay open until then.
type payload struct {
	forkexec.Program
	gate    [2]int // the child reads from [0] until pid 1 has written U2's maps
	ruleset int
}

// compose lists what happens between clone(2) and execve(2), in U2 and in a
// mount namespace of U2's. The order is that of necessity: capabilities are
// needed to become the user and to drop the bounding set, and the filter comes
// last since it refuses half of what stands above it.
func (p *process) compose(file string) (*payload, error) {
	pl := &payload{ruleset: -1}
	if err := unix.Pipe2(pl.gate[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make the gate: %w", err)
	}
	// The child has a copy of the end that is written to: with it open, pid 1's
	// giving up would never be an end of file.
	pl.Add("close the gate's other end", unix.SYS_CLOSE, uintptr(pl.gate[1]))
	var goAhead byte
	pl.AddStep(forkexec.Step{Text: "wait for the id maps", Trap: unix.SYS_READ, Want: 1},
		uintptr(pl.gate[0]), pl.Pointer(unsafe.Pointer(&goAhead)), 1)
	if p.slave >= 0 {
		for fd := range 3 {
			pl.Add("take the terminal", unix.SYS_DUP3, uintptr(p.slave), uintptr(fd), 0)
		}
	}
	// Without this the payload possesses the login session's keyring, Kerberos
	// tickets included: keyrings are in no namespace (SECURITY B7).
	pl.AddStep(forkexec.Step{Text: "join a keyring of its own", Trap: unix.SYS_KEYCTL, Tolerate: unix.ENOSYS},
		unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	p.addInherited(pl)
	p.addIdentity(pl)
	if err := p.addLocks(pl); err != nil {
		return nil, err
	}
	return pl, p.addExec(pl, file)
}

// addInherited sets or resets what execve(2) would pass on.
func (p *process) addInherited(pl *payload) {
	for _, r := range p.plan.Process.Rlimits {
		limit := &unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		pl.Add("set the limit "+r.Name, unix.SYS_PRLIMIT64, 0, uintptr(r.Resource), pl.Pointer(unsafe.Pointer(limit)), 0)
	}
	pl.Add("set the umask", unix.SYS_UMASK, 0o022)
	pl.Add("set the default personality", unix.SYS_PERSONALITY, 0)
	// A signal that the caller ignores stays ignored through execve: SIGHUP
	// under nohup, SIGPIPE under some shells, SIGCHLD (bwrap 0.11.1).
	type sigaction struct{ handler, flags, restorer, mask uintptr }
	byDefault := pl.Pointer(unsafe.Pointer(&sigaction{}))
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			pl.Add("reset a signal", unix.SYS_RT_SIGACTION, sig, byDefault, 0, 8)
		}
	}
}

// addIdentity turns the child, which has every capability of U2 and no name,
// into the user.
func (p *process) addIdentity(pl *payload) {
	uid, gid := uintptr(p.plan.User.UID), uintptr(p.plan.User.GID)
	if p.plan.Identity.SetGroups {
		pl.Add("clear the groups", unix.SYS_SETGROUPS, 0, 0)
	}
	pl.Add(fmt.Sprintf("become group %d", gid), unix.SYS_SETRESGID, gid, gid, gid)
	pl.Add(fmt.Sprintf("become user %d", uid), unix.SYS_SETRESUID, uid, uid, uid)
	// A change of ids sets the memory's "dumpable" to fs.suid_dumpable, and the
	// memory is pid 1's until execve: see the comment of package forkexec.
	pl.Add("hide pid 1's memory", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)

	bits := uintptr(securebitsUser)
	var keep uint64
	for _, c := range p.plan.Process.Capabilities {
		keep |= 1 << c
		bits = securebitsFakeRoot
	}
	for c := uintptr(0); c <= lastCapability; c++ {
		if keep&(1<<c) == 0 {
			pl.AddStep(forkexec.Step{Text: "drop a capability for good", Trap: unix.SYS_PRCTL, Tolerate: unix.EINVAL},
				unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
	}
	pl.Add("lock the securebits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, bits, 0, 0, 0)
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		half := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: half, Permitted: half}
	}
	// Lowering the permitted set clears the ambient one, which Go had filled so
	// that pid 1 came through its own execve.
	pl.Add("drop the capabilities", unix.SYS_CAPSET, pl.Pointer(unsafe.Pointer(header)), pl.Pointer(unsafe.Pointer(data)))
}

// addLocks adds the layers that only ever get tighter.
func (p *process) addLocks(pl *payload) error {
	dir, err := pl.String(".")
	if err != nil {
		return err
	}
	// pid 1 is there already, see enterDir. Again as the user, so that a
	// directory he may not enter is refused.
	pl.Add("go to the working directory "+p.plan.Process.Dir, unix.SYS_CHDIR, dir)
	pl.Add("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if p.plan.Process.LandlockABI > 0 {
		rules := make([]landlock.Rule, len(p.plan.Process.Landlock))
		for i, r := range p.plan.Process.Landlock {
			rules[i] = landlock.Rule{Path: r.Path, Access: landlockAccess(r.Access)}
		}
		if pl.ruleset, err = landlock.Ruleset(p.plan.Process.LandlockABI, rules); err != nil {
			return err
		}
		pl.Add("apply the Landlock rules", unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(pl.ruleset), 0)
	}
	// Everything here is opened close-on-exec; this is for what is not ours: a
	// descriptor that the caller left open (CVE-2024-21626). Linux 5.10 lacks
	// the flag and gives EINVAL.
	pl.AddStep(forkexec.Step{Text: "close what was inherited", Trap: unix.SYS_CLOSE_RANGE, Tolerate: unix.EINVAL},
		3, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	none := pl.Pointer(unsafe.Pointer(new(uint64)))
	pl.Add("unblock the signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, none, 0, 8)
	return p.addFilter(pl)
}

func landlockAccess(word string) landlock.Access {
	switch word {
	case "write":
		return landlock.Write
	case "device":
		return landlock.Device
	default:
		return landlock.Read
	}
}

func (p *process) addFilter(pl *payload) error {
	filter, err := buildFilter(p.plan.Process.Seccomp)
	if err != nil || filter == nil {
		return err
	}
	prog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	pl.Add("install the system call filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, pl.Pointer(unsafe.Pointer(prog)))
	return nil
}

func (p *process) addExec(pl *payload, file string) error {
	path, err := pl.String(file)
	if err != nil {
		return err
	}
	argv, err := pl.Strings(p.plan.Process.Args)
	if err != nil {
		return err
	}
	envv, err := pl.Strings(p.plan.Process.Env)
	if err != nil {
		return err
	}
	pl.Add("run "+file, unix.SYS_EXECVE, path, argv, envv)
	return nil
}

// runError says that the program itself could not be executed, as opposed to
// something on the way there.
type runError struct {
	notFound bool
	err      error
}

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// start clones the payload into U2, writes U2's maps and lets it go. It returns
// once execve(2) has succeeded.
func (p *process) start() (pid int, err error) {
	if err := p.enterDir(); err != nil {
		return 0, err
	}
	// pid 1 needs it for the clone only.
	defer func() { _ = unix.Chdir("/") }()
	file, err := p.locate()
	if err != nil {
		return 0, err
	}
	pl, err := p.compose(file)
	if err != nil {
		return 0, err
	}
	child, err := forkexec.Start(&pl.Program, unix.CLONE_NEWUSER|unix.CLONE_NEWNS)
	if err != nil {
		return 0, fmt.Errorf("make the program's own user namespace: %w", err)
	}
	_ = unix.Close(pl.gate[0])
	err = p.admit(child.Pid, pl.gate[1])
	_ = unix.Close(pl.gate[1])
	if waitErr := child.Wait(); err == nil {
		err = waitErr
	}
	runtime.KeepAlive(pl)
	if pl.ruleset >= 0 {
		_ = unix.Close(pl.ruleset)
	}
	var step *forkexec.StepError
	if errors.As(err, &step) && step.Index == len(pl.Steps())-1 {
		return 0, &runError{notFound: errors.Is(err, unix.ENOENT), err: err}
	}
	return child.Pid, err
}

// admit does to the child what only its parent can, and opens the gate.
func (p *process) admit(pid, gate int) error {
	if err := p.writeMaps(pid); err != nil {
		return err
	}
	// A process group of its own in pid 1's session: its parent is of the same
	// session and another group, so the group is not orphaned and Ctrl-Z stops
	// it as it would outside (setpgid(2), POSIX 2.4.3).
	if err := unix.Setpgid(pid, pid); err != nil {
		return fmt.Errorf("give the program a process group: %w", err)
	}
	if p.slave >= 0 {
		if err := unix.IoctlSetPointerInt(p.slave, unix.TIOCSPGRP, pid); err != nil {
			return fmt.Errorf("bring the program to the foreground: %w", err)
		}
	}
	if _, err := unix.Write(gate, []byte{1}); err != nil {
		return fmt.Errorf("open the gate: %w", err)
	}
	return nil
}
