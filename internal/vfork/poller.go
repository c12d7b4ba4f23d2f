package vfork

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pollerFDs is how many descriptors the poller of a Go runtime has, 1.21 and later:
// an epoll instance and an eventfd.
const pollerFDs = 2

// mostLeftOpen bounds the search for them. They come behind what the caller of sbx
// has left open; no more than a few is usual, and 1024 the limit of most sessions.
const mostLeftOpen = 1 << 16

// Poller returns the descriptors that the runtime's poller works with. A process that
// has borrowed a goroutine must leave them
// open: the runtime polls wherever it happens to be, also at the end of a cycle of
// the garbage collector, and a descriptor that is not what it was is fatal to it.
// The poller is started if it was not.
//
// They are looked for by number, since every run waits for this: opening and reading
// the directory of all descriptors takes three times as long.
func Poller() ([]int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the poller: %w", err)
	}
	r.Close()
	w.Close()
	var fds []int
	for fd := 3; fd < mostLeftOpen && len(fds) < pollerFDs; fd++ {
		if polls(fd) {
			fds = append(fds, fd)
		}
	}
	if len(fds) < pollerFDs {
		return nil, fmt.Errorf("find the poller in /proc/self/fd: %w", unix.ENOENT)
	}
	return fds, nil
}

// polls tells whether a descriptor is of the kinds that the poller has, and this
// process's own: one that the caller has left open is not close-on-exec.
func polls(fd int) bool {
	var buf [64]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	if err != nil {
		return false // closed
	}
	if to := string(buf[:n]); to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]" {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC != 0
}
