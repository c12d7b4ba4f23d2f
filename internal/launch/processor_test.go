package launch

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/userns"
)

// helper starts a shell that runs the text, and returns its status and what it wrote to 2.
func helper(t *testing.T, start userns.Starter, text string) (unix.WaitStatus, string) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	started, err := start(userns.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: []string{"A=1"}, Null: int(null.Fd()), Stderr: int(out.Fd()),
	})
	if err != nil {
		t.Fatal(err)
	}
	executed := started.Executed()
	var status unix.WaitStatus
	if _, err := unix.Wait4(started.Pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	if executed != nil {
		t.Fatal(executed)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return status, string(data)
}

func TestHelperIsStartedClean(t *testing.T) {
	signal.Ignore(unix.SIGUSR1)
	defer signal.Reset(unix.SIGUSR1)
	for _, test := range []struct{ name, text, want string }{
		{"directory", "pwd >&2", "/\n"},
		{"environment", "echo $A >&2; env | grep -vc -e ^A= -e ^PWD= -e ^_= -e ^OLDPWD= -e ^SHLVL= >&2", "1\n0\n"},
		{"stdin", "cat >&2", ""},
		{"stdout", "at=$(readlink /proc/$$/fd/1); echo $at >&2", "/dev/null\n"},
		{"signals", "grep -E '^Sig(Blk|Ign)' /proc/$$/status | grep -v '\t0000000000000000' >&2", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got := helper(t, besides(), test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if status, _ := helper(t, besides(), "exit 3"); status.ExitStatus() != 3 {
		t.Errorf("wait status %#x, want exit status 3", int(status))
	}
}

func TestHelperThatIsNotThere(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for path, want := range map[string]error{"/nonexistent/newuidmap": unix.ENOENT, "/etc/passwd": unix.EACCES} {
		started, err := besides()(userns.Command{Path: path, Args: []string{"newuidmap"}, Null: int(null.Fd()), Stderr: int(null.Fd())})
		if err != nil {
			t.Fatal(err)
		}
		if err := started.Executed(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if _, err := unix.Wait4(started.Pid, nil, 0, nil); err != nil {
			t.Error(err)
		}
	}
}

// The first helper runs where this thread does not, the second where it may.
func TestHelpersRunBeside(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if all.Count() < 2 {
		if set := elsewhere(); set != nil {
			t.Errorf("of one processor, %d are others", set.Count())
		}
		t.Skip("cannot: one processor")
	}
	// One of two, so that it is known which one this is.
	first, second := -1, -1
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) && first < 0 {
			first = cpu
		} else if all.IsSet(cpu) && second < 0 {
			second = cpu
		}
	}
	var one, two unix.CPUSet
	one.Set(first)
	two.Set(first)
	two.Set(second)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &all) }()
	if set := elsewhere(); set != nil {
		t.Errorf("confined to one processor, %d are others", set.Count())
	}
	if err := unix.SchedSetaffinity(0, &two); err != nil {
		t.Fatal(err)
	}
	set := elsewhere()
	if set == nil || set.Count() != 1 {
		t.Fatalf("of two processors, %v is the other", set)
	}
	start := besides()
	allowed := "grep Cpus_allowed_list /proc/self/status | cut -f2 >&2"
	if _, got := helper(t, start, allowed); strings.ContainsAny(got, ",-") {
		t.Errorf("the first may run on %q", got)
	}
	if _, got := helper(t, start, allowed); !strings.ContainsAny(got, ",-") {
		t.Errorf("the second may run on %q", got)
	}
}
