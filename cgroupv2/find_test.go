package cgroupv2

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tried returns the reasons of the rungs that were refused.
func reasons(t *testing.T, err error) map[Rung]Attempt {
	t.Helper()
	var none *NotDelegated
	if !errors.As(err, &none) {
		t.Fatalf("%v is no NotDelegated", err)
	}
	list := map[Rung]Attempt{}
	for _, a := range none.Tried {
		list[a.Rung] = a
	}
	return list
}

func TestFindOwnCgroup(t *testing.T) {
	f := newFake(t, "/box", "cpu", "memory", "pids")
	p, err := find(t.Context(), f.kernel(), []string{"memory", "pids"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Rung != Own || p.Dir != f.dir("/box") || !slices.Equal(p.Controllers, []string{"cpu", "memory", "pids"}) {
		t.Errorf("%+v", p)
	}
	// The caller made room for the controllers.
	if got := f.get(f.dir("/box/sbx_supervisor/cgroup.procs")); got != "4242" {
		t.Errorf("processes of the supervisor leaf: %q", got)
	}
	l, err := p.NewLeaf(t.Context(), "one", Limits{Memory: 1 << 20, Pids: 10})
	if err != nil {
		t.Fatal(err)
	}
	// As long as a sandbox is there, the parent stays as it is.
	if err := p.Close(t.Context()); err != nil || f.get(f.dir("/box/cgroup.subtree_control")) == "" {
		t.Errorf("closed in use: %v", err)
	}
	if err := l.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := children(f.dir("/box")); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
	if got := f.get(f.dir("/box/cgroup.procs")); got != "4242" {
		t.Errorf("the caller is not where it was: %q", got)
	}
	if got := f.get(f.dir("/box/cgroup.subtree_control")); got != "" {
		t.Errorf("controllers left on: %q", got)
	}
}

// After another run's end took the controllers back, a new leaf turns them on again.
func TestParentIsTakenAgain(t *testing.T) {
	f := newFake(t, "/box", "memory", "pids")
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := p.NewLeaf(t.Context(), "one", Limits{Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// A run inside the supervisor leaf of another stands beside its sandboxes, not below.
func TestFindFromSupervisorLeaf(t *testing.T) {
	f := newFake(t, "/box/sbx_supervisor", "memory", "pids")
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil || p.Dir != f.dir("/box") {
		t.Errorf("%+v, %v", p, err)
	}
}

// The shell that started the program keeps its cgroup when a scope can be had; without
// a service manager it is moved along.
func TestFindSharedCgroup(t *testing.T) {
	f := newFake(t, "/box", "memory", "pids")
	f.place("/box", 17)
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil || p.Rung != Shared {
		t.Fatalf("%+v, %v", p, err)
	}
	if got := f.get(f.dir("/box/sbx_supervisor/cgroup.procs")); got != "4242\n17" {
		t.Errorf("processes of the supervisor leaf: %q", got)
	}
	if len(p.Tried) != 2 || !errors.Is(p.Tried[0].Err, errOccupied) || !errors.Is(p.Tried[1].Err, errNoManager) {
		t.Errorf("tried %v", p.Tried)
	}
	if err := p.Close(t.Context()); err != nil || f.get(f.dir("/box/cgroup.procs")) != "4242\n17" {
		t.Errorf("the shell is not where it was: %v", err)
	}
}

// What the program has started, and what that has started, is no stranger: it is moved
// along, and the cgroup counts as the program's own.
func TestFindWithOwnChildren(t *testing.T) {
	f := newFake(t, "/box", "memory", "pids")
	for pid, children := range map[int]string{fakePid: "17 ", 17: "18 ", 18: ""} {
		if pid != fakePid {
			f.place("/box", pid)
		}
		f.put(filepath.Join(f.proc, strconv.Itoa(pid), "task", strconv.Itoa(pid), "children"), children)
	}
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil || p.Rung != Own {
		t.Fatalf("%+v, %v", p, err)
	}
	got := strings.Fields(f.get(f.dir("/box/sbx_supervisor/cgroup.procs")))
	if slices.Sort(got); !slices.Equal(got, []string{"17", "18", "4242"}) {
		t.Errorf("processes of the supervisor leaf: %q", got)
	}
}

// The root of the tree may have processes and controllers at once.
func TestFindInRootCgroup(t *testing.T) {
	f := newFake(t, "/", "memory", "pids")
	f.place("/", 17)
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil || p.Dir != f.tree || f.get(filepath.Join(f.tree, "cgroup.procs")) != "4242\n17" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNotDelegated(t *testing.T) {
	const session = "/user.slice/user-1000.slice/session-3.scope"
	for _, c := range []struct {
		name string
		own  string
		host func(*fake)
		want map[Rung]string // a part of the reason
		fix  string          // a part of it
		is   error
	}{
		{
			name: "a batch job is not left",
			own:  "/system.slice/slurmstepd.scope/job_7/step_0",
			host: func(f *fake) {
				f.vars["SLURM_JOB_ID"] = "7"
				f.uid = 77777 // the daemon's directories
			},
			want: map[Rung]string{Own: "slurmstepd.scope is not delegated", Scope: "Slurm job 7"},
			fix:  "unset SLURM_JOB_ID",
		},
		{
			name: "a login session without a user manager",
			own:  session,
			host: func(f *fake) { f.uid = 77777 },
			want: map[Rung]string{Own: "session-3.scope is not delegated", Scope: "no service manager"},
			fix:  "enable-linger",
		},
		{
			name: "a directory of somebody else",
			own:  "/box",
			host: func(f *fake) { f.errors["mkdir /box"] = unix.EACCES },
			want: map[Rung]string{Own: "sbx_supervisor: permission denied", Shared: "permission denied"},
			fix:  "enable-linger",
			is:   unix.EACCES,
		},
		{
			name: "a tree mounted read-only in a container",
			own:  "/",
			host: func(f *fake) { f.errors["mkdir "] = unix.EROFS },
			want: map[Rung]string{Own: "read-only file system"},
			is:   unix.EROFS,
		},
		{
			name: "too many cgroups",
			own:  "/box",
			host: func(f *fake) { f.errors["mkdir /box"] = unix.EAGAIN },
			want: map[Rung]string{Own: "resource temporarily unavailable"},
			is:   unix.EAGAIN,
		},
		{
			name: "a threaded cgroup",
			own:  "/box",
			host: func(f *fake) { f.put(f.dir("/box/cgroup.type"), "threaded\n") },
			want: map[Rung]string{Own: "threaded subtree"},
		},
		{
			name: "below a threaded cgroup",
			own:  "/box",
			host: func(f *fake) { f.put(f.dir("/box/cgroup.type"), "domain invalid\n") },
			want: map[Rung]string{Own: "below a threaded cgroup"},
		},
		{
			name: "the root of a threaded subtree",
			own:  "/box",
			host: func(f *fake) { f.put(f.dir("/box/cgroup.type"), "domain threaded\n") },
			want: map[Rung]string{Own: "root of a threaded subtree"},
		},
		{
			name: "no controller arrives",
			own:  "/box",
			host: func(f *fake) { f.put(f.dir("/box/cgroup.controllers"), "") },
			want: map[Rung]string{Own: "no controller reaches it"},
		},
		{
			name: "controllers cannot be passed on",
			own:  "/box",
			host: func(f *fake) { f.errors["+memory"], f.errors["+pids"] = unix.EBUSY, unix.EBUSY },
			want: map[Rung]string{Own: "pass on memory in"},
			is:   unix.EBUSY,
		},
		{
			name: "processes of another pid namespace",
			own:  "/box",
			host: func(f *fake) { f.place("/box", 0) },
			want: map[Rung]string{Own: "other processes", Shared: "another pid namespace"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.own, "memory", "pids")
			c.host(f)
			before := subtree(f.tree)
			_, err := find(t.Context(), f.kernel(), nil)
			got := reasons(t, err)
			for rung, part := range c.want {
				if !strings.Contains(got[rung].Err.Error(), part) {
					t.Errorf("%s: %v; not %q", rung, got[rung].Err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %v", err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			if fix := err.(*NotDelegated).Fix(); !strings.Contains(fix, c.fix) {
				t.Errorf("fix %q, not %q", fix, c.fix)
			}
			if after := subtree(f.tree); !slices.Equal(before, after) {
				t.Errorf("left behind: %v", after)
			}
			if own, _ := f.kernel().current(Host{Root: "/", Mount: f.tree}); own != f.dir(c.own) {
				t.Errorf("the caller is in %s", own)
			}
		})
	}
}

// What a unit has below it is its owner's: the parent may be above the own cgroup.
func TestFindAboveInDelegatedUnit(t *testing.T) {
	f := newFake(t, "/system.slice/ci.service/main", "memory", "pids")
	f.place("/system.slice/ci.service/main", 17)
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil || p.Rung != Own || p.Dir != f.dir("/system.slice/ci.service") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestFindEndsWithContext(t *testing.T) {
	f := newFake(t, "/box", "memory", "pids")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := find(ctx, f.kernel(), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A place without what is needed is taken when there is no better one, and says so.
func TestMissingController(t *testing.T) {
	f := newFake(t, "/a/box", "cpu", "memory", "pids")
	f.put(f.dir("/a/cgroup.subtree_control"), "memory pids\n")
	f.put(f.dir("/a/box/cgroup.controllers"), "memory pids\n")
	p, err := find(t.Context(), f.kernel(), []string{"cpu", "memory"})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Missing("cpu", "memory"); !slices.Equal(got, []string{"cpu"}) {
		t.Errorf("missing %v", got)
	}
	_, err = p.NewLeaf(t.Context(), "one", Limits{CPUWeight: 10})
	var lack *Lack
	if !errors.As(err, &lack) || lack.Controller != "cpu" || lack.Dir != f.dir("/a") || lack.Fix == "" {
		t.Errorf("%+v", err)
	}
}
