package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/mounts"
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
	// Sandbox is the directory that --keep kept.
	Sandbox string

	// Degraded says what could not be had after all, a sentence each.
	Degraded []string
	// Over is the limit that sbx itself, not the kernel, ended the run for.
	Over string
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
	streams *streams
	begun   *Beginning
	init    *child
	relay   *terminal
	result  Result
	running bool // the program has been executed, and pid 1 told
	early   []reaper.Packet
	exited  bool // pid 1 has said its last word
	// askedToStop is set while a SIGTSTP for us is on its way to the program.
	askedToStop bool
	hurry       chan struct{}
	over        chan string
	group       *group // nil without a cgroup
	account     bool
}

// Run carries out the plan and returns when nothing of the sandbox is left. An
// error means that the program was not executed, or that its end is unknown.
// With account, Result.Rusage is filled in, for which pid 1 has to be waited for.
func Run(p *plan.Plan, held *plan.Held, begun *Beginning, account bool) (Result, error) {
	result, err := runOnce(p, held, begun, account)
	var stage *StageError
	if p.Root.InMemory && !p.Root.Bounded && errors.As(err, &stage) && stage.Stage.Op == plan.OpRoot {
		// No overlay can be had here (before Linux 5.11, or above this kind
		// of file system): then the copy is made in the store.
		again := Begin(p.HostNetwork)
		defer again.Abandon()
		p.Root.InMemory = false
		return runOnce(p, held, again, account)
	}
	return result, err
}

func runOnce(p *plan.Plan, held *plan.Held, begun *Beginning, account bool) (Result, error) {
	// What is found out on the way goes into a copy: a second try begins anew.
	own := *p
	own.Mounts, own.Placeholders = slices.Clone(p.Mounts), slices.Clone(p.Placeholders)
	r := &run{plan: &own, held: held, hurry: make(chan struct{}, 1), over: make(chan string, 1), account: account}
	err := r.do(begun)
	if undoErr := r.undo.run(); err == nil {
		err = undoErr
	}
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
	maps := make(chan error, 1)
	go func() { maps <- r.init.writeMaps(r.plan.Identity) }()
	signals := caught{c: make(chan os.Signal, 16)}
	defer signals.stop()
	if r.changesHost() {
		signals.catch()
	}
	if err := r.start(maps); err != nil {
		return err
	}
	// Not earlier: until there is something to undo, a signal that ends sbx ends
	// all there is, and this takes as long as half of the set-up beside it.
	signals.catch()
	stop := r.observe(r.init.pid)
	err = r.watch(signals)
	stop()
	r.result.Wall = time.Since(start)
	if r.exited && r.sandbox == nil && r.group == nil && !r.account {
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
	err = errors.Join(err, r.streams.finish(signals.c, r.patience()))
	r.result.LastErr = r.streams.tap.Bytes()
	return err
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
func (r *run) start(maps <-chan error) error {
	err := r.prepare()
	if mapErr := <-maps; err == nil {
		err = mapErr
	}
	if err == nil {
		err = r.admit(r.init.pid)
	}
	if err == nil {
		err = r.release()
	}
	if err != nil {
		r.begun.giveUp()
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
	if r.plan.Root.InMemory && len(r.plan.Placeholders) == 0 && !r.plan.Cgroup.Use {
		return nil
	}
	var err error
	r.sandbox, err = r.held.Store.NewSandbox(rootfs.SandboxState{
		Owner: r.plan.Identity.Ownership(), Image: r.plan.Image.Name, Key: r.plan.Image.Key,
		Keep: r.plan.Root.Keep,
	})
	if err != nil {
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
	if r.plan.Root.Keep && r.result.Sandbox != "" {
		return r.sandbox.Close()
	}
	left, err := r.sandbox.Discard()
	if left != nil {
		return errors.Join(err, r.emptyTrash(*left))
	}
	return err
}

func (r *run) emptyTrash(left rootfs.Leftover) error {
	return runWorker(r.plan.Identity, plan.Job{EmptyTrash: &plan.TrashJob{Store: r.held.Store.Path(), Names: []string{left.Trash}}}, nil)
}

// place makes the placeholders in --rw trees, and writes down which, for the
// run that clears up if this one is killed.
func (r *run) place() error {
	if len(r.plan.Writable) > 0 {
		if err := r.held.Store.AddShared(r.plan.Writable...); err != nil {
			return err
		}
	}
	if len(r.plan.Placeholders) == 0 {
		return nil
	}
	var made []mounts.Placeholder
	for _, ph := range r.plan.Placeholders {
		ph, err := ph.Create()
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS) {
			continue // the caller cannot make it, so neither can the program
		}
		if err != nil {
			return err
		}
		r.undo.push(ph.Remove)
		made = append(made, ph)
		r.plan.Mounts = append(r.plan.Mounts, ph.Mount())
	}
	r.plan.Placeholders = made
	var err error
	if r.sandbox.State.Extra, err = json.Marshal(r.plan.Placeholders); err != nil {
		return fmt.Errorf("encode the placeholders: %w", err)
	}
	return r.sandbox.Save()
}

// release gives pid 1 the plan and what goes with it.
func (r *run) release() error {
	program, sandbox := r.streams.null, r.streams.null
	if r.held.Program != nil {
		program = r.held.Program.File
	}
	if r.sandbox != nil {
		sandbox = r.sandbox.Dir
	}
	files := r.streams.files
	err := r.begun.goOn(r.plan, files[0], files[1], files[2], sandbox, program)
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
