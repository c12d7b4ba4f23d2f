package initproc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
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
	steps   []plan.Step
	conn    reaper.Conn
	builder *mounts.Builder
	held    map[int]int // copy-in sources by index
	libs    []int       // libraries to copy along, in the plan's order
	sandbox *os.File    // the sandbox's directory in the store
	program int         // the program, when it is to be copied in
	dir     int         // the sandbox's directory, a detached mount of it alone
	self    int         // this binary, for copyElsewhere
	mounts  int         // the payload's mount namespace
	lock    int         // the sandbox's lock
	slave   int         // the payload's terminal, -1 without
	sha256  string
	copied  string // how the root was made
	proc    int    // a procfs that the payload never sees
}

// Setup is what the supervisor and pid 1 share from before the clone. Both have
// all of its descriptors afterwards.
type Setup struct {
	control  int   // pid 1's end of the socket
	poller   []int // the Go runtime's descriptors
	init     int   // the program that pid 1 becomes, see package reaper
	gate     [2]int
	report   forkexec.Report
	dumpable uintptr // what the memory's attribute was
	list     *payload
}

// NewSetup opens what pid 1 will need. control is its end of the socket, which
// stays the caller's to close.
func NewSetup(control int) (*Setup, error) {
	s := &Setup{control: control}
	var err error
	if s.poller, err = vfork.Poller(); err != nil {
		return nil, err
	}
	if s.init, err = reaper.Open(); err != nil {
		return nil, err
	}
	if err = unix.Pipe2(s.gate[:], unix.O_CLOEXEC); err != nil {
		_ = unix.Close(s.init)
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
	_ = unix.Close(s.init)
	_ = unix.Close(s.gate[0])
	_ = unix.Close(s.gate[1])
	s.report.Close()
}

// CloseOthers is the first that the new process does. It closes all descriptors
// but 0, 1, 2 and the set-up's own. The table is a copy of the supervisor's, of any
// moment. In it are what the caller left open (CVE-2024-21626), which must not come
// further; the supervisor's end of the socket, which would never close; and files
// with a flock(2) that would be held as long as they are open here, and pipes whose
// other ends wait for theirs.
func (s *Setup) CloseOthers() error {
	keep := slices.Concat([]int{2, s.control, s.init, s.gate[0], s.gate[1]}, s.report.FDs(), s.poller)
	slices.Sort(keep)
	for i, fd := range keep {
		last := uint(math.MaxUint32)
		if i+1 < len(keep) {
			last = uint(keep[i+1]) - 1
		}
		if first := uint(fd) + 1; first <= last {
			if err := unix.CloseRange(first, last, 0); err != nil {
				return fmt.Errorf("start pid 1 of the sandbox: close what was inherited: %w", err)
			}
		}
	}
	return nil
}

// Wait blocks until pid 1 is told to go on, with descriptors for [Setup.Do], or to
// give up.
func (s *Setup) Wait() (fds []int, goOn bool) {
	p, fds, err := reaper.NewConn(s.control).Receive()
	if err != nil {
		exit() // the supervisor is gone
	}
	return fds, p.Op == reaper.Go && len(fds) > plan.GoProgram
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
// and clones the payload, which waits for [Payload.Release]. The descriptors are
// those of [Setup.Wait]. The error is a [*StageError].
func (s *Setup) Do(pl *plan.Plan, fds []int) (*Payload, error) {
	p := &process{
		Setup: s, plan: pl, steps: pl.Steps(), conn: reaper.NewConn(s.control),
		dir: -1, slave: -1, proc: -1, self: -1, held: map[int]int{},
	}
	defer p.closeFiles()
	if err := p.begin(fds); err != nil {
		return nil, &StageError{noStage, err}
	}
	for i, st := range p.steps {
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
		return nil, &StageError{len(p.steps) - 1, err}
	}
	return payload, nil
}

// closeFiles closes what must not be left to the garbage collector.
func (p *process) closeFiles() {
	if p.sandbox != nil {
		p.sandbox.Close()
	}
}

// begin takes what the supervisor sent along.
func (p *process) begin(fds []int) error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("start a session: %w", err)
	}
	for fd := range 3 {
		if err := unix.Dup3(fds[fd], fd, 0); err != nil {
			return fmt.Errorf("take the program's streams: %w", err)
		}
		_ = unix.Close(fds[fd])
	}
	p.sandbox = os.NewFile(uintptr(fds[plan.GoSandbox]), p.plan.Root.Sandbox)
	p.lock, p.program = fds[plan.GoLock], fds[plan.GoProgram]
	return p.holdSelf()
}

// holdSelf opens this binary, by a link that leads to the file that runs now even
// when its name has been given to another one meanwhile.
func (p *process) holdSelf() error {
	if !p.plan.CopiesTrees() {
		return nil
	}
	var err error
	if p.self, err = unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open this program: %w", err)
	}
	return nil
}

// awaitTerminal waits until the supervisor has given the terminal its size and
// modes: a program may ask for them first of all.
func (p *process) awaitTerminal() {
	if p.slave < 0 {
		return
	}
	if m, _, err := p.conn.Receive(); err != nil || m.Op != reaper.Terminal {
		exit()
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

// reaperCapabilities are what pid 1 keeps: it ends processes of every id.
const reaperCapabilities = 1 << unix.CAP_KILL

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

// Become makes the new process what pid 1 is from now on, and gives the goroutine
// back to the supervisor. With an error it is still pid 1's.
func (pl *Payload) Become(v *vfork.Process) error {
	children, err := unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGCHLD - 1)}}, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make pid 1's signal descriptor: %w", err)
	}
	fds := []int{pl.process.init, pl.process.control, children, pl.process.mounts, pl.process.lock}
	places := []int{-1, reaper.Control, reaper.Children, reaper.Mounts, reaper.Lock}
	var moves []vfork.Move
	for i := range fds {
		// Out of the way of the places first.
		if fds[i], err = unix.FcntlInt(uintptr(fds[i]), unix.F_DUPFD_CLOEXEC, reaper.Lock+1); err != nil {
			return fmt.Errorf("duplicate pid 1's descriptors: %w", err)
		}
		if places[i] >= 0 {
			moves = append(moves, vfork.Move{From: fds[i], To: places[i]})
		}
	}
	if err := v.Exec(fds[0], "", []string{plan.InitName}, nil, unix.AT_EMPTY_PATH, moves...); err != nil {
		return fmt.Errorf("execute pid 1's program: %w", err)
	}
	return nil
}

// dieWithParent asks for SIGKILL when the supervisor ends. It comes after the
// last change of credentials, which clears it. That the parent is alive at this
// moment is known from the socket: a read gives end of file otherwise.
func dieWithParent(control int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the supervisor: %w", err)
	}
	poll := []unix.PollFd{{Fd: int32(control), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
		return fmt.Errorf("ask to die with the supervisor: %w", unix.ESRCH)
	}
	return nil
}
