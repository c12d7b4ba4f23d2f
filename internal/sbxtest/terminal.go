package sbxtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo-terminal with a command on it, as a user's shell would
// have started it: the command leads a session of which it is the terminal.
type Terminal struct {
	master, slave *os.File
	cmd           *exec.Cmd
	initial       unix.Termios
	mu            sync.Mutex
	output        bytes.Buffer
	read          chan struct{}
}

// StartOnTerminal starts the command on a new terminal of that size, which is
// its standard input, output and, unless that is set already, error.
func StartOnTerminal(t testing.TB, cmd *exec.Cmd, columns, rows uint16) *Terminal {
	t.Helper()
	term := &Terminal{cmd: cmd, read: make(chan struct{})}
	var err error
	if term.master, term.slave, err = openPty(); err != nil {
		t.Fatal(err)
	}
	term.Resize(t, columns, rows)
	term.initial = term.Settings(t)
	cmd.Stdin, cmd.Stdout = term.slave, term.slave
	if cmd.Stderr == nil {
		cmd.Stderr = term.slave
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go term.collect()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		term.slave.Close()
		term.master.Close()
	})
	return term
}

func openPty() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

func (term *Terminal) collect() {
	defer close(term.read)
	buf := make([]byte, 4096)
	for {
		n, err := term.master.Read(buf)
		term.mu.Lock()
		term.output.Write(buf[:n])
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Output is everything that was shown so far.
func (term *Terminal) Output() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.output.String()
}

// Type sends text as if typed.
func (term *Terminal) Type(t testing.TB, text string) {
	t.Helper()
	if _, err := term.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// Resize changes the size; the foreground processes get SIGWINCH.
func (term *Terminal) Resize(t testing.TB, columns, rows uint16) {
	t.Helper()
	size := &unix.Winsize{Col: columns, Row: rows}
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, size); err != nil {
		t.Fatal(err)
	}
}

// Initial are the terminal's modes before the command was started.
func (term *Terminal) Initial() unix.Termios { return term.initial }

// Settings are the terminal's modes now, as a value that can be compared.
func (term *Terminal) Settings(t testing.TB) unix.Termios {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *settings
}

// Expect waits until text is shown; after ten seconds it ends the test.
func (term *Terminal) Expect(t testing.TB, text string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(term.Output(), text) {
		if time.Now().After(deadline) {
			t.Fatalf("the terminal does not show %q but\n%q", text, term.Output())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Wait waits for the command's end and returns its exit status, as a shell
// shows it, with all that was shown.
func (term *Terminal) Wait(t testing.TB) (status int, output string) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- term.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the command does not end; the terminal shows\n%q", term.Output())
	}
	// What is still on its way to the master is there in a moment.
	time.Sleep(50 * time.Millisecond)
	return exitStatus(term.cmd.ProcessState), term.Output()
}
