package userns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mapHelper is newuidmap or newgidmap at work, or one whose start failed with err.
//
// [exec.Cmd] would do it with three goroutines each and as many threads, which cost
// as much as the helper itself, in every start of a sandbox. All that is wanted of
// these two is their status, and the first words of stderr.
type mapHelper struct {
	path   string
	pid    int
	stderr int // our end of the pipe, -1 without one
	timer  *time.Timer
	limit  time.Duration
	err    error

	mu          sync.Mutex
	ended, late bool
}

// lateError is [context.DeadlineExceeded] in words.
type lateError struct{ limit time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("it did not end within %v", e.limit) }

func (e *lateError) Unwrap() error { return context.DeadlineExceeded }

// startMapHelper starts the program and does not wait.
func startMapHelper(timeout time.Duration, path string, args ...string) *mapHelper {
	h := &mapHelper{path: path, stderr: -1, limit: timeout}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		h.err = fmt.Errorf("open /dev/null: %w", err)
		return h
	}
	defer unix.Close(null)
	// Neither side waits for the other: what does not fit into the pipe is lost,
	// and a process that the helper left behind may keep it open.
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		h.err = fmt.Errorf("make a pipe: %w", err)
		return h
	}
	h.stderr = pipe[0]
	defer unix.Close(pipe[1])
	// Not os.StartProcess, which at its first use starts another process to find
	// out whether pidfds work.
	h.pid, h.err = syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Dir: "/", Env: helperEnv(), Files: []uintptr{uintptr(null), uintptr(null), uintptr(pipe[1])},
	})
	if h.err == nil {
		h.timer = time.AfterFunc(timeout, h.kill)
	}
	return h
}

// kill ends a helper that takes too long.
func (h *mapHelper) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Until it is waited for, its number is nobody else's.
	if !h.ended {
		h.late = true
		_ = unix.Kill(h.pid, unix.SIGKILL)
	}
}

// wait returns a *HelperError unless the helper ended with status 0. To be called
// once for every start, failed ones included.
func (h *mapHelper) wait() error {
	if h.stderr >= 0 {
		defer unix.Close(h.stderr)
	}
	err := h.err
	if err == nil {
		err = h.end()
	}
	if err == nil {
		return nil
	}
	return &HelperError{Path: h.path, Stderr: h.message(), Err: err}
}

func (h *mapHelper) end() error {
	for {
		err := unix.Waitid(unix.P_PID, h.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	h.timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	var status unix.WaitStatus
	if _, err := unix.Wait4(h.pid, &status, 0, nil); err != nil {
		return fmt.Errorf("wait for it: %w", err)
	}
	switch {
	case status.Exited() && status.ExitStatus() == 0:
		return nil
	case h.late:
		return &lateError{h.limit}
	default:
		return statusError(status)
	}
}

// statusError is how a helper ended that did not succeed.
type statusError unix.WaitStatus

func (e statusError) Error() string {
	if s := unix.WaitStatus(e); s.Signaled() {
		return "killed by " + unix.SignalName(s.Signal())
	}
	return fmt.Sprintf("exit status %d", unix.WaitStatus(e).ExitStatus())
}

// message is what the helper printed on stderr.
func (h *mapHelper) message() string {
	if h.stderr < 0 {
		return ""
	}
	text := make([]byte, maxHelperMessage)
	n, err := unix.Read(h.stderr, text)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text[:n]))
}
