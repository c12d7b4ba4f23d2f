package vfork

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS

// need skips where the kernel gives no user namespaces.
func need(t *testing.T) {
	t.Helper()
	p, err := start()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		if os.Getenv("SBX_MUST_WORK") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.Exit(0)
	reap(t, p)
}

func start() (*Process, error) {
	runtime.LockOSThread()
	return Start(namespaces)
}

func reap(t *testing.T, p *Process) unix.WaitStatus {
	t.Helper()
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &status, 0, nil); err != nil {
		t.Errorf("wait for %d: %v", p.Pid, err)
	}
	return status
}

// The lines after Start run in the new process, and those after Exit do not.
func TestExit(t *testing.T) {
	need(t)
	outside := os.Getpid()
	p, err := start()
	if err != nil {
		t.Fatal(err)
	}
	inside := os.Getpid()
	p.Exit(7)
	if after := os.Getpid(); inside != 1 || after != outside {
		t.Errorf("the process was %d and then %d, want 1 and %d", inside, after, outside)
	}
	if status := reap(t, p); status.ExitStatus() != 7 {
		t.Errorf("status %v", status)
	}
}

// Descriptors, directory and umask are copies; memory is one.
func TestWhatIsShared(t *testing.T) {
	need(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	umask := unix.Umask(0o22)
	defer unix.Umask(umask)
	p, err := start()
	if err != nil {
		t.Fatal(err)
	}
	closed := unix.Close(int(w.Fd()))
	changed := unix.Chdir("/")
	unix.Umask(0o77)
	list := make([]string, 0, 1)
	for range 1000 {
		list = append(list, "x")
	}
	p.Exit(0)
	reap(t, p)
	if closed != nil || changed != nil || len(list) != 1000 {
		t.Error(closed, changed, len(list))
	}
	if now, err := os.Getwd(); err != nil || now != dir {
		t.Errorf("in %s now, %v", now, err)
	}
	if now := unix.Umask(0o22); now != 0o22 {
		t.Errorf("umask %#o", now)
	}
	if _, err := w.WriteString("x"); err != nil {
		t.Errorf("the descriptor was closed here as well: %v", err)
	}
}

func TestExec(t *testing.T) {
	need(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := int(w.Fd())
	p, err := start()
	if err != nil {
		t.Fatal(err)
	}
	missing := p.Exec(unix.AT_FDCWD, "/nonexistent", []string{"x"}, nil, 0)
	inside := os.Getpid()
	err = p.Exec(unix.AT_FDCWD, "/bin/sh", []string{"sh", "-c", "echo $$ $A"}, []string{"A=b"}, 0, Move{From: out, To: 1})
	if err != nil {
		p.Exit(1)
	}
	if err != nil || inside != 1 || !errors.Is(missing, unix.ENOENT) {
		t.Fatalf("%v, in %d; a file that is not there: %v", err, inside, missing)
	}
	w.Close()
	text := make([]byte, 64)
	n, err := r.Read(text)
	if err != nil || string(text[:n]) != "1 b\n" {
		t.Errorf("%q, %v", text[:n], err)
	}
	reap(t, p)
}

// A refused clone leaves no process and the goroutine as it was.
func TestRefused(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after uint64
	if err := sigmask(nil, &before); err != nil {
		t.Fatal(err)
	}
	_, err := Start(unix.CLONE_THREAD) // without CLONE_SIGHAND: EINVAL
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("error %v", err)
	}
	if err := sigmask(nil, &after); err != nil || after != before {
		t.Errorf("the signal mask was %#x and is %#x, %v", before, after, err)
	}
}

// deep needs a stack of its own.
func deep(n int) int {
	var pad [256]byte
	pad[n%256] = byte(n)
	if n == 0 {
		return int(pad[0])
	}
	return deep(n-1) + int(pad[n%256])&1
}

// Allocation, growing stacks, channels, mutexes and the garbage collector go on
// across the border, for many at once.
func TestRuntimeAcross(t *testing.T) {
	need(t)
	stop := make(chan struct{})
	var collecting sync.WaitGroup
	collecting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = make([]byte, 100_000)
				runtime.GC()
			}
		}
	})
	var lock sync.Mutex
	count := map[int]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			runtime.LockOSThread()
			for i := range 100 {
				pids, answer := make(chan int), make(chan int)
				go func() { answer <- <-pids }()
				p, err := Start(namespaces)
				if err != nil {
					t.Error(err)
					return
				}
				pids <- p.Pid
				got := <-answer
				deep(i * 20)
				lock.Lock()
				count[os.Getpid()]++
				lock.Unlock()
				p.Exit(i)
				if got != p.Pid {
					t.Errorf("%d came back as %d", p.Pid, got)
				}
				if status := reap(t, p); status.ExitStatus() != i {
					t.Errorf("status %v, want %d", status, i)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	collecting.Wait()
	if len(count) != 1 || count[1] != 400 {
		t.Errorf("it ran as %v", count)
	}
}

// The collector polls in the process that starts a cycle: it does so with all
// descriptors closed but those of the poller.
func TestCollectWithoutDescriptors(t *testing.T) {
	need(t)
	poller, err := Poller()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Poller()
	if err != nil || len(poller) == 0 || len(again) != len(poller) {
		t.Errorf("%v and then %v, %v", poller, again, err)
	}
	p, err := start()
	if err != nil {
		t.Fatal(err)
	}
	for fd := range 256 {
		if fd > 2 && !slices.Contains(poller, fd) {
			_ = unix.Close(fd)
		}
	}
	for range 3 {
		runtime.GC()
	}
	p.Exit(9)
	if status := reap(t, p); status.ExitStatus() != 9 {
		t.Errorf("status %v", status)
	}
}

// The process does not outlive the caller's, whenever that is killed.
func TestDiesWithTheCaller(t *testing.T) {
	need(t)
	if os.Getenv("SBX_TEST_CALLER") != "" {
		p, err := start()
		if err != nil {
			os.Exit(3)
		}
		fmt.Println(p.Pid)
		for {
			_ = deep(100)
		}
	}
	for range 20 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithTheCaller$")
		cmd.Env = append(os.Environ(), "SBX_TEST_CALLER=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(out, &pid); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		begin := time.Now()
		for alive(pid) {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("process %d lives on", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// alive tells whether a process runs: one that nobody has reaped does not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, found := strings.Cut(string(data), ") ")
	return err == nil && found && !strings.HasPrefix(state, "Z")
}

// A process that is killed while it has the goroutine takes that along, and
// nothing else: the other goroutines go on.
func TestKilled(t *testing.T) {
	need(t)
	if os.Getenv("SBX_TEST_KILLED") != "" {
		pids := make(chan int)
		go func() {
			p, err := start()
			if err != nil {
				os.Exit(3)
			}
			pids <- p.Pid
			select {}
		}()
		pid := <-pids
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			os.Exit(4)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status.Signal() != unix.SIGKILL {
			os.Exit(5)
		}
		os.Exit(42)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "SBX_TEST_KILLED=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 42 || strings.Contains(string(out), "goroutine") {
		t.Errorf("%v\n%s", err, out)
	}
}
