package mounts

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func onBirthTimes(t *testing.T, dir string) {
	t.Helper()
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BTIME, &x); err != nil || x.Mask&unix.STATX_BTIME == 0 {
		t.Skip("cannot: the file system of the tests knows no time of birth")
	}
}

// Runs that do not know of each other share a placeholder: it stands as long as
// one of them holds it, and the last one takes it away.
func TestPlaceholderOfAnother(t *testing.T) {
	dir := t.TempDir()
	onBirthTimes(t, dir)
	for _, p := range []Placeholder{
		{Path: dir + "/d", Target: "/d", Directory: true},
		{Path: dir + "/f", Target: "/f", Content: ".\n"},
	} {
		first, one, err := p.Create(unnoted)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Guard(dir, "")
		if err != nil || len(g.Mounts) > 0 {
			t.Errorf("%+v, %v", g, err)
		}
		second, two, err := p.Adopt(unnoted)
		if err != nil || second.Ino != first.Ino || second.Temp == first.Temp || second.Leave || !second.Adopted {
			t.Fatalf("%+v, %v", second, err)
		}
		letGo(t, one)
		if err := first.Remove(); !errors.Is(err, ErrHeld) {
			t.Errorf("the first takes it from the second: %v", err)
		}
		if _, err := os.Lstat(p.Path); err != nil {
			t.Error(err)
		}
		letGo(t, two)
		if err := second.Remove(); err != nil {
			t.Error(err)
		}
		if err := first.Remove(); err != nil {
			t.Errorf("when it is gone: %v", err)
		}
		if _, _, err := p.Adopt(unnoted); !errors.Is(err, unix.ENOENT) {
			t.Errorf("when it is gone: %v", err)
		}
		if left := namesIn(t, dir); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	}
}

// Whoever is removing it has nobody take it meanwhile, and a lock of a program
// that nothing is known of is waited for by nobody.
func TestPlaceholderLocked(t *testing.T) {
	p := Placeholder{Path: t.TempDir() + "/d", Target: "/d", Directory: true}
	made, hold, err := p.Create(unnoted)
	if err != nil {
		t.Fatal(err)
	}
	letGo(t, hold)
	alone, err := os.Open(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if err := unix.Flock(int(alone.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := made.Hold(); !errors.Is(err, ErrHeld) {
		t.Errorf("hold: %v", err)
	}
	if _, _, err := p.Adopt(unnoted); !errors.Is(err, ErrHeld) {
		t.Errorf("adopt: %v", err)
	}
	if err := made.Remove(); !errors.Is(err, ErrHeld) {
		t.Errorf("remove: %v", err)
	}
}

// What somebody has marked so that it looks like a placeholder is covered and
// held, and never removed when it was there before, or has something in it.
func TestPlaceholderForged(t *testing.T) {
	const second = 1e9
	at := func(ns int64) unix.StatxTimestamp {
		return unix.StatxTimestamp{Sec: ns / second, Nsec: uint32(ns % second)}
	}
	const born = 1700000000 * second
	for name, c := range map[string]struct {
		x    unix.Statx_t
		want bool
	}{
		"made with it":     {unix.Statx_t{Mask: wantedTimes, Btime: at(born), Ctime: at(born + second/2), Mtime: at(markSeconds * second)}, true},
		"marked later":     {unix.Statx_t{Mask: wantedTimes, Btime: at(born), Ctime: at(born + 60*second), Mtime: at(markSeconds * second)}, false},
		"another time":     {unix.Statx_t{Mask: wantedTimes, Btime: at(born), Ctime: at(born), Mtime: at(born)}, false},
		"no time of birth": {unix.Statx_t{Mask: wantedTimes &^ unix.STATX_BTIME, Ctime: at(born), Mtime: at(markSeconds * second)}, false},
	} {
		if got := bornMarked(&c.x); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	dir := t.TempDir()
	p := Placeholder{Path: dir + "/.vscode", Target: "/p/.vscode", Directory: true}
	tree(t, dir, "file .vscode/x x")
	if err := os.Chtimes(p.Path, time.Time{}, time.Unix(markSeconds, 12345)); err != nil {
		t.Fatal(err)
	}
	if g, err := Guard(dir, "/p"); err != nil || len(g.Mounts) > 0 || len(g.Missing) != 3 {
		t.Errorf("%+v, %v", g, err)
	}
	adopted, hold, err := p.Adopt(unnoted)
	if err != nil {
		t.Fatal(err)
	}
	letGo(t, hold)
	for _, leave := range []bool{false, true} {
		if adopted.Leave = leave; leave {
			tree(t, dir, "dir none")
			adopted.Path = dir + "/none"
		}
		if err := adopted.Remove(); err != nil && !errors.Is(err, ErrChanged) {
			t.Error(err)
		}
		if _, err := os.Lstat(adopted.Path); err != nil {
			t.Error(err)
		}
	}
	// Without the mark it is the user's in any case.
	dir = t.TempDir()
	tree(t, dir, "dir .vscode", "link .idea .vscode")
	for _, name := range []string{"/.vscode", "/.idea"} {
		p := Placeholder{Path: dir + name, Target: "/p", Directory: true}
		if _, _, err := p.Adopt(unnoted); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if g, err := Guard(dir, "/p"); err != nil || len(g.Mounts) != 2 || len(g.Missing) != 1 || !strings.HasSuffix(g.Missing[0].Path, ".git") {
		t.Errorf("%+v, %v", g, err)
	}
}
