package cgroupv2

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests take a real place in the tree. They run in guests; see docs/guests.md.

func contextForRole() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	time.AfterFunc(55*time.Second, cancel)
	return ctx
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// realParent takes a place, once for all tests of a run: it stays the process's own.
var realParent = sync.OnceValues(func() (*Parent, error) {
	return Find(contextForRole(), "memory", "pids", "cpu")
})

func parent(t *testing.T) *Parent {
	t.Helper()
	h, err := Look("memory", "pids")
	if err != nil {
		t.Fatal(err)
	}
	if h.Prospect.Rung == "" {
		t.Skip("cannot: no delegated cgroup v2 on this machine: " + h.Prospect.Text)
	}
	p, err := realParent()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func leaf(t *testing.T, limits Limits) *Leaf {
	t.Helper()
	p := parent(t)
	name := strings.ToLower(strings.Map(func(r rune) rune {
		if r == '/' || r == '_' {
			return '-'
		}
		return r
	}, t.Name()))
	l, err := p.NewLeaf(deadline(t), name, limits)
	if lack := (*Lack)(nil); errors.As(err, &lack) {
		t.Skipf("cannot: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := l.Kill(ctx); err != nil {
			t.Error(err)
		}
		if err := l.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

func stats(t *testing.T, l *Leaf) Stats {
	t.Helper()
	s, err := l.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFoundPlace(t *testing.T) {
	p := parent(t)
	t.Logf("%s %s %v, tried before: %v", p.Rung, p.Dir, p.Controllers, p.Tried)
	if lost := p.Missing("memory", "pids"); len(lost) > 0 {
		t.Errorf("without %v", lost)
	}
	own, err := host().current(p.host)
	if err != nil {
		t.Fatal(err)
	}
	if p.Rung != Own && own != filepath.Join(p.Dir, supervisorDir) {
		t.Errorf("the caller is in %s", own)
	}
	if p.Rung == Scope && filepath.Base(p.Dir) != p.Unit {
		t.Errorf("the unit is %s in %s", p.Unit, p.Dir)
	}
}

// A controller that nobody passes on is named with the place where it is lost.
func TestControllerLostOnTheWay(t *testing.T) {
	p := parent(t)
	for _, c := range []string{"cpuset", "io", "cpu"} {
		if !slices.Contains(p.host.Available, c) || slices.Contains(p.Controllers, c) {
			continue
		}
		limits := map[string]Limits{"cpuset": {CPUs: "0"}, "io": {IOWeight: 50}, "cpu": {CPUWeight: 50}}[c]
		_, err := p.NewLeaf(deadline(t), "lost", limits)
		var lack *Lack
		if !errors.As(err, &lack) || lack.Dir == "" || lack.Fix == "" {
			t.Errorf("%s: %v", c, err)
			continue
		}
		t.Logf("%v; %s", err, lack.Fix)
	}
}

// Limits are read back by NewLeaf; here they are compared with the files once more.
func TestLimitsInTheKernel(t *testing.T) {
	l := leaf(t, Limits{Memory: 64<<20 + 100, Pids: 32})
	for file, want := range map[string]string{"memory.max": "67108864", "pids.max": "32", "memory.oom.group": "1"} {
		if got, err := readFile(filepath.Join(l.Dir, file)); got != want {
			t.Errorf("%s is %q (%v), not %q", file, got, err, want)
		}
	}
	if got, err := readFile(filepath.Join(l.Dir, "memory.swap.max")); err == nil && got != "0" {
		t.Errorf("memory.swap.max is %s", got)
	}
	t.Logf("applied %v, skipped %v", l.Applied, l.Skipped)
}

func TestBornInLeaf(t *testing.T) {
	l := leaf(t, Limits{Pids: 64})
	cmd := born(t, l, "sleep")
	pids, err := l.Pids()
	if err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Fatalf("pids %v, %v; not %d", pids, err, cmd.Process.Pid)
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cgroup")
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(text)), leafPrefix+l.Name+"/"+boxDir) {
		t.Errorf("cgroup %q, %v", text, err)
	}
}

func TestMovedIntoLeaf(t *testing.T) {
	l := leaf(t, Limits{Pids: 64})
	cmd := started(t, "sleep", &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
	if err := l.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	helper := started(t, "sleep", &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
	if err := l.AddHelper(helper.Process.Pid); err != nil {
		t.Fatal(err)
	}
	pids, err := l.Pids()
	want := []int{cmd.Process.Pid, helper.Process.Pid}
	slices.Sort(want)
	if err != nil || !slices.Equal(pids, want) {
		t.Errorf("pids %v, %v; not %v", pids, err, want)
	}
	if err := l.Add(1 << 22); !errors.Is(err, unix.ESRCH) {
		t.Errorf("no such process: %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, kind := range []string{"anonymous", "memfd", "shm", "pipes"} {
		t.Run(kind, func(t *testing.T) {
			limits := Limits{Memory: 48 << 20, Pids: 64}
			l := leaf(t, limits)
			before := stats(t, l)
			other := born(t, l, "sleep")
			cmd := born(t, l, kind)
			if kind == "pipes" {
				// Root's pipes are not bounded; a user's fill 64 MiB at most.
				t.Log("pipe buffers are charged")
			}
			err := cmd.Wait()
			if !killed(err) {
				t.Fatalf("not killed: %v, %+v", err, stats(t, l))
			}
			if err := other.Wait(); !killed(err) {
				t.Errorf("the rest of the sandbox lives on: %v", err)
			}
			findings := Verdict(before, stats(t, l), limits)
			if len(findings) == 0 || findings[0].Cause != MemoryLimit {
				t.Fatalf("%+v from %+v", findings, stats(t, l))
			}
			t.Logf("%s; %+v", findings[0].Text, stats(t, l).Memory)
			if findings[0].Peak > 50<<20 || findings[0].Peak < 40<<20 {
				t.Errorf("peak %d", findings[0].Peak)
			}
		})
	}
}

func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

func TestMemoryComesBack(t *testing.T) {
	l := leaf(t, Limits{Memory: 128 << 20})
	available := memAvailable(t)
	if err := born(t, l, "shm").Wait(); !killed(err) {
		t.Fatal(err)
	}
	var now uint64
	for range 50 {
		if now = memAvailable(t); now+64<<20 > available {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%s of memory were available before, %s are now", Size(available), Size(now))
}

func memAvailable(t *testing.T) uint64 {
	t.Helper()
	text, err := readFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes(text, "MemAvailable:")
}

func TestForkBomb(t *testing.T) {
	for _, way := range []string{"kill", "freeze"} {
		t.Run(way, func(t *testing.T) {
			limits := Limits{Pids: 60, Memory: 512 << 20}
			l := leaf(t, limits)
			if way == "freeze" {
				withoutKill(l)
			}
			before := stats(t, l)
			born(t, l, "fork")
			for after := before; after.Pids.Refused == before.Pids.Refused; after = stats(t, l) {
				if after.Pids.Current > 60 {
					t.Fatalf("%d processes", after.Pids.Current)
				}
				time.Sleep(20 * time.Millisecond)
			}
			after := stats(t, l)
			t.Logf("%+v", Verdict(before, after, limits))
			start := time.Now()
			if err := l.Kill(deadline(t)); err != nil {
				t.Fatal(err)
			}
			t.Logf("ended in %s", time.Since(start))
			if populated, err := l.Populated(); populated || err != nil {
				t.Errorf("populated %v, %v", populated, err)
			}
		})
	}
}

// withoutKill makes a kernel look like one before 5.14.
func withoutKill(l *Leaf) {
	write := l.k.write
	l.k.write = func(path, value string) error {
		if filepath.Base(path) == "cgroup.kill" {
			return unix.ENOENT
		}
		return write(path, value)
	}
}

func TestCPUQuota(t *testing.T) {
	half, err := ParseCPUs("0.5")
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{CPU: half, CPUWeight: 50}
	l := leaf(t, limits)
	born(t, l, "spin")
	born(t, l, "spin")
	before, start := stats(t, l), time.Now()
	time.Sleep(3 * time.Second)
	after, wall := stats(t, l), time.Since(start)
	share := float64(after.CPU.Usage-before.CPU.Usage) / float64(wall)
	t.Logf("%.2f CPUs; %+v", share, Verdict(before, after, limits))
	if share > 0.6 {
		t.Errorf("%.2f CPUs of 0.5", share)
	}
	if f := Verdict(before, after, limits); len(f) != 1 || f[0].Cause != CPULimit {
		t.Errorf("%+v", f)
	}
}

// A cgroup that was killed kills what is born in it later, on some kernels.
func TestKilledLeafIsReplaced(t *testing.T) {
	p := parent(t)
	l := leaf(t, Limits{Pids: 64})
	born(t, l, "sleep")
	if err := l.Kill(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if l.FD() != -1 {
		t.Error("the descriptor of a killed leaf is still open")
	}
	again, err := p.NewLeaf(deadline(t), l.Name, Limits{Pids: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := born(t, again, "true").Wait(); err != nil {
		t.Errorf("a program in the new leaf: %v", err)
	}
}

func TestLeafInUseIsRefused(t *testing.T) {
	l := leaf(t, Limits{Pids: 64})
	born(t, l, "sleep")
	if _, err := parent(t).NewLeaf(deadline(t), l.Name, Limits{}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("made twice: %v", err)
	}
}

func TestLeftoversAreCollected(t *testing.T) {
	p := parent(t)
	l := leaf(t, Limits{Pids: 64})
	cmd := born(t, l, "sleep")
	live := func(name string) bool { return name != l.Name }
	gone, err := Collect(deadline(t), []string{p.Dir}, live)
	if err != nil || !slices.Equal(gone, []string{l.Name}) {
		t.Errorf("gone %v, %v", gone, err)
	}
	if err := cmd.Wait(); !killed(err) {
		t.Error(err)
	}
	if gone, err = Collect(deadline(t), []string{p.Dir}, live); len(gone) > 0 || err != nil {
		t.Errorf("gone %v, %v", gone, err)
	}
}

// Sandboxes of many callers at once: each finds the place, and nothing stays behind.
func TestManyAtOnce(t *testing.T) {
	p := parent(t)
	const callers = 12
	type caller struct {
		cmd *exec.Cmd
		in  io.Closer
		out *bufio.Scanner
		dir string
	}
	var all []*caller
	for range callers {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=find", "GOMAXPROCS=1")
		cmd.Stderr = os.Stderr
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		all = append(all, &caller{cmd: cmd, in: in, out: bufio.NewScanner(out)})
	}
	for _, c := range all {
		c.out.Scan()
		c.out.Scan()
		if c.dir = c.out.Text(); !isDir(c.dir) {
			t.Errorf("no leaf: %q", c.dir)
		}
	}
	t.Logf("the first is in %s", all[0].dir)
	for _, c := range all {
		_ = c.in.Close()
	}
	for _, c := range all {
		c.out.Scan()
		if text := c.out.Text(); text != "closed" {
			t.Error(text)
		}
		_ = c.cmd.Wait()
	}
	for _, c := range all {
		// The callers were born in the supervisor leaf of this process, whose place
		// they share.
		if filepath.Dir(c.dir) != p.Dir {
			t.Errorf("%s is not in %s", c.dir, p.Dir)
		}
		if isDir(c.dir) {
			t.Errorf("%s is left behind", c.dir)
		}
	}
}
