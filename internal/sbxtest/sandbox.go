package sbxtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runTimeout bounds one run of sbx, so that a hang becomes a failure with the
// output so far and not the end of the whole test binary.
const runTimeout = 120 * time.Second

// Sandbox runs the built sbx as the current user. Copies of the value can be
// changed without effect on one another.
type Sandbox struct {
	// Home is the HOME of the runs and holds the store.
	Home string
	// Dir is the working directory; empty means the test's own.
	Dir string
	// Env is added to the minimal environment of the runs.
	Env []string
	// Stdin is what the runs read; nil is /dev/null.
	Stdin io.Reader
	// Prefix is put before the command: a tracer, "setsid" and the like.
	Prefix []string
	// TraceAs is the user as whom a tracer in Prefix starts the command; only
	// the test that sets it looks at it.
	TraceAs string
}

// Result is how a run ended.
type Result struct {
	Stdout, Stderr string
	// Exit is the exit status, or 128+n when sbx itself died by signal n.
	Exit int
	// Args are what was run, for messages.
	Args []string
}

// String shows the whole result in the message of a failed test.
func (r Result) String() string {
	return "sbx " + strings.Join(r.Args, " ") + "\nexit status " + itoa(r.Exit) +
		"\n--- stdout\n" + r.Stdout + "\n--- stderr\n" + r.Stderr
}

// New returns a sandbox over the store that all tests of this user share: the
// images in it are made once.
func New(t testing.TB) Sandbox {
	t.Helper()
	return Sandbox{Home: sharedHome(t)}
}

// NewStore returns a sandbox over an empty store of its own, for tests of the
// first use. It is removed at the end of the test.
func NewStore(t testing.TB) Sandbox {
	t.Helper()
	return Sandbox{Home: TempDir(t)}
}

// Command prepares a run; the caller starts it. It is killed with all its
// children's pipes when the test ends, or after a time no run should need.
func (s Sandbox) Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	t.Cleanup(cancel)
	argv := append(append([]string{}, s.Prefix...), Binary(t))
	argv = append(argv, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = s.Dir
	cmd.Env = append([]string{
		"HOME=" + s.Home, "USER=" + os.Getenv("USER"), "LOGNAME=" + os.Getenv("USER"),
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", "TERM=xterm-256color",
	}, s.Env...)
	cmd.Stdin = s.Stdin
	cmd.WaitDelay = 10 * time.Second
	// First ask, so that what runs inside is taken down too.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// Run runs sbx with the arguments and waits for its end. Only a failure to run
// it at all ends the test.
func (s Sandbox) Run(t testing.TB, args ...string) Result {
	t.Helper()
	cmd := s.Command(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), Args: args, Exit: exitStatus(cmd.ProcessState)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%v", err, result)
	}
	return result
}

// MustRun runs sbx and fails the test unless it exits 0.
func (s Sandbox) MustRun(t testing.TB, args ...string) Result {
	t.Helper()
	result := s.Run(t, args...)
	if result.Exit != 0 {
		t.Fatalf("%v", result)
	}
	return result
}

// exitStatus gives the status as a shell shows it in $?.
func exitStatus(state *os.ProcessState) int {
	if state == nil {
		return -1
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

var homeOnce = sync.OnceValues(func() (string, error) {
	if home := os.Getenv("SBX_TEST_HOME"); home != "" {
		return home, os.MkdirAll(home, 0o700)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, "sbx-test", "home")
	return home, os.MkdirAll(home, 0o700)
})

func sharedHome(t testing.TB) string {
	t.Helper()
	home, err := homeOnce()
	if err != nil {
		t.Fatalf("make a home for the tests' store: %v", err)
	}
	return home
}

// Store is the directory in which sbx keeps images and sandboxes of s.
func (s Sandbox) Store() string { return filepath.Join(s.Home, ".local/share/sbx") }

// Sandboxes lists the ids of the sandboxes that are in the store.
func (s Sandbox) Sandboxes(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Store(), "sandboxes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var ids []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") { // a lock of the store itself
			ids = append(ids, entry.Name())
		}
	}
	return ids
}
