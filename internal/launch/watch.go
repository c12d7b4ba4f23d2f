package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// killGrace is how long pid 1 may take to end everything and clean up after it
// was told to; then it is killed itself, and the kernel does the rest.
const killGrace = 3 * time.Second

// ErrInitDied means that pid 1 ended without a word: somebody killed it, or the
// host ran out of memory. What the program did until then is done.
var ErrInitDied = errors.New("the sandbox's first process was killed from outside")

// caught are the signals that are not the supervisor's own business.
type caught struct{ c chan os.Signal }

func catchSignals() caught {
	c := caught{make(chan os.Signal, 16)}
	signal.Notify(c.c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	// Writing to a terminal from the background must fail or go through, never
	// stop the supervisor; a closed pipe is an error of write(2), not an end.
	signal.Ignore(unix.SIGTTOU, unix.SIGPIPE)
	return c
}

func (c caught) stop() { signal.Stop(c.c) }

// incoming is a message of pid 1, or how the conversation ended.
type incoming struct {
	plan.Message
	fds []int
	err error
}

func (c *child) messages() <-chan incoming {
	out := make(chan incoming, 4)
	go func() {
		for {
			m, fds, err := c.conn.Receive()
			out <- incoming{m, fds, err}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// watch is the supervisor's loop, from the clone to the program's end.
func (r *run) watch(signals caught) error {
	messages := r.init.messages()
	var timeout, grace <-chan time.Time
	interrupts := 0
	end := func() {
		_ = r.init.conn.Send(plan.Message{Op: plan.MsgKill})
		if grace == nil {
			grace = time.After(killGrace)
		}
	}
	for {
		select {
		case m := <-messages:
			done, err := r.handle(m)
			if done {
				return err
			}
			if m.Op == plan.MsgStarted && r.plan.Process.Timeout > 0 {
				timeout = time.After(r.plan.Process.Timeout)
			}
		case s := <-signals.c:
			if s == unix.SIGINT {
				interrupts++
			}
			if interrupts > 1 {
				r.result.Killed = true
				end()
				continue
			}
			r.forward(s.(unix.Signal))
		case <-r.hurry:
			r.result.Killed = true
			end()
		case reason := <-r.over:
			r.result.Over = reason
			end()
		case <-timeout:
			r.result.TimedOut = true
			end()
		case <-grace:
			r.init.kill()
		}
	}
}

// handle acts on one message; done when there will be no further one.
func (r *run) handle(m incoming) (done bool, err error) {
	if m.err != nil {
		if r.result.TimedOut || r.result.Killed || r.result.Over != "" {
			r.result.Signal = unix.SIGKILL
			return true, nil
		}
		if !errors.Is(m.err, io.EOF) {
			r.init.kill()
			return true, m.err
		}
		return true, ErrInitDied
	}
	switch m.Op {
	case plan.MsgTerminal:
		r.relay, err = openTerminal(m.fds[0], r.plan.Process.RawTTY, r.hurry)
		if err == nil {
			err = r.init.conn.Send(plan.Message{Op: plan.MsgTerminal})
		}
		if err != nil {
			r.init.kill()
		}
		return err != nil, err
	case plan.MsgStarted:
		r.streams.feedProgram()
		r.result.SHA256, r.result.Copy = m.SHA256, m.Copy
		if err := r.keep(); err != nil {
			r.init.kill()
			return true, err
		}
	case plan.MsgStopped:
		// Only where there is somebody to bring it back: without a terminal a
		// program that stops itself would stop the script around sbx for good,
		// time limit and all.
		if r.relay != nil || r.askedToStop {
			r.suspend()
		}
		r.askedToStop = false
	case plan.MsgFailed:
		return true, stageError(r.plan, m.Message)
	case plan.MsgExited:
		r.exited = true
		r.result.Status, r.result.Signal = m.Status, unix.Signal(m.Signal)
		return true, nil
	default:
		return true, fmt.Errorf("pid 1 says %q, which means nothing (please report this)", m.Op)
	}
	return false, nil
}

// forward hands a signal on to the program's process group. The terminal's own
// keys arrive as bytes and not here while it is relayed.
func (r *run) forward(s unix.Signal) {
	switch s {
	case unix.SIGWINCH:
		if r.relay != nil {
			r.relay.resize()
			return
		}
	case unix.SIGTSTP:
		r.askedToStop = true
	case unix.SIGCONT:
		r.askedToStop = false
		if r.relay != nil {
			r.relay.resume()
		}
	}
	_ = r.init.conn.Send(plan.Message{Op: plan.MsgSignal, Signal: int(s)})
}

// suspend follows the program into being stopped: the terminal goes back to the
// shell that started sbx, which can then bring both back with fg.
//
// While the terminal is relayed the signal goes to the whole process group, as
// the terminal would send it: a script around sbx has to stop too, or the shell
// would not notice. Otherwise whoever asked has sent it to whom he wanted. Where
// the kernel discards it (an orphaned group) we come straight back and so does
// the program.
func (r *run) suspend() {
	who := os.Getpid()
	if r.relay != nil {
		r.relay.suspend()
		who = 0
	}
	stop(who)
	if r.relay != nil {
		r.relay.resume()
	}
	_ = r.init.conn.Send(plan.Message{Op: plan.MsgSignal, Signal: int(unix.SIGCONT)})
}

// stop sends SIGTSTP to who, as kill(2) has it, and returns when this process
// goes on. The action has to be the kernel's
// own for that moment, and signal.Reset leaves Go's handler in place, which
// takes SIGTSTP for nothing.
func stop(who int) {
	type sigaction struct{ handler, flags, restorer, mask uintptr }
	var byDefault, old sigaction
	if _, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP),
		uintptr(unsafe.Pointer(&byDefault)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); errno != 0 {
		return
	}
	_ = unix.Kill(who, unix.SIGTSTP)
	_, _, _ = unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
}
