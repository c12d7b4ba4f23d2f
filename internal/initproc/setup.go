package initproc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/vfork"
	"github.com/sbx-run/sbx/mounts"
)

// process is pid 1 while it sets up: the stages of a plan, from the first in the
// new namespaces to the clone of the payload.
//
// It runs in the supervisor's memory, in a goroutine that package vfork has
// lent it. Two rules follow, and nothing but care enforces them:
//
//   - No goroutine is started for work that makes system calls: it would run in
//     the supervisor. What needs several is done by another process, see
//     copyElsewhere.
//   - Every descriptor that is opened is closed here, or stays a bare number:
//     an [os.File] that is left to the garbage collector closes the descriptor
//     of that number in the supervisor.
type process struct {
	*Setup
	plan    *plan.Plan
	stages  []plan.Stage
	conn    plan.Conn
	builder *mounts.Builder
	held    map[int]int    // copy-in sources by index
	libs    []int          // libraries to copy along, in the plan's order
	sandbox int            // the sandbox's directory in the store
	program int            // the program, when it is to be copied in
	dir     int            // the sandbox's directory, a detached mount of it alone
	slave   int            // the payload's terminal, -1 without
	early   []plan.Message // orders that came before there was a payload
	sha256  string
	copied  string // how the root was made
	proc    int    // a procfs that the payload never sees
}

// Setup is what the supervisor and pid 1 share from before the clone. Both have
// all of its descriptors afterwards.
type Setup struct {
	control    int // pid 1's end of the socket
	supervisor int // the other one
	self       int // this binary
	gate       [2]int
	report     forkexec.Report
	dumpable   uintptr // what the memory's attribute was
	list       *payload
}

// NewSetup opens what pid 1 will need. control is its end of the socket, and
// supervisor the other one; both stay the caller's to close.
func NewSetup(control, supervisor int) (*Setup, error) {
	s := &Setup{control: control, supervisor: supervisor}
	var err error
	// The link leads to the file that runs now, even when its name has been given
	// to another one meanwhile.
	if s.self, err = unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open this program: %w", err)
	}
	if err = unix.Pipe2(s.gate[:], unix.O_CLOEXEC); err != nil {
		_ = unix.Close(s.self)
		return nil, fmt.Errorf("make the gate: %w", err)
	}
	if s.report, err = forkexec.NewReport(); err != nil {
		s.Close()
		return nil, err
	}
	s.dumpable, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0)
	return s, nil
}

// Close closes the supervisor's descriptors where no payload was started.
func (s *Setup) Close() {
	_ = unix.Close(s.self)
	_ = unix.Close(s.gate[0])
	_ = unix.Close(s.gate[1])
	s.report.Close()
}

// Survive is the first that the new process does. It ends it where the
// supervisor has ended already: the goroutine would wait for ever in a memory
// that nobody else uses.
func (s *Setup) Survive() {
	// With our copy open, the supervisor's end would never close.
	_ = unix.Close(s.supervisor)
	if dieWithParent(s.control) != nil {
		exit()
	}
}

// exit ends the process from inside of the borrowed goroutine, when there is
// nobody to give it back to.
func exit() {
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// StageError says which of the plan's stages pid 1 could not carry out. Stage is
// an index in Plan.Stages, -1 for what comes before the first.
type StageError struct {
	Stage int
	Err   error
}

func (e *StageError) Error() string { return shorten(e.Err.Error()) }

// Unwrap gives the cause.
func (e *StageError) Unwrap() error { return e.Err }

// noStage is the index of what comes before the first stage.
const noStage = -1

// maxText bounds the text of an error, which may hold an argument of 128 KiB.
const maxText = 8 << 10

// shorten takes the middle out of a long text; the errno's stands at the end.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:maxText/2] + " … " + text[len(text)-maxText/2:]
}

// Do carries out pid 1's stages, in the new process, whose id maps are written,
// and clones the payload, which waits for [Payload.Release]. The descriptors of
// [plan.MsgGo] have been sent. The error is a [*StageError].
func (s *Setup) Do(pl *plan.Plan) (*Payload, error) {
	p := &process{
		Setup: s, plan: pl, stages: pl.Stages(), conn: plan.NewConn(s.control),
		dir: -1, slave: -1, proc: -1, held: map[int]int{},
	}
	if err := p.begin(); err != nil {
		return nil, &StageError{noStage, err}
	}
	for i, st := range p.stages {
		if st.Where != plan.InInit {
			continue
		}
		if err := p.do(st); err != nil {
			return nil, &StageError{i, err}
		}
	}
	p.awaitTerminal()
	payload, err := p.start()
	if err == nil {
		err = p.letGo()
	}
	if err != nil {
		return nil, &StageError{len(p.stages) - 1, err}
	}
	return payload, nil
}

// begin takes what the supervisor sent along.
func (p *process) begin() error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("start a session: %w", err)
	}
	if err := closeInherited(); err != nil {
		return err
	}
	m, fds, err := p.conn.Receive()
	if err != nil || m.Op != plan.MsgGo || len(fds) <= plan.GoProgram {
		exit() // the supervisor is gone
	}
	for fd := range 3 {
		if err := unix.Dup3(fds[fd], fd, 0); err != nil {
			return fmt.Errorf("take the program's streams: %w", err)
		}
		_ = unix.Close(fds[fd])
	}
	p.sandbox, p.program = fds[plan.GoSandbox], fds[plan.GoProgram]
	return nil
}

// closeInherited makes close-on-exec whatever the caller had open without it
// (CVE-2024-21626). The payload does so itself, but by a flag that Linux 5.10
// lacks, and before the filter forbids it.
func closeInherited() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	fd, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("list the descriptors: %w", err)
	}
	dir := os.NewFile(uintptr(fd), "/proc/self/fd")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list the descriptors: %w", err)
	}
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil && n > 2 {
			unix.CloseOnExec(n)
		}
	}
	return nil
}

// awaitTerminal waits until the supervisor has given the terminal its size and
// modes: a program may ask for them first of all. Orders that come earlier are
// kept for the program.
func (p *process) awaitTerminal() {
	for p.slave >= 0 {
		m, _, err := p.conn.Receive()
		if err != nil {
			exit()
		}
		if m.Op == plan.MsgTerminal {
			return
		}
		p.early = append(p.early, m)
	}
}

// letGo leaves pid 1 with what the program that it becomes has a use for: its 0,
// 1 and 2 were the payload's, and as long as they are open here nobody sees
// their end.
func (p *process) letGo() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	for fd := range 3 {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("let go of the program's streams: %w", err)
		}
	}
	return dropBounding()
}

// reaperCapabilities are what pid 1 keeps: it ends processes of every id and
// empties the sandbox's directory.
const reaperCapabilities = 1<<unix.CAP_KILL | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER

// dropBounding takes the others from what an execve(2) by id 0 gives.
func dropBounding() error {
	for c := range lastCapability + 1 {
		if reaperCapabilities&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); errors.Is(err, unix.EINVAL) {
			return nil // the kernel knows no further one
		} else if err != nil {
			return fmt.Errorf("drop a capability of pid 1: %w", err)
		}
	}
	return nil
}

// Become makes the new process what pid 1 is from now on, see [Main], and gives
// the goroutine back to the supervisor. With an error it is still pid 1's.
func (pl *Payload) Become(v *vfork.Process) error {
	p := pl.process
	// Fixed places, the last of all: what stood there, in a copy of the
	// supervisor's table, was the Go runtime's or anybody's.
	control, err := unix.FcntlInt(uintptr(p.control), unix.F_DUPFD_CLOEXEC, plan.FDDir+1)
	if err != nil {
		return fmt.Errorf("duplicate the control socket: %w", err)
	}
	self, err := unix.FcntlInt(uintptr(p.self), unix.F_DUPFD_CLOEXEC, plan.FDDir+1)
	if err != nil {
		return fmt.Errorf("duplicate this program: %w", err)
	}
	if p.dir >= 0 {
		if err := unix.Dup3(p.dir, plan.FDDir, 0); err != nil {
			return fmt.Errorf("duplicate the sandbox's directory: %w", err)
		}
	}
	if err := unix.Dup3(control, plan.FDControl, 0); err != nil {
		return fmt.Errorf("duplicate the control socket: %w", err)
	}
	if err := v.Exec(self, "", []string{plan.InitName}, nil, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("start pid 1 anew: %w", err)
	}
	return nil
}
