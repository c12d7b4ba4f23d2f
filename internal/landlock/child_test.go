package landlock

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With this in its environment the test binary confines itself and does what the task says.
const taskVariable = "SBX_TEST_LANDLOCK_TASK"

// task is a confinement and what is tried under it, each a word and its operands: {"rename", "a", "b"}.
type task struct {
	ABI     int        `json:"abi"` // 0 for no confinement
	Rules   []Rule     `json:"rules"`
	Actions [][]string `json:"actions"`
}

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(taskVariable)
	if !ok {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	if err := t.confine(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	for _, a := range t.Actions {
		fmt.Println(outcome(act(a[0], append(a[1:], ""))))
	}
	os.Exit(0)
}

func (t *task) confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil || t.ABI == 0 {
		return err
	}
	fd, err := Ruleset(t.ABI, t.Rules)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		return fmt.Errorf("the ruleset is not close-on-exec: %#x, %w", flags, err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func outcome(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// act does one thing on the confined thread.
func act(what string, on []string) error {
	switch what {
	case "read":
		return open(on[0], unix.O_RDONLY)
	case "write":
		return open(on[0], unix.O_WRONLY)
	case "overwrite":
		return open(on[0], unix.O_WRONLY|unix.O_TRUNC)
	case "create":
		return open(on[0], unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	case "list":
		return open(on[0], unix.O_RDONLY|unix.O_DIRECTORY)
	case "truncate":
		return unix.Truncate(on[0], 0)
	case "mkdir":
		return unix.Mkdir(on[0], 0o700)
	case "mkfifo":
		return unix.Mkfifo(on[0], 0o600)
	case "symlink":
		return unix.Symlink("x", on[0])
	case "remove":
		return unix.Unlink(on[0])
	case "rmdir":
		return unix.Rmdir(on[0])
	case "rename":
		return unix.Rename(on[0], on[1])
	case "link":
		return unix.Link(on[0], on[1])
	case "execute":
		cmd := exec.Command(on[0])
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr // else os/exec opens /dev/null
		return cmd.Run()
	case "ptyNumber":
		return ptyNumber(on[0])
	case "connect":
		return connect(on[0])
	case "signal":
		pid, _ := strconv.Atoi(on[0])
		return unix.Kill(pid, 0)
	case "signalChild":
		return signalChild(on[0])
	}
	return fmt.Errorf("no action %q", what)
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// ptyNumber is an ioctl on a device that anybody may open.
func ptyNumber(ptmx string) error {
	fd, err := unix.Open(ptmx, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	return err
}

func connect(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

func signalChild(program string) error {
	cmd := exec.Command(program, "60")
	if err := cmd.Start(); err != nil {
		return err
	}
	err := unix.Kill(cmd.Process.Pid, unix.SIGKILL)
	if err != nil {
		return err
	}
	cmd.Wait()
	return nil
}

// run carries the task out in a child and returns the outcome of each action.
func (t task) run(tb testing.TB) []string {
	tb.Helper()
	text, err := json.Marshal(t)
	if err != nil {
		tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), taskVariable+"="+string(text))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%v: %s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(t.Actions) {
		tb.Fatalf("%d outcomes of %d actions: %q", len(lines), len(t.Actions), lines)
	}
	return lines
}
