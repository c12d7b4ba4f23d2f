package initproc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// What goes wrong says which stage and keeps its errno, and a long text keeps its
// beginning and its end.
func TestStageError(t *testing.T) {
	err := error(&StageError{3, fmt.Errorf("mount %q: %w", "/x", unix.EPERM)})
	var at *StageError
	if !errors.As(err, &at) || at.Stage != 3 || !errors.Is(err, unix.EPERM) || err.Error() != `mount "/x": operation not permitted` {
		t.Errorf("%v", err)
	}
	run := error(&StageError{1, &RunError{NotFound: true, err: unix.ENOENT}})
	var program *RunError
	if !errors.As(run, &program) || !program.NotFound || !errors.Is(run, unix.ENOENT) {
		t.Errorf("%v", run)
	}
	text := (&StageError{1, fmt.Errorf("run %s: %w", strings.Repeat("x", 200<<10), unix.ENOENT)}).Error()
	if len(text) > maxText+8 || !strings.HasPrefix(text, "run xxx") || !strings.HasSuffix(text, "no such file or directory") {
		t.Errorf("%d bytes: %.20s … %s", len(text), text, text[len(text)-30:])
	}
}

func TestUnknownStage(t *testing.T) {
	if err := new(process).do(plan.Step{Op: "nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error %v", err)
	}
}

// The host's own stages and pid 1's are told apart: none of the host's is pid 1's.
func TestHostStagesAreNotPid1s(t *testing.T) {
	for _, op := range []plan.Op{plan.OpBuildImage, plan.OpSandbox, plan.OpPlace, plan.OpCgroup, plan.OpClone, plan.OpMaps, plan.OpPayload} {
		if err := new(process).do(plan.Step{Op: op}); err == nil {
			t.Errorf("pid 1 carries out %s", op)
		}
	}
}
