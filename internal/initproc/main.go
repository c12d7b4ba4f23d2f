package initproc

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// reaper is pid 1 from the moment at which the payload may run.
type reaper struct {
	conn plan.Conn
	// dir is the sandbox's directory, to be emptied in the end; nil for none.
	dir *os.File
}

// Main is what pid 1 becomes when everything is set up, see [Payload.Become]: it
// forwards signals, reaps, and clears up. It returns the exit status, which only
// tells "went as planned" (0) from "did not": what happened went over the socket.
func Main() int {
	// The kernel sends the parent-death signal when the *thread* that forked
	// ends, so the main goroutine keeps its thread.
	runtime.LockOSThread()
	ignoreSignals()
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(namePointer()), 0, 0, 0)
	// The payload waits at its gate, or has just begun: it is of another user
	// namespace and could not look into this memory in any case (ptrace(2)).
	if unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) != nil || dieWithParent(plan.FDControl) != nil {
		return 1
	}
	unix.CloseOnExec(plan.FDControl)
	p := &reaper{conn: plan.NewConn(plan.FDControl)}
	var early []plan.Message
	for {
		m, _, err := p.conn.Receive()
		if err != nil {
			return 1
		}
		if m.Op != plan.MsgReap {
			early = append(early, m)
			continue
		}
		if m.Empty {
			p.dir = os.NewFile(plan.FDDir, "the sandbox's directory")
		}
		return p.run(m.Pid, early)
	}
}

// run stays with the payload until it ends, then ends everything else in the
// sandbox and empties the sandbox's directory.
func (p *reaper) run(pid int, early []plan.Message) int {
	var payload atomic.Int64
	payload.Store(int64(pid))
	go p.obey(&payload, early)
	status := p.reap(pid)
	payload.Store(0)

	killAll()
	m := plan.Message{Op: plan.MsgExited, Status: status.ExitStatus()}
	if status.Signaled() {
		m.Signal = int(status.Signal())
	}
	m.Leftover = !p.discard()
	p.send(m)
	return 0
}

// obey does what the supervisor says until the supervisor is gone, and then
// ends the sandbox: the parent-death signal should have come first.
func (p *reaper) obey(payload *atomic.Int64, early []plan.Message) {
	for _, m := range early {
		order(m, payload)
	}
	for {
		m, _, err := p.conn.Receive()
		if err != nil {
			os.Exit(1)
		}
		order(m, payload)
	}
}

// order carries out one order of the supervisor's.
func order(m plan.Message, payload *atomic.Int64) {
	switch m.Op {
	case plan.MsgSignal:
		// To the group, as a terminal would: a shell script and the
		// program it waits for both get it.
		if pid := int(payload.Load()); pid > 0 {
			_ = unix.Kill(-pid, unix.Signal(m.Signal))
		}
	case plan.MsgKill:
		_ = unix.Kill(-1, unix.SIGKILL)
	}
}

// reap collects every process that ends, orphans included, until the payload
// has, and tells the supervisor when it was stopped.
func (p *reaper) reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return status // ECHILD: cannot happen while the payload is unreaped
		}
		if got != pid {
			continue
		}
		if !status.Stopped() {
			return status
		}
		p.send(plan.Message{Op: plan.MsgStopped, Signal: int(status.StopSignal())})
	}
}

// killAll ends what the payload left behind. A process that forks faster than
// kill(2) walks is met by the next round; pid 1's own end is the last word.
func killAll() {
	for {
		if err := unix.Kill(-1, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
			return
		}
		for {
			_, err := unix.Wait4(-1, nil, 0, nil)
			if errors.Is(err, unix.ECHILD) {
				break
			}
		}
	}
}

// discard empties the sandbox's directory. Nothing runs in it any more, and
// only from here, inside the id map, can files of all ids be removed without
// another process. The directory itself and its lock stay the supervisor's.
func (p *reaper) discard() bool {
	if p.dir == nil {
		return true
	}
	defer p.dir.Close()
	for _, name := range []string{"upper", "work", "tree"} {
		if err := rootfs.RemoveTree(p.dir, name); err != nil {
			return false
		}
	}
	return true
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

// ignoreSignals makes pid 1 deaf to everything that a process inside may send.
// In single mode the payload has the same host uid, and a Go program ends at
// SIGQUIT. SIGCHLD stays: ignoring it would reap children behind our back.
func ignoreSignals() {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGXCPU,
		unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR, unix.SIGTRAP, unix.SIGSTKFLT)
}

// send gives up when the supervisor is gone: pid 1 is about to be killed.
func (p *reaper) send(m plan.Message) {
	if err := p.conn.Send(m); err != nil {
		os.Exit(1)
	}
}

// namePointer is what ps(1) shows for pid 1; without it, the number of the
// descriptor that it was executed from.
func namePointer() unsafe.Pointer { return unsafe.Pointer(&processName[0]) }

var processName = [16]byte([]byte(plan.InitName + "\x00\x00\x00\x00\x00\x00\x00\x00"))
