package forkexec_test

import (
	"errors"
	"io"
	"os"
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
	path, err := p.String(argv[0])
	if err != nil {
		t.Fatal(err)
	}
	args, err := p.Strings(argv)
	if err != nil {
		t.Fatal(err)
	}
	env, err := p.Strings([]string{"GREETING=hello"})
	if err != nil {
		t.Fatal(err)
	}
	p.Add("run "+argv[0], unix.SYS_EXECVE, path, args, env)
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
