package launch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/initproc"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/internal/vfork"
)

// Beginning is pid 1 on its way, while it is not yet known what it will do.
//
// Making namespaces takes the kernel as long as looking at the host and deciding
// takes the supervisor. So they run beside each other. Until its id maps are
// written pid 1 can do nothing, and does nothing but wait for them; nothing on
// the host is changed.
//
// From the clone until it is told what to become, pid 1 is a goroutine of the
// supervisor's, see package vfork: what it is to do need not be sent, what goes
// wrong comes back as an error, and a second start of the Go runtime, which would
// take longer than everything that it has to do, is off the way to the program.
type Beginning struct {
	// born is closed when pid 1 is there, with first set, or cannot be.
	born chan struct{}
	// cloned is closed when it has all its namespaces, or err says why not.
	cloned chan struct{}
	first  *child // what was cloned; it does not change
	child  *child // the same, until a run takes it
	err    error
	// mapping is nil until somebody knows the id maps.
	mapping *mapping
	// plan is what pid 1 carries out once it is told to go on.
	plan *plan.Plan
	// outcome tells how that went, once.
	outcome chan outcome
	// caught is closed when the program may run: its signals are caught.
	caught chan struct{}
	// letGo is set when it is on its way, before anything else is known of it.
	letGo atomic.Bool
	// going is closed when pid 1 has taken up the plan.
	going chan struct{}
	end   chan struct{}
	once  sync.Once
	told  sync.Once
}

// outcome is how the setting up ended, with the program running or an error,
// which is a [*initproc.StageError] where a stage failed.
type outcome struct {
	payload *initproc.Payload
	err     error
}

// errGivenUp is the outcome of a pid 1 that was never told to do anything.
var errGivenUp = errors.New("pid 1 was not needed after all")

// Begin clones pid 1. A refusal of the kernel shows when the run asks for it:
// the command line may be wrong as well, and that comes first.
func Begin(hostNetwork bool) *Beginning {
	b := &Beginning{
		born: make(chan struct{}), cloned: make(chan struct{}), going: make(chan struct{}), caught: make(chan struct{}),
		outcome: make(chan outcome, 1), end: make(chan struct{}),
	}
	go b.run(namespaces(hostNetwork))
	// Now, and here: another thread would take the new goroutine over from this one after
	// a pause of 50 us only, in the hope that this one comes to it by itself.
	runtime.Gosched()
	return b
}

// run stays until the end: the parent-death signal of pid 1 is sent when the
// *thread* that cloned it ends (prctl(2), golang/go#27505). The goroutine keeps
// its thread, and the thread ends with it.
func (b *Beginning) run(flags uintptr) {
	runtime.LockOSThread()
	payload, err := b.live(flags)
	b.outcome <- outcome{payload, err}
	<-b.end
}

// live clones pid 1, and is pid 1 until that has become a program of its own.
func (b *Beginning) live(flags uintptr) (*initproc.Payload, error) {
	ours, theirs, setup, err := openEnds()
	if err != nil {
		return nil, b.unborn(err)
	}
	// The id maps can be written as soon as there is a user namespace, and that
	// takes others: they need not wait for the namespaces that take the kernel longer.
	process, err := vfork.Start(unix.CLONE_NEWUSER | unix.CLONE_NEWPID)
	if err != nil {
		setup.Close()
		_ = unix.Close(theirs)
		_ = unix.Close(ours)
		return nil, b.unborn(cloneError(err))
	}
	// From here on these lines run in pid 1.
	first := newFirst(process.Pid, ours, theirs)
	if err := setup.CloseOthers(); err != nil {
		// It holds pipes that somebody reads to their end, perhaps the one whom
		// the order to end would have to come from: it must not wait for that.
		process.Exit(1)
		setup.Close()
		first.close()
		return nil, b.unborn(err)
	}
	b.first, b.child = first, first
	close(b.born)
	if err := unix.Unshare(int(flags)); err != nil {
		process.Exit(1)
		setup.Close()
		b.err = cloneError(err)
		close(b.cloned)
		return nil, err
	}
	close(b.cloned)
	payload, err := b.setUp(setup)
	if err == nil {
		err = payload.Become(process)
	}
	if err != nil {
		process.Exit(1)
	}
	// And from here on in the supervisor again.
	if err != nil {
		setup.Close()
		return nil, err
	}
	<-b.caught
	b.letGo.Store(true)
	return payload, payload.Release()
}

// unborn tells everybody that there is no pid 1, and why.
func (b *Beginning) unborn(err error) error {
	b.err = err
	close(b.born)
	close(b.cloned)
	return err
}

// setUp waits for the plan and carries it out.
func (b *Beginning) setUp(setup *initproc.Setup) (payload *initproc.Payload, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pid 1 of the sandbox: %v (please report this)", r)
		}
	}()
	fds, goOn := setup.Wait()
	if !goOn {
		return nil, errGivenUp
	}
	close(b.going)
	return setup.Do(b.plan, fds)
}

// openEnds makes what both sides have from before the clone.
func openEnds() (ours, theirs int, setup *initproc.Setup, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("make the control socket: %w", err)
	}
	if setup, err = initproc.NewSetup(pair[1]); err != nil {
		_ = unix.Close(pair[0])
		_ = unix.Close(pair[1])
		return 0, 0, nil, err
	}
	return pair[0], pair[1], setup, nil
}

// take waits for the clone and hands the child over; it is the caller's then. One
// that was refused a namespace stays for [Beginning.Abandon].
func (b *Beginning) take() (*child, error) {
	<-b.cloned
	if b.err != nil {
		return nil, b.err
	}
	c := b.child
	b.child = nil
	return c, nil
}

// handOver is how long goOn waits at most. Where pid 1 is killed at that moment
// the wait is for nothing.
const handOver = 5 * time.Millisecond

// goOn tells pid 1 to carry out the plan; it has its id maps. The descriptors are
// those that the plan is about, see [plan.GoStdin].
//
// It returns when pid 1 has taken the plan up. What the caller does next is for
// later, and would take a processor and a place in the runtime's schedule from pid 1,
// for which everybody waits.
func (b *Beginning) goOn(p *plan.Plan, files ...*os.File) error {
	b.plan = p
	err := errGivenUp
	b.told.Do(func() { err = b.first.release(files...) })
	if err != nil {
		return err
	}
	select {
	case <-b.going:
	case <-time.After(handOver):
	}
	return nil
}

// giveUp tells pid 1 to end, if it was not told to go on, and waits for its end.
func (b *Beginning) giveUp(c *child) {
	b.settle()
	b.told.Do(func() { _ = b.first.conn.Send(reaper.Packet{Op: reaper.Kill}) })
	c.awaitEnd()
	b.result()
}

// lastWord is how long the goroutine of a pid 1 that has ended may take to tell
// the outcome. One that was killed on the way tells none.
const lastWord = time.Second

// result is the outcome of a pid 1 that has ended.
func (b *Beginning) result() (out outcome, told bool) {
	select {
	case out = <-b.outcome:
		return out, true
	case <-time.After(lastWord):
		return out, false
	}
}

// Abandon ends what was begun, if no run has taken it, and the thread behind it.
func (b *Beginning) Abandon() {
	b.once.Do(func() {
		<-b.cloned
		if b.child != nil {
			b.giveUp(b.child)
			b.child.close()
		}
		close(b.end)
	})
}

// namespaces are those that pid 1 makes itself. It is born into its user and its pid
// namespace, which nobody can enter later.
func namespaces(hostNetwork bool) uintptr {
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if !hostNetwork {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}
