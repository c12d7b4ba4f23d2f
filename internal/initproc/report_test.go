package initproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// What goes wrong inside arrives outside with its stage and its errno.
func TestReport(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	p := &process{conn: plan.NewConn(fds[0])}
	long := strings.Repeat("x", 200<<10)
	for _, c := range []struct {
		err  error
		want plan.Message
	}{
		{fmt.Errorf("mount %q: %w", "/x", unix.EPERM), plan.Message{Text: `mount "/x": operation not permitted`, Errno: int(unix.EPERM)}},
		{errors.New("no errno"), plan.Message{Text: "no errno"}},
		{fmt.Errorf("a: %w", errors.Join(errors.New("b"), unix.ENOSPC)), plan.Message{Text: "a: b\nno space left on device", Errno: int(unix.ENOSPC)}},
		{&runError{notFound: true, err: unix.ENOENT}, plan.Message{Text: "no such file or directory", Errno: int(unix.ENOENT), NotFound: true}},
		{&runError{err: unix.ENOEXEC}, plan.Message{Text: "exec format error", Errno: int(unix.ENOEXEC), NotRunnable: true}},
		{fmt.Errorf("run %s: %w", long, unix.ENOENT), plan.Message{Errno: int(unix.ENOENT)}},
	} {
		p.report(3, c.err)
		m, _, err := plan.NewConn(fds[1]).Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(c.err.Error()) > maxText {
			if !strings.HasPrefix(m.Text, "run xxx") || !strings.HasSuffix(m.Text, "no such file or directory") {
				t.Errorf("a long text lost its begin or its end: %.20s … %d bytes", m.Text, len(m.Text))
			}
			c.want.Text = m.Text
		}
		c.want.Op, c.want.Stage = plan.MsgFailed, 3
		if m != c.want {
			t.Errorf("%+v, want %+v", m, c.want)
		}
	}
}

// A file in somebody's /proc that is no procfs is not written to.
func TestOnlyAProcfsIsWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "max_user_namespaces")
	write(t, name, "5", 0o600)
	if err := writeProc(name, "1"); !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v", err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "5" {
		t.Errorf("it holds %q, %v", got, err)
	}
	if err := writeProc(name+"x", "1"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v", err)
	}
}

func TestUnknownStage(t *testing.T) {
	if err := new(process).do(plan.Stage{Op: "nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error %v", err)
	}
}

// The host's own stages and pid 1's are told apart: none of the host's is pid 1's.
func TestHostStagesAreNotPid1s(t *testing.T) {
	for _, op := range []plan.Op{plan.OpBuildImage, plan.OpSandbox, plan.OpPlace, plan.OpCgroup, plan.OpClone, plan.OpMaps, plan.OpPayload} {
		if err := new(process).do(plan.Stage{Op: op}); err == nil {
			t.Errorf("pid 1 carries out %s", op)
		}
	}
}
