package launch

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
)

// streams are the payload's descriptors 0, 1 and 2, and what runs between them
// and the caller's.
//
//	a terminal (-t, or 0 and 1 are one)   the payload gets a pty; the caller's never.
//	                                      A redirected stderr goes where it was sent to
//	a socket, /dev/null                   handed over: nothing to gain by opening it again
//	a pipe                                handed over, for reading or for writing only
//	a regular file, a device              through a pipe: /proc/self/fd/0 could be opened
//	                                      again, for writing, on the host's mount (SECURITY B2)
//	a pipe as input of one who can        through a pipe, for the same reason: a shell that reads
//	write it: who has the caller's uid    its commands from there would obey the program
//	stderr                                through a pipe, to know what the last words were
type streams struct {
	files  [3]*os.File
	null   *os.File
	tap    console.Tap
	rawTTY bool
	// relays, from the payload, are started once pid 1 has its copies of files,
	// feed, towards it, once it runs.
	feed   func(ctx context.Context) error
	relays []relay
	ends   []*os.File // the payload's ends of our pipes
	ahead  *readAhead // nil when it does not matter what was read ahead
	ended  chan relayEnd
	cancel context.CancelFunc
	flow   func() // starts feed
}

// relay passes on what the payload writes to one of its descriptors.
type relay struct {
	fd  int
	run func(ctx context.Context) error
}

// relayEnd is how a relay has ended.
type relayEnd struct {
	fd  int
	err error
}

// drainTime is how long the last output may take to get where it goes, once
// everything was killed.
const drainTime = 5 * time.Second

func openStreams(p *plan.Plan, kinds [3]plan.Stream) (*streams, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	s := &streams{null: null, files: [3]*os.File{null, null, null}, rawTTY: p.Process.RawTTY}
	if p.Process.TTY && p.Process.ErrorsApart {
		return s, s.errors(kinds[2])
	}
	if p.Process.TTY {
		return s, nil
	}
	if err := s.input(p, kinds[0]); err != nil {
		return s, err
	}
	return s, s.outputs(kinds)
}

func (s *streams) input(p *plan.Plan, in plan.Stream) error {
	switch {
	case !p.Process.Stdin || in.Kind == plan.StreamClosed:
		return nil
	case in.Kind == plan.StreamPipe && p.Identity.Mode == userns.NoMap && readOnly(os.Stdin) && openUp(os.Stdin, mayRead),
		handedOver(in.Kind) && in.Kind != plan.StreamPipe:
		s.files[0] = os.Stdin
		return nil
	}
	r, w, err := s.pipe()
	if err != nil {
		return err
	}
	s.files[0] = r
	s.ends = append(s.ends, r)
	s.feed = func(ctx context.Context) error { return console.PumpIn(ctx, take(w), 0) }
	s.ahead, err = newReadAhead(in.Kind, r)
	return err
}

func (s *streams) outputs(kinds [3]plan.Stream) error {
	if err := s.errors(kinds[2]); err != nil {
		return err
	}
	switch {
	case kinds[1] == kinds[2] && kinds[1].Ino != 0:
		// One pipe for both keeps the order of `>log 2>&1`.
		s.files[1] = s.files[2]
	case handedOver(kinds[1].Kind) && (kinds[1].Kind != plan.StreamPipe || openUp(os.Stdout, mayWrite)):
		s.files[1] = os.Stdout
	default:
		return s.output(1, kinds[1].Kind, console.PumpOptions{})
	}
	return nil
}

func (s *streams) errors(kind plan.Stream) error {
	if kind.Kind == plan.StreamNull {
		s.files[2] = os.Stderr
		return nil
	}
	return s.output(2, kind.Kind, console.PumpOptions{Tap: &s.tap})
}

// output relays the payload's descriptor fd to our own of that number.
func (s *streams) output(fd int, kind string, o console.PumpOptions) error {
	r, w, err := s.pipe()
	if err != nil {
		return err
	}
	s.files[fd] = w
	s.ends = append(s.ends, w)
	if kind == plan.StreamTTY {
		o.Filter = &console.Filter{Raw: s.rawTTY}
	}
	s.relays = append(s.relays, relay{fd, func(ctx context.Context) error {
		// A pump closes what it is given, and sbx may have a last word to say.
		dst, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("duplicate descriptor %d: %w", fd, err)
		}
		return console.PumpOut(ctx, dst, take(r), o)
	}})
	return nil
}

// take duplicates the descriptor of f for a pump, which closes what it is given.
func take(f *os.File) int {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1
	}
	return fd
}

func handedOver(kind string) bool {
	return kind == plan.StreamPipe || kind == plan.StreamSocket || kind == plan.StreamNull
}

const mayRead, mayWrite = 0o444, 0o222

// openUp lets the payload open its own standard streams by name (`echo x >
// /dev/stderr`): another uid may only do so when the pipe's mode says it. The
// pipe has no name, so this opens it to nobody else. It reports whether the
// pipe is the caller's own, so that he may.
func openUp(f *os.File, bits uint32) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return st.Mode&bits == bits || unix.Fchmod(int(f.Fd()), st.Mode&0o777|bits) == nil
}

// readOnly tells whether a pipe is one that a stranger cannot write: another
// sbx may have opened it up for the program that writes into it.
func readOnly(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&0o022 == 0
}

func (s *streams) pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	openUp(w, mayRead|mayWrite)
	return r, w, nil
}

// started closes our copies of the payload's ends and lets the relays run.
func (s *streams) started() {
	for _, f := range s.ends {
		f.Close()
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.ended = make(chan relayEnd, len(s.relays))
	// Its error is the program's to notice: the input ends.
	s.flow = func() {
		s.ahead.begin()
		go func() {
			_ = s.feed(ctx)
			s.ahead.end()
		}()
	}
	for _, relay := range s.relays {
		go func() { s.ended <- relayEnd{relay.fd, relay.run(ctx)} }()
	}
}

// feedProgram lets the input flow, once there is a program: what is read from a
// file before that would be lost to a second try.
func (s *streams) feedProgram() {
	if s.feed != nil {
		s.flow()
	}
}

// finish waits for the last output, for as long as limit says, 0 for ever: a
// reader that takes its time (`sbx run make 2>&1 | less`) gets everything, as he
// would without sbx. A signal ends the wait. Standard input may have more to say
// to nobody: it is not waited for. What could not be passed on is told by
// descriptor.
func (s *streams) finish(signals <-chan os.Signal, limit time.Duration) (lost [3]error) {
	defer s.cancel()
	var late <-chan time.Time
	if limit > 0 {
		late = time.After(limit)
	}
	for left := len(s.relays); left > 0; {
		select {
		case end := <-s.ended:
			lost[end.fd] = end.err
			left--
		case <-late:
			s.cancel()
		case sig := <-signals:
			if ends(sig) {
				s.cancel()
			}
		}
	}
	s.cancel()
	s.ahead.settle()
	return lost
}

// ends tells the signals that mean to end a program.
func ends(s os.Signal) bool {
	return s == unix.SIGINT || s == unix.SIGTERM || s == unix.SIGHUP || s == unix.SIGQUIT
}

func (s *streams) close() { s.null.Close() }
