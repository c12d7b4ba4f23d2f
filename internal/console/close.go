package console

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the end of a relay, once [Relay.Close] has been called.
const (
	drainQuiet  = 250 * time.Millisecond // nothing more comes, though somebody holds the slave open
	drainStall  = 2 * time.Second        // the user's terminal takes nothing
	drainTotal  = 5 * time.Second        // both go on, slowly
	drainStuck  = drainTotal + time.Second
	answerTotal = time.Second           // the terminal does not answer
	reportTotal = 50 * time.Millisecond // mouse reports sent before the mouse was switched off
)

// Close ends the relay after the program's end. It lets the output that is on its way come out, but waits no longer than two
// seconds for a terminal that takes nothing, a quarter of a second if there is nothing though something still holds the slave
// open, and five in all; then it resets what the program has changed about the terminal ([Filter.AppendReset]),
// takes away what the terminal may still have to say about that (up to a second without the filter, 50 ms if the mouse was left
// on), restores the terminal as [Relay.Restore] does, and closes master. Further calls return the same error.
func (r *Relay) Close() error {
	r.once.Do(func() {
		stuck := !r.stop()
		if !stuck {
			r.reset()
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

// reset sends the reset, and takes away what the terminal may still send because of the program: mouse reports, and answers if
// questions went by unfiltered. For those it asks a question of its own: as terminals answer in order, nothing of the program's
// comes after the answer to that. A filtered terminal is never asked anything.
func (r *Relay) reset() {
	asked := r.filter.Raw && r.filter.refused && r.out.tty
	expected := asked || r.filter.reporting()
	b := r.filter.AppendReset(nil)
	if expected && r.term != nil {
		expected, _ = r.term.claim() // what comes in the background is the shell's; an error says that the terminal has gone
	} else {
		expected = false
	}
	limit := reportTotal
	if expected && asked {
		limit = answerTotal
		b = append(b, question...)
	}
	if r.send(b) && expected {
		r.takeAway(limit)
	}
}

// question is DSR, "are you well?", which all terminals answer with answer; in their 8-bit mode they may use CSI as one byte.
const (
	question = "\x1b[5n"
	answer   = "[0n"
	answer8  = "\x9b0n"
)

// send writes b to the terminal. It reports whether it could: one that has gone, or is stopped, needs no reset.
func (r *Relay) send(b []byte) bool {
	until := time.Now().Add(drainStall)
	for len(b) > 0 {
		n, err := r.out.write(b)
		if err == nil {
			b = b[n:]
			continue
		}
		if !again(err) || !pollUntil(r.out.fd, unix.POLLOUT, until) {
			return false
		}
	}
	return true
}

// takeAway reads, and drops, what comes from the terminal up to the answer to question, or until the time is over.
func (r *Relay) takeAway(limit time.Duration) {
	until := time.Now().Add(limit)
	var b [512]byte
	var tail []byte // an answer may come in pieces
	for pollUntil(r.in.fd, unix.POLLIN, until) {
		n, err := r.in.read(b[:])
		if err != nil && !again(err) || err == nil && n == 0 {
			return
		}
		tail = append(tail, b[:max(n, 0)]...)
		if bytes.Contains(tail, []byte(answer)) || bytes.Contains(tail, []byte(answer8)) {
			return
		}
		tail = tail[max(0, len(tail)-len(answer)):]
	}
}

// pollUntil waits for events on a descriptor. It reports false when the time is over.
func pollUntil(fd int, events int16, until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	return poll(fds, int(left.Milliseconds())+1) == nil && fds[0].Revents != 0
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
