package console

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What was typed for the program and not read by it is not typed for the shell.
func TestRelayDropsUnreadInput(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	r, err := Open(user.slave, user.slave, box.give(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, user.master, "secret\rrm -r important\r")
	eventually(t, "it is in the queue", func() bool { return readable(user.slave) })
	r.Close()
	if readable(user.slave) {
		t.Error("it is still in the queue")
	}
}

func TestRelayDrains(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	screen := collect(user.master)
	r, err := Open(user.slave, user.slave, box.give(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 3000)
	write(t, box.slave, text)
	box.closeSlave()
	ran := make(chan error, 1)
	go func() { ran <- r.Run() }()
	r.Close()
	<-ran
	eventually(t, "all output is there", func() bool { return screen.String() == text })
}

// A process that outlives the program holds the slave open: the end does not wait for it.
func TestRelayCloseWithSlaveHeld(t *testing.T) {
	d := sit(t, Options{})
	write(t, d.box.slave, "last words")
	within(t, drainQuiet+time.Second, "Close", func() { d.Close() })
	d.shows(t, "last words")
	if err := <-d.ran; err != nil {
		t.Error(err)
	}
	if _, err := unix.Write(d.box.slave, []byte("x")); !errors.Is(err, unix.EIO) {
		t.Error("the sandbox's terminal still stands:", err)
	}
}

// A terminal that takes nothing, and a program that goes on: the end does not wait for them.
func TestRelayCloseWithStoppedTerminal(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	before := termios(t, user.slave)
	r, err := Open(user.slave, user.slave, box.give(), Options{}) // nobody reads user.master
	if err != nil {
		t.Fatal(err)
	}
	go r.Run()
	unix.SetNonblock(box.slave, true)
	full := func() bool {
		_, err := unix.Write(box.slave, []byte(strings.Repeat("x", 4000)))
		return errors.Is(err, unix.EAGAIN)
	}
	eventually(t, "all buffers are full", func() bool {
		for !full() {
		}
		time.Sleep(50 * time.Millisecond)
		return full()
	})
	within(t, 2*drainStall+2*time.Second, "Close", func() { r.Close() })
	if termios(t, user.slave) != before {
		t.Error("not restored")
	}
}

func TestRelayHangup(t *testing.T) {
	d := &desk{user: newPTY(t), box: newPTY(t), ran: make(chan error, 1)}
	r, err := Open(d.user.slave, d.user.slave, d.box.give(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { d.ran <- r.Run() }()
	d.user.closeMaster() // the user closes the window
	write(t, d.box.slave, "anybody there?\n")
	within(t, 5*time.Second, "Run without a terminal", func() {
		if err := <-d.ran; !errors.Is(err, unix.EIO) {
			t.Error(err)
		}
	})
	b := make([]byte, 10)
	if n, err := unix.Read(d.box.slave, b); n != 0 || err != nil {
		t.Errorf("the program reads %d, %v, not the end", n, err)
	}
	within(t, time.Second, "Close", func() { r.Close() })
}

// "x | sbx run cat" with a terminal for output: the end of the input arrives as Ctrl-D.
func TestRelayInputFromPipe(t *testing.T) {
	for _, tc := range []struct{ name, in string }{
		{"whole lines", "one\ntwo\n"},
		{"no line end at the end", "one\ntwo"},
		{"nothing", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			user, box := newPTY(t), newPTY(t)
			collect(user.master)
			before := termios(t, user.slave)
			pr, pw := newPipe(t)
			defer unix.Close(pr)
			r, err := Open(pr, user.slave, box.give(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if termios(t, user.slave) != before {
				t.Error("a terminal that is only written to was changed")
			}
			go r.Run()
			program := collect(box.slave)
			write(t, pw, tc.in)
			unix.Close(pw)
			within(t, 5*time.Second, "the end of the input", func() { <-program.done })
			if program.String() != tc.in {
				t.Errorf("the program read %q", program)
			}
			box.closeSlave()
			r.Close()
			if nonblocking(t, pr) {
				t.Error("the pipe has got O_NONBLOCK")
			}
		})
	}
}

// "sbx run -t x | head" on a terminal: raw mode all the same, and the program learns when nobody reads.
func TestRelayOutputToPipe(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	before := termios(t, user.slave)
	pr, pw := newPipe(t)
	defer unix.Close(pw)
	unix.IoctlSetWinsize(user.slave, unix.TIOCSWINSZ, &unix.Winsize{Row: 5, Col: 6})
	r, err := Open(user.slave, pw, box.give(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c, _, _ := Size(box.slave); c != 6 || !isRaw(t, user.slave) {
		t.Errorf("%d columns, raw: %v", c, isRaw(t, user.slave))
	}
	ran := make(chan error, 1)
	go func() { ran <- r.Run() }()
	write(t, box.slave, "out\n")
	b := make([]byte, 10)
	if n, _ := unix.Read(pr, b); string(b[:n]) != "out\r\n" {
		t.Errorf("%q", b[:n])
	}
	unix.Close(pr)
	write(t, box.slave, "more\n")
	if err := <-ran; !errors.Is(err, unix.EPIPE) {
		t.Error("Run:", err)
	}
	if _, err := unix.Write(box.slave, []byte("x")); !errors.Is(err, unix.EIO) {
		t.Error("the program's terminal still stands:", err)
	}
	r.Close()
	if termios(t, user.slave) != before || nonblocking(t, pw) {
		t.Error("not restored")
	}
}

// Answers to questions that went by unfiltered come when the terminal likes, also after the program's end.
func TestRelayRawTTYTakesAnswersAway(t *testing.T) {
	user, box := newPTY(t), newPTY(t)
	r, err := Open(user.slave, user.slave, box.give(), Options{RawTTY: true})
	if err != nil {
		t.Fatal(err)
	}
	screen := collect(user.master)
	write(t, box.slave, "\x1b[6n")
	box.closeSlave()
	var answers atomic.Int32 // counted before each is sent: Close may return as soon as the last is there
	go func() {              // a terminal far away, which answers in two pieces
		for !strings.Contains(screen.String(), question) {
			time.Sleep(time.Millisecond)
		}
		for _, s := range []string{"\x1b[1;1R", "\x1b[", "0n"} {
			time.Sleep(100 * time.Millisecond)
			answers.Add(1)
			unix.Write(user.master, []byte(s))
		}
	}()
	r.Close()
	if n := answers.Load(); n != 3 {
		t.Errorf("it waited for %d of 3 pieces", n)
	}
	if readable(user.slave) {
		t.Error("an answer is left for the shell")
	}
}

// A filtered terminal is asked nothing, and mouse reports that were under way are dropped.
func TestRelayTakesReportsAway(t *testing.T) {
	d := sit(t, Options{})
	write(t, d.box.slave, "\x1b[?1000h\x1b[6n")
	d.shows(t, "\x1b[?1000h")
	d.box.closeSlave()
	<-d.ran
	time.AfterFunc(10*time.Millisecond, func() { unix.Write(d.user.master, []byte("\x1b[M !!")) })
	d.Close()
	d.shows(t, "\x1b[?1000h\x1b[?1000l\x1b[0m")
	if readable(d.user.slave) {
		t.Error("a mouse report is left for the shell")
	}
}

// Before a stop, what the program wrote last is shown: vim leaves the alternate screen, and only then is the shell in front.
func TestRelaySuspendShowsEverything(t *testing.T) {
	d := sit(t, Options{})
	text := strings.Repeat("x", 10000) + "\x1b[?1049l"
	for range 20 {
		before := len(d.screen.String())
		write(t, d.box.slave, text)
		d.Suspend()
		// Now nothing is left to relay: what is not on the screen is on its way there, in the kernel.
		if queue, err := unix.IoctlGetInt(d.box.slave, unix.TIOCOUTQ); queue != 0 || err != nil {
			t.Fatalf("%d bytes have not been relayed, %v", queue, err)
		}
		eventually(t, "all of it is shown", func() bool { return len(d.screen.String())-before == len(text) })
		d.Resume()
	}
	// One that never stops writing is not waited for.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func(fd int) {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Write(fd, []byte(text))
			}
		}
	}(d.box.slave)
	within(t, suspendTotal+time.Second, "Suspend", func() { d.Suspend() })
	close(stop)
	<-stopped
}
