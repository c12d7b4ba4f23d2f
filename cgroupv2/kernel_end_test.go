package cgroupv2

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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

// What a supervisor that was killed left behind is collected by somebody else.
func TestCrashIsCollected(t *testing.T) {
	p := parent(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=crash")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := strings.TrimPrefix(strings.TrimSpace(string(out)), "started\n")
	if i := strings.IndexByte(dir, '\n'); i >= 0 {
		dir = dir[:i]
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if populated, err := l.Populated(); !populated || err != nil {
		t.Errorf("populated %v, %v", populated, err)
	}
	h, err := Look()
	if err != nil {
		t.Fatal(err)
	}
	places := h.Places()
	if !slices.Contains(places, p.Dir) {
		t.Errorf("%s is not among the places %v", p.Dir, places)
	}
	gone, err := Collect(deadline(t), places, func(name string) bool { return name != "crashed" })
	if err != nil || !slices.Equal(gone, []string{"crashed"}) || isDir(dir) {
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
