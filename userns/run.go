package userns

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// mapTimeout bounds newuidmap and newgidmap. They may ask a directory service, and
	// on a machine with far more to do than it can, some seconds pass by themselves.
	mapTimeout = 30 * time.Second
	// maxHelperOutput bounds each stream of a helper that is kept: getsubids prints
	// some 40 bytes a range.
	maxHelperOutput = 64 << 10
	// maxHelperMessage bounds how much of its stderr an error quotes.
	maxHelperMessage = 400
)

// HelperError says that a helper could not be started, or ended with a status other
// than zero.
type HelperError struct {
	// Path is the absolute path of the program.
	Path string
	// Stderr is the start of what it printed, at most 400 bytes, raw. Its author
	// is the host, yet it may quote names that are not: Error quotes it.
	Stderr string
	// Err is why it could not be started, or how it ended.
	Err error
}

// Error is "run PATH: STATUS: what it printed, quoted".
func (e *HelperError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("run %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("run %s: %v: %q", e.Path, e.Err, e.Stderr)
}

// Unwrap returns Err.
func (e *HelperError) Unwrap() error { return e.Err }

// helperRun is a helper that was started, or whose start failed with err.
type helperRun struct {
	cmd            *exec.Cmd
	cancel         context.CancelFunc
	stdout, stderr cappedBuffer
	err            error
}

// helperEnv is the environment of every helper. Privileged code must not depend on
// the caller's environment or directory, so it gets neither; LC_ALL makes its
// messages the ones its documentation knows.
func helperEnv() []string { return []string{"LC_ALL=C", "PATH=/usr/bin:/bin"} }

// startHelper starts the program and does not wait. Stdin is /dev/null.
func startHelper(timeout time.Duration, path string, args ...string) *helperRun {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	run := &helperRun{cmd: exec.CommandContext(ctx, path, args...), cancel: cancel}
	run.cmd.Env = helperEnv()
	run.cmd.Dir = "/"
	run.cmd.Stdout = &run.stdout
	run.cmd.Stderr = &run.stderr
	// A process that the helper left behind may hold its stderr open.
	run.cmd.WaitDelay = time.Second
	run.err = run.cmd.Start()
	return run
}

// wait returns a *HelperError unless the helper ended with status 0. To be called
// once for every start, failed ones included.
func (r *helperRun) wait() error {
	defer r.cancel()
	err := r.err
	if err == nil {
		err = r.cmd.Wait()
	}
	if err == nil {
		return nil
	}
	message := strings.TrimSpace(r.stderr.kept.String())
	return &HelperError{Path: r.cmd.Path, Stderr: message[:min(len(message), maxHelperMessage)], Err: err}
}

// helperArgs are the arguments of newuidmap(1): the pid, then three numbers for each
// extent.
func helperArgs(pid int, m Map) []string {
	return append([]string{strconv.Itoa(pid)}, strings.Fields(m.String())...)
}

// cappedBuffer keeps the first maxHelperOutput bytes and drops the rest, so that
// a chatty program neither fills memory nor blocks on a full pipe. It does not embed
// its buffer: io.Copy would find ReadFrom and pass the cap by.
type cappedBuffer struct{ kept bytes.Buffer }

// Write never fails and never takes less than all of p.
func (b *cappedBuffer) Write(p []byte) (int, error) {
	room := min(len(p), maxHelperOutput-b.kept.Len())
	b.kept.Write(p[:room])
	return len(p), nil
}
