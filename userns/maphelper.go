package userns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// mapHelper is newuidmap or newgidmap at work, or one whose start failed with err.
//
// [exec.Cmd] would do it with three goroutines each and as many threads, which cost
// as much as the helper itself, in every start of a sandbox. All that is wanted of
// these two is their status, and the first words of stderr.
type mapHelper struct {
	path    string
	process *os.Process
	stderr  int // our end of the pipe, -1 without one
	timer   *time.Timer
	limit   time.Duration
	late    atomic.Bool
	err     error
}

// lateError is [context.DeadlineExceeded] in words.
type lateError struct{ limit time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("it did not end within %v", e.limit) }

func (e *lateError) Unwrap() error { return context.DeadlineExceeded }

// startMapHelper starts the program and does not wait.
func startMapHelper(timeout time.Duration, path string, args ...string) *mapHelper {
	h := &mapHelper{path: path, stderr: -1, limit: timeout}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		h.err = fmt.Errorf("open /dev/null: %w", err)
		return h
	}
	defer null.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		h.err = fmt.Errorf("make a pipe: %w", err)
		return h
	}
	h.stderr = pipe[0]
	words := os.NewFile(uintptr(pipe[1]), "stderr")
	defer words.Close()
	// Neither side waits for the other: what does not fit into the pipe is lost,
	// and a process that the helper left behind may keep it open. After NewFile,
	// which would have StartProcess undo it.
	for _, fd := range pipe {
		if h.err = unix.SetNonblock(fd, true); h.err != nil {
			return h
		}
	}
	h.process, h.err = os.StartProcess(path, append([]string{path}, args...), &os.ProcAttr{
		Dir: "/", Env: helperEnv(), Files: []*os.File{null, null, words},
	})
	if h.err == nil {
		h.timer = time.AfterFunc(timeout, func() {
			h.late.Store(true)
			_ = h.process.Kill()
		})
	}
	return h
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
	state, err := h.process.Wait()
	h.timer.Stop()
	switch {
	case err != nil:
		return fmt.Errorf("wait for it: %w", err)
	case state.Success():
		return nil
	case h.late.Load():
		return &lateError{h.limit}
	default:
		return &exec.ExitError{ProcessState: state}
	}
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
