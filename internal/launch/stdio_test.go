package launch

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
)

// Which of the caller's descriptors the program gets itself, and which are
// relayed through a pipe.
func TestWhatIsHandedOver(t *testing.T) {
	// With -json package testing makes one file of both, and here they are told
	// apart as files.
	if os.Stdout == os.Stderr {
		fd, err := unix.Dup(2)
		if err != nil {
			t.Fatal(err)
		}
		same := os.Stderr
		os.Stderr = os.NewFile(uintptr(fd), "/dev/stderr")
		t.Cleanup(func() { os.Stderr.Close(); os.Stderr = same })
	}
	stream := func(kind string, ino uint64) plan.Stream { return plan.Stream{Kind: kind, Dev: 1, Ino: ino} }
	for _, c := range []struct {
		name   string
		kinds  [3]plan.Stream
		change func(*plan.Process)
		own    [3]bool // handed over
		null   [3]bool
		relays int
		feed   bool
	}{
		{
			"files never are: they could be opened again on the host's mount (B2)",
			[3]plan.Stream{stream(plan.StreamFile, 1), stream(plan.StreamFile, 2), stream(plan.StreamFile, 3)},
			nil,
			[3]bool{},
			[3]bool{},
			2, true,
		},
		{
			"nor are devices, the terminal among them",
			[3]plan.Stream{stream(plan.StreamDevice, 1), stream(plan.StreamTTY, 2), stream(plan.StreamTTY, 3)},
			nil,
			[3]bool{},
			[3]bool{},
			2, true,
		},
		{
			"sockets are, but stderr's last words are wanted",
			[3]plan.Stream{stream(plan.StreamSocket, 1), stream(plan.StreamSocket, 2), stream(plan.StreamSocket, 3)},
			nil,
			[3]bool{true, true, false},
			[3]bool{},
			1, false,
		},
		{
			"nobody reads what goes to /dev/null",
			[3]plan.Stream{stream(plan.StreamNull, 1), stream(plan.StreamNull, 1), stream(plan.StreamNull, 1)},
			nil,
			[3]bool{true, false, true},
			[3]bool{},
			0, false,
		},
		{
			"an input that is not passed on",
			[3]plan.Stream{stream(plan.StreamTTY, 1), stream(plan.StreamSocket, 2), stream(plan.StreamNull, 3)},
			func(p *plan.Process) { p.Stdin = false },
			[3]bool{false, true, true},
			[3]bool{true},
			0, false,
		},
		{
			"what is closed is never missing",
			[3]plan.Stream{{Kind: plan.StreamClosed}, {Kind: plan.StreamSocket, Ino: 2}, {Kind: plan.StreamNull, Ino: 3}},
			nil,
			[3]bool{false, true, true},
			[3]bool{true},
			0, false,
		},
		{
			"with a terminal of its own it gets none of them",
			[3]plan.Stream{stream(plan.StreamTTY, 1), stream(plan.StreamTTY, 1), stream(plan.StreamTTY, 1)},
			func(p *plan.Process) { p.TTY = true },
			[3]bool{},
			[3]bool{true, true, true},
			0, false,
		},
		{
			"but for a redirected standard error",
			[3]plan.Stream{stream(plan.StreamTTY, 1), stream(plan.StreamTTY, 1), stream(plan.StreamFile, 2)},
			func(p *plan.Process) { p.TTY, p.ErrorsApart = true, true },
			[3]bool{},
			[3]bool{true, true, false},
			1, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &plan.Plan{Process: plan.Process{Stdin: true}, Identity: plan.Identity{Mode: userns.NoMap}}
			if c.change != nil {
				c.change(&p.Process)
			}
			s, err := openStreams(p, c.kinds)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			defer closeAll(s)
			for fd, f := range s.files {
				own := f == [3]*os.File{os.Stdin, os.Stdout, os.Stderr}[fd]
				if own != c.own[fd] || (f == s.null) != c.null[fd] {
					t.Errorf("%d is %s: own %t, null %t", fd, f.Name(), own, f == s.null)
				}
			}
			if len(s.relays) != c.relays || (s.feed != nil) != c.feed {
				t.Errorf("%d relays, input relayed: %t", len(s.relays), s.feed != nil)
			}
		})
	}
}

// A pipe on standard input goes to the program itself only when it cannot open it
// again for writing.
func TestInputPipe(t *testing.T) {
	for _, c := range []struct {
		mode    userns.Mode
		bits    uint32
		own     bool
		becomes uint32
	}{
		{userns.NoMap, 0o600, true, 0o644},
		{userns.NoMap, 0o622, false, 0o622}, // another sbx writes into it
		{userns.KeepID, 0o600, false, 0o600},
		{userns.Single, 0o600, false, 0o600},
	} {
		r, w, err := os.Pipe()
		if err == nil {
			err = r.Chmod(os.FileMode(c.bits))
		}
		if err != nil {
			t.Fatal(err)
		}
		old := os.Stdin
		os.Stdin = r
		p := &plan.Plan{Process: plan.Process{Stdin: true}, Identity: plan.Identity{Mode: c.mode}}
		s, err := openStreams(p, [3]plan.Stream{{Kind: plan.StreamPipe, Ino: 1}, {Kind: plan.StreamNull, Ino: 2}, {Kind: plan.StreamNull, Ino: 2}})
		os.Stdin = old
		if err != nil {
			t.Fatal(err)
		}
		st, err := r.Stat()
		if own := s.files[0] == r; own != c.own || err != nil || uint32(st.Mode().Perm()) != c.becomes {
			t.Errorf("%+v: own %t, mode %v, %v", c, own, st.Mode(), err)
		}
		closeAll(s)
		s.close()
		r.Close()
		w.Close()
	}
}

// closeAll closes the pipes of streams that are never started.
func closeAll(s *streams) {
	for _, f := range s.ends {
		f.Close()
	}
}

// `>log 2>&1` is one pipe, so that the lines stay in their order.
func TestOneTargetIsOnePipe(t *testing.T) {
	same := plan.Stream{Kind: plan.StreamFile, Dev: 1, Ino: 9}
	other := plan.Stream{Kind: plan.StreamFile, Dev: 2, Ino: 9}
	for _, c := range []struct {
		out, err plan.Stream
		shared   bool
	}{
		{same, same, true},
		{same, other, false},
		{plan.Stream{Kind: plan.StreamClosed}, plan.Stream{Kind: plan.StreamClosed}, false},
	} {
		s, err := openStreams(&plan.Plan{}, [3]plan.Stream{{Kind: plan.StreamClosed}, c.out, c.err})
		if err != nil {
			t.Fatal(err)
		}
		if shared := s.files[1] == s.files[2]; shared != c.shared {
			t.Errorf("%+v and %+v share a pipe: %t", c.out, c.err, shared)
		}
		closeAll(s)
		s.close()
	}
}

// The pipes that sbx makes can be opened again by the program's user, and come
// along into no other process.
func TestOwnPipes(t *testing.T) {
	s := &streams{}
	r, w, err := s.pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{r, w} {
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %d, %v", flags, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil || st.Mode&0o777 != 0o666 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
}

// running is streams with a relay that is stuck until its context ends.
func running() *streams {
	s := &streams{relays: []relay{{1, func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("cut short")
	}}}}
	s.started()
	return s
}

func TestFinishEndsAtTheLimit(t *testing.T) {
	if lost := running().finish(nil, time.Millisecond); lost[1] == nil {
		t.Error("the relay was not ended")
	}
}

func TestFinishEndsAtASignal(t *testing.T) {
	signals := make(chan os.Signal, 3)
	signals <- unix.SIGWINCH // means nothing here
	signals <- unix.SIGTERM
	if lost := running().finish(signals, 0); lost[1] == nil {
		t.Error("the relay was not ended")
	}
	if len(signals) != 0 {
		t.Error("the signal was not taken")
	}
}

// A reader who takes his time gets everything.
func TestFinishWaits(t *testing.T) {
	release := make(chan struct{})
	s := &streams{relays: []relay{{2, func(ctx context.Context) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}}}
	s.started()
	ended := make(chan [3]error, 1)
	go func() { ended <- s.finish(nil, 0) }()
	select {
	case lost := <-ended:
		t.Fatalf("it did not wait: %v", lost)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if lost := <-ended; lost != [3]error{} {
		t.Error(lost)
	}
}

func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name    string
		result  Result
		timeout time.Duration
		want    time.Duration
	}{
		{"as long as it takes", Result{Wall: time.Hour}, 0, 0},
		{"what is left of the time", Result{Wall: time.Second}, time.Minute, 59 * time.Second},
		{"little is left", Result{Wall: time.Minute}, time.Minute, drainTime},
		{"timed out", Result{TimedOut: true, Wall: time.Second}, time.Minute, drainTime},
		{"killed", Result{Killed: true}, 0, drainTime},
		{"over a limit", Result{Over: "x"}, 0, drainTime},
	} {
		r := &run{plan: &plan.Plan{Process: plan.Process{Timeout: c.timeout}}, result: c.result}
		if got := r.patience(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// What is read from a file before there is a program is lost to a second try,
// as it is made where no overlay can be had.
func TestInputWaitsForTheProgram(t *testing.T) {
	fed := make(chan struct{})
	s := &streams{feed: func(context.Context) error { close(fed); return nil }}
	s.started()
	select {
	case <-fed:
		t.Fatal("the input flows before the program runs")
	case <-time.After(10 * time.Millisecond):
	}
	s.feedProgram()
	select {
	case <-fed:
	case <-time.After(10 * time.Second):
		t.Fatal("the input does not flow")
	}
	(&streams{}).feedProgram() // nothing to pass on
}
