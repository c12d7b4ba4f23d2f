package launch

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stops is how often TestStop has a process stop itself: the signal went astray in one case
// of ten or so.
const stops = 200

// stopsItself is set, to "group" or "alone", in the environment of the process that stops.
const stopsItself = "LAUNCH_TEST_STOP"

// A process that stops itself is stopped before stop returns, and gets no signal that it
// would pass on to the program.
func TestStop(t *testing.T) {
	if who := os.Getenv(stopsItself); who != "" {
		c := make(chan os.Signal, stops)
		signal.Notify(c, unix.SIGTSTP)
		_, _ = os.Stdin.Read(make([]byte, 1)) // ends when all are there
		for range stops {
			stop(who == "group")
		}
		fmt.Printf("got %d signals\n", len(c))
		return
	}
	for _, who := range []string{"alone", "group"} {
		t.Run(who, func(t *testing.T) { testStop(t, who) })
	}
}

func testStop(t *testing.T, who string) {
	var out strings.Builder
	leader := exec.Command("/proc/self/exe", "-test.run=^TestStop$")
	leader.Env = append(os.Environ(), stopsItself+"="+who)
	leader.Stdout = &out
	ready, err := leader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	start(t, leader)
	members := []int{leader.Process.Pid}
	if who == "group" {
		other := exec.Command("sleep", "1000")
		other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: members[0], Pdeathsig: syscall.SIGKILL}
		start(t, other)
		members = append(members, other.Process.Pid)
	}
	if err := ready.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range stops {
		for _, pid := range members {
			var status unix.WaitStatus
			if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
				t.Fatalf("after %d stops: status %#x, %v; it says %s", i, int(status), err, out.String())
			}
		}
		if err := unix.Kill(-members[0], unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if err := leader.Wait(); err != nil || !strings.HasPrefix(out.String(), "got 0 signals\n") {
		t.Errorf("%v; it says %s", err, out.String())
	}
}

func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // an error means that it has ended already
		_ = c.Wait()
	})
}
