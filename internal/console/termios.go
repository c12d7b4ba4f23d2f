package console

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// terminal is the user's terminal and what was done to it.
//
// Job control decides whether it may be touched: of all the process groups on a terminal only the foreground one may read it
// and set its modes. One in the background would take keys and modes from the shell that is in front.
type terminal struct {
	fd int

	mu    sync.Mutex
	held  bool // raw mode is on, and it was this terminal that switched it on
	off   bool // not to be claimed before resume
	ended bool // not to be claimed again
	saved unix.Termios
	raw   unix.Termios
}

// claim switches raw mode on if it is not, and if the terminal is ours. It reports whether it may be read.
func (t *terminal) claim() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.off || t.ended {
		return false, nil
	}
	if t.held {
		return true, nil
	}
	if !t.foreground() {
		return false, nil
	}
	// Saved anew each time: between a stop and its end the user may have used stty.
	saved, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return false, fmt.Errorf("get the modes of the terminal: %w", err)
	}
	raw := rawModes(*saved)
	if err := t.set(&raw); err != nil {
		return false, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	t.saved, t.held = *saved, true
	// Read back, as the driver need not take every bit.
	if now, err := unix.IoctlGetTermios(t.fd, unix.TCGETS); err == nil {
		raw = *now
	}
	t.raw = raw
	return true, nil
}

// release gives the terminal back as it was. At the end, what was typed and not read is dropped as well. Nothing happens when
// it has been given back already, or is in the hands of somebody who has changed it since.
func (t *terminal) release(end bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = true
	t.ended = t.ended || end
	if !t.held {
		return nil
	}
	t.held = false
	if !t.foreground() && !t.untouched() {
		return nil
	}
	// TCSETS and not TCSETSW, which waits for output to drain: on a stopped terminal that is for ever. Output that is
	// still on its way has been through the modes already.
	err := t.set(&t.saved)
	if end {
		err = errors.Join(err, t.locked(func() error { return unix.IoctlSetInt(t.fd, unix.TCFLSH, unix.TCIFLUSH) }))
	}
	if err != nil {
		return fmt.Errorf("restore the terminal: %w", err)
	}
	return nil
}

// resume allows claiming again after a stop, of which release may not have been told (SIGSTOP): then the shell has set its own
// modes, and ours must be set again.
func (t *terminal) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off = false
	if t.held && !t.untouched() {
		t.held = false
	}
}

// lost notes that a read was refused. It reports whether that is because the terminal is another's for now.
func (t *terminal) lost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.foreground() {
		return false
	}
	t.held = false
	return true
}

// untouched reports whether the terminal is in exactly the raw mode set by claim.
func (t *terminal) untouched() bool {
	now, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	return err == nil && *now == t.raw
}

// foreground reports whether this process may use the terminal. One that is not the controlling terminal of this session has
// no job control for it (ENOTTY).
func (t *terminal) foreground() bool {
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

func (t *terminal) set(modes *unix.Termios) error {
	return t.locked(func() error { return unix.IoctlSetTermios(t.fd, unix.TCSETS, modes) })
}

// locked runs an ioctl that changes the terminal with SIGTTOU blocked in its thread. Between the look at the foreground group
// and the change the shell may have taken the terminal; the signal would stop this process, half-way (tcsetattr(3)).
func (*terminal) locked(ioctl func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	if err := blockSignal(unix.SIGTTOU, &old); err != nil {
		return err
	}
	err := ioctl()
	return errors.Join(err, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
}

// blockSignal blocks a signal in the current thread and stores the mask there was.
func blockSignal(s unix.Signal, old *unix.Sigset_t) error {
	var set unix.Sigset_t
	bits := 1024 / len(set.Val) // the size of sigset_t is that of glibc
	n := int(s) - 1
	set.Val[n/bits] |= 1 << (n % bits)
	return unix.PthreadSigmask(unix.SIG_BLOCK, &set, old)
}

// rawModes returns t as changed by cfmakeraw(3): every byte in and out as it is, one at a time, and no signals from keys.
func rawModes(t unix.Termios) unix.Termios {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return t
}
