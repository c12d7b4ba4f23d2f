package launch_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

func TestWhatIsLeftBehindDoesNotHoldItUp(t *testing.T) {
	box := sandbox(t)
	box.MustRun(t, "run", "-q", "true") // makes the image, which may take longer than all the rest
	for name, script := range map[string]string{
		"a background process with the output open": `sleep 1000 & echo x`,
		"a daemon":                    `(setsid sh -c 'sleep 1000 & sleep 1000' &) ; echo x`,
		"one that ignores signals":    `(trap '' TERM INT HUP; sleep 1000) & echo x`,
		"one that is stopped":         `sh -c 'kill -STOP $$; sleep 1000' & echo x`,
		"the program closes its own":  `echo x; exec >&- 2>&-; sleep 0.1`,
		"the input is never read":     `echo x`,
		"a process that forks always": `(while :; do (:) & done) 2>/dev/null & echo x`,
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			b := box
			b.Stdin = r
			begin := time.Now()
			if result := b.MustRun(t, "run", "-q", "sh", "-c", script); result.Stdout != "x\n" {
				t.Errorf("%v", result)
			}
			if took := time.Since(begin); took > sbxtest.Patience(30*time.Second) {
				t.Errorf("took %s", took)
			}
		})
	}
}

// The time limit holds against whatever the program does, and with it the
// status that says so.
func TestTimeLimit(t *testing.T) {
	box := sandbox(t)
	for name, script := range map[string]string{
		"it sleeps":               `sleep 1000`,
		"it ignores every signal": `trap '' TERM INT HUP QUIT TSTP; while :; do sleep 1; done`,
		"it stops itself":         `kill -STOP $$; sleep 1000`,
		"it stops its group":      `kill -STOP 0; sleep 1000`,
		"it forks":                `i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; wait`,
		"it writes":               `yes > /dev/null`,
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			result := box.Run(t, "run", "--timeout=300ms", "sh", "-c", script)
			if result.Exit != 124 || !strings.Contains(result.Stderr, "timed out after 300ms") {
				t.Errorf("%v", result)
			}
			if took := time.Since(begin); took > sbxtest.Patience(30*time.Second) {
				t.Errorf("took %s", took)
			}
		})
	}
}

// start runs sbx until the program says that it is ready.
func start(t *testing.T, box sbxtest.Sandbox, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	cmd = box.Command(t, args...)
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 16)); n == 0 {
		t.Fatalf("not ready: %v, %s", err, stderr)
	}
	return cmd, stderr
}

func status(cmd *exec.Cmd) int {
	_ = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

func TestSignalsReachTheProgram(t *testing.T) {
	box := sandbox(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		t.Run(sig.String(), func(t *testing.T) {
			caught := fmt.Sprintf(`trap 'exit 33' %d; echo ready; while :; do sleep 0.05; done`, int(sig))
			cmd, stderr := start(t, box, "run", "-q", "sh", "-c", caught)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if got := status(cmd); got != 33 {
				t.Errorf("caught inside: status %d, %s", got, stderr)
			}
			cmd, stderr = start(t, box, "run", "-q", "sh", "-c", "echo ready; exec sleep 1000")
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if got := status(cmd); got != 128+int(sig) {
				t.Errorf("not caught: status %d, %s", got, stderr)
			}
		})
	}
}

// Two signals that come before the first is taken are one to the kernel, so the
// program says when it got the first.
func TestSecondInterruptKills(t *testing.T) {
	cmd := sandbox(t).Command(t, "run", "sh", "-c", `trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done`)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for _, want := range []string{"ready\n", "caught\n"} {
		if line, err := lines.ReadString('\n'); line != want {
			t.Fatalf("%q, not %q: %v, %s", line, want, err, stderr)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	if got := status(cmd); got != 137 || !strings.Contains(stderr.String(), "interrupted twice") {
		t.Errorf("status %d, %s", got, stderr)
	}
}

// initOf finds pid 1 of the sandbox that a supervisor has started. The program
// may be a moment ahead of the name that pid 1 gets by its own execve.
func initOf(t *testing.T, supervisor int) int {
	t.Helper()
	for range 100 {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", supervisor))
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range lists {
			data, _ := os.ReadFile(list)
			for child := range strings.FieldsSeq(string(data)) {
				name, _ := os.ReadFile("/proc/" + child + "/cmdline")
				if strings.HasPrefix(string(name), "sbx-init") {
					pid, err := strconv.Atoi(child)
					if err != nil {
						t.Fatal(err)
					}
					return pid
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Skip("cannot: no children files in this kernel's /proc, or pid 1 has gone")
	return 0
}

// pid 1 may be killed, or stopped, by its user outside. The supervisor says so,
// or carries on with the time limit, and leaves nothing in the store.
func TestPid1KilledOrStopped(t *testing.T) {
	for _, c := range []struct {
		name   string
		sig    syscall.Signal
		flags  []string
		status int
		says   string
	}{
		{"killed", syscall.SIGKILL, nil, 125, "was killed from outside"},
		{"killed, with a copy on the disk", syscall.SIGKILL, []string{"--copy=full"}, 125, "was killed from outside"},
		{"stopped", syscall.SIGSTOP, []string{"--timeout=1s"}, 124, "timed out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sbxtest.Need(t, sbxtest.UserNamespaces())
			box := sbxtest.NewStore(t)
			args := append([]string{"run", "--image=scratch"}, c.flags...)
			cmd, stderr := start(t, box, append(args, sbxtest.Probe(t), "sigwait")...)
			if err := syscall.Kill(initOf(t, cmd.Process.Pid), c.sig); err != nil {
				t.Fatal(err)
			}
			if got := status(cmd); got != c.status || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("status %d, %s", got, stderr)
			}
			trash, err := filepath.Glob(filepath.Join(box.Store(), "trash", "[^.]*"))
			if left := append(trash, box.Sandboxes(t)...); err != nil || len(left) != 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}
