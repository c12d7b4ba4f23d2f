package console

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// pipeBuf is how much a pipe that poll(2) calls writable takes without blocking (PIPE_BUF, pipe(7)).
const pipeBuf = 4096

// ttyChunk is how much is written at once to a terminal that could not be opened a second time. Terminals promise nothing
// about the room behind POLLOUT; their buffers hold some kilobytes.
const ttyChunk = 256

// port is one end of a relay: a descriptor with reads and writes that do not block, as far as that can be had without
// changing it. They return EAGAIN when poll must be asked first.
type port struct {
	fd       int
	own      bool // fd is a second description, made here, and is closed with the port
	tty      bool
	fifo     bool
	regular  bool
	nowait   bool // RWF_NOWAIT works, until it is found not to
	nonblock bool // fd itself does not block
}

// openPort makes a port of a descriptor of the caller. Flags are O_RDONLY or O_WRONLY: what it is for.
func openPort(fd, flags int) (*port, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	p := &port{fd: fd, tty: IsTerminal(fd)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		p.fifo, p.nowait = true, true
	case unix.S_IFSOCK:
		p.nowait = true
	case unix.S_IFREG:
		p.regular = true
	}
	if p.tty {
		// Refused after su(1), when the terminal still belongs to somebody else: then the descriptor itself must do.
		path := "/proc/self/fd/" + strconv.Itoa(fd)
		again, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			p.fd, p.own, p.nonblock = again, true, true
		}
	}
	return p, nil
}

func (p *port) close() {
	if p.own {
		_ = unix.Close(p.fd) // nothing was buffered in it
	}
}

// direct reports whether a read may be tried without poll.
func (p *port) direct() bool { return p.nowait || p.nonblock }

// read is read(2), except that EINTR is not returned.
func (p *port) read(b []byte) (int, error) {
	for {
		var n int
		var err error
		if p.nowait {
			n, err = unix.Preadv2(p.fd, [][]byte{b}, -1, unix.RWF_NOWAIT)
			if unsupported(err) {
				p.nowait = false
				return 0, unix.EAGAIN
			}
		} else {
			n, err = unix.Read(p.fd, b)
		}
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, err
		}
	}
}

// write is write(2), except that EINTR is not returned, and that of a long b only the beginning may be tried.
func (p *port) write(b []byte) (int, error) {
	for {
		var n int
		var err error
		switch {
		case p.nowait:
			n, err = unix.Pwritev2(p.fd, [][]byte{b}, -1, unix.RWF_NOWAIT)
			if unsupported(err) {
				p.nowait = false
				return 0, unix.EAGAIN
			}
		case p.nonblock, p.regular:
			n, err = unix.Write(p.fd, b)
		case p.tty:
			n, err = unix.Write(p.fd, b[:min(len(b), ttyChunk)])
		default:
			n, err = unix.Write(p.fd, b[:min(len(b), pipeBuf)])
		}
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, err
		}
	}
}

// unsupported reports that a file has no RWF_NOWAIT: pipes got it in Linux 6.4, sockets much earlier; gVisor has none.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)
}

// waker is an eventfd(2) that gets a goroutine out of poll.
type waker int

func newWaker() (waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return waker(fd), err
}

func (w waker) wake() {
	_, _ = unix.Write(int(w), []byte{7: 1}) // EAGAIN only when it is awake 2^64-2 times over; any byte order is a number above 0
}

func (w waker) clear() {
	var b [8]byte
	_, _ = unix.Read(int(w), b[:]) // EAGAIN when nobody had called
}

// poll is poll(2) without EINTR. The time-out is in milliseconds; below 0 there is none.
func poll(fds []unix.PollFd, timeout int) error {
	for {
		_, err := unix.Poll(fds, timeout)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
