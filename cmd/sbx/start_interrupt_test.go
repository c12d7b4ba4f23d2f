package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// A signal that comes while a large tree is copied ends the run there and then: no
// program is started first, and nothing is left.
func TestStartInterrupted(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	tree := largeTree(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := box.Command(t, "run", "--image", tree, "--copy", "full", "--keep", "/bin/probe", "exit", "0")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		signalWhen(t, filepath.Join(box.Store(), "sandboxes/*/*/dir/*"), sig, cmd.Process, done)
		if got := cmd.ProcessState.ExitCode(); got != 128+int(sig) || strings.Contains(stderr.String(), "kept as") {
			t.Errorf("%v: exit status %d, %q", sig, got, stderr.String())
		}
		if left, _ := filepath.Glob(filepath.Join(box.Store(), "sandboxes/[0-9a-f]*")); len(left) > 0 {
			t.Errorf("%v: left %q", sig, left)
		}
	}
}

// largeTree is a root tree that takes long to copy.
func largeTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	for _, dir := range []string{"bin", "dir"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	probe, err := os.ReadFile(sbxtest.Probe(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "bin/probe"), probe, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 30_000 {
		if err := os.WriteFile(filepath.Join(tree, "dir", strconv.Itoa(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// signalWhen sends a signal as soon as there is something of that name, and waits
// for the end of the process.
func signalWhen(t *testing.T, pattern string, sig syscall.Signal, process *os.Process, done <-chan error) {
	t.Helper()
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			_ = process.Signal(sig)
			<-done
			return
		}
	}
}
