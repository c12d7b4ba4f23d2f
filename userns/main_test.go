package userns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary play a process of the sandbox, see TestMain.
const roleVariable = "USERNS_TEST_ROLE"

const (
	// roleWait does nothing until its stdin ends.
	roleWait = "wait"
	// roleInit is pid 1 of U1: it waits for a Layout on stdin, becomes id 0, starts
	// a roleWait in U2, writes its maps, and prints a report.
	roleInit = "init"
)

// report is what roleInit prints.
type report struct {
	UID, GID  int
	Setgroups string // error text, empty if allowed
	Payload   string // error text of writing U2's maps
}

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleWait:
		_, _ = io.Copy(io.Discard, os.Stdin)
	case roleInit:
		if err := json.NewEncoder(os.Stdout).Encode(playInit()); err != nil {
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func playInit() report {
	var l Layout
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		return report{Payload: err.Error()}
	}
	var r report
	if err := syscall.Setgroups(nil); err != nil {
		r.Setgroups = err.Error()
	}
	if err := errors.Join(syscall.Setresgid(0, 0, 0), syscall.Setresuid(0, 0, 0)); err != nil {
		r.Payload = err.Error()
		return r
	}
	r.UID, r.GID = os.Getuid(), os.Getgid()
	payload, stdin, err := start(roleWait, nil)
	if err == nil {
		err = WriteDirect(payload.Process.Pid, l.PayloadUID, l.PayloadGID, false)
		stdin.Close()
		err = errors.Join(err, payload.Wait())
	}
	if err != nil {
		r.Payload = err.Error()
	}
	return r
}

// start runs the test binary in a new user namespace without maps.
func start(role string, stdout io.Writer) (*exec.Cmd, io.WriteCloser, error) {
	cmd := exec.Command("/proc/self/exe")
	// Under the race detector a process otherwise sleeps for a second at its end.
	cmd.Env = []string{roleVariable + "=" + role, "GORACE=atexit_sleep_ms=0"}
	cmd.Stdout, cmd.Stderr = stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		AmbientCaps: []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, stdin, cmd.Start()
}

// startWaiting is start with the test's own clean-up.
func startWaiting(t *testing.T) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	cmd, stdin, err := start(roleWait, nil)
	if err != nil {
		skip(t, fmt.Sprintf("clone a user namespace: %v", err))
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	return cmd, stdin
}

// runInit starts roleInit, calls write to map it, and returns its report.
func runInit(t *testing.T, l Layout, write func(pid int) error) report {
	t.Helper()
	var out bytes.Buffer
	cmd, stdin, err := start(roleInit, &out)
	if err != nil {
		skip(t, fmt.Sprintf("clone a user namespace: %v", err))
	}
	err = write(cmd.Process.Pid)
	if err == nil {
		err = json.NewEncoder(stdin).Encode(l)
	}
	stdin.Close()
	if err = errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("report %q: %v", out.Bytes(), err)
	}
	return r
}

// skip skips a test for what the machine lacks, which a machine that promises to have
// everything takes as a failure.
func skip(t *testing.T, lacks string) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal("needed here: " + lacks)
	}
	t.Skip(lacks)
}
