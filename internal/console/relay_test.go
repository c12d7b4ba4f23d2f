package console

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// desk is a user's terminal, a sandbox's terminal, and a relay between them.
type desk struct {
	*Relay
	user, box *pty
	screen    *collector // what the user's terminal is told
	ran       chan error
}

// sit opens a relay on two new terminals, and runs it.
func sit(t *testing.T, o Options) *desk {
	t.Helper()
	d := &desk{user: newPTY(t), box: newPTY(t), ran: make(chan error, 1)}
	d.screen = collect(d.user.master)
	r, err := Open(d.user.slave, d.user.slave, d.box.give(), o)
	if err != nil {
		t.Fatal(err)
	}
	d.Relay = r
	t.Cleanup(func() { r.Close() })
	go func() { d.ran <- r.Run() }()
	return d
}

func (d *desk) shows(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the terminal shows "+want+" and not only "+d.screen.String(), func() bool { return d.screen.String() == want })
}

func TestRelayCopiesTheTerminal(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	setTermios(t, user.slave, func(m *unix.Termios) {
		m.Iflag |= unix.IUTF8
		m.Cc[unix.VERASE] = '\b'
	})
	if err := unix.IoctlSetWinsize(user.slave, unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77, Xpixel: 770, Ypixel: 660}); err != nil {
		t.Fatal(err)
	}
	before := termios(t, user.slave)
	r, err := Open(user.slave, user.slave, box.give(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !isRaw(t, user.slave) {
		t.Error("the user's terminal is not in raw mode")
	}
	if got := termios(t, box.slave); got.Cc[unix.VERASE] != '\b' || got.Iflag&unix.IUTF8 == 0 || got.Lflag&unix.ICANON == 0 {
		t.Errorf("the sandbox's terminal has not the user's modes: %+v", got)
	}
	if c, l, err := Size(box.slave); c != 77 || l != 33 || err != nil {
		t.Errorf("the sandbox's terminal has %dx%d, %v", c, l, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if termios(t, user.slave) != before {
		t.Error("the user's terminal is not restored")
	}
	if err := r.Run(); err != nil {
		t.Error("Run after Close:", err)
	}
}

func TestRelayBothWays(t *testing.T) {
	d := sit(t, Options{})
	write(t, d.box.slave, "\x1b[1mhello\x1b[0m\n\x1b[6n\x1b]52;c;eA==\a")
	d.shows(t, "\x1b[1mhello\x1b[0m\r\n")

	write(t, d.user.master, "typed\r")
	b := make([]byte, 100)
	n, err := unix.Read(d.box.slave, b)
	if err != nil || string(b[:n]) != "typed\n" {
		t.Errorf("the program read %q, %v", b[:n], err)
	}
	d.shows(t, "\x1b[1mhello\x1b[0m\r\ntyped\r\n") // the echo of the sandbox's terminal, not of the user's

	d.box.closeSlave()
	if err := <-d.ran; err != nil {
		t.Error("Run:", err)
	}
	if err := d.Close(); err != nil {
		t.Error("Close:", err)
	}
	d.shows(t, "\x1b[1mhello\x1b[0m\r\ntyped\r\n\x1b[0m")
	if nonblocking(t, d.user.slave) {
		t.Error("the user's descriptor has got O_NONBLOCK")
	}
}

func TestRelayRawTTY(t *testing.T) {
	d := sit(t, Options{RawTTY: true})
	write(t, d.box.slave, "\x1b]0;title\a\x1b[?25l")
	d.box.closeSlave()
	d.Close()
	d.shows(t, "\x1b]0;title\a\x1b[?25l\x1b[?25h\x1b[0m"+question)
}

func TestRelayMuchOutput(t *testing.T) {
	d := sit(t, Options{})
	line := strings.Repeat("0123456789é", 20) + "\n"
	within(t, 60*time.Second, "relaying a megabyte", func() { write(t, d.box.slave, strings.Repeat(line, 5000)) })
	d.box.closeSlave()
	if err := <-d.ran; err != nil {
		t.Error(err)
	}
	d.shows(t, strings.Repeat(strings.ReplaceAll(line, "\n", "\r\n"), 5000))
}

func TestRelayResize(t *testing.T) {
	d := sit(t, Options{})
	for _, size := range []unix.Winsize{{Row: 10, Col: 20}, {Row: 50, Col: 132}} {
		if err := unix.IoctlSetWinsize(d.user.master, unix.TIOCSWINSZ, &size); err != nil {
			t.Fatal(err)
		}
		if err := d.Resize(); err != nil {
			t.Error(err)
		}
		if c, l, _ := Size(d.box.slave); c != int(size.Col) || l != int(size.Row) {
			t.Errorf("%dx%d, want %dx%d", c, l, size.Col, size.Row)
		}
	}
	d.Close()
	if err := d.Resize(); err != nil {
		t.Error("after Close:", err)
	}
}

func TestRelaySuspend(t *testing.T) {
	d := sit(t, Options{})
	before := termios(t, d.box.slave)
	for range 2 {
		if err := d.Suspend(); err != nil {
			t.Error(err)
		}
		if isRaw(t, d.user.slave) {
			t.Error("raw while stopped")
		}
		time.Sleep(20 * time.Millisecond)
		write(t, d.user.master, "for the shell\r")
		time.Sleep(20 * time.Millisecond)
		b := make([]byte, 100)
		if n, err := unix.Read(d.user.slave, b); string(b[:max(n, 0)]) != "for the shell\n" {
			t.Errorf("the shell read %q, %v", b[:n], err)
		}
		// The user sets modes in between: they are what the end restores.
		setTermios(t, d.user.slave, func(m *unix.Termios) { m.Cc[unix.VERASE] = 'X' })
		unix.IoctlSetWinsize(d.user.master, unix.TIOCSWINSZ, &unix.Winsize{Row: 11, Col: 22})
		if err := d.Resume(); err != nil {
			t.Error(err)
		}
		if c, l, _ := Size(d.box.slave); c != 22 || l != 11 {
			t.Errorf("after the stop the size is %dx%d", c, l)
		}
		if err := d.Resume(); err != nil || !isRaw(t, d.user.slave) {
			t.Errorf("not raw after two SIGCONT, %v", err)
		}
	}
	write(t, d.user.master, "x\r")
	eventually(t, "the program gets input again", func() bool { return readable(d.box.slave) })
	if termios(t, d.box.slave) != before {
		t.Error("the sandbox's terminal was changed")
	}
	d.box.closeSlave()
	d.Close()
	if m := termios(t, d.user.slave); m.Lflag&unix.ICANON == 0 || m.Cc[unix.VERASE] != 'X' {
		t.Errorf("not restored: %+v", m)
	}
}

// The first way out restores; no later one changes what the shell has done since.
func TestRelayRestoreOnce(t *testing.T) {
	d := sit(t, Options{})
	before := termios(t, d.user.slave)
	for range 3 {
		if err := d.Restore(); err != nil {
			t.Error(err)
		}
	}
	if isRaw(t, d.user.slave) {
		t.Error("still raw")
	}
	setTermios(t, d.user.slave, func(m *unix.Termios) { m.Lflag &^= unix.ECHO })
	d.Resume()
	d.Close()
	d.Close()
	if m := termios(t, d.user.slave); m.Lflag&unix.ECHO != 0 || m.Lflag&unix.ICANON == 0 || before.Lflag&unix.ICANON != 0 {
		t.Error("the terminal was touched again")
	}
}

func TestRelayRestoresOnPanic(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	collect(user.master)
	r, err := Open(user.slave, user.slave, box.give(), Options{Interrupt: func() { panic("at work") }})
	if err != nil {
		t.Fatal(err)
	}
	write(t, user.master, "\x03")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		r.Run()
	}()
	if isRaw(t, user.slave) {
		t.Error("still raw")
	}
	within(t, time.Second, "Close after a panic", func() { r.Close() })
}

func TestRelayInterrupt(t *testing.T) {
	seen := make(chan struct{}, 10)
	d := sit(t, Options{Interrupt: func() { seen <- struct{}{} }})
	write(t, d.user.master, "a\x03\x03")
	<-seen
	<-seen
	// A program in raw mode, such as an editor, reads Ctrl-C as a key.
	setTermios(t, d.box.slave, func(m *unix.Termios) { *m = rawModes(*m) })
	write(t, d.user.master, "\x03")
	eventually(t, "the key arrives", func() bool { return readable(d.box.slave) })
	if len(seen) != 0 {
		t.Error("Ctrl-C as a key counts as an interrupt")
	}
}

func TestRelayErrors(t *testing.T) {
	box := newPTY(t)
	if _, err := Open(9999, 0, box.master, Options{}); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
	user := newPTY(t)
	before := termios(t, user.slave)
	r, _ := newPipe(t)
	defer unix.Close(r)
	if _, err := Open(user.slave, user.slave, r, Options{}); !errors.Is(err, unix.ENOTTY) {
		t.Error("a master that is none:", err)
	}
	if termios(t, user.slave) != before {
		t.Error("changed by a failed Open")
	}
	if IsTerminal(r) || !IsTerminal(user.slave) {
		t.Error("IsTerminal")
	}
	if _, _, err := Size(r); !errors.Is(err, unix.ENOTTY) {
		t.Error("Size of a pipe:", err)
	}
}
