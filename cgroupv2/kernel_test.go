package cgroupv2

import (
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
	if none := (*NotDelegated)(nil); errors.As(err, &none) && h.Prospect.Rung == Own {
		t.Skipf("cannot: no delegated cgroup v2 on this machine: %v", err)
	}
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
	leaf(t, Limits{}) // as long as that is there nobody gives the place back
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

// The root of a cgroup namespace is where the process was when that was made: the leaf
// for what is born there, somewhere else for what was moved until it makes another.
func TestCgroupNamespace(t *testing.T) {
	l := leaf(t, Limits{Pids: 64})
	for _, c := range []struct {
		way  string
		want []string
	}{
		{"born", []string{"0::/", "0::/"}},
		{"moved", []string{"0::/../" + leafPrefix + l.Name + "/" + boxDir, "0::/"}},
	} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=namespace")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			UseCgroupFD: c.way == "born", CgroupFD: l.FD(), Pdeathsig: syscall.SIGKILL,
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWCGROUP,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		}
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		if c.way == "moved" {
			if err := l.Add(cmd.Process.Pid); err != nil {
				t.Error(err)
			}
		}
		_ = in.Close() // go on
		text, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if lines := strings.Fields(string(text)); !slices.Equal(lines, append([]string{"started"}, c.want...)) {
			t.Errorf("%s: %q, not %q", c.way, lines, c.want)
		}
	}
}
