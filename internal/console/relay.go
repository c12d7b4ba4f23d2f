package console

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the end of a relay, once [Relay.Close] has been called.
const (
	drainQuiet = 250 * time.Millisecond // nothing more comes, though somebody holds the slave open
	drainStall = 2 * time.Second        // the user's terminal takes nothing
	drainTotal = 10 * time.Second       // both go on, slowly
	drainStuck = drainTotal + time.Second
)

// Options says what a [Relay] does besides relaying.
type Options struct {
	// RawTTY passes the program's output to the terminal unfiltered ([Filter]).
	RawTTY bool

	// Interrupt is called, unless nil, for each interrupt character (Ctrl-C) that the user types while the program's
	// terminal turns it into SIGINT: in raw mode this process gets no SIGINT of its own. The character is passed on all the
	// same. It is called from [Relay.Run] and must not wait for the Relay.
	Interrupt func()
}

// Relay joins the user's terminal to the master of a pseudoterminal. All methods may be called from any goroutine.
//
// The order is Open, start the program, Run in a goroutine of its own, end of the program, Close. The caller handles the
// signals: SIGWINCH with [Relay.Resize]; a stop with [Relay.Suspend], kill(self, SIGSTOP); SIGCONT with [Relay.Resume], also
// when Suspend was not called before. Main must defer Close, or Restore, since a panic in one goroutine runs no deferred
// calls of another; only SIGKILL leaves the terminal raw.
type Relay struct {
	in, out *port
	term    *terminal // the terminal behind in, or nil
	sizeOf  int       // the descriptor that knows the window size, or -1
	options Options
	wake    waker
	filter  Filter // used by Run, and after its end by Close
	done    chan struct{}

	mu      sync.Mutex
	master  int // -1 when closed
	started bool
	closing bool

	once     sync.Once
	closeErr error
}

// Open prepares the relay between the user's descriptors in and out, and master, the master side of a pseudoterminal of which
// a slave must be open from now until the program's end. It gives the pseudoterminal the modes and the size of the user's
// terminal, and puts that into raw mode, unless this process is in the background: then it does so once it is in front.
//
// In is read for the program. It may be any descriptor of the terminal; for "x | sbx run less" it is out. When it is no terminal,
// its end is passed on as the end-of-file character (Ctrl-D), which a program may miss that has switched to raw mode. Out may be
// no terminal either; it is filtered all the same, since it may still reach one.
//
// The Relay owns master from now on, sets it to O_NONBLOCK, and closes it. In and out stay the caller's, and are not changed. An
// error means that the user's terminal is as it was and master is still the caller's.
func Open(in, out, master int, o Options) (*Relay, error) {
	r := &Relay{master: master, options: o, sizeOf: -1, done: make(chan struct{})}
	r.filter.Raw = o.RawTTY
	wake, err := newWaker()
	if err != nil {
		return nil, fmt.Errorf("set up the terminal relay: %w", err)
	}
	r.wake = wake
	if err := r.open(in, out); err != nil {
		if r.term != nil {
			err = errors.Join(err, r.term.release(false))
		}
		r.closePorts()
		return nil, err
	}
	return r, nil
}

func (r *Relay) open(in, out int) (err error) {
	if r.in, err = openPort(in, unix.O_RDONLY); err != nil {
		return fmt.Errorf("use descriptor %d as the terminal's input: %w", in, err)
	}
	if r.out, err = openPort(out, unix.O_WRONLY); err != nil {
		return fmt.Errorf("use descriptor %d as the terminal's output: %w", out, err)
	}
	if err := unix.SetNonblock(r.master, true); err != nil {
		return fmt.Errorf("set up the sandbox's terminal: %w", err)
	}
	switch {
	case r.out.tty:
		r.sizeOf = r.out.fd
	case r.in.tty:
		r.sizeOf = r.in.fd
	}
	if r.sizeOf < 0 {
		return nil
	}
	// The master takes the ioctls for its slave (pty(7)). The modes carry the user's erase key, and whether erasing is by
	// UTF-8 character.
	modes, err := unix.IoctlGetTermios(r.sizeOf, unix.TCGETS)
	if err == nil {
		err = unix.IoctlSetTermios(r.master, unix.TCSETS, modes)
	}
	if err != nil {
		return fmt.Errorf("copy the modes of the terminal: %w", err)
	}
	if err := r.Resize(); err != nil {
		return err
	}
	if !r.in.tty {
		return nil
	}
	r.term = &terminal{fd: r.in.fd}
	_, err = r.term.claim()
	return err
}

// Resize copies the size of the user's window to the program's terminal. The kernel sends SIGWINCH to the programs in front
// there if it has changed.
func (r *Relay) Resize() error {
	if r.sizeOf < 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.master < 0 {
		return nil
	}
	w, err := unix.IoctlGetWinsize(r.sizeOf, unix.TIOCGWINSZ)
	if err == nil {
		err = unix.IoctlSetWinsize(r.master, unix.TIOCSWINSZ, w)
	}
	if err != nil {
		return fmt.Errorf("copy the size of the terminal: %w", err)
	}
	return nil
}

// Suspend gives the terminal back for the time that this process is stopped. Input is not read any more, output still flows.
func (r *Relay) Suspend() error {
	if r.term == nil {
		return nil
	}
	defer r.wake.wake()
	return r.term.release(false)
}

// Resume takes the terminal again after a stop, as Open did, and copies its size. It is right for every SIGCONT.
func (r *Relay) Resume() error {
	r.mu.Lock()
	closing := r.closing
	r.mu.Unlock()
	if closing {
		return nil
	}
	var err error
	if r.term != nil {
		r.term.resume()
		_, err = r.term.claim()
	}
	r.wake.wake()
	return errors.Join(err, r.Resize())
}

// Restore gives the terminal back for good, at once, and drops what was typed and not read: it was meant for the program, and
// must not reach the shell. It waits for nothing, sends nothing to the terminal, and may be called any number of times: it is
// for ways out that have no time for [Relay.Close].
func (r *Relay) Restore() error {
	if r.term == nil {
		return nil
	}
	return r.term.release(true)
}

// Close ends the relay after the program's end. It lets the output that is on its way come out, but waits no longer than two
// seconds for a terminal that takes nothing, a quarter of a second if there is nothing though something still holds the slave
// open, and about ten seconds in all; then it resets what the program has changed about the terminal ([Filter.AppendReset]),
// restores the terminal as [Relay.Restore] does, and closes master. Further calls return the same error.
func (r *Relay) Close() error {
	r.once.Do(func() {
		stuck := !r.stop()
		if !stuck {
			r.writeReset()
		}
		r.closeErr = r.Restore()
		if !stuck { // else Run still uses them; the process is about to end anyway
			r.closeMaster()
			r.closePorts()
		}
	})
	return r.closeErr
}

// stop makes Run return. It reports false when it does not, because it sits in a write that could not be made non-blocking.
func (r *Relay) stop() bool {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.wake.wake()
	// The program may have ended before the caller's goroutine came to Run; its output is wanted all the same.
	go func() { _ = r.Run() }() // an error is that of the terminal, which the rest of Close meets too
	select {
	case <-r.done:
		return true
	case <-time.After(drainStuck):
		return false
	}
}

func (r *Relay) writeReset() {
	b := r.filter.AppendReset(nil)
	until := time.Now().Add(drainStall)
	for len(b) > 0 {
		n, err := r.out.write(b)
		b = b[n:]
		if err == nil {
			continue
		}
		left := time.Until(until)
		if !errors.Is(err, unix.EAGAIN) || left <= 0 {
			return // a terminal that is gone or stopped needs no reset
		}
		if poll([]unix.PollFd{{Fd: int32(r.out.fd), Events: unix.POLLOUT}}, int(left.Milliseconds())+1) != nil {
			return
		}
	}
}

func (r *Relay) closeMaster() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.master >= 0 {
		_ = unix.Close(r.master) // the payload gets SIGHUP; nothing was buffered
		r.master = -1
	}
}

func (r *Relay) closePorts() {
	for _, p := range []*port{r.in, r.out} {
		if p != nil {
			p.close()
		}
	}
	_ = unix.Close(int(r.wake))
}
