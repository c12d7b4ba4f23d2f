// Package console is what stands between the user's real terminal, or his pipes, and a program that is not trusted.
//
//   - [Relay] joins the user's terminal to the master side of a pseudoterminal: raw mode and back, both directions, window
//     size, suspending and resuming.
//   - [Filter] lets through what may reach a terminal.
//   - [PumpIn] and [PumpOut] join pipes, files and sockets.
//
// The program never holds a descriptor of the user's terminal. With one it could type into the shell (TIOCSTI), change its
// modes, and read what is typed after its end.
//
// It works on descriptors that exist, and needs six ioctls for that: libraries for consoles (containerd/console, creack/pty)
// mostly allocate pseudoterminals, which here must be done elsewhere, by a process inside the sandbox.
//
// # Blocking
//
// Descriptors 0, 1 and 2 are shared with the user's shell and with whatever else runs beside the sandbox. O_NONBLOCK belongs to
// the open file description, so setting it here would set it for them too, and stay after the end: shells exit on the EAGAIN.
// It is never set on a descriptor of the caller. Terminals are opened a second time (/proc/self/fd/N gives a description of
// one's own), pipes and sockets are read and written with RWF_NOWAIT (preadv2(2)); where neither is possible, poll(2) comes
// first and writes are small. A goroutine that must end is woken by an eventfd, never left in a read.
//
// Do not use this package when input and output need no watching: handing a pipe straight to the program is faster than any
// relay. Do not use it for regular files and pipes of which the program must have the real thing (seek, truncate, lock). It
// knows no windows inside the terminal and no history: it is not a terminal emulator.
package console

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// IsTerminal reports whether fd is a terminal, as isatty(3) does.
func IsTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// Size returns the window size of the terminal fd in characters. Both are 0 on a terminal that has none, such as a serial
// line. The error is ENOTTY when fd is no terminal (ioctl_tty(2), TIOCGWINSZ).
func Size(fd int) (columns, rows int, err error) {
	w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, fmt.Errorf("get the size of the terminal: %w", err)
	}
	return int(w.Col), int(w.Row), nil
}
