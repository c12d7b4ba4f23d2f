package launch

import (
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/rootfs"
)

// Result is how a run ended.
type Result struct {
	Status   int         // the program's exit status
	Signal   unix.Signal // or the signal that ended it
	TimedOut bool
	// Killed is set when sbx ended everything at the user's wish (second Ctrl-C).
	Killed  bool
	SHA256  string // of the program, when it was copied in
	Copy    string // how the root was copied
	Wall    time.Duration
	LastErr []byte // the last that the program wrote to stderr, at most 4 KiB
	// Lost is why something that the program wrote to 1 or 2 did not get where it
	// was to go.
	Lost [3]error
	// Swallowed is how much of a standard input that the caller's shell reads as
	// well was taken and not read by the program, in bytes.
	Swallowed int
	// Sandbox is the id of the sandbox that --keep kept.
	Sandbox string

	// Degraded says what could not be had or not be cleared up after all, a
	// sentence each.
	Degraded []string
	// Over is why sbx itself, not the kernel, ended the run: a limit.
	Over string
	// OverCause is the limit: memory, disk.
	OverCause string
	// Full is set when there was no room left in the sandbox's private memory.
	Full bool
	// Findings are what the kernel did for the cgroup's limits; Stats its
	// counters at the end, nil without a cgroup.
	Findings []cgroupv2.Finding
	Stats    *cgroupv2.Stats
	Rusage   unix.Rusage // of pid 1 and everything it reaped
}

// run is one run in progress.
type run struct {
	plan    *plan.Plan
	held    *plan.Held
	undo    undoStack
	sandbox *rootfs.Sandbox
	before  rootfs.SandboxState // of a kept sandbox, until this run
	streams *streams
	begun   *Beginning
	init    *child
	relay   *terminal
	result  Result
	running bool // the program has been executed, and pid 1 told
	early   []reaper.Packet
	exited  bool // pid 1 has said its last word
	// broken is the signal that ended the run before there was a program, 0 for none.
	broken unix.Signal
	// askedToStop is set while a SIGTSTP for us is on its way to the program.
	askedToStop bool
	hurry       chan struct{}
	over        chan overrun
	group       *group                      // nil without a cgroup
	memory      atomic.Pointer[memoryFiles] // nil until the program runs, or when nobody asks
	account     bool
}

// Run carries out the plan and returns when nothing of the sandbox is left. An
// error means that the program was not executed, or that its end is unknown.
// With account, Result.Rusage is filled in, for which pid 1 has to be waited for.
func Run(p *plan.Plan, held *plan.Held, begun *Beginning, account bool) (Result, error) {
	if !begun.fits(p.Identity) {
		begun = Begin(p.HostNetwork)
		defer begun.Abandon()
	}
	result, err := runOnce(p, held, begun, account)
	var stage *StageError
	if p.Root.InMemory && !p.Root.Bounded && errors.As(err, &stage) && stage.Stage.Op == plan.OpRoot {
		// No overlay can be had here (before Linux 5.11, or above this kind
		// of file system): then the copy is made in the store.
		again := Begin(p.HostNetwork)
		defer again.Abandon()
		p.Root.InMemory = false
		result, err = runOnce(p, held, again, account)
	}
	err = result.cleared(err, dropPlaces(held.Store, held.TakePlaces()))
	return result, err
}

// cleared says what could not be cleared up. How the program ended is known all
// the same, and may be of its making: with --rw it can take your own right to
// write to a directory.
func (r *Result) cleared(err, left error) error {
	if err != nil || left == nil {
		return errors.Join(err, left)
	}
	r.Degraded = append(r.Degraded, "left behind, for `sbx gc`: "+left.Error())
	return nil
}

func runOnce(p *plan.Plan, held *plan.Held, begun *Beginning, account bool) (Result, error) {
	// What is found out on the way goes into a copy: a second try begins anew.
	own := *p
	own.Mounts = slices.Clone(p.Mounts)
	r := &run{plan: &own, held: held, hurry: make(chan struct{}, 1), over: make(chan overrun, 1), account: account}
	err := r.do(begun)
	err = r.result.cleared(err, r.undo.run())
	return r.result, err
}

func (r *run) do(begun *Beginning) error {
	start := time.Now()
	var err error
	r.begun = begun
	if r.init, err = begun.take(); err != nil {
		return err
	}
	r.init.detach()
	// They stay caught: there is nothing left to do behind a run, and giving each
	// of them back takes the runtime as long as catching them.
	signals := caught{c: make(chan os.Signal, 16)}
	if r.changesHost() {
		signals.catch()
	}
	if err := r.start(); err != nil {
		return err
	}
	// Not earlier: until there is something to undo, a signal that ends sbx ends
	// all there is, and this takes as long as half of the set-up beside it.
	signals.catch()
	close(r.begun.caught)
	stop := r.observe(r.init.pid)
	err = r.watch(signals)
	stop()
	r.result.Full = r.result.Full || r.memory.Load().full()
	r.memory.Load().close()
	r.result.Wall = time.Since(start)
	if r.exited && r.sandbox == nil && r.group == nil && !r.account && orphansAreReaped() {
		// All that is left is pid 1 on its way out. Taking its namespaces
		// apart takes the kernel longer than everything else together, and
		// nobody has to wait for it: the parent-death signal sees to the rest.
		_ = unix.Close(r.init.socket)
	} else {
		r.result.Rusage = r.init.close()
		err = r.afterwards(err)
	}
	if r.relay != nil {
		err = errors.Join(err, r.relay.close())
	}
	r.result.Lost = r.streams.finish(signals.c, r.patience())
	r.result.LastErr = r.streams.tap.Bytes()
	r.result.Swallowed = r.streams.ahead.swallowed()
	return err
}

// initialPIDNamespace is PID_NS_INIT_INO of linux/nsfs.h. The number is the same
// since Linux 3.8.
const initialPIDNamespace = 0xEFFFFFFC

// orphansAreReaped tells whether the process that our children go to when we end is
// sure to wait for them. A host's init is. The first process of a container may be
// anything, and a zombie counts against the limits of processes as long as it lives.
func orphansAreReaped() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino == initialPIDNamespace
}

// changesHost tells whether a run leaves something behind on the host that has to
// be undone.
func (r *run) changesHost() bool {
	return !r.plan.Root.InMemory || len(r.plan.Placeholders) > 0 || len(r.plan.Writable) > 0 || r.plan.Cgroup.Use
}

// patience is how long the last output may take, 0 for as long as it takes.
func (r *run) patience() time.Duration {
	switch left := r.plan.Process.Timeout - r.result.Wall; {
	case r.result.TimedOut, r.result.Killed, r.result.Over != "":
		return drainTime
	case r.plan.Process.Timeout > 0:
		return max(left, drainTime)
	default:
		return 0
	}
}

// start does the rest of the host's stages while the id maps are written, which
// takes two other programs, and then lets pid 1 go.
func (r *run) start() error {
	err := r.prepare()
	if mapErr := r.begun.maps(r.plan.Identity); err == nil {
		err = mapErr
	}
	if err == nil {
		err = r.admit()
	}
	if err == nil {
		err = r.release()
	}
	if err != nil {
		r.begun.giveUp(r.init)
		r.init.close()
	}
	return err
}

// prepare does the host's stages up to the clone; each that changes something
// leaves its undoing behind.
func (r *run) prepare() error {
	if err := r.newSandbox(); err != nil {
		return err
	}
	if err := r.place(); err != nil {
		return err
	}
	if err := r.enterGroup(); err != nil {
		return err
	}
	streams, err := openStreams(r.plan, r.plan.Stdio)
	if streams != nil {
		r.streams = streams
		r.undo.push(func() error { streams.close(); return nil })
	}
	return err
}

// newSandbox makes the sandbox's directory in the store, unless everything that
// it would hold stays in memory and there is nothing to remember either.
func (r *run) newSandbox() error {
	if r.plan.Root.InMemory && !r.plan.Cgroup.Use && r.plan.Name == "" {
		return nil
	}
	state, err := record(r.plan)
	if err != nil {
		return err
	}
	if r.plan.Root.Again {
		return r.enterSandbox(state)
	}
	if r.sandbox, err = r.held.Store.NewSandbox(state); err != nil {
		return err
	}
	r.plan.Place(r.sandbox.State.ID, r.sandbox.Path)
	r.undo.push(r.discardSandbox)
	return nil
}

// discardSandbox removes what pid 1 left of the sandbox: an empty directory, if
// all went well. Where pid 1 was killed, files of other ids are in the way, and
// a worker with the same id map removes them.
func (r *run) discardSandbox() error {
	if r.result.Sandbox != "" || r.plan.Root.Again {
		return r.keepAtRest()
	}
	left, err := r.sandbox.Discard()
	if left != nil {
		return errors.Join(err, EmptyTrash(r.plan.Identity, r.held.Store, *left))
	}
	return err
}

// release gives pid 1 the plan and what goes with it.
func (r *run) release() error {
	program, sandbox, lock := r.streams.null, r.streams.null, r.streams.null
	if r.held.Program != nil {
		program = r.held.Program.File
	}
	if r.sandbox != nil {
		sandbox, lock = r.sandbox.Dir, r.sandbox.Lock
	}
	files := r.streams.files
	err := r.begun.goOn(r.plan, files[0], files[1], files[2], sandbox, lock, program)
	r.streams.started()
	return err
}

// undoStack holds what has to be undone on the host, last first.
type undoStack struct{ list []func() error }

func (u *undoStack) push(f func() error) { u.list = append(u.list, f) }

func (u *undoStack) run() error {
	var errs error
	for i := len(u.list) - 1; i >= 0; i-- {
		errs = errors.Join(errs, u.list[i]())
	}
	u.list = nil
	return errs
}

// ExitStatus is the result as a shell would give it: 124 for the time limit,
// 128+n for signal n, else the program's own.
func (r Result) ExitStatus() int {
	switch {
	case r.TimedOut:
		return 124
	case r.Signal != 0:
		return 128 + int(r.Signal)
	default:
		return r.Status
	}
}
