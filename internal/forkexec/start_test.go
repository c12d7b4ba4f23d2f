package forkexec_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/sbx-run/sbx/internal/forkexec"
	"golang.org/x/sys/unix"
)

// run starts the program with its standard output in a pipe and returns what
// it wrote, its wait status and the error of Wait.
func run(t *testing.T, flags uintptr, fill func(p *forkexec.Program)) (string, unix.WaitStatus, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var p forkexec.Program
	p.Add("point standard output at the pipe", unix.SYS_DUP3, w.Fd(), 1, 0)
	fill(&p)
	child, err := forkexec.Start(&p, flags)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	waitErr := child.Wait()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(child.Pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(out), status, waitErr
}

func exec(t *testing.T, p *forkexec.Program, argv ...string) {
	t.Helper()
	if err := p.Execute("run "+argv[0], argv[0], argv, []string{"GREETING=hello"}); err != nil {
		t.Fatal(err)
	}
}

func TestRunsTheStepsThenTheProgram(t *testing.T) {
	out, status, err := run(t, 0, func(p *forkexec.Program) {
		p.Add("set the umask", unix.SYS_UMASK, 0o27)
		dir, err := p.String("/")
		if err != nil {
			t.Fatal(err)
		}
		p.Add("go to /", unix.SYS_CHDIR, dir)
		exec(t, p, "/bin/sh", "-c", `echo "$GREETING $(pwd) $(umask)"; exit 3`)
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "hello / 0027\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	if status.ExitStatus() != 3 {
		t.Errorf("exit status %d, want 3", status.ExitStatus())
	}
}

func TestAFailingStepIsNamedWithItsErrno(t *testing.T) {
	_, status, err := run(t, 0, func(p *forkexec.Program) {
		dir, err := p.String("/does/not/exist")
		if err != nil {
			t.Fatal(err)
		}
		p.Add("go to /does/not/exist", unix.SYS_CHDIR, dir)
		exec(t, p, "/bin/true")
	})
	var step *forkexec.StepError
	if !errors.As(err, &step) || step.Index != 1 || !errors.Is(err, unix.ENOENT) {
		t.Fatalf("error %v, want step 1 with ENOENT", err)
	}
	if !strings.Contains(err.Error(), "go to /does/not/exist: no such file") {
		t.Errorf("text %q", err)
	}
	if status.ExitStatus() != 127 {
		t.Errorf("exit status %d, want 127", status.ExitStatus())
	}
}

// A filter may refuse the child even to say why it has failed, and to exit.
//
// It dies of a signal that dumps core. Before Linux 5.16 that ends everybody who shares the memory,
// unless it is not dumpable, as the supervisor's is not when the filter is installed.
func TestAChildThatMayDoNothingEnds(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }()
	refuse := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}}
	_, status, err := run(t, 0, func(p *forkexec.Program) {
		filter := &unix.SockFprog{Len: uint16(len(refuse)), Filter: &refuse[0]}
		p.Add("die with the test", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
		p.Add("gain nothing", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
		p.Add("refuse everything", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, p.Pointer(unsafe.Pointer(filter)))
		exec(t, p, "/bin/true")
	})
	if err != nil || !status.Signaled() {
		t.Errorf("status %#x, %v, want a signal", int(status), err)
	}
	runtime.KeepAlive(refuse)
}

func TestTolerateAndWant(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close() // end of file at once: the parent died
	_, _, err = run(t, 0, func(p *forkexec.Program) {
		p.AddStep(forkexec.Step{Text: "close nothing", Trap: unix.SYS_CLOSE, Tolerate: unix.EBADF}, ^uintptr(0))
		var buf byte
		p.AddStep(forkexec.Step{Text: "wait for the go-ahead", Trap: unix.SYS_READ, Want: 1},
			r.Fd(), p.Pointer(unsafe.Pointer(&buf)), 1)
		exec(t, p, "/bin/true")
	})
	var step *forkexec.StepError
	if !errors.As(err, &step) || step.Index != 2 || !errors.Is(err, unix.EPIPE) {
		t.Fatalf("error %v, want step 2 with EPIPE", err)
	}
}

// The parent's other goroutines run on while children are cloned: the place
// where a fork in a threaded program goes wrong if it goes wrong.
func TestManyChildrenBesideBusyGoroutines(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					_ = strings.Repeat("x", i%4096)
				}
			}
		}()
	}
	for range 200 {
		if _, status, err := run(t, 0, func(p *forkexec.Program) { exec(t, p, "/bin/true") }); err != nil || status.ExitStatus() != 0 {
			t.Fatalf("status %v, error %v", status, err)
		}
	}
}

func TestSharingFlagsAreRefused(t *testing.T) {
	if _, err := forkexec.Start(&forkexec.Program{}, unix.CLONE_VM); !errors.Is(err, unix.EINVAL) {
		t.Errorf("error %v, want EINVAL", err)
	}
}

// gated adds a step that waits until the returned function is called.
func gated(t *testing.T, p *forkexec.Program) (open func()) {
	t.Helper()
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(gate[0]); unix.Close(gate[1]) })
	p.AddStep(forkexec.Step{Text: "wait", Trap: unix.SYS_READ, Want: 1}, uintptr(gate[0]), p.Pointer(unsafe.Pointer(new(byte))), 1)
	return func() {
		if _, err := unix.Write(gate[1], []byte{1}); err != nil {
			t.Error(err)
		}
	}
}

// While children wait, their parent collects garbage and makes more: what they
// work on has to stay where it is.
func TestTheParentGoesOnWhileChildrenWait(t *testing.T) {
	type waiting struct {
		child *forkexec.Child
		open  func()
	}
	var list []waiting
	for range 20 {
		p := new(forkexec.Program)
		open := gated(t, p)
		exec(t, p, "/bin/sh", "-c", `test "$GREETING" = hello && exit 5`)
		child, err := forkexec.Start(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, waiting{child, open})
	}
	for range 5 {
		runtime.GC()
		_ = make([]byte, 8<<20)
	}
	for _, w := range list {
		w.open()
		if err := w.child.Wait(); err != nil {
			t.Error(err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(w.child.Pid, &status, 0, nil); err != nil || status.ExitStatus() != 5 {
			t.Errorf("exit status %d (%v), want 5", status.ExitStatus(), err)
		}
	}
}

// A child that is killed on its way looks like one that went on, until it is
// waited for; the parent, whose memory it used, does not notice.
func TestAKilledChildTakesNothingAlong(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP} {
		var p forkexec.Program
		gated(t, &p)
		exec(t, &p, "/bin/true")
		child, err := forkexec.Start(&p, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(child.Pid, sig); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(child.Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(child.Pid, &status, 0, nil); err != nil || status.Signal() != unix.SIGKILL {
			t.Errorf("status %#x (%v), want killed", status, err)
		}
	}
}

// Signals stay blocked in the child: none of the runtime's handlers may run in
// it, with the parent's memory below it.
func TestSignalsDoNotReachTheChild(t *testing.T) {
	var p forkexec.Program
	open := gated(t, &p)
	exec(t, &p, "/bin/true")
	child, err := forkexec.Start(&p, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []unix.Signal{unix.SIGURG, unix.SIGTERM, unix.SIGSEGV, unix.SIGUSR1} {
		if err := unix.Kill(child.Pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(child.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	// All but SIGKILL and SIGSTOP, which cannot be blocked.
	if !strings.Contains(string(status), "SigBlk:\tfffffffffffbfeff") {
		t.Errorf("the child's signals:\n%s", status)
	}
	open()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	var end unix.WaitStatus
	if _, err := unix.Wait4(child.Pid, &end, 0, nil); err != nil || end.ExitStatus() != 0 {
		t.Errorf("status %#x (%v), want exit 0", end, err)
	}
}
