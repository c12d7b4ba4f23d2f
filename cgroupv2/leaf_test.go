package cgroupv2

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeParent is a delegated place with every controller.
func fakeParent(t *testing.T, prepare func(*fake)) (*fake, *Parent) {
	t.Helper()
	f := newFake(t, "/box", "cpu", "cpuset", "io", "memory", "pids")
	if prepare != nil {
		prepare(f)
	}
	p, err := find(t.Context(), f.kernel(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f, p
}

func TestNewLeaf(t *testing.T) {
	_, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{
		Memory: 64<<20 + 1, Pids: 10, CPU: Quota{50000, 100000}, IOWeight: 200,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := []string{
		"memory.oom.group=1", "memory.swap.max=0", "memory.max=67108864", "pids.max=10",
		"cpu.max=50000 100000", "io.weight=default 200",
	}
	var got []string
	for _, s := range l.Applied {
		got = append(got, s.File+"="+s.Value)
	}
	if !slices.Equal(got, want) || len(l.Skipped) > 0 {
		t.Errorf("applied %v, skipped %v", got, l.Skipped)
	}
	// The payload is one level below its limits, where no controller has files.
	box := filepath.Join(l.Dir, boxDir)
	if files, _ := filepath.Glob(filepath.Join(box, "memory.*")); len(files) > 0 {
		t.Errorf("limits beside the processes: %v", files)
	}
	var held, there unix.Stat_t
	if err := errors.Join(unix.Fstat(l.FD(), &held), unix.Stat(box, &there)); err != nil || held.Ino != there.Ino {
		t.Errorf("the descriptor is not %s: %v", box, err)
	}
}

// With CPUs nothing may be born in a leaf, only moved there: see FD.
func TestLeafWithCPUs(t *testing.T) {
	_, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{CPUs: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fd, err := l.HelperFD(); l.FD() != -1 || fd != -1 || err != nil {
		t.Errorf("descriptors %d and %d, %v", l.FD(), fd, err)
	}
	if err := errors.Join(l.Add(77), l.AddHelper(78)); err != nil {
		t.Error(err)
	}
}

func TestNewLeafFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		leaf    string
		limits  Limits
		prepare func(*fake)
		want    string
		is      error
	}{
		{name: "a bad name", leaf: "../x", want: `sandbox name "../x": malformed`, is: ErrForm},
		{name: "a bad limit", leaf: "one", limits: Limits{Pids: -1}, want: "process limit -1", is: ErrRange},
		{
			name: "a refused write", leaf: "one", limits: Limits{Memory: 1 << 20},
			prepare: func(f *fake) { f.errors["memory.max"] = unix.EBUSY },
			want:    "memory.max to 1048576: device or resource busy", is: unix.EBUSY,
		},
		{
			name: "a file that a limit needs and the kernel lacks", leaf: "one", limits: Limits{Memory: 1 << 20, Swap: 1 << 20},
			prepare: func(f *fake) { f.absent = append(f.absent, "memory.swap.max") },
			want:    "memory.swap.max to 1048576: no such file", is: unix.ENOENT,
		},
		{
			name: "CPUs that the parent does not have", leaf: "one", limits: Limits{CPUs: "0-7"},
			want: "set cpuset.cpus to 0-7: the kernel has 0-1",
		},
		{
			name: "no room", leaf: "one",
			prepare: func(f *fake) { f.errors["mkdir /box/sbx-one"] = unix.EAGAIN },
			want:    "sbx-one/box: resource temporarily unavailable", is: unix.EAGAIN,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, p := fakeParent(t, c.prepare)
			_, err := p.NewLeaf(t.Context(), c.leaf, c.limits)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v, not %q", err, c.want)
			}
			if left := children(f.dir("/box")); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Kernels differ in what they count; a limit by default is no reason to fail there.
func TestOptionalSettings(t *testing.T) {
	_, p := fakeParent(t, func(f *fake) {
		f.absent = append(f.absent, "memory.swap.max", "memory.oom.group", "io.weight")
		f.files("io")["io.bfq.weight"] = "default 100"
	})
	l, err := p.NewLeaf(t.Context(), "one", Limits{Memory: 1 << 20, IOWeight: 10000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if len(l.Skipped) != 2 || l.Skipped[0].File != "memory.oom.group" || l.Skipped[1].File != "memory.swap.max" {
		t.Errorf("skipped %v", l.Skipped)
	}
	if last := l.Applied[len(l.Applied)-1]; last.File != "io.bfq.weight" || last.Value != "1000" {
		t.Errorf("weight by %v", last)
	}
}

func TestBFQ(t *testing.T) {
	for weight, want := range map[string]string{"1": "1", "100": "100", "101": "100", "1000": "181", "10000": "1000"} {
		if got := bfq(Setting{Value: "default " + weight}); got.Value != want {
			t.Errorf("%s is %s, not %s", weight, got.Value, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "0", "a.b_c-d", strings.Repeat("a", 63)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".a", "-a", "A", "a/b", "a b", "ä", "a\n", strings.Repeat("a", 64)} {
		if err := CheckName(name); !errors.Is(err, ErrForm) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestKillAndRemove(t *testing.T) {
	f, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Add(77); err != nil {
		t.Fatal(err)
	}
	if err := l.AddHelper(78); err != nil {
		t.Fatal(err)
	}
	if pids, err := l.Pids(); !slices.Equal(pids, []int{77, 78}) || err != nil {
		t.Errorf("pids %v, %v", pids, err)
	}
	if err := l.Remove(t.Context()); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removed in use: %v", err)
	}
	if err := l.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.HelperFD(); l.FD() != -1 || err == nil {
		t.Error("something could still be born in a killed leaf")
	}
	if err := l.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"kill": l.Kill(t.Context()), "wait": l.Wait(t.Context()), "remove": l.Remove(t.Context()),
	} {
		if err != nil {
			t.Errorf("%s a leaf that is gone: %v", what, err)
		}
	}
	if left := children(f.dir("/box")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// A process that waits for a device does not die, and the end is not reported as one.
func TestKillThatIsStuck(t *testing.T) {
	f, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Add(77); err != nil {
		t.Fatal(err)
	}
	f.put(filepath.Join(f.proc, "77/stat"), "77 (dd of=/x (y)) D 1 1\n")
	l.k.write = func(path, value string) error {
		if filepath.Base(path) == "cgroup.kill" {
			return nil
		}
		return f.write(path, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = l.Kill(ctx)
	var stuck *Stuck
	if !errors.As(err, &stuck) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if !strings.Contains(err.Error(), "still there: 77 dd of=/x (y) (D)") {
		t.Error(err)
	}
	if err := l.Remove(t.Context()); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removed in use: %v", err)
	}
}

// A wait that another thread ends: the kernel tells of changes, the fake does not.
func TestWait(t *testing.T) {
	f, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Add(77); err != nil {
		t.Fatal(err)
	}
	emptied := make(chan error)
	go func() {
		time.Sleep(10 * time.Millisecond)
		emptied <- f.empty(l.Dir)
	}()
	if err := errors.Join(l.Wait(t.Context()), <-emptied); err != nil {
		t.Error(err)
	}
}

func TestCollect(t *testing.T) {
	f, p := fakeParent(t, nil)
	for _, name := range []string{"dead", "alive", "empty"} {
		l, err := p.NewLeaf(t.Context(), name, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if name != "empty" {
			if err := l.Add(70 + len(name)); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
	}
	f.add("/box/sbx-unfinished")
	f.add("/box/sbx-12-ab.scope/inner") // a unit: has no directory for processes of a leaf
	f.place("/box/sbx-12-ab.scope/inner", 99)
	f.add("/box/Sbx-other")
	gone, err := collect(t.Context(), f.kernel(), []string{f.dir("/box"), f.dir("/none")}, func(name string) bool {
		return name == "alive"
	})
	if !slices.Equal(gone, []string{"dead", "empty", "unfinished"}) {
		t.Errorf("gone %v", gone)
	}
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("the unit was not refused: %v", err)
	}
	for _, dir := range []string{"/box/sbx-alive/box", "/box/sbx-12-ab.scope/inner", "/box/Sbx-other", "/box/sbx_supervisor"} {
		if !isDir(f.dir(dir)) {
			t.Errorf("%s is gone", dir)
		}
	}
}

func TestPlaces(t *testing.T) {
	f := newUserHost(t)
	f.add(f.userDir() + "/sbx-1-ab.scope/sbx-one")
	f.add(f.userDir() + "/other.scope")
	h, err := look(f.kernel(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{f.dir(f.userDir() + "/terminal.scope"), f.dir(f.userDir() + "/sbx-1-ab.scope")}
	if got := h.Places(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestOpen(t *testing.T) {
	f, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{Pids: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	again, err := openLeaf(f.kernel(), l.Dir)
	if err != nil || again.Name != "one" || again.FD() != -1 {
		t.Errorf("%+v, %v", again, err)
	}
	for _, dir := range []string{f.dir("/box"), f.dir("/box/sbx-none"), f.dir("/box/sbx_supervisor")} {
		if _, err := openLeaf(f.kernel(), dir); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	// A plain directory of that name is no cgroup.
	if _, err := Open(l.Dir); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}
