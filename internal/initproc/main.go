package initproc

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/mounts"
)

// process is the state of pid 1.
type process struct {
	plan    *plan.Plan
	stages  []plan.Stage
	conn    plan.Conn
	builder *mounts.Builder
	held    map[int]*os.File // copy-in sources by index
	libs    []*os.File       // libraries to copy along, in the plan's order
	sandbox int              // the sandbox's directory in the store
	program int              // the program, when it is to be copied in
	dir     int              // the sandbox's directory, a detached mount of it alone
	slave   int              // the payload's terminal, -1 without
	early   []plan.Message   // orders that came before there was a payload
	sha256  string
	copied  string // how the root was made
	proc    int    // a procfs that the payload never sees
}

// Main runs pid 1 and returns its exit status, which only tells "went as
// planned" (0) from "did not": what happened went over the socket.
func Main() int {
	// The calls below and the clone concern one thread; the kernel sends the
	// parent-death signal when the *thread* that forked ends, so the main
	// goroutine keeps its thread.
	runtime.LockOSThread()
	p := &process{
		conn: plan.NewConn(plan.FDControl), dir: -1, slave: -1, proc: -1,
		held: map[int]*os.File{},
	}
	defer func() {
		if r := recover(); r != nil {
			p.report(noStage, fmt.Errorf("pid 1 of the sandbox: %v (please report this)", r))
			os.Exit(1)
		}
	}()
	// Whatever the caller had open without close-on-exec came along through our
	// execve, and must not come further: into the payload (CVE-2024-21626). The
	// payload's own close_range has a flag that Linux 5.10 lacks; this call is
	// whole since 5.9.
	if err := unix.CloseRange(plan.FDControl+1, math.MaxUint32, 0); err != nil {
		p.report(noStage, fmt.Errorf("close what was inherited: %w", err))
		return 1
	}
	unix.CloseOnExec(plan.FDControl)
	if err := p.begin(); err != nil {
		p.report(noStage, err)
		return 1
	}
	for i, st := range p.stages {
		if st.Where != plan.InInit {
			continue
		}
		if err := p.do(st); err != nil {
			p.report(i, err)
			return 1
		}
	}
	return p.run()
}

// begin waits until the id maps are written, and reads the plan that comes with
// that word.
func (p *process) begin() error {
	ignoreSignals()
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("start a session: %w", err)
	}
	m, fds, err := p.conn.Receive()
	if err != nil || m.Op != plan.MsgGo || len(fds) <= plan.GoProgram {
		// The supervisor is gone, or gave up; nobody is left to tell.
		os.Exit(1)
	}
	for fd := range 3 {
		if err := unix.Dup3(fds[fd], fd, 0); err != nil {
			return fmt.Errorf("take the program's streams: %w", err)
		}
		_ = unix.Close(fds[fd])
	}
	p.sandbox, p.program = fds[plan.GoSandbox], fds[plan.GoProgram]
	file := os.NewFile(uintptr(fds[plan.GoPlan]), "plan")
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	p.plan = new(plan.Plan)
	if err := plan.Decode(data, p.plan); err != nil {
		return fmt.Errorf("decode the plan: %w", err)
	}
	p.stages = p.plan.Stages()
	// Not earlier: while the maps are unwritten the /proc files of a process
	// that is not dumpable belong to the real root, and newuidmap refuses.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide pid 1's memory: %w", err)
	}
	return dieWithParent()
}

// dieWithParent asks for SIGKILL when the supervisor ends. It comes after the
// last change of credentials, which clears it. That the parent is alive at this
// moment is known from the socket: a read gives end of file otherwise.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the supervisor: %w", err)
	}
	poll := []unix.PollFd{{Fd: plan.FDControl, Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
		os.Exit(1)
	}
	return nil
}

// ignoreSignals makes pid 1 deaf to everything that a process inside may send.
// In single mode the payload has the same host uid, and a Go program ends at
// SIGQUIT. SIGCHLD stays: ignoring it would reap children behind our back.
func ignoreSignals() {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGXCPU,
		unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR, unix.SIGTRAP, unix.SIGSTKFLT)
}

// noStage is the index of what comes before the first stage.
const noStage = -1

// report tells the supervisor which stage failed and with which errno.
func (p *process) report(stage int, err error) {
	m := plan.Message{Op: plan.MsgFailed, Stage: stage, Text: shorten(err.Error())}
	var errno unix.Errno
	if errors.As(err, &errno) {
		m.Errno = int(errno)
	}
	var run *runError
	if errors.As(err, &run) {
		m.NotFound, m.NotRunnable = run.notFound, !run.notFound
	}
	p.send(m)
}

// maxText bounds the text of an error, which may hold an argument of 128 KiB: a
// packet has to take it.
const maxText = 8 << 10

// shorten takes the middle out of a long text; the errno's stands at the end.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:maxText/2] + " … " + text[len(text)-maxText/2:]
}

// send gives up when the supervisor is gone: pid 1 is about to be killed.
func (p *process) send(m plan.Message, fds ...int) {
	if err := p.conn.Send(m, fds...); err != nil {
		os.Exit(1)
	}
}
