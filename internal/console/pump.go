package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// pumpChunk is how much is moved at once, in bytes: two pipes full.
const pumpChunk = 128 << 10

// pumpDrain is how long a [PumpOut] whose context has ended goes on with what is there already.
const pumpDrain = 2 * time.Second

// PumpOptions says what [PumpOut] does besides copying.
type PumpOptions struct {
	// Tap, unless nil, notes the stream as the program wrote it.
	Tap *Tap

	// Filter, unless nil, is applied to the stream, and its reset is sent after the end. It belongs on every stream to a
	// terminal: with "sbx run x > file", the program's stderr is one.
	Filter *Filter
}

// PumpIn copies the user's stream src to the program's stream dst until src ends, the program has closed its end, or ctx ends;
// all three return nil. After the end of ctx nothing more is read, since what is left in src may be for somebody else; what was
// read from a regular file and not yet written is left there as well.
//
// It takes both descriptors over and closes them before it returns: closing dst is how the program learns of the end, closing
// src how the writer learns that nobody reads (SIGPIPE). Of the numbers 0, 1 and 2, which must not become free for the next
// file that is opened, it makes /dev/null instead. A caller that needs one of them later passes a duplicate. Neither is ever
// set to O_NONBLOCK.
//
// The bytes are copied through memory, on purpose: splice(2) would hand the program's pipe the pages of the user's files
// themselves, which on a kernel with a bug like CVE-2022-0847 it could then write to.
func PumpIn(ctx context.Context, dst, src int) error {
	p, err := newPump(ctx, dst, src)
	if err == nil {
		p.input = true
		err = p.run()
		if len(p.pending) > 0 && p.src.regular {
			_, _ = unix.Seek(src, -int64(len(p.pending)), unix.SEEK_CUR)
		}
	}
	if err = errors.Join(err, closeEnd(src), closeEnd(dst)); err != nil {
		return fmt.Errorf("relay the program's input: %w", err)
	}
	return nil
}

// PumpOut copies the program's stream src to the user's stream dst until src ends, the reader of dst has gone, or ctx ends; all
// three return nil. When ctx ends, what src holds is still copied, for at most two seconds.
//
// It takes both descriptors over as [PumpIn] does. When the reader of dst goes away, src is closed at once, so that the program
// gets SIGPIPE with its next write, as without a relay. Between pipes, and from a pipe to a file, bytes move by splice(2) unless
// the options want to see them.
func PumpOut(ctx context.Context, dst, src int, o PumpOptions) error {
	p, err := newPump(ctx, dst, src)
	if err == nil {
		p.options = o
		p.splicing = p.src.fifo && (p.dst.fifo || p.dst.regular) && o == (PumpOptions{})
		err = p.run()
	}
	if err = errors.Join(err, closeEnd(src), closeEnd(dst)); err != nil {
		return fmt.Errorf("relay the program's output: %w", err)
	}
	return nil
}

// closeEnd closes one end of a finished pump.
func closeEnd(fd int) error {
	if fd > unix.Stderr {
		return unix.Close(fd)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return unix.Close(fd)
	}
	if null == fd { // it was closed before, and open has taken its place
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		return err
	}
	return errors.Join(unix.Dup3(null, fd, 0), unix.Close(null))
}

// pump is one direction of a stream relay.
type pump struct {
	ctx      context.Context
	dst, src *port
	options  PumpOptions
	input    bool // towards the program
	splicing bool
	wake     waker
	buf      []byte    // for reading
	filtered []byte    // for the filter
	pending  []byte    // read and not yet written; a part of one of the two
	until    time.Time // when to give up, once ctx has ended
}

func newPump(ctx context.Context, dst, src int) (*pump, error) {
	p := &pump{ctx: ctx}
	var err error
	if p.src, err = openPort(src, unix.O_RDONLY); err != nil {
		return nil, err
	}
	if p.dst, err = openPort(dst, unix.O_WRONLY); err != nil {
		p.src.close()
		return nil, err
	}
	if p.wake, err = newWaker(); err != nil {
		p.src.close()
		p.dst.close()
		return nil, err
	}
	return p, nil
}

// errReaderGone ends a pump whose output nobody reads any more.
var errReaderGone = errors.New("nobody reads the output")

// run pumps until the end and leaves nothing open but what it was given.
func (p *pump) run() error {
	stop := context.AfterFunc(p.ctx, p.wake.wake)
	err := p.pump()
	if !stop() {
		// AfterFunc's goroutine may be about to write to the eventfd, whose number must not be somebody else's by then.
		// It has written when the eventfd can be read; as it is never read elsewhere, that is not missed.
		_ = poll([]unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}}, -1)
	}
	_ = unix.Close(int(p.wake))
	p.src.close()
	p.dst.close()
	if errors.Is(err, errReaderGone) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

func (p *pump) pump() error {
	for more := true; more && !p.over(); {
		var err error
		if more, err = p.move(); err != nil {
			return err
		}
	}
	return p.finish()
}

// over reports that ctx has ended and nothing more may be read.
func (p *pump) over() bool {
	return p.ctx.Err() != nil && (p.input || p.remaining(p.src) < 0)
}

// move copies one piece. It reports whether there is more.
func (p *pump) move() (more bool, err error) {
	if p.splicing {
		return p.splice()
	}
	if p.buf == nil {
		p.buf = make([]byte, pumpChunk)
	}
	if !p.src.direct() {
		if more, err := p.await(p.src); !more {
			return false, err
		}
	}
	n, err := p.src.read(p.buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return p.await(p.src)
	case err != nil:
		return false, err
	case n == 0:
		return false, nil
	}
	p.pending = p.buf[:n]
	if p.options.Tap != nil {
		_, _ = p.options.Tap.Write(p.pending)
	}
	if p.options.Filter != nil {
		p.filtered = p.options.Filter.Append(p.filtered[:0], p.pending)
		p.pending = p.filtered
	}
	return p.flush()
}

// flush writes what is pending. It reports whether the pump may go on.
func (p *pump) flush() (more bool, err error) {
	tried := false
	for len(p.pending) > 0 {
		if tried || !p.dst.direct() {
			if more, err := p.await(p.dst); !more {
				return false, err
			}
		}
		n, err := p.dst.write(p.pending)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return false, err
		}
		p.pending = p.pending[n:]
		tried = true
	}
	return true, nil
}

// splice moves one piece without looking at it.
func (p *pump) splice() (more bool, err error) {
	n, err := unix.Splice(p.src.fd, nil, p.dst.fd, nil, pumpChunk, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case err == nil:
		return n > 0, nil
	case errors.Is(err, unix.EINTR):
		return true, nil
	case errors.Is(err, unix.EAGAIN): // one of the two is not ready
		if more, err := p.await(p.src); !more {
			return false, err
		}
		return p.await(p.dst)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // O_APPEND, or a file system that cannot
		p.splicing = false
		return true, nil
	}
	return false, err
}

// finish sends the reset of the filter.
func (p *pump) finish() error {
	if p.options.Filter == nil {
		return nil
	}
	p.pending = p.options.Filter.AppendReset(p.filtered[:0])
	_, err := p.flush()
	return err
}

// await waits until a port can be used. It reports false at the end of ctx, for input at once, for output when nothing is there
// or the time is over; and errReaderGone when dst has no reader any more, whichever port was asked for.
func (p *pump) await(which *port) (more bool, err error) {
	fds := [3]unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}, {Fd: -1}, {Fd: int32(p.dst.fd)}}
	asked := &fds[2]
	if which == p.src {
		asked = &fds[1]
		*asked = unix.PollFd{Fd: int32(p.src.fd), Events: unix.POLLIN}
		if !p.dst.fifo { // other files do not tell
			fds[2].Fd = -1
		}
	} else {
		asked.Events = unix.POLLOUT
	}
	timeout := -1
	for {
		if p.ctx.Err() != nil {
			if p.input {
				return false, nil
			}
			if timeout = p.remaining(which); timeout < 0 {
				return false, nil
			}
			fds[0].Fd = -1
		}
		if err := poll(fds[:], timeout); err != nil {
			return false, err
		}
		if p.dst.fifo && fds[2].Revents&unix.POLLERR != 0 {
			return false, errReaderGone
		}
		if asked.Revents != 0 {
			return true, nil
		}
		if timeout >= 0 {
			return false, nil
		}
	}
}

// remaining returns, after the end of ctx, how many milliseconds to wait for a port, or -1 when the time is over.
func (p *pump) remaining(which *port) int {
	if p.until.IsZero() {
		p.until = time.Now().Add(pumpDrain)
	}
	left := time.Until(p.until)
	if left <= 0 {
		return -1
	}
	if which == p.src {
		return 0
	}
	return int(left.Milliseconds()) + 1
}
