package console

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a pseudoterminal. On the user's one the test sits at the master, as a terminal emulator does; on the sandbox's one at
// the slave, as a program does.
type pty struct{ master, slave int }

func newPTY(t *testing.T) *pty {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal("open /dev/ptmx:", err)
	}
	p := &pty{master: master, slave: -1}
	t.Cleanup(func() { p.closeSlave(); p.closeMaster() })
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		t.Fatal("TIOCGPTPEER:", e)
	}
	p.slave = int(n)
	return p
}

func (p *pty) closeSlave() {
	if p.slave >= 0 {
		unix.Close(p.slave)
		p.slave = -1
	}
}

func (p *pty) closeMaster() {
	if p.master >= 0 {
		unix.Close(p.master)
		p.master = -1
	}
}

// give hands the master over to a Relay.
func (p *pty) give() int {
	m := p.master
	p.master = -1
	return m
}

func termios(t *testing.T, fd int) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

func isRaw(t *testing.T, fd int) bool {
	t.Helper()
	return termios(t, fd).Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0
}

// setTermios changes the modes of a terminal.
func setTermios(t *testing.T, fd int, change func(*unix.Termios)) {
	t.Helper()
	m := termios(t, fd)
	change(&m)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &m); err != nil {
		t.Fatal(err)
	}
}

// collector reads a descriptor to its end in the background.
type collector struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	done chan struct{}
}

func collect(fd int) *collector {
	c := &collector{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		b := make([]byte, 32<<10)
		for {
			n, err := unix.Read(fd, b)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 || err != nil {
				return
			}
			c.mu.Lock()
			c.buf.Write(b[:n])
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// eventually waits up to five seconds for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// within fails the test when f takes longer than limit.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s takes longer than %v", what, limit)
	}
}

func write(t *testing.T, fd int, s string) {
	t.Helper()
	for b := []byte(s); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			t.Fatal("write:", err)
		}
		b = b[max(n, 0):]
	}
}

// newPipe returns the two ends of a pipe, which are closed with the test unless they have been by then.
func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return p[0], p[1]
}

// readable reports whether a read would return at once.
func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}

// nonblocking reports whether O_NONBLOCK is set on the open file description.
func nonblocking(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// TestMain lets the test binary play another process: the environment names the part.
func TestMain(m *testing.M) {
	if part, ok := parts[os.Getenv("CONSOLE_TEST_PART")]; ok {
		os.Exit(part())
	}
	os.Exit(m.Run())
}
