package mounts

import (
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlaceholder(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "file there x", "dir parent")
	file := Placeholder{Path: dir + "/f", Target: "/x", Content: ".\n"}
	directory := Placeholder{Path: dir + "/d", Target: "/y", Directory: true}
	for _, p := range []Placeholder{file, directory} {
		made, err := p.Create()
		if err != nil {
			t.Fatal(err)
		}
		if m := made.Mount(); !reflect.DeepEqual(m, bind(p.Path, p.Target, true)) {
			t.Errorf("got %+v", m)
		}
		if _, err := p.Create(); !errors.Is(err, unix.EEXIST) {
			t.Errorf("a second time: %v", err)
		}
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
		made, err := file.Create()
		if err == nil {
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
	made, err := directory.Create()
	if err != nil {
		t.Fatal(err)
	}
	tree(t, dir, "file d/mine x")
	if err := made.Remove(); !errors.Is(err, ErrChanged) {
		t.Errorf("a directory that is in use: %v", err)
	}
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
		if g.Missing[i], err = p.Create(); err != nil {
			t.Fatal(err)
		}
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
