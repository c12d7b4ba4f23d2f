package cgroupv2

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// slice is how long a wait goes on before it looks at its context again, and the
// longest that a change is noticed late where the kernel does not tell of it.
const slice = 50 * time.Millisecond

// waitFor waits until events arrive on a descriptor, for one slice at most. It returns
// the context's error when that has ended, and no error after a slice without events.
func waitFor(ctx context.Context, fd int, events int16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	timeout := slice
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Millisecond))
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(timeout.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// pause sleeps, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
