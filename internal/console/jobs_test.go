package console

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// parts are the other processes of the tests.
var parts = map[string]func() int{
	"shell": partShell,
	"relay": partRelay,
	"pump":  partPump,
}

// asProcess runs the test binary in another part, with the terminal p as its controlling terminal and descriptors 0-2.
func asProcess(t *testing.T, part string, p *pty) *exec.Cmd {
	t.Helper()
	tty := os.NewFile(uintptr(dup(t, p.slave)), "tty")
	defer tty.Close()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CONSOLE_TEST_PART="+part)
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // an error means that it has ended already
		_ = c.Wait()
	})
	return c
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// partShell starts a relay as a background job, then brings it to the front, takes the terminal back by force, continues the
// job in the background, and lets it end there; it prints what becomes of the terminal.
func partShell() int {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CONSOLE_TEST_PART=relay")
	orders, err := c.StdinPipe() // the job takes the terminal from descriptor 1
	if err != nil {
		return 1
	}
	c.Stdout = os.Stdout
	answers, err := c.StderrPipe()
	if err != nil {
		return 1
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return 1
	}
	order := func(s string) {
		fmt.Fprint(orders, s)
		answers.Read(make([]byte, 1))
	}
	front := func(group int) {
		locked := &terminal{fd: 1}
		locked.locked(func() error { return unix.IoctlSetPointerInt(1, unix.TIOCSPGRP, group) })
	}
	say := func(when string) {
		m, _ := unix.IoctlGetTermios(1, unix.TCGETS)
		var st syscall.WaitStatus
		pid, _ := syscall.Wait4(c.Process.Pid, &st, syscall.WNOHANG|syscall.WUNTRACED, nil)
		locked := &terminal{fd: 1}
		locked.locked(func() error {
			fmt.Printf("%s: raw=%v stopped=%v|\n", when, m.Lflag&unix.ICANON == 0, pid > 0 && st.Stopped())
			return nil
		})
	}
	order("o")
	say("opened in the background")
	front(c.Process.Pid)
	order("w")
	say("in front")
	syscall.Kill(c.Process.Pid, syscall.SIGSTOP)
	syscall.Wait4(c.Process.Pid, nil, syscall.WUNTRACED, nil)
	front(os.Getpid())
	m, _ := unix.IoctlGetTermios(1, unix.TCGETS)
	m.Lflag |= unix.ICANON | unix.ISIG
	m.Oflag |= unix.OPOST
	unix.IoctlSetTermios(1, unix.TCSETS, m)
	syscall.Kill(c.Process.Pid, syscall.SIGCONT)
	order("c")
	say("stopped by force and continued in the background")
	front(c.Process.Pid)
	order("c")
	say("in front again")
	front(os.Getpid())
	order("e")
	say("ended in the background, nothing changed since")
	return 0
}

// partRelay obeys orders on descriptor 0 and answers on descriptor 2. Its terminal is descriptor 1.
func partRelay() int {
	t := &testing.T{}
	box := newPTY(t)
	var r *Relay
	for b := make([]byte, 1); ; {
		if n, _ := os.Stdin.Read(b); n == 0 {
			return 0
		}
		var err error
		switch b[0] {
		case 'o':
			r, err = Open(1, 1, box.give(), Options{})
			if err == nil {
				go r.Run()
			}
		case 'w': // for the relay to notice by itself
			for m := new(unix.Termios); err == nil && (m.Cc[unix.VMIN] == 0 || m.Lflag&unix.ICANON != 0); {
				m, err = unix.IoctlGetTermios(1, unix.TCGETS)
			}
		case 'c':
			err = r.Resume()
		case 'e':
			err = r.Close()
		}
		answer := "."
		if err != nil {
			answer = "!"
		}
		os.Stderr.WriteString(answer)
	}
}

// Job control: a relay touches the terminal only while it is in front, and is never stopped for trying.
func TestRelayAsBackgroundJob(t *testing.T) {
	p := newPTY(t)
	screen := collect(p.master)
	shell := asProcess(t, "shell", p)
	if err := shell.Wait(); err != nil {
		t.Error(err)
	}
	want := []string{
		"opened in the background: raw=false stopped=false",
		"in front: raw=true stopped=false",
		"stopped by force and continued in the background: raw=false stopped=false",
		"in front again: raw=true stopped=false",
		"ended in the background, nothing changed since: raw=false stopped=false",
	}
	got := func() (lines []string) {
		for _, l := range strings.FieldsFunc(screen.String(), func(r rune) bool { return r == '\r' || r == '\n' || r == '|' }) {
			if strings.Contains(l, "raw=") {
				lines = append(lines, strings.TrimSpace(l))
			}
		}
		return lines
	}
	eventually(t, "five lines", func() bool { return len(got()) == len(want) })
	for i, l := range got() {
		if l != want[i] {
			t.Errorf("got %q, want %q", l, want[i])
		}
	}
}
