package launch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
)

// groupTime bounds each step with the host's cgroups: a service manager that
// does not answer must not keep a run waiting for ever.
const groupTime = 25 * time.Second

// sampleTime is the time between looks at usage, for kernels that keep no peak.
const sampleTime = 250 * time.Millisecond

// diskTime is the time between looks at the free space of the store's disk.
const diskTime = time.Second

// group is the sandbox's cgroup while it runs.
type group struct {
	leaf   *cgroupv2.Leaf
	add    func(pid int) error // leaf.Add
	limits cgroupv2.Limits
	before cgroupv2.Stats
}

// enterGroup makes the cgroup that pid 1 is going to be put into.
func (r *run) enterGroup() error {
	if !r.plan.Cgroup.Use {
		return nil
	}
	if err := r.makeGroup(); err != nil {
		return r.ungrouped(err)
	}
	return nil
}

func (r *run) makeGroup() error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTime)
	defer cancel()
	want := r.plan.Cgroup
	parent, err := cgroupv2.Find(ctx, want.Need...)
	if err != nil {
		return err
	}
	r.undo.push(func() error { return within(parent.Close) })
	limits := want.Limits
	for _, controller := range parent.Missing(want.Need...) {
		if want.Asked {
			return parent.Lack(controller)
		}
		switch controller {
		case "memory":
			limits.Memory, limits.Swap = 0, 0
		case "pids":
			limits.Pids = 0
		}
	}
	own := limits
	if own.Pids > 0 {
		own.Pids += r.plan.OwnThreads()
	}
	leaf, err := parent.NewLeaf(ctx, r.plan.ID, own)
	if err != nil {
		return err
	}
	r.undo.push(func() error { return errors.Join(within(leaf.Kill), within(leaf.Remove)) })
	g := &group{leaf: leaf, add: leaf.Add, limits: limits}
	if g.before, err = leaf.Stats(); err != nil {
		return err
	}
	r.group = g
	return nil
}

// within gives f a bounded time.
func within(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTime)
	defer cancel()
	return f(ctx)
}

// admit puts pid 1 into the cgroup. It waits for its id maps and has done
// nothing yet; everything that it starts is born inside.
//
// Not CLONE_INTO_CGROUP: a cgroup that was once killed kills whatever is born
// in it on some kernels, and a write does not have that quirk.
func (r *run) admit() error {
	if r.group == nil {
		return nil
	}
	err := r.group.add(r.init.pid)
	if errors.Is(err, unix.EACCES) {
		// In a login session (su, ssh) pid 1 was born in the session's cgroup,
		// which is root's. The supervisor has been taken from there by the
		// service manager, and what it starts now is born on the right side.
		if err := r.restart(); err != nil {
			return err
		}
		err = r.group.add(r.init.pid)
	}
	if err == nil {
		return nil
	}
	r.group = nil // its directory goes with the rest that has to be undone
	return r.ungrouped(err)
}

// ungrouped decides what it means that no cgroup can be had after all: a run that
// depends on it is refused, any other goes on, and says so.
func (r *run) ungrouped(err error) error {
	if r.plan.Cgroup.Asked {
		return fmt.Errorf("limit the sandbox: %w", err)
	}
	r.result.Degraded = append(r.result.Degraded, "memory and pids are not limited by a cgroup: "+err.Error())
	return nil
}

// restart ends pid 1, which has done nothing yet, and starts it anew in the cgroup
// that the supervisor is in by now. After an error r.init is one of the two, for
// the caller to end.
func (r *run) restart() error {
	begun := Begin(r.plan.HostNetwork)
	// Not earlier than at the very end: the thread that has cloned pid 1 has to
	// outlive it.
	r.undo.push(func() error { begun.Abandon(); return nil })
	child, err := begun.take()
	if err != nil {
		return err
	}
	child.detach()
	r.begun.giveUp(r.init)
	r.init.close()
	r.begun, r.init = begun, child
	return child.writeMaps(r.plan.Identity)
}

// observe follows the usage until stop is called: peaks where the kernel keeps
// none, memory where no cgroup bounds it, and the free space of the disk.
func (r *run) observe(pid int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	if r.group != nil && !r.group.leaf.KeepsPeaks() {
		watching.Go(func() { every(ctx, sampleTime, r.group.leaf.Sample) })
	}
	if r.plan.Cgroup.Watch > 0 && r.group == nil {
		watching.Go(func() { r.watchMemory(ctx, pid) })
	}
	if r.plan.Root.Bounded {
		watching.Go(func() { every(ctx, sampleTime, r.watchRoom) })
	}
	if r.plan.Root.Floor > 0 {
		watching.Go(func() { every(ctx, diskTime, r.watchDisk) })
	}
	return func() { cancel(); watching.Wait() }
}

func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// watchDisk ends the run before it has filled the disk. It is no quota: what is
// written between two looks can exceed the floor.
func (r *run) watchDisk() {
	var fs unix.Statfs_t
	if err := unix.Statfs(r.sandbox.Path, &fs); err != nil {
		return
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < r.plan.Root.Floor {
		r.overLimit("disk", fmt.Sprintf("only %s are free on the disk of %s; bound what the program writes with --disk",
			cgroupv2.Size(uint64(free)), r.held.Store.Path()))
	}
}

// watchRoom notes that --disk was used up, also where the program makes room again
// when it notices.
func (r *run) watchRoom() {
	if r.memory.Load().full() {
		r.result.Full = true
	}
}

// watchMemory ends the sandbox when its processes together exceed the limit.
func (r *run) watchMemory(ctx context.Context, pid int) {
	limit := uint64(r.plan.Cgroup.Watch)
	over := make(chan cgroupv2.Sample, 1)
	dog := cgroupv2.Watchdog{
		Pids:  func() []int { return cgroupv2.Descendants(pid) },
		Files: func() uint64 { return r.memory.Load().used() },
		Limit: limit,
		Over: func(s cgroupv2.Sample) {
			select {
			case over <- s:
				r.overLimit("memory", fmt.Sprintf("memory limit %s exceeded, %s seen; raise it with -m", cgroupv2.Size(limit), cgroupv2.Size(s.Bytes)))
			default:
			}
		},
	}
	if _, err := dog.Watch(ctx); err != nil && !errors.Is(err, context.Canceled) {
		r.overLimit("memory", "memory can no longer be watched: "+err.Error())
	}
}

// overrun is a limit that was exceeded, and a sentence about it.
type overrun struct{ cause, text string }

// overLimit ends the run for the reason given.
func (r *run) overLimit(cause, text string) {
	select {
	case r.over <- overrun{cause, text}:
	default:
	}
}

// judge reads from the kernel what the limits did.
func (r *run) judge() error {
	if r.group == nil {
		return nil
	}
	after, err := r.group.leaf.Stats()
	if err != nil {
		return err
	}
	r.result.Stats = &after
	r.result.Findings = cgroupv2.Verdict(r.group.before, after, r.group.limits)
	return nil
}

// afterwards reads the verdict and, where the kernel killed for a limit, makes an
// end of it that is no error: pid 1, which is in the group too, could not tell.
func (r *run) afterwards(err error) error {
	if judgeErr := r.judge(); judgeErr != nil {
		return errors.Join(err, judgeErr)
	}
	if errors.Is(err, ErrInitDied) && killedForLimit(r.result.Findings) {
		r.result.Signal = unix.SIGKILL
		return nil
	}
	return err
}

// killedForLimit tells whether the kernel killed for a limit: then pid 1, which
// belongs to the group, is among the dead.
func killedForLimit(findings []cgroupv2.Finding) bool {
	for _, f := range findings {
		if f.Killed {
			return true
		}
	}
	return false
}
