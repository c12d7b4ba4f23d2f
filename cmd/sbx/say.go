package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
)

// sayPatience is how long a line waits for somebody who reads standard error.
const sayPatience = 2 * time.Second

// say prints one line of sbx's own on stderr. What comes from files, names and
// helpers may hold escape sequences; none reaches the terminal. Where nobody takes the
// line it is lost: a program may have filled the pipe or the terminal with its output, and
// its time limit must end sbx all the same.
func (s streams) say(format string, args ...any) {
	if f, ok := s.err.(*os.File); ok && !takes(f, sayPatience) {
		return
	}
	fmt.Fprintf(s.err, "sbx: %s\n", quote.Line(fmt.Sprintf(format, args...)))
}

// takes waits until a short write to the file would not block, or until it is certain that it
// fails. It reports false when that does not come true in time.
func takes(f *os.File, patience time.Duration) bool {
	conn, err := f.SyscallConn() // and not Fd, which makes the caller's descriptor a blocking one
	if err != nil {
		return true
	}
	ready := true
	end := time.Now().Add(patience)
	err = conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, int(patience.Milliseconds()))
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(fds, max(0, int(time.Until(end).Milliseconds())))
		}
		ready = n > 0 || err != nil
	})
	return ready || err != nil
}
