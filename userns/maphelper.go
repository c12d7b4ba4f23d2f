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

// Command is a helper that is to be started.
type Command struct {
	Path      string
	Args, Env []string // Args as execve(2) has them, with a name first
	Null      int      // for its 0 and 1
	Stderr    int      // for its 2
}

// Started is a helper on its way.
type Started struct {
	Pid int
	// Executed returns nil once the program runs, and else why it does not: then the
	// process is gone and still has to be waited for. It is called once. Without it
	// the program ran when the Starter returned.
	Executed func() error
}

// Starter starts a helper, with / as its directory, no other descriptors, and without
// waiting for its end.
type Starter func(Command) (Started, error)

// forkExec is the Starter of who does not care how long it is in the way: the calling thread
// stands still until the program is loaded.
//
// It is not os.StartProcess, which at its first use starts another process to find
// out whether pidfds work.
func forkExec(c Command) (Started, error) {
	pid, err := syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{
		Dir: "/", Env: c.Env, Files: []uintptr{uintptr(c.Null), uintptr(c.Null), uintptr(c.Stderr)},
	})
	return Started{Pid: pid}, err
}

// mapHelper is newuidmap or newgidmap at work, or one whose start failed with err.
//
// [exec.Cmd] would do it with three goroutines each and as many threads, which cost
// as much as the helper itself, in every start of a sandbox. All that is wanted of
// these two is their status, and the first words of stderr.
type mapHelper struct {
	Started
	path   string
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
func startMapHelper(start Starter, timeout time.Duration, path string, args ...string) *mapHelper {
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
	h.Started, h.err = start(Command{
		Path: path, Args: append([]string{path}, args...), Env: helperEnv(), Null: null, Stderr: pipe[1],
	})
	if h.err == nil {
		h.timer = time.AfterFunc(timeout, h.kill)
	}
	return h
}

// kill ends a helper that takes too long. One that has ended may not have been waited for
// yet: an image is made meanwhile.
func (h *mapHelper) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Until it is waited for, its number is nobody else's.
	if !h.ended && checkChild(h.Pid) == nil {
		h.late = true
		_ = unix.Kill(h.Pid, unix.SIGKILL)
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
	var failed error
	if h.Executed != nil {
		failed = h.Executed()
	}
	for {
		err := unix.Waitid(unix.P_PID, h.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	h.timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	var status unix.WaitStatus
	if _, err := unix.Wait4(h.Pid, &status, 0, nil); err != nil {
		return fmt.Errorf("wait for it: %w", err)
	}
	switch {
	case failed != nil:
		return failed
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
