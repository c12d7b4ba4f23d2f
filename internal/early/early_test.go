//go:build !cgo

package early_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	_ "github.com/sbx-run/sbx/internal/early" // what is tested
	"github.com/sbx-run/sbx/internal/sbxtest"
)

// These variables have the test binary be the program that is begun.
const (
	beginVariable    = "EARLY_TEST_BEGIN"
	childrenVariable = "EARLY_TEST_CHILDREN"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(childrenVariable) != "":
		fmt.Println(children())
		os.Exit(0)
	case os.Getenv(beginVariable) != "":
		fmt.Println("begun")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// begin executes this program with a resource limit that bash sets. What bash
// itself cannot do under it ends with another status than 0 and 125.
func begin(t *testing.T, limit string, value int) (stdout, stderr string, status syscall.WaitStatus) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/bash", "-c", fmt.Sprintf("ulimit -%s %d && exec \"$0\"", limit, value), exe)
	cmd.Env = []string{beginVariable + "=1"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		t.Fatal("no wait status")
	}
	return out.String(), errs.String(), status
}

// From comfortable to tiny: the program begins, or one line says which limit it
// was. Where there is not even room to load it, the kernel ends it without a word.
func TestLowLimits(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("bash"))
	for _, c := range []struct {
		limit, says string
		values      []int
		begins      int  // with this and more
		loads       int  // with this and more
		user        bool // root is not bound by it
	}{
		{"v", "address space", []int{4 << 20, 2 << 20, 1310720, 1310719, 1000000, 500000, 200000, 100000, 60000, 20000, 8000}, 1310720, 100000, false},
		{"d", "data", []int{500000, 131072, 98304, 98303, 80000, 50000, 20000, 5000, 1000}, 98304, 80000, false},
		{"s", "the stack", []int{8192, 256, 64, 63, 32, 20}, 64, 32, false},
		{"u", "processes", []int{1024, 13, 12, 8, 4, 2, 1}, 1024, 1, true},
	} {
		if c.user && os.Geteuid() == 0 {
			continue
		}
		for _, value := range c.values {
			stdout, stderr, status := begin(t, c.limit, value)
			said := status.ExitStatus() == 125 && strings.Count(stderr, "\n") == 1 && stdout == "" &&
				strings.HasPrefix(stderr, "sbx: the limit of "+c.says)
			begun := stdout == "begun\n" && stderr == "" && status.ExitStatus() == 0
			ended := value < c.loads && status.Signaled() && stdout == "" && stderr == ""
			if value >= c.begins && !begun || !begun && !said && !ended {
				t.Errorf("ulimit -%s %d: %q, %q, status %v", c.limit, value, stdout, stderr, status)
			}
		}
	}
}

// What was tried leaves nothing behind, and what the program had before it was
// executed is still there to be waited for.
func TestNothingIsLeft(t *testing.T) {
	sbxtest.Need(t, sbxtest.OrdinaryUser(), sbxtest.Program("bash"))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// So few more than this user has that it is tried, and enough of them.
	const threads, more = 400, 80
	crowd(t, threads)
	cmd := exec.Command("/bin/bash", "-c", fmt.Sprintf("ulimit -u %d; ", threads+more)+`sleep 0 & exec "$0"`, exe)
	cmd.Env = append(os.Environ(), childrenVariable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1 <nil>\n" {
		t.Errorf("children and error: %s, %v", out, err)
	}
}

// children counts what is left to be waited for, of any kind.
func children() (number int, err error) {
	const all = 0x40000000 // __WALL, see wait(2)
	for {
		_, err := syscall.Wait4(-1, nil, all, nil)
		switch {
		case err == nil:
			number++
		case errors.Is(err, syscall.ECHILD):
			return number, nil
		case !errors.Is(err, syscall.EINTR):
			return number, err
		}
	}
}

// crowd makes that many threads, which end with the test.
func crowd(t *testing.T, number int) {
	t.Helper()
	end := make(chan struct{})
	var begun, ended sync.WaitGroup
	for range number {
		begun.Add(1)
		ended.Go(func() {
			runtime.LockOSThread() // and the thread ends with its goroutine
			begun.Done()
			<-end
		})
	}
	begun.Wait()
	t.Cleanup(func() { close(end); ended.Wait() })
}

// A limit of any height can be reached: here by this test's own threads.
func TestReachedLimitOfProcesses(t *testing.T) {
	sbxtest.Need(t, sbxtest.OrdinaryUser(), sbxtest.Program("bash"))
	const limit = 1100
	crowd(t, limit)
	stdout, stderr, status := begin(t, "u", limit)
	if stdout != "" || status.ExitStatus() != 125 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "sbx: the limit of processes is reached") {
		t.Errorf("%q, %q, status %v", stdout, stderr, status)
	}
}
