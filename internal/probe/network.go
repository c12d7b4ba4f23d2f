package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds an attempt that should be refused at once.
const dialTimeout = 2 * time.Second

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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return broken("%v", err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Write([]byte("x"))
			conn.Close()
		}
		done <- err
	}()
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), dialTimeout)
	if err != nil {
		return broken("%v", err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return broken("%v", err)
	}
	if err := <-done; err != nil {
		return broken("%v", err)
	}
	return held("127.0.0.1 answers")
}

func interfaces(facts *Facts) outcome {
	list, err := net.Interfaces()
	if err != nil {
		return broken("%v", err)
	}
	var names []string
	others := false
	for _, i := range list {
		names = append(names, i.Name)
		others = others || i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0
	}
	text := strings.Join(names, " ")
	switch {
	case !others:
		return held("%s", text)
	case facts.HostNetwork:
		return weaker("the network is the host's: %s", text)
	default:
		return broken("%s", text)
	}
}

func hostPort(facts *Facts) outcome {
	if facts.Port == 0 {
		return unknown("no port was named")
	}
	for _, address := range []string{"127.0.0.1", "0.0.0.0", "::1", "10.0.2.2", "169.254.1.1"} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, fmt.Sprint(facts.Port)), dialTimeout)
		if err != nil {
			continue
		}
		conn.Close()
		if facts.HostNetwork {
			return weaker("the network is the host's: %s answers", address)
		}
		return broken("%s port %d answers", address, facts.Port)
	}
	return held("refused on five addresses")
}

// outside sends nothing: connecting a datagram socket only looks up a route.
func outside(facts *Facts) outcome {
	if facts.HostNetwork {
		return weaker("the network is the host's")
	}
	for _, address := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", address)
		if err == nil {
			conn.Close()
			return broken("there is a route to %s", address)
		}
	}
	return held("no route")
}

func abstractSocket(facts *Facts) outcome {
	if facts.Abstract == "" {
		return unknown("no socket was named")
	}
	conn, err := net.DialTimeout("unix", "@"+facts.Abstract, dialTimeout)
	if err == nil {
		conn.Close()
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
