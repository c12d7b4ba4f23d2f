package plan

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// An errno survives the border of a process.
func TestWorkerError(t *testing.T) {
	rep := Report{Error: "copy x: no space", Errno: int(unix.ENOSPC)}
	if err := rep.Err(); !errors.Is(err, unix.ENOSPC) || err.Error() != "copy x: no space" {
		t.Errorf("%v", err)
	}
	rep = Report{Error: "x"}
	if err := rep.Err(); err == nil || errors.Unwrap(err) != nil {
		t.Errorf("%v wraps %v", err, errors.Unwrap(err))
	}
	if err := (&Report{}).Err(); err != nil {
		t.Errorf("%v", err)
	}
}
