package probe

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Sockets are made by system calls and not by package net: sbx itself carries
// the probe for its self-test, and each start of sbx would pay for net.

// dialTimeout bounds an attempt that should be refused at once, in milliseconds.
const dialTimeout = 2000

func localhost(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// Listen opens a TCP port of 127.0.0.1 that the kernel chooses. It is what
// [Facts].Port is about on the outside; nobody has to accept for a connection
// to succeed. The descriptor is close-on-exec and the caller's.
func Listen() (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("make a socket: %w", err)
	}
	if err = unix.Bind(fd, localhost(0)); err == nil {
		err = unix.Listen(fd, 8)
	}
	var own unix.Sockaddr
	if err == nil {
		own, err = unix.Getsockname(fd)
	}
	address, ok := own.(*unix.SockaddrInet4)
	if err != nil || !ok {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("listen on 127.0.0.1: %w", err)
	}
	return fd, address.Port, nil
}

// ListenAbstract opens an abstract Unix socket (unix(7)), which has no file and
// is in reach of everybody in the network namespace. The name is without the
// leading NUL.
func ListenAbstract(name string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}); err == nil {
		err = unix.Listen(fd, 8)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on @%s: %w", name, err)
	}
	return fd, nil
}

// dial connects a stream socket within dialTimeout.
func dial(address unix.Sockaddr) (int, error) { return connected(address, unix.SOCK_STREAM) }

func connected(address unix.Sockaddr, kind int) (int, error) {
	family := unix.AF_INET
	switch address.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family = unix.AF_UNIX
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, address)
	if errors.Is(err, unix.EINPROGRESS) {
		err = finishConnect(fd)
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func finishConnect(fd int) error {
	if !ready(fd, unix.POLLOUT) {
		return unix.ETIMEDOUT
	}
	value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if value != 0 {
		return unix.Errno(value)
	}
	return nil
}

func readWithin(fd int, buf []byte) (int, error) {
	if !ready(fd, unix.POLLIN) {
		return 0, unix.ETIMEDOUT
	}
	return unix.Read(fd, buf)
}

func ready(fd int, events int16) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(poll, dialTimeout)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// interfaceNames reads /proc/net/dev: two lines of heading, then one interface
// a line, with its name before a colon.
func interfaceNames() ([]string, error) {
	file, err := os.Open("/proc/self/net/dev")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var names []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, _, found := strings.Cut(lines.Text(), ":"); found {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names, lines.Err()
}

// otherInterfaceUp says whether one that is not a loopback is up (netdevice(7)).
// Tunnel devices that the kernel puts into every namespace are down.
func otherInterfaceUp(names []string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	for _, name := range names {
		request, err := unix.NewIfreq(name)
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request)
		}
		if err != nil {
			return false, fmt.Errorf("flags of %s: %w", name, err)
		}
		if flags := request.Uint16(); flags&unix.IFF_UP != 0 && flags&unix.IFF_LOOPBACK == 0 {
			return true, nil
		}
	}
	return false, nil
}
