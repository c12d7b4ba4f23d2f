package mounts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func unnoted(Placeholder) error { return nil }

// letGo ends what Create, Hold and Adopt return.
func letGo(t *testing.T, hold *os.File) {
	t.Helper()
	if hold == nil {
		t.Error("nothing holds the placeholder")
	} else if err := hold.Close(); err != nil {
		t.Error(err)
	}
}

func TestPlaceholder(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "file there x", "dir parent")
	file := Placeholder{Path: dir + "/f", Target: "/x", Content: ".\n"}
	directory := Placeholder{Path: dir + "/d", Target: "/y", Directory: true}
	for _, p := range []Placeholder{file, directory} {
		made, hold, err := p.Create(unnoted)
		if err != nil {
			t.Fatal(err)
		}
		if m := made.Mount(); !reflect.DeepEqual(m, bind(p.Path, p.Target, true)) {
			t.Errorf("got %+v", m)
		}
		if _, _, err := p.Create(unnoted); !errors.Is(err, unix.EEXIST) {
			t.Errorf("a second time: %v", err)
		}
		if err := made.Remove(); !errors.Is(err, ErrHeld) {
			t.Errorf("remove what is held: %v", err)
		}
		letGo(t, hold)
		if err := p.Remove(); !errors.Is(err, ErrChanged) {
			t.Errorf("remove what was never made: %v", err)
		}
		if err := made.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(p.Path); !os.IsNotExist(err) {
			t.Errorf("still there: %v", err)
		}
		if err := made.Remove(); err != nil {
			t.Errorf("remove what is gone: %v", err)
		}
	}
	for name, change := range map[string]func(path string) error{
		"written":     func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) },
		"longer":      func(path string) error { return os.WriteFile(path, []byte(".\nx"), 0o644) },
		"replaced":    func(path string) error { return os.Rename(dir+"/there", path) },
		"now a link":  func(path string) error { return errors.Join(os.Remove(path), os.Symlink("x", path)) },
		"now a pipe":  func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o644)) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
		"another file": func(path string) error {
			return errors.Join(os.WriteFile(path+"2", []byte(".\n"), 0o644), os.Rename(path+"2", path))
		},
	} {
		made, hold, err := file.Create(unnoted)
		if err == nil {
			letGo(t, hold)
			err = change(made.Path)
		}
		if err != nil {
			t.Fatal(name, err)
		}
		if err := made.Remove(); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(made.Path); err != nil {
			t.Errorf("%s: removed: %v", name, err)
		}
		os.Remove(made.Path)
	}
	made, hold, err := directory.Create(unnoted)
	if err != nil {
		t.Fatal(err)
	}
	letGo(t, hold)
	tree(t, dir, "file d/mine x")
	if err := made.Remove(); !errors.Is(err, ErrChanged) {
		t.Errorf("a directory that is in use: %v", err)
	}
}

// A number that has become free goes to the next file: a directory that the user
// made in the place of the placeholder is not taken for it.
func TestPlaceholderMadeAgain(t *testing.T) {
	p := Placeholder{Path: t.TempDir() + "/d", Target: "/y", Directory: true}
	for range 20 {
		made, hold, err := p.Create(unnoted)
		if err == nil {
			letGo(t, hold)
			nextTick(t)
			err = errors.Join(os.Remove(p.Path), os.Mkdir(p.Path, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := made.Hold(); !errors.Is(err, ErrChanged) {
			t.Errorf("the user's own directory stands for the placeholder: %v", err)
		}
		if err := made.Remove(); !errors.Is(err, ErrChanged) {
			t.Fatalf("got %v", err)
		}
		if err := os.Remove(p.Path); err != nil {
			t.Fatal(err)
		}
	}
}

// nextTick waits until a file that is made has another time of birth than one
// before: up to Linux 6.12 that is the time of the last tick, 4 ms on Debian.
func nextTick(t *testing.T) {
	t.Helper()
	var before, now unix.Timespec
	for i := 0; now == before; i++ {
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = now
		}
	}
}

// Whoever is killed while he makes a placeholder has written down enough to take
// away what there is of it by then, and the user's own file of that name stays.
func TestPlaceholderCutOff(t *testing.T) {
	killed := errors.New("killed")
	file := Placeholder{Path: "f", Target: "/x", Content: ".\n"}
	directory := Placeholder{Path: "d", Target: "/y", Directory: true}
	for _, p := range []Placeholder{file, directory} {
		for _, users := range []bool{false, true} {
			dir := t.TempDir()
			p.Path = dir + "/" + filepath.Base(p.Path)
			var want []string
			if users {
				want = []string{filepath.Base(p.Path)}
			}
			var accounts []Placeholder
			_, _, err := p.Create(func(noted Placeholder) error {
				accounts = append(accounts, noted)
				if len(accounts) == 1 {
					return nil
				}
				if users && p.Directory {
					tree(t, dir, "dir d")
				} else if users {
					tree(t, dir, "file f .")
				}
				before := namesIn(t, dir)
				if len(before) != len(want)+1 {
					t.Errorf("while it is made: %q", before)
				}
				// What the first account leads to, with and without the second.
				for _, account := range accounts {
					// The killed one holds nothing any more; this one still does.
					if err := account.Remove(); err != nil && !(users && errors.Is(err, ErrChanged)) {
						t.Error(err)
					}
					if got := namesIn(t, dir); !slices.Equal(got, want) {
						t.Errorf("left %q, want %q", got, want)
					}
				}
				return killed
			})
			if !errors.Is(err, killed) || accounts[0].Ino != 0 || accounts[1].Ino == 0 {
				t.Errorf("got %v, accounts %+v", err, accounts)
			}
		}
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Git works with the placeholders in its directory as without.
func TestPlaceholdersAndGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("cannot: there is no git here")
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.Command(git, args...)
		cmd.Dir = dir
		cmd.Env = []string{
			"HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=n", "GIT_AUTHOR_EMAIL=e",
			"GIT_COMMITTER_NAME=n", "GIT_COMMITTER_EMAIL=e", "PATH=" + os.Getenv("PATH"),
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("init", "-q", "--template=")
	g, err := Guard(dir, "/x")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range g.Missing {
		var hold *os.File
		if g.Missing[i], hold, err = p.Create(unnoted); err != nil {
			t.Fatal(err)
		}
		letGo(t, hold)
	}
	if got := run("status", "--porcelain"); got != "" {
		t.Errorf("git sees the placeholders: %q", got)
	}
	tree(t, dir, "file f x")
	run("add", "f")
	run("commit", "-q", "-m", "c")
	run("branch", "b")
	run("gc", "-q")
	run("fsck")
	if got := run("rev-parse", "HEAD", "b"); strings.Count(got, "\n") != 2 {
		t.Errorf("got %q", got)
	}
	for _, p := range g.Missing {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
	run("fsck")
}
