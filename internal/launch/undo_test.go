package launch

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// What was done to the host is undone last first, all of it, whatever fails.
func TestUndoStack(t *testing.T) {
	var u undoStack
	var done []int
	first, second := errors.New("first"), errors.New("second")
	for i, err := range []error{nil, first, nil, second} {
		u.push(func() error { done = append(done, i); return err })
	}
	err := u.run()
	if !slices.Equal(done, []int{3, 2, 1, 0}) {
		t.Errorf("undone in the order %v", done)
	}
	if !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("error %v, want both", err)
	}
	// Every way out runs it; only the first time does something.
	if err := u.run(); err != nil || len(done) != 4 {
		t.Errorf("a second run gives %v and %v", err, done)
	}
	if err := new(undoStack).run(); err != nil {
		t.Errorf("nothing to undo gives %v", err)
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		result Result
		want   int
	}{
		{Result{}, 0},
		{Result{Status: 1}, 1},
		{Result{Status: 255}, 255},
		{Result{Signal: unix.SIGHUP}, 129},
		{Result{Signal: unix.SIGKILL}, 137},
		{Result{Signal: unix.SIGTERM, Killed: true}, 143},
		{Result{TimedOut: true, Signal: unix.SIGKILL}, 124},
		{Result{TimedOut: true, Status: 3}, 124},
		{Result{Signal: unix.Signal(64)}, 192},
	} {
		if got := c.result.ExitStatus(); got != c.want {
			t.Errorf("%+v gives %d, want %d", c.result, got, c.want)
		}
	}
}
