package initproc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/quote"
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
	ruleset int
}

// compose lists what happens between clone(2) and execve(2), in U2 and in a
// mount namespace of U2's. The order is that of necessity: capabilities are
// needed to become the user and to drop the bounding set, and the filter comes
// last since it refuses half of what stands above it.
func (p *process) compose(file string) (*payload, error) {
	pl := &payload{ruleset: -1}
	// The child has a copy of the end that is written to: with it open, the
	// supervisor's giving up would never be an end of file.
	pl.Add("close the gate's other end", unix.SYS_CLOSE, uintptr(p.gate[1]))
	p.addGate(pl, "wait for the id maps")
	if p.slave >= 0 {
		fds := 3
		if p.plan.Process.ErrorsApart {
			fds = 2
		}
		for fd := range fds {
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

// addGate adds a step that waits for [Setup.openGate].
func (p *process) addGate(pl *payload, text string) {
	pl.AddStep(forkexec.Step{Text: text, Trap: unix.SYS_READ, Want: 1},
		uintptr(p.gate[0]), pl.Pointer(unsafe.Pointer(new(byte))), 1)
}

// addInherited sets or resets what execve(2) would pass on.
func (p *process) addInherited(pl *payload) {
	for _, r := range p.plan.Process.Rlimits {
		limit := &unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		pl.Add("set the limit "+r.Name, unix.SYS_PRLIMIT64, 0, uintptr(r.Resource), pl.Pointer(unsafe.Pointer(limit)), 0)
	}
	pl.Add("set the umask", unix.SYS_UMASK, 0o022)
	pl.Add("set the default personality", unix.SYS_PERSONALITY, 0)
	pl.ResetSignals()
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
	// memory is the supervisor's until execve: see the comment of package forkexec.
	pl.Add("hide the supervisor's memory", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)

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
	pl.Add("go to the working directory "+quote.Quote(p.plan.Process.Dir), unix.SYS_CHDIR, dir)
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
	pl.UnblockSignals()
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
	// Everything else is done while pid 1 becomes another program: nothing of the
	// payload's own runs before it has.
	p.addGate(pl, "wait for pid 1")
	name := p.plan.Process.Args[0] // as typed, unless it is an image's
	if p.plan.Program.Host == "" && strings.Contains(name, "/") {
		name = file
	}
	return pl.Execute("run "+quote.Quote(name), file, p.plan.Process.Args, p.plan.Process.Env)
}

// RunError says that the program itself could not be executed, as opposed to
// something on the way there.
type RunError struct {
	NotFound bool
	err      error
}

// NewRunError makes one of an error that has an errno.
func NewRunError(notFound bool, err error) *RunError { return &RunError{NotFound: notFound, err: err} }

func (e *RunError) Error() string { return e.err.Error() }

// Unwrap gives the errno.
func (e *RunError) Unwrap() error { return e.err }

// Payload is the program on its way to execve(2): cloned, with its id maps, at
// its gate.
type Payload struct {
	// Pid is its number inside.
	Pid    int
	SHA256 string // of the program, when it was copied in
	Copied string // how the root was made

	process *process
	child   *forkexec.Child
}

// start clones the payload into U2 and writes U2's maps.
func (p *process) start() (*Payload, error) {
	if err := p.enterDir(); err != nil {
		return nil, err
	}
	// pid 1 needs it for the clone only.
	defer func() { _ = unix.Chdir("/") }()
	file, err := p.locate()
	if err != nil {
		return nil, err
	}
	list, err := p.compose(file)
	if err != nil {
		return nil, err
	}
	p.list = list // read by the payload's process as long as there is one
	child, err := forkexec.StartReporting(&list.Program, unix.CLONE_NEWUSER|unix.CLONE_NEWNS, p.report)
	if err != nil {
		return nil, explainStart(err)
	}
	if err := p.admit(child.Pid); err != nil {
		return nil, err
	}
	return &Payload{
		Pid: child.Pid, SHA256: p.sha256, Copied: p.copied,
		process: p, child: child,
	}, nil
}

// admit does to the child what only its parent can.
func (p *process) admit(pid int) (err error) {
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
	// Whose last process ends has to unmount everything, and to wait for every
	// processor meanwhile; with this that is pid 1, for which nobody waits.
	if p.mounts, err = unix.Openat(p.proc, strconv.Itoa(pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("hold the program's mount namespace: %w", err)
	}
	return p.openGate()
}

// openGate lets the payload's process go on to the next of its two gates, or
// through the last.
func (s *Setup) openGate() error {
	if _, err := unix.Write(s.gate[1], []byte{1}); err != nil {
		return fmt.Errorf("open the gate: %w", err)
	}
	return nil
}

// Release lets the payload go, in the supervisor: pid 1 has become another
// program, in which nothing of the supervisor's can be read. It returns once
// execve(2) has succeeded. The error is a [*StageError].
func (pl *Payload) Release() error {
	p := pl.process
	_ = unix.Close(p.init)
	_ = unix.Close(p.gate[0])
	err := p.openGate()
	if errors.Is(err, unix.EPIPE) {
		err = nil // it is dead, and pid 1 says of what
	}
	_ = unix.Close(p.gate[1])
	if waitErr := pl.child.Wait(); waitErr != nil || err == nil {
		err = waitErr
	}
	// The payload's change of ids has cleared it in the memory that it shared.
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, p.dumpable, 0)
	var step *forkexec.StepError
	if errors.As(err, &step) && step.Index == len(p.list.Steps())-1 {
		err = &RunError{NotFound: errors.Is(err, unix.ENOENT), err: err}
	}
	if err != nil {
		return &StageError{len(p.steps) - 1, err}
	}
	return nil
}
