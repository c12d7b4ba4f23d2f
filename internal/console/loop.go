package console

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// relayChunk is how much is read at once. A pseudoterminal hands out at most 4 KiB per read.
const relayChunk = 8 << 10

// backgroundPoll is how often, in milliseconds, a relay in the background looks whether it has come to the front: not every
// shell sends SIGCONT to a job that was running already.
const backgroundPoll = 250

// Indices of the loop's poll set.
const (
	pollWake = iota
	pollMaster
	pollIn
	pollOut
	pollCount
)

// loop is the state of one [Relay.Run].
type loop struct {
	*Relay
	chunk    [relayChunk]byte
	toMaster []byte // read and not yet written, one way
	toOut    []byte // and the other
	outBuf   []byte // what toOut is a part of
	inOpen   bool
	eof      bool      // the last slave is closed
	partial  bool      // what was last written to the program did not end a line
	closed   time.Time // when Close was noticed
	progress time.Time // when a byte last moved out
}

// Run relays until the last slave of the pseudoterminal is closed and its output written, or until [Relay.Close]; both return
// nil. An error means that out takes no more (EPIPE for a pipe whose reader has gone, EIO for a terminal that is gone) or that
// the master cannot be read. The master is closed then, so that the program gets SIGHUP as from a terminal that is hung up. It
// must be called once; Close does it when there was no call before.
func (r *Relay) Run() (err error) {
	if !r.start() {
		return nil
	}
	returned := false
	defer func() {
		if !returned { // a panic: the last chance for this terminal
			_ = r.Restore()
		}
		close(r.done)
	}()
	// A read from the background then fails with EIO instead of stopping this process (SIGTTIN, setpgid(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	if err := blockSignal(unix.SIGTTIN, &old); err != nil {
		returned = true
		return fmt.Errorf("relay the terminal: %w", err)
	}
	defer func() { err = errors.Join(err, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)) }()
	l := &loop{Relay: r, inOpen: true}
	for done := false; !done && err == nil; {
		done, err = l.step()
	}
	if err != nil {
		r.closeMaster()
	}
	returned = true
	return err
}

// start reports whether this is the first Run.
func (r *Relay) start() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.started
	r.started = true
	return first
}

// step waits for something to do and does it. It reports whether the relay is at its end.
func (l *loop) step() (done bool, err error) {
	l.noticeClose()
	if l.eof && len(l.toOut) == 0 {
		return true, nil
	}
	fds, timeout := l.wanted()
	quiet := l.quietWanted()
	if quiet != nil && (timeout < 0 || timeout > int(suspendQuiet.Milliseconds())) {
		timeout = int(suspendQuiet.Milliseconds())
	}
	if !l.closed.IsZero() {
		left := l.deadline()
		if left <= 0 {
			return true, nil
		}
		timeout = int(left.Milliseconds()) + 1
	}
	if err := poll(fds[:], timeout); err != nil {
		return true, fmt.Errorf("wait for the terminal: %w", err)
	}
	if quiet != nil && len(l.toOut) == 0 && fds == unanswered(fds) {
		l.reportQuiet(quiet)
	}
	if fds[pollWake].Revents != 0 {
		l.wake.clear()
	}
	if fds[pollMaster].Revents != 0 {
		if err := l.serveMaster(fds[pollMaster].Revents); err != nil {
			return true, err
		}
	}
	if fds[pollIn].Revents != 0 {
		l.readInput(fds[pollIn].Revents)
	}
	if len(l.toOut) > 0 {
		return false, l.writeOutput()
	}
	return false, nil
}

// quietWanted returns the channel of a [Relay.Suspend] that waits.
func (l *loop) quietWanted() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.quiet
}

// reportQuiet tells it that the program is silent.
func (l *loop) reportQuiet(quiet chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(quiet)
	l.quiet = nil
}

// unanswered returns a poll set as it is when the time is over.
func unanswered(fds [pollCount]unix.PollFd) [pollCount]unix.PollFd {
	for i := range fds {
		fds[i].Revents = 0
	}
	return fds
}

func (l *loop) noticeClose() {
	l.mu.Lock()
	closing := l.closing
	l.mu.Unlock()
	if closing && l.closed.IsZero() {
		l.closed = time.Now()
		l.progress = l.closed
		l.inOpen, l.toMaster = false, nil
	}
}

// deadline returns how long the end may still be waited for.
func (l *loop) deadline() time.Duration {
	limit := drainQuiet
	if len(l.toOut) > 0 {
		limit = drainStall
	}
	return min(time.Until(l.progress.Add(limit)), time.Until(l.closed.Add(drainTotal)))
}

// wanted returns what to wait for. A descriptor of which nothing is wanted is left out altogether (-1): poll would report its
// end again and again. Neither direction is read before the last piece has been written.
func (l *loop) wanted() (fds [pollCount]unix.PollFd, timeout int) {
	fds = [pollCount]unix.PollFd{{Fd: int32(l.wake), Events: unix.POLLIN}, {Fd: -1}, {Fd: -1}, {Fd: -1}}
	timeout = -1
	want := func(i, fd int, events int16) {
		fds[i].Fd = int32(fd)
		fds[i].Events |= events
	}
	if !l.eof && len(l.toOut) == 0 {
		want(pollMaster, l.master, unix.POLLIN)
	}
	if !l.eof && len(l.toMaster) > 0 {
		want(pollMaster, l.master, unix.POLLOUT)
	}
	if len(l.toOut) > 0 {
		want(pollOut, l.out.fd, unix.POLLOUT)
	}
	if !l.inOpen || len(l.toMaster) > 0 {
		return fds, timeout
	}
	if l.term == nil {
		want(pollIn, l.in.fd, unix.POLLIN)
		return fds, timeout
	}
	switch ours, err := l.term.claim(); {
	case err != nil: // the terminal has gone; SIGHUP says so to the caller
		l.inOpen = false
	case ours:
		want(pollIn, l.in.fd, unix.POLLIN)
	default:
		timeout = backgroundPoll
	}
	return fds, timeout
}

// serveMaster moves bytes out of and into the pseudoterminal.
func (l *loop) serveMaster(events int16) error {
	if len(l.toMaster) > 0 {
		n, err := unix.Write(l.master, l.toMaster)
		switch {
		case err == nil:
			l.toMaster = l.toMaster[n:]
		case !again(err) || events&unix.POLLHUP != 0: // no slave: nobody will read it
			l.toMaster, l.inOpen = nil, false
		}
	}
	if len(l.toOut) > 0 || events&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) == 0 {
		return nil
	}
	n, err := unix.Read(l.master, l.chunk[:])
	switch {
	case err == nil && n > 0:
		l.outBuf = l.filter.Append(l.outBuf[:0], l.chunk[:n])
		l.toOut = l.outBuf
		l.progress = time.Now()
	case err == nil, errors.Is(err, unix.EIO): // EIO: all slaves are closed, and everything has been read
		l.eof = true
	case !again(err):
		return fmt.Errorf("read the sandbox's terminal: %w", err)
	}
	return nil
}

func (l *loop) writeOutput() error {
	n, err := l.out.write(l.toOut)
	if err != nil {
		if again(err) {
			return nil
		}
		return fmt.Errorf("write to the terminal: %w", err)
	}
	l.toOut = l.toOut[n:]
	l.progress = time.Now()
	return nil
}

// readInput reads what the user has typed.
func (l *loop) readInput(events int16) {
	n, err := l.in.read(l.chunk[:])
	switch {
	case err == nil && n > 0:
		l.toMaster = append(l.toMaster[:0], l.chunk[:n]...)
		l.partial = l.chunk[n-1] != '\n'
		l.interrupts(l.chunk[:n])
	case again(err):
	case l.term == nil:
		l.inOpen = false
		l.sendEOF()
	case events&(unix.POLLHUP|unix.POLLNVAL) != 0:
		l.inOpen = false
	case err == nil: // somebody has taken the terminal out of raw mode, and Ctrl-D was typed
		l.sendEOF()
	default:
		l.inOpen = l.term.lost()
	}
}

// sendEOF types the end-of-file character. At the end of a line one says so; else the first one sends off what there is.
func (l *loop) sendEOF() {
	eof := byte(4)
	if modes, err := unix.IoctlGetTermios(l.master, unix.TCGETS); err == nil {
		eof = modes.Cc[unix.VEOF]
		l.partial = l.partial && modes.Lflag&unix.ICANON != 0
	}
	l.toMaster = append(l.toMaster[:0], eof)
	if l.partial {
		l.toMaster = append(l.toMaster, eof)
	}
}

// interrupts tells the caller of interrupt characters that have their meaning.
func (l *loop) interrupts(typed []byte) {
	if l.options.Interrupt == nil {
		return
	}
	modes, err := unix.IoctlGetTermios(l.master, unix.TCGETS)
	if err != nil || modes.Lflag&unix.ISIG == 0 || modes.Cc[unix.VINTR] == 0 {
		return
	}
	for range bytes.Count(typed, modes.Cc[unix.VINTR:unix.VINTR+1]) {
		l.options.Interrupt()
	}
}

// again reports that a system call on a descriptor that does not block has only to be repeated later.
func again(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}
