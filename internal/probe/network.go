package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// networkChecks looks at what can be reached.
func networkChecks() []check {
	return []check{
		{"G1", "loopback", "the sandbox has a working loopback of its own", loopback},
		{"G1", "interfaces", "there is no other network interface", interfaces},
		{"G1", "host-port", "a port of the host's loopback cannot be reached", hostPort},
		{"G2", "outside", "no address outside can be reached", outside},
		{"G5", "abstract", "abstract sockets of the host cannot be reached", abstractSocket},
		{"J2", "sockets", "no control socket of the host is here", controlSockets},
	}
}

func loopback(*Facts) outcome {
	listener, port, err := Listen()
	if err != nil {
		return broken("%v", err)
	}
	defer unix.Close(listener)
	// The kernel completes the handshake by itself, so one thread is enough.
	out, err := dial(localhost(port))
	if err != nil {
		return broken("connect to 127.0.0.1: %v", err)
	}
	defer unix.Close(out)
	in, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return broken("accept: %v", err)
	}
	defer unix.Close(in)
	if _, err := unix.Write(in, []byte("x")); err != nil {
		return broken("write: %v", err)
	}
	if n, err := readWithin(out, make([]byte, 1)); n != 1 {
		return broken("read: %d bytes, %v", n, err)
	}
	return held("127.0.0.1 answers")
}

func interfaces(facts *Facts) outcome {
	names, err := interfaceNames()
	if err != nil {
		return broken("%v", err)
	}
	text := strings.Join(names, " ")
	others, err := otherInterfaceUp(names)
	switch {
	case err != nil:
		return broken("%s: %v", text, err)
	case !others:
		return held("%s", text)
	case facts.HostNetwork:
		return weaker("the network is the host's: %s", text)
	default:
		return broken("%s", text)
	}
}

// hostPort tries the addresses under which user-mode network stacks and
// careless forwardings have shown the host's loopback.
func hostPort(facts *Facts) outcome {
	if facts.Port == 0 {
		return unknown("no port was named")
	}
	places := []struct {
		text    string
		address unix.Sockaddr
	}{
		{"127.0.0.1", localhost(facts.Port)},
		{"0.0.0.0", &unix.SockaddrInet4{Port: facts.Port}},
		{"::1", &unix.SockaddrInet6{Port: facts.Port, Addr: [16]byte{15: 1}}},
		{"10.0.2.2", &unix.SockaddrInet4{Port: facts.Port, Addr: [4]byte{10, 0, 2, 2}}},
		{"169.254.1.1", &unix.SockaddrInet4{Port: facts.Port, Addr: [4]byte{169, 254, 1, 1}}},
	}
	for _, p := range places {
		fd, err := dial(p.address)
		if err != nil {
			continue
		}
		unix.Close(fd)
		if facts.HostNetwork {
			return weaker("the network is the host's: %s answers", p.text)
		}
		return broken("%s port %d answers", p.text, facts.Port)
	}
	return held("refused on five addresses")
}

// outside sends nothing: connecting a datagram socket only looks up a route.
// The addresses are those of RFC 5737 and RFC 3849, which belong to nobody.
func outside(facts *Facts) outcome {
	if facts.HostNetwork {
		return weaker("the network is the host's")
	}
	for text, address := range map[string]unix.Sockaddr{
		"192.0.2.1":   &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}},
		"2001:db8::1": &unix.SockaddrInet6{Port: 9, Addr: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}},
	} {
		fd, err := connected(address, unix.SOCK_DGRAM)
		if err == nil {
			unix.Close(fd)
			return broken("there is a route to %s", text)
		}
	}
	return held("no route")
}

func abstractSocket(facts *Facts) outcome {
	if facts.Abstract == "" {
		return unknown("no socket was named")
	}
	fd, err := dial(&unix.SockaddrUnix{Name: "@" + facts.Abstract})
	if err == nil {
		unix.Close(fd)
		if facts.HostNetwork {
			return weaker("the network is the host's: abstract sockets come with it")
		}
		return broken("connected to @%s", facts.Abstract)
	}
	return held("%v", err)
}

func controlSockets(*Facts) outcome {
	var seen []string
	for _, path := range []string{
		"/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock",
		"/run/containerd/containerd.sock", "/run/systemd/private", "/run/systemd/notify", "/run/user",
		"/run/nscd/socket", "/tmp/.X11-unix", "/run/snapd.socket", "/run/libvirt", "/var/run/nscd",
	} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			seen = append(seen, path)
		}
	}
	if len(seen) > 0 {
		return broken("%s", strings.Join(seen, " "))
	}
	return held("none of the usual paths")
}

// terminalChecks looks at the terminal.
func terminalChecks() []check {
	return []check{
		{"F1", "injection", "nothing can be typed into a terminal", injection},
		{"F2", "controlling-tty", "the controlling terminal is the sandbox's own, or there is none", controllingTTY},
	}
}

func injection(*Facts) outcome {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unknown("open /dev/ptmx: %v", err)
	}
	defer unix.Close(fd)
	ioctl := func(name string, request uint64) attempt {
		return attempt{name, []unix.Errno{unix.EPERM}, func() unix.Errno {
			var arg [16]byte
			return ioctlErrno(fd, request, &arg)
		}}
	}
	// The kernel looks at the low 32 bits of a request only; a filter that
	// compares all 64 can be passed by (CVE-2019-10063).
	return refused(
		ioctl("TIOCSTI", unix.TIOCSTI), ioctl("TIOCSTI with a high bit", unix.TIOCSTI|1<<32),
		ioctl("TIOCLINUX", unix.TIOCLINUX), ioctl("TIOCLINUX with a high bit", unix.TIOCLINUX|1<<40),
		ioctl("TIOCSETD", unix.TIOCSETD), ioctl("TIOCCONS", unix.TIOCCONS),
	)
}

func controllingTTY(facts *Facts) outcome {
	errno := opens("/dev/tty", unix.O_RDWR)
	if !facts.Terminal {
		if errno == 0 {
			return broken("/dev/tty opens although no terminal was asked for")
		}
		return held("/dev/tty: %s", errnoName(errno))
	}
	if errno != 0 {
		return broken("/dev/tty: %s", errnoName(errno))
	}
	for fd := range 3 {
		if target := linkOf(fmt.Sprintf("/proc/self/fd/%d", fd)); strings.HasPrefix(target, "/dev/pts/") || target == "/dev/console" {
			return held("fd %d is %s", fd, target)
		}
	}
	return broken("no standard stream is the sandbox's terminal: fd 0 is %s", linkOf("/proc/self/fd/0"))
}
