package vfork

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Poller returns the descriptors that the runtime's poller works with: an epoll
// instance and an eventfd. A process that has borrowed a goroutine must leave them
// open: the runtime polls wherever it happens to be, also at the end of a cycle of
// the garbage collector, and a descriptor that is not what it was is fatal to it.
// The poller is started if it was not.
func Poller() ([]int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the poller: %w", err)
	}
	r.Close()
	w.Close()
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("find the poller: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("find the poller: %w", err)
	}
	var fds []int
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		var buf [64]byte
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf[:])
		if err != nil {
			continue // closed meanwhile
		}
		// One that the caller has left open is not close-on-exec.
		if to := string(buf[:n]); to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
				fds = append(fds, fd)
			}
		}
	}
	if len(fds) == 0 {
		return nil, fmt.Errorf("find the poller: %w", unix.ENOENT)
	}
	return fds, nil
}
