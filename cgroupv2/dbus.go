package cgroupv2

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// address is where a service manager listens: behind a message bus, or on a socket of
// its own, on which there are neither names nor subscriptions.
type address struct {
	path   string // of a socket; "@NAME" in the abstract name space
	direct bool
}

// parseAddress returns the sockets in a D-Bus address, as $DBUS_SESSION_BUS_ADDRESS
// holds it. Transports that start a program (unixexec:, autolaunch:) or reach another
// machine (tcp:) are passed over: a bus is used when there is one and never started.
func parseAddress(text string) []address {
	var list []address
	for entry := range strings.SplitSeq(text, ";") {
		options, ok := strings.CutPrefix(entry, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			key, value, _ := strings.Cut(option, "=")
			value = unescape(value)
			switch {
			case value == "":
			case key == "path":
				list = append(list, address{path: value})
			case key == "abstract":
				list = append(list, address{path: "@" + value})
			}
		}
	}
	return list
}

// unescape decodes %XX of an address; "" when it is malformed.
func unescape(value string) string {
	parts := strings.Split(value, "%")
	for i, part := range parts[1:] {
		if len(part) < 2 {
			return ""
		}
		c, err := strconv.ParseUint(part[:2], 16, 8)
		if err != nil {
			return ""
		}
		parts[i+1] = string([]byte{byte(c)}) + part[2:]
	}
	return strings.Join(parts, "")
}

// busError is the answer of a peer that refused a call.
type busError struct{ Name, Text string }

func (e *busError) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text
}

var (
	errPeer   = errors.New("the socket belongs to somebody else")
	errRefuse = errors.New("the peer refused the caller's identity")
)

// conn is a connection of one exchange. It is for one goroutine.
type conn struct {
	fd     int
	buf    []byte
	serial uint32
	direct bool
}

// dial connects and proves the caller's identity. Only a peer that is the caller
// himself or root is talked to.
func dial(ctx context.Context, a address, uid int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a.path, err)
	}
	c := &conn{fd: fd, direct: a.direct}
	if err := c.greet(ctx, a, uid); err != nil {
		c.close()
		return nil, fmt.Errorf("connect to %s: %w", a.path, err)
	}
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

func (c *conn) greet(ctx context.Context, a address, uid int) error {
	// The name of an abstract socket begins with a zero byte, which x/sys writes @.
	if err := noEINTR(func() error { return unix.Connect(c.fd, &unix.SockaddrUnix{Name: a.path}) }); err != nil {
		return err
	}
	peer, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	if int(peer.Uid) != uid && peer.Uid != 0 {
		return errPeer
	}
	id := hex.EncodeToString([]byte(strconv.Itoa(uid)))
	if err := c.send(ctx, []byte("\x00AUTH EXTERNAL "+id+"\r\nBEGIN\r\n")); err != nil {
		return err
	}
	line, err := c.line(ctx)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "OK ") {
		return errRefuse
	}
	return nil
}

func (c *conn) send(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(c.fd, data, nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EAGAIN):
			err = waitFor(ctx, c.fd, unix.POLLOUT)
		case errors.Is(err, unix.EINTR):
			err = nil
		}
		if err != nil {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

// fill reads once more into the buffer.
func (c *conn) fill(ctx context.Context) error {
	chunk := make([]byte, 4096)
	for {
		n, err := unix.Read(c.fd, chunk)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := waitFor(ctx, c.fd, unix.POLLIN); err != nil {
				return err
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			c.buf = append(c.buf, chunk[:n]...)
			return nil
		}
	}
}

func (c *conn) line(ctx context.Context) (string, error) {
	for {
		if line, rest, ok := strings.Cut(string(c.buf), "\r\n"); ok {
			c.buf = []byte(rest)
			return line, nil
		}
		if len(c.buf) > 4096 {
			return "", errMessage
		}
		if err := c.fill(ctx); err != nil {
			return "", err
		}
	}
}

func (c *conn) next(ctx context.Context) (message, error) {
	for {
		m, n, err := decode(c.buf)
		if err != nil {
			return m, err
		}
		if n > 0 {
			c.buf = c.buf[n:]
			return m, nil
		}
		if err := c.fill(ctx); err != nil {
			return m, err
		}
	}
}

// call sends calls at once and returns the answer to the last. Signals that arrive in
// between are handed to seen. The first refused call is an error.
func (c *conn) call(ctx context.Context, seen func(message), calls ...message) (message, error) {
	var data []byte
	for i := range calls {
		c.serial++
		calls[i].kind, calls[i].flags, calls[i].serial = typeCall, noAutoStart, c.serial
		data = append(data, calls[i].encode()...)
	}
	if err := c.send(ctx, data); err != nil {
		return message{}, err
	}
	for {
		m, err := c.next(ctx)
		switch {
		case err != nil:
			return m, err
		case m.kind == typeSignal:
			seen(m)
		case m.kind == typeError:
			return m, m.refusal()
		case m.kind == typeReturn && m.replySerial == c.serial:
			return m, nil
		}
	}
}

func (m message) refusal() error {
	e := &busError{Name: m.errorName}
	if strings.HasPrefix(m.signature, "s") {
		e.Text = (&decoder{buf: m.body, order: m.order}).string()
	}
	return e
}
