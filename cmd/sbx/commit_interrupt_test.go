package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// Ctrl-C ends a commit, and nothing of it is kept.
func TestCommitInterrupted(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	box.Dir = probeDir(t)
	box.MustRun(t, "run", "--image", "scratch", "--keep", "--name", "kept", "-u", "0", "./probe", "write", "/kept", "kept")
	large := filepath.Join(t.TempDir(), "large")
	writeFile(t, large, strings.Repeat("x", 64<<20))
	box.MustRun(t, "cp", large, "kept:/large")
	for range 10 {
		cmd := box.Command(t, "commit", "kept", "image")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		signalWhenStaged(t, box, cmd.Process, done)
		if cmd.ProcessState.Success() {
			box.MustRun(t, "image", "rm", "image") // it was quicker than we were
			continue
		}
		if got := cmd.ProcessState.ExitCode(); got != 128+int(syscall.SIGINT) || !strings.Contains(stderr.String(), "interrupted; nothing of it was kept") {
			t.Fatalf("exit status %d, %q", got, stderr.String())
		}
		checkNothingStaged(t, box)
		box.MustRun(t, "commit", "kept", "image")
		return
	}
	t.Fatal("no commit could be interrupted")
}

// signalWhenStaged sends SIGINT as soon as there is a half-made image, and waits
// for the end of the process.
func signalWhenStaged(t *testing.T, box sbxtest.Sandbox, process *os.Process, done <-chan error) {
	t.Helper()
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		if staged, _ := filepath.Glob(filepath.Join(box.Store(), "images/imported/.staging-*/tree/*")); len(staged) > 0 {
			_ = process.Signal(syscall.SIGINT)
			<-done
			return
		}
	}
}
