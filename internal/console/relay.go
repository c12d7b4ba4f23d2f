package console

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// suspendQuiet is for how long a program must write nothing to be taken for silent, and suspendTotal how long that is waited for.
const (
	suspendQuiet = 50 * time.Millisecond
	suspendTotal = 500 * time.Millisecond
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
	quiet   chan struct{} // closed by Run once the program is silent; nil when nobody waits for that

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
	if err := r.copyModes(); err != nil {
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

// copyModes gives the program's terminal the modes of the user's. They carry his keys, and whether one erases UTF-8 characters.
func (r *Relay) copyModes() error {
	modes, err := unix.IoctlGetTermios(r.sizeOf, unix.TCGETS)
	if err != nil {
		return err
	}
	if user := (&terminal{fd: r.sizeOf}); !user.foreground() {
		// A shell is in front and has set what its line editor needs. Only what that leaves alone is of use.
		fresh, err := unix.IoctlGetTermios(r.master, unix.TCGETS)
		if err != nil {
			return err
		}
		fresh.Iflag |= modes.Iflag & unix.IUTF8
		fresh.Cc[unix.VERASE] = modes.Cc[unix.VERASE]
		modes = fresh
	}
	// The master takes the ioctls for its slave (pty(7)).
	return unix.IoctlSetTermios(r.master, unix.TCSETS, modes)
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

// Suspend gives the terminal back for the time that this process is stopped. First it waits, for at most half a second, until what
// the program has written before it stopped is shown: editors leave the alternate screen then. Afterwards input is not read
// any more; output still flows until the caller stops this process.
func (r *Relay) Suspend() error {
	r.awaitSilence()
	if r.term == nil {
		return nil
	}
	defer r.wake.wake()
	return r.term.release(false)
}

func (r *Relay) awaitSilence() {
	r.mu.Lock()
	if !r.started || r.closing {
		r.mu.Unlock()
		return
	}
	if r.quiet == nil {
		r.quiet = make(chan struct{})
	}
	quiet := r.quiet
	r.mu.Unlock()
	r.wake.wake()
	select {
	case <-quiet:
	case <-r.done:
	case <-time.After(suspendTotal):
	}
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
