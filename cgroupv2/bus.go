package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

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
			key, escaped, _ := strings.Cut(option, "=")
			value, err := dbus.UnescapeBusAddressValue(escaped)
			switch {
			case value == "" || err != nil:
			case key == "path":
				list = append(list, address{path: value})
			case key == "abstract":
				list = append(list, address{path: "@" + value})
			}
		}
	}
	return list
}

var errPeer = errors.New("the socket belongs to somebody else")

// dial connects and proves the caller's identity. Only a peer that is the caller
// himself or root is talked to. The connection ends with ctx.
func dial(ctx context.Context, a address, uid int) (*dbus.Conn, error) {
	c, err := greet(ctx, a, uid)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a.path, inTime(ctx, err))
	}
	return c, nil
}

func greet(ctx context.Context, a address, uid int) (*dbus.Conn, error) {
	socket, err := (&net.Dialer{}).DialContext(ctx, "unix", a.path)
	if err != nil {
		return nil, errnoOf(err)
	}
	// Without the library's own ways to connect, which look at the environment,
	// and may start a bus.
	c, err := dbus.NewConn(socket, dbus.WithContext(ctx))
	if err != nil {
		socket.Close()
		return nil, err
	}
	if err = checkPeer(socket.(*net.UnixConn), uid); err == nil {
		err = c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))})
	}
	if err == nil && !a.direct {
		err = c.Hello()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// checkPeer holds that the one who listens is the caller himself or root.
func checkPeer(socket *net.UnixConn, uid int) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var errno error
	if err := raw.Control(func(fd uintptr) {
		peer, errno = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if errno != nil {
		return fmt.Errorf("ask who listens: %w", errno)
	}
	if int(peer.Uid) != uid && peer.Uid != 0 {
		return errPeer
	}
	return nil
}

// errnoOf takes the errno out of an error of package net, which names the path and the
// call as well.
func errnoOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// inTime returns the end of the context in place of what it has led to: reading from a
// connection that was closed behind one's back.
func inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
