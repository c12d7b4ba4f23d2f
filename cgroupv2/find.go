package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Rung names a way to a parent.
type Rung string

const (
	// Own is the caller's own cgroup, or the delegated unit it is in.
	Own Rung = "own cgroup"
	// Scope is a transient scope of the service manager.
	Scope Rung = "transient scope"
	// Shared is the caller's own cgroup after the other processes in it were moved
	// to a leaf beside the sandboxes. They stay within what limits it has.
	Shared Rung = "own cgroup, others moved"
)

// findTimeout is how long a service manager may take when the caller sets no limit:
// as long as the usual D-Bus library waits.
const findTimeout = 25 * time.Second

// Find takes the first place in the tree that the caller may divide. In order:
//
//  1. his own cgroup when it is delegated and nothing is in it but what he started, or
//     the delegated unit that it is in;
//  2. a transient scope with Delegate=yes of his service manager, unless he is in a
//     batch job, whose limits he would leave;
//  3. his own cgroup with what else is in it moved to a leaf, when it is delegated.
//
// need are controllers that the limits to come want. A place without them is taken only
// when no other has them: compare [Parent.Missing].
//
// Each rung is tried by doing it, and what did not work is undone. Where it works the
// calling process is in another cgroup than before; children that it has go with it, but
// not into a scope. [Parent.Close] and its end set that right. The error is a [NotDelegated], or the one of
// [Look].
func Find(ctx context.Context, need ...string) (*Parent, error) { return find(ctx, host(), need) }

func find(ctx context.Context, k kernel, need []string) (*Parent, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, findTimeout)
		defer cancel()
	}
	h, err := look(k, need)
	if err != nil {
		return nil, err
	}
	f := &finder{k: k, host: h}
	rungs := []step{{Own, h.Own, f.tryOwn}, {Scope, h.Manager, f.tryScope}, {Shared, h.Own, f.tryShared}}
	// A place that lacks what is needed comes after those that have it; the order of
	// the rungs is kept otherwise.
	slices.SortStableFunc(rungs, func(a, b step) int {
		return len(missing(need, offered(a.dir))) - len(missing(need, offered(b.dir)))
	})
	for _, rung := range rungs {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("find a cgroup for limits: %w", late(err))
		}
		parent, err := rung.try(ctx)
		if err == nil {
			parent.Rung, parent.Tried, parent.k, parent.host = rung.name, f.tried, k, h
			return parent, nil
		}
		f.tried = append(f.tried, h.attempt(rung.name, rung.dir, err))
	}
	return nil, &NotDelegated{Host: h, Tried: f.tried}
}

// late puts into words what a place is waited for: the answer of a service manager, and
// the lock of another run.
func late(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &tooSlow{err}
}

type tooSlow struct{ err error }

func (e *tooSlow) Error() string {
	return "the service manager did not answer in time; this host may be very busy"
}

func (e *tooSlow) Unwrap() error { return e.err }

type step struct {
	name Rung
	dir  string
	try  func(context.Context) (*Parent, error)
}

// offered are the controllers that a place would have.
func offered(dir string) []string {
	if dir == "" {
		return nil
	}
	return usable(readWords(filepath.Join(dir, "cgroup.controllers")))
}

func missing(need, have []string) []string {
	var list []string
	for _, c := range need {
		if !slices.Contains(have, c) {
			list = append(list, c)
		}
	}
	return list
}

type finder struct {
	k     kernel
	host  Host
	tried []Attempt
}

func (f *finder) tryOwn(ctx context.Context) (*Parent, error) {
	if f.host.Own != "" && len(offered(f.host.Own)) == 0 {
		return nil, errEmpty
	}
	// With others in the unit itself the answer is no, delegated or not; most runs
	// from a terminal are spared the question to the manager that way.
	if h := f.host; h.Own == h.Unit {
		if pids, err := pidsOf(h.Own); err == nil && f.k.strangers(pids) && f.owns(h.Own) {
			return nil, errOccupied
		}
	}
	if err := f.mine(ctx); err != nil {
		return nil, err
	}
	var first error
	for _, dir := range f.region() {
		on, err := f.k.enter(ctx, setup{dir: dir, own: f.host.Own})
		if err == nil {
			return &Parent{Dir: dir, Controllers: on}, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// region returns the directories that may be the parent, the best first: an ancestor
// within the delegated unit needs no process moved when it passes controllers on
// already; a supervisor leaf, into which an earlier run moved the caller, stands for
// the directory above it.
func (f *finder) region() []string {
	own := f.host.Own
	if filepath.Base(own) == supervisorDir {
		return []string{filepath.Dir(own)}
	}
	dirs := []string{own}
	if f.host.Unit == "" || f.host.Job != nil || f.k.uid == 0 {
		return dirs
	}
	for dir := own; dir != f.host.Unit; {
		dir = filepath.Dir(dir)
		if !f.owns(dir) {
			break
		}
		if len(readWords(filepath.Join(dir, "cgroup.subtree_control"))) > 0 {
			dirs = append([]string{dir}, dirs...)
		} else {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func (f *finder) owns(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && int(st.Uid) == f.k.uid
}

// mine returns why the caller's own cgroup is not his to divide. The kernel's
// permissions are tried later; here is what they do not tell: a service manager owns
// the cgroups of all its units, and undoes what is done in those it did not delegate.
func (f *finder) mine(ctx context.Context) error {
	known, err := f.delegated()
	if known || err != nil {
		return err
	}
	name := filepath.Base(f.host.Unit)
	yes, err := f.k.delegates(ctx, name)
	if err == nil && !yes {
		err = &undelegated{name}
	}
	return err
}

// delegated is the part of mine that needs no question to the manager: it says whether
// the answer is known, which is yes without an error.
func (f *finder) delegated() (known bool, err error) {
	h := f.host
	switch {
	case h.Own == "":
		return true, &hidden{h}
	case h.Unit == "":
		return true, nil
	}
	name := filepath.Base(h.Unit)
	if name == "user@"+strconv.Itoa(f.k.uid)+".service" || name == "init.scope" {
		return true, &undelegated{name} // the manager itself
	}
	if delegatedByAttribute(h.Unit) {
		return true, nil
	}
	manager, ofUser := userManager(filepath.Dir(h.Unit))
	switch {
	case f.k.uid != 0 && !f.owns(h.Unit):
		return true, &undelegated{name}
	case f.k.uid != 0 && !ofUser:
		return true, nil // the system's manager gives a unit's directory away only with it
	case manager != strconv.Itoa(f.k.uid):
		return true, &undelegated{name}
	}
	return false, nil
}

// delegatedByAttribute reads the marks that systemd leaves on delegated units of the
// system; trusted.* is visible to root only, user.* is newer.
func delegatedByAttribute(dir string) bool {
	value := make([]byte, 8)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

var errNoManager = errors.New("no service manager has a cgroup here")

func (f *finder) tryScope(ctx context.Context) (*Parent, error) {
	if job := f.host.Job; job != nil {
		return nil, &inJob{*job}
	}
	if f.host.Mount == "" {
		return nil, &hidden{f.host}
	}
	if f.host.Manager == "" {
		return nil, errNoManager
	}
	name := f.k.scopeName()
	if err := f.k.newScope(ctx, name); err != nil {
		return nil, err
	}
	dir, err := f.k.current(f.host)
	if err != nil {
		return nil, err
	}
	if filepath.Base(dir) != name {
		return nil, fmt.Errorf("start the transient scope %s: the process is in %s instead", name, dir)
	}
	on, err := f.k.enter(ctx, setup{dir: dir, own: dir})
	if err != nil {
		return nil, err
	}
	return &Parent{Dir: dir, Unit: name, Controllers: on}, nil
}

func (f *finder) tryShared(ctx context.Context) (*Parent, error) {
	if err := f.mine(ctx); err != nil {
		return nil, err
	}
	dir := f.host.Own
	on, err := f.k.enter(ctx, setup{dir: dir, own: dir, moveOthers: true})
	if err != nil {
		return nil, err
	}
	return &Parent{Dir: dir, Controllers: on}, nil
}
