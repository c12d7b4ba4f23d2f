package initproc

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// No signal that the payload could send ends pid 1 or has it print a trace. The
// test runs itself again: that process would be the one to end.
func TestDeaf(t *testing.T) {
	if os.Getenv("SBX_TEST_DEAF") != "" {
		ignoreSignals()
		if err := ignoreFaults(); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("deaf\n")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(42)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDeaf$")
	cmd.Env = append(os.Environ(), "SBX_TEST_DEAF=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 5)); n != 5 {
		t.Fatal(err)
	}
	for sig := unix.Signal(1); sig <= 64; sig++ {
		if sig == unix.SIGKILL || sig == unix.SIGSTOP {
			continue
		}
		for range 3 {
			if err := cmd.Process.Signal(syscall.Signal(sig)); err != nil {
				t.Fatalf("dead at %v: %v", sig, err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	in.Close()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 42 || stderr.Len() > 0 {
		t.Errorf("%v\n%.500s", cmd.ProcessState, stderr.String())
	}
}

// A fault of pid 1's own is not survived.
func TestTrueFaultEnds(t *testing.T) {
	if os.Getenv("SBX_TEST_FAULT") != "" {
		if err := ignoreFaults(); err != nil {
			t.Fatal(err)
		}
		var p *int
		*p = 1
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestTrueFaultEnds$")
	cmd.Env = append(os.Environ(), "SBX_TEST_FAULT=1")
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || status.Signal() != syscall.SIGSEGV || len(out) > 0 {
		t.Errorf("%v\n%.500s", err, out)
	}
}
