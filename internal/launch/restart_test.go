package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/internal/sbxtest"
	"github.com/sbx-run/sbx/userns"
)

// begunRun is a run whose pid 1 waits for its maps.
func begunRun(t *testing.T) *run {
	t.Helper()
	begun := Begin(false)
	t.Cleanup(begun.Abandon)
	r := &run{begun: begun, plan: &plan.Plan{Identity: singleIdentity(t)}}
	var err error
	if r.init, err = begun.take(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.begun.giveUp(r.init)
		r.init.close()
		if err := r.undo.run(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func singleIdentity(t *testing.T) plan.Identity {
	t.Helper()
	me := userns.Identity{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	layout, err := userns.NewLayout(userns.Single, me, userns.Identity{UID: 1000, GID: 1000}, userns.Subordinate{})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Identity{Mode: userns.Single, Layout: layout, Direct: true}
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

// The second pid 1 is like the first one, and that one is gone when it is there.
func TestRestart(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	r := begunRun(t)
	first := r.init.pid
	if err := r.restart(); err != nil {
		t.Fatal(err)
	}
	second := r.init.pid
	if alive(first) || !alive(second) || first == second {
		t.Errorf("first %d alive %t, second %d alive %t", first, alive(first), second, alive(second))
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", second))
	if want := fmt.Sprintf("0 %d 1", os.Getuid()); err != nil || strings.Join(strings.Fields(string(maps)), " ") != want {
		t.Errorf("its map is %q, %v, want %q", maps, err, want)
	}
	for _, ns := range []string{"user", "pid_for_children", "mnt", "net", "ipc", "uts"} {
		own, ownErr := os.Readlink("/proc/self/ns/" + ns)
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", second, ns))
		if ownErr != nil || err != nil || own == its {
			t.Errorf("namespace %s: %s, %v", ns, its, err)
		}
	}
}

// Maps that were written early are those of the run, or another pid 1 is taken.
func TestMapsWrittenEarly(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	id := singleIdentity(t)
	begun := Begin(false)
	defer begun.Abandon()
	if !begun.fits(id) {
		t.Error("a pid 1 without maps does not fit")
	}
	begun.Map(id)
	if err := begun.maps(id); err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", begun.first.pid))
	if want := fmt.Sprintf("0 %d 1", os.Getuid()); err != nil || strings.Join(strings.Fields(string(maps)), " ") != want {
		t.Errorf("its map is %q, %v, want %q", maps, err, want)
	}
	if !begun.fits(id) {
		t.Error("a pid 1 with its maps does not fit")
	}
	other := singleIdentity(t)
	other.Layout.SetupUID[0].Outside++
	if begun.fits(other) {
		t.Error("a pid 1 with other maps fits")
	}
	other = singleIdentity(t)
	other.Layout.Mode = userns.NoMap
	if begun.fits(other) {
		t.Error("a pid 1 of another mode fits")
	}
}

// A run that is given up while its maps are written waits for that: the number of a
// process that was reaped may be somebody else's.
func TestAbandonWaitsForTheMaps(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	dir := t.TempDir()
	slow := filepath.Join(dir, "newuidmap")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nsleep 0.3\ntest -e /proc/$1 && echo >"+dir+"/$$\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := singleIdentity(t)
	id.Direct, id.Helpers = false, userns.Helpers{NewUIDMap: slow, NewGIDMap: slow}
	begun := Begin(false)
	begun.Map(id)
	begun.Abandon()
	if ended, err := filepath.Glob(dir + "/[0-9]*"); err != nil || len(ended) != 2 {
		t.Errorf("of two helpers %d had ended while pid 1 was there (%v)", len(ended), err)
	}
}

// Maps that cannot be written leave the second pid 1 to the caller, who ends it.
func TestRestartWithoutMaps(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	r := begunRun(t)
	first := r.init.pid
	r.plan.Identity.Layout.SetupUID[0].Outside++ // a stranger's
	if err := r.restart(); !errors.Is(err, unix.EPERM) {
		t.Fatalf("got %v", err)
	}
	if alive(first) || r.init.pid == first {
		t.Errorf("pid 1 is still %d", first)
	}
}

// A pid 1 that cannot be moved is started anew, once. Who asked for no limit gets
// his run all the same, and is told; who asked is refused.
func TestAdmit(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	for _, c := range []struct {
		name         string
		answers      []error // of the kernel, to each attempt to move pid 1
		asked        bool
		want         error
		grouped, new bool
	}{
		{name: "entered", answers: []error{nil}, grouped: true},
		{name: "born in a login session", answers: []error{unix.EACCES, nil}, grouped: true, new: true},
		{name: "the same, asked for", answers: []error{unix.EACCES, nil}, asked: true, grouped: true, new: true},
		{name: "out of reach", answers: []error{unix.EACCES, unix.EACCES}, new: true},
		{name: "out of reach, asked for", answers: []error{unix.EACCES, unix.EACCES}, asked: true, new: true, want: unix.EACCES},
		{name: "gone", answers: []error{unix.ENOENT}},
		{name: "gone, asked for", answers: []error{unix.ENOENT}, asked: true, want: unix.ENOENT},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := begunRun(t)
			if err := r.init.writeMaps(r.plan.Identity); err != nil {
				t.Fatal(err)
			}
			r.plan.Cgroup.Asked = c.asked
			var moved []int
			r.group = &group{add: func(pid int) error {
				moved = append(moved, pid)
				return c.answers[len(moved)-1]
			}}
			first := r.init.pid
			err := r.admit()
			now := r.init.pid
			if !errors.Is(err, c.want) || (r.group != nil) != c.grouped || (now != first) != c.new {
				t.Errorf("%v, grouped %t, new %t", err, r.group != nil, now != first)
			}
			if len(moved) != len(c.answers) || moved[len(moved)-1] != now {
				t.Errorf("moved %v, pid 1 is %d", moved, now)
			}
			if told := len(r.result.Degraded) == 1; told != (err == nil && !c.grouped) {
				t.Errorf("told: %q", r.result.Degraded)
			}
		})
	}
}

// A pid 1 that somebody kills before it is told to go on is called killed.
func TestKilledBeforeItGoesOn(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	unix.Close(ends[1])
	c := &child{conn: reaper.NewConn(ends[0])}
	if err := c.release(); !errors.Is(err, ErrInitDied) {
		t.Errorf("%v", err)
	}
}
