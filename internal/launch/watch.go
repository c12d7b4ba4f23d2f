package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/reaper"
)

// killGrace is how long pid 1 may take to end everything and clean up after it
// was told to; then it is killed itself, and the kernel does the rest.
const killGrace = 3 * time.Second

// ErrInitDied means that pid 1 ended without a word: somebody killed it, or the
// host ran out of memory. What the program did until then is done.
var ErrInitDied = errors.New("the sandbox's first process was killed from outside")

// caught are the signals that are not the supervisor's own business.
type caught struct{ c chan os.Signal }

// catch may be called again, to no effect.
func (c caught) catch() {
	CatchSignals(c.c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	// Writing to a terminal from the background must fail or go through, never
	// stop the supervisor; a closed pipe is an error of write(2), not an end.
	signal.Ignore(unix.SIGTTOU, unix.SIGPIPE)
}

// incoming is a packet of pid 1, or how the conversation ended.
type incoming struct {
	reaper.Packet
	fds []int
	err error
}

func (c *child) packets() <-chan incoming {
	out := make(chan incoming, 4)
	go func() {
		for {
			p, fds, err := c.conn.Receive()
			out <- incoming{p, fds, err}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// order sends pid 1 an order. One that comes before pid 1 has a payload to carry
// it out for waits until then.
func (r *run) order(op reaper.Op, value int) {
	p := reaper.Packet{Op: op, Value: uint32(value)}
	if !r.running {
		r.early = append(r.early, p)
		return
	}
	_ = r.init.conn.Send(p) // pid 1's death is told by the end of its packets
}

// watch is the supervisor's loop, from the clone to the program's end.
func (r *run) watch(signals caught) error {
	packets := r.init.packets()
	var timeout, grace <-chan time.Time
	interrupts := 0
	end := func() {
		r.order(reaper.Kill, 0)
		if grace == nil {
			grace = time.After(killGrace)
		}
	}
	for {
		select {
		case m := <-packets:
			if done, err := r.handle(m); done {
				return err
			}
		case out := <-r.begun.outcome:
			if r.broken != 0 {
				continue
			}
			if err := r.started(out); err != nil {
				return err
			}
			if r.plan.Process.Timeout > 0 {
				timeout = time.After(r.plan.Process.Timeout)
			}
		case s := <-signals.c:
			if !r.running && !r.begun.letGo.Load() && ends(s) {
				// Nothing runs yet that could have its own idea of it, and to copy
				// a large tree takes minutes.
				r.broken = s.(unix.Signal)
				r.init.kill()
				continue
			}
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
			r.result.Over, r.result.OverCause = reason.text, reason.cause
			end()
		case <-timeout:
			r.result.TimedOut = true
			end()
		case <-grace:
			r.init.kill()
		}
	}
}

// started notes that the program runs, or why it does not, and tells pid 1, which
// is a program of its own by now, about its payload.
func (r *run) started(out outcome) error {
	if out.err != nil {
		r.init.kill()
		return stageError(r.plan, out.err)
	}
	r.result.SHA256, r.result.Copy = out.payload.SHA256, out.payload.Copied
	if err := r.keep(); err != nil {
		r.init.kill()
		return err
	}
	r.running = true
	r.holdMemoryFiles()
	r.order(reaper.Reap, out.payload.Pid)
	for _, p := range r.early {
		r.order(p.Op, int(p.Value))
	}
	r.streams.feedProgram()
	return nil
}

// handle acts on one message; done when there will be no further one.
func (r *run) handle(m incoming) (done bool, err error) {
	if m.err != nil && r.broken != 0 {
		r.result.Signal = r.broken
		return true, nil
	}
	if m.err != nil && !r.running {
		// It may have failed by itself, and then it knows better why.
		if out, told := r.begun.result(); told && out.err != nil {
			return true, r.started(out)
		}
	}
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
	case reaper.Terminal:
		r.relay, err = openTerminal(m.fds[0], r.plan.Process.RawTTY, r.hurry)
		if err == nil {
			err = r.init.conn.Send(reaper.Packet{Op: reaper.Terminal})
		}
		if err != nil {
			r.init.kill()
		}
		return err != nil, err
	case reaper.Stopped:
		// Only where there is somebody to bring it back: without a terminal a
		// program that stops itself would stop the script around sbx for good,
		// time limit and all.
		if r.relay != nil || r.askedToStop {
			r.suspend()
		}
		r.askedToStop = false
	case reaper.Exited:
		r.exited = true
		status := unix.WaitStatus(m.Value)
		if r.result.Status = status.ExitStatus(); status.Signaled() {
			r.result.Status, r.result.Signal = 0, status.Signal()
		}
		if r.result.Signal != unix.SIGKILL {
			// It had ended before it could be killed.
			r.result.Over, r.result.OverCause = "", ""
		}
		return true, nil
	default:
		return true, fmt.Errorf("pid 1 says %d, which means nothing (please report this)", m.Op)
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
	r.order(reaper.Signal, int(s))
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
	if r.relay != nil {
		r.relay.suspend()
	}
	stop(r.relay != nil)
	if r.relay != nil {
		r.relay.resume()
	}
	r.order(reaper.Signal, int(unix.SIGCONT))
}
