package cgroupv2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
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
			value, err := dbus.UnescapeBusAddressValue(value)
			switch {
			case err != nil, value == "":
			case key == "path":
				list = append(list, address{path: value})
			case key == "abstract":
				list = append(list, address{path: "@" + value})
			}
		}
	}
	return list
}

var (
	errPeer    = errors.New("the socket belongs to somebody else")
	errRefuse  = errors.New("the peer refused the caller's identity")
	errMessage = errors.New("malformed D-Bus message")
)

// maxExchange bounds what is taken from a peer, in bytes: godbus takes messages of
// 128 MiB, and lines of any length. An exchange has a few KiB; the ends of other jobs,
// of some 150 bytes each, come on top of that.
const maxExchange = 1 << 20

// conn is a connection of one exchange, by godbus on a socket of our own: that neither
// looks for a bus nor starts one, takes no descriptors, and ends with the context.
type conn struct {
	*dbus.Conn
	direct bool
	// ctx ends when the caller's does, and when the peer can no longer be heard. Its
	// cause tells which.
	ctx context.Context
	end context.CancelCauseFunc
}

// dial connects and proves the caller's identity. Only a peer that is the caller
// himself or root is talked to.
func dial(ctx context.Context, a address, uid int) (*conn, error) {
	// Close-on-exec, and without a wait: where the queue is full it fails.
	socket, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: a.path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a.path, plain(err))
	}
	c, err := converse(ctx, socket, a.direct, uid)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a.path, err)
	}
	return c, nil
}

// converse makes a connection of a socket, which it closes if it fails.
func converse(ctx context.Context, socket *net.UnixConn, direct bool, uid int) (*conn, error) {
	if err := samePeer(socket, uid); err != nil {
		_ = socket.Close()
		return nil, err
	}
	c := &conn{direct: direct}
	c.ctx, c.end = context.WithCancelCause(ctx)
	// This ends each read and write, and whatever waits for one: godbus gives up a
	// connection that cannot be read, and all its calls.
	context.AfterFunc(c.ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	var err error
	c.Conn, err = dbus.NewConn(&stream{socket, bufio.NewReader(socket), maxExchange, c.end}, dbus.WithIncomingInterceptor(heed))
	if err != nil {
		c.end(err)
		_ = socket.Close()
		return nil, err
	}
	if err := c.greet(uid); err != nil {
		err = c.reason(err)
		c.close()
		return nil, err
	}
	return c, nil
}

func samePeer(socket *net.UnixConn, uid int) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if failed := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); failed != nil || err != nil {
		return errors.Join(failed, err)
	}
	if int(peer.Uid) != uid && peer.Uid != 0 {
		return errPeer
	}
	return nil
}

// greet authenticates, and takes a name on a bus.
func (c *conn) greet(uid int) error {
	// No other way than EXTERNAL: the cookies of the others are files.
	if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))}); err != nil {
		return errRefuse
	}
	if c.direct {
		return nil
	}
	return c.Hello()
}

// close returns when the descriptor is closed. The goroutines of godbus end by that.
func (c *conn) close() {
	_ = c.Close()
	c.end(nil)
}

// reason returns why a call failed: what the peer says, the end of the time or of
// the connection, or else err.
func (c *conn) reason(err error) error {
	var refusal dbus.Error
	if errors.As(err, &refusal) {
		if refusal.Error() == "" {
			return errors.New(refusal.Name)
		}
		return refusal
	}
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	return err
}

// heed has godbus pass over what an exchange does not need, which it does with messages
// of no type. It would answer calls, and it panics at a name that is not a text.
func heed(m *dbus.Message) {
	switch m.Type {
	case dbus.TypeMethodReply, dbus.TypeError:
		return
	case dbus.TypeSignal:
		if m.Headers[dbus.FieldInterface].Value() == managerIface && m.Headers[dbus.FieldMember].Value() == jobRemoved {
			return
		}
	}
	m.Type = 0
}

// stream is a socket with a bound. What ends it is told to fail.
type stream struct {
	*net.UnixConn
	in   *bufio.Reader // godbus reads a few bytes at a time
	left int
	fail context.CancelCauseFunc
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		err := fmt.Errorf("%w: longer than %d bytes", errMessage, maxExchange)
		s.fail(err)
		return 0, err
	}
	n, err := s.in.Read(p[:min(len(p), s.left)])
	s.left -= n
	if err != nil {
		err = plain(err)
		s.fail(err)
	}
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.UnixConn.Write(p)
	if err != nil {
		err = plain(err)
		s.fail(err)
	}
	return n, err
}

// plain leaves of an error of package net what a message that names the socket needs.
func plain(err error) error {
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// value returns one of the n values of a message, which must be of type T. dbus.Store
// would make a text of a number.
func value[T any](body []any, i, n int) (T, error) {
	var v T
	ok := len(body) == n
	if ok {
		v, ok = body[i].(T)
	}
	if !ok {
		return v, fmt.Errorf("%w: no %T as value %d of %d", errMessage, v, i+1, n)
	}
	return v, nil
}
