package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// gitDir lists a minimal git directory.
func gitDir(at string) []string {
	return []string{"file " + at + "/HEAD ref: refs/heads/main", "dir " + at + "/objects", "dir " + at + "/refs", "file " + at + "/config [core]", "dir " + at + "/hooks"}
}

func TestGuard(t *testing.T) {
	top := []string{".git", ".vscode", ".idea"} // made when they are missing
	git := func(at string) []string { return []string{at + "/config.worktree", at + "/commondir"} }
	for name, c := range map[string]struct {
		tree      []string
		readOnly  []string
		pinned    []string
		missing   []string
		says      string
		truncated bool
	}{
		"an empty tree": {missing: top},
		"a repository": {
			tree:     append(gitDir(".git"), "file a/b/c x"),
			readOnly: []string{".git/hooks", ".git/config"}, pinned: []string{".git"},
			missing: append(git(".git"), ".vscode", ".idea"),
		},
		"a broken repository": {
			tree: []string{"file .git/HEAD x"}, pinned: []string{".git"},
			missing: append(git(".git"), ".git/hooks", ".git/config", ".vscode", ".idea"),
		},
		"an empty repository": {
			tree: []string{"dir .git"}, readOnly: []string{".git"}, missing: []string{".vscode", ".idea"},
		},
		"submodules and worktrees": {
			tree: append(gitDir(".git"), "file .git/modules/x/config y", "file .git/worktrees/w/commondir ../..",
				"file sub/.git gitdir: ../.git/modules/x", "dir .vscode", "dir .idea"),
			readOnly: []string{".git/hooks", ".git/config", ".git/modules", ".git/worktrees", ".git/worktrees/w/commondir", "sub/.git", ".vscode", ".idea"},
			pinned:   []string{".git", "sub", ".git/worktrees/w"}, missing: append(git(".git"), ".git/worktrees/w/config.worktree"),
		},
		"repositories of submodules, and what is none": {
			tree: append(append(gitDir(".git"), gitDir(".git/modules/libs/x")...), "file .git/modules/y/config x", "file .git/worktrees/w/gitdir x", "dir .vscode", "dir .idea"),
			readOnly: []string{
				".git/hooks", ".git/config", ".git/modules", ".git/worktrees", ".git/modules/libs/x/hooks", ".git/modules/libs/x/config", ".vscode", ".idea",
			},
			pinned:  []string{".git", ".git/modules/libs/x"},
			missing: append(git(".git"), git(".git/modules/libs/x")...),
		},
		"a worktree": {
			tree: []string{"file .git gitdir: /elsewhere"}, readOnly: []string{".git"}, missing: []string{".vscode", ".idea"},
		},
		"a repository deep in the tree": {
			tree:     gitDir("a/b/c/.git"),
			readOnly: []string{"a/b/c/.git/hooks", "a/b/c/.git/config"}, pinned: []string{"a", "a/b", "a/b/c", "a/b/c/.git"},
			missing: append(git("a/b/c/.git"), top...),
		},
		"too deep": {tree: append(gitDir("a/b/c/d/e/.git"), "file a/b/c/d/e/.envrc x"), missing: top},
		"a bare repository": {
			tree:     gitDir("x.git"),
			readOnly: []string{"x.git/hooks", "x.git/config"}, pinned: []string{"x.git"}, missing: append(git("x.git"), top...),
		},
		"the top is a repository": {
			tree:     gitDir("."),
			readOnly: []string{"hooks", "config"}, missing: []string{"config.worktree", "commondir", ".vscode", ".idea"},
		},
		"configured hooks and includes": {
			tree: append(gitDir(".git"), "file .git/config [core]\n\thooksPath = dev/hooks\n\tfsmonitor = tools/watch -v\n\tfsmonitor = \" \"\n[include]\n\tpath = \"../shared.conf\"\n\tpath = ../../up\n\tpath = /etc/x\n\tpath = ../none\n",
				"file dev/hooks/pre-commit x", "file shared.conf x", "file tools/watch x"),
			readOnly: []string{".git/hooks", ".git/config", "dev/hooks", "shared.conf", "tools/watch"}, pinned: []string{".git", "dev", "tools"},
			missing: append(git(".git"), ".vscode", ".idea"),
		},
		"shells, editors, tools": {
			tree: []string{"file .bashrc x", "file sub/.envrc x", "dir .config/systemd/user", "file .config/other x", "dir .ssh", "dir .vscode", "dir .idea", "dir .git", "file node_modules/x/.npmrc x", "file Makefile x"},
			readOnly: []string{
				".bashrc", "sub/.envrc", ".config/systemd", ".ssh", ".vscode", ".idea", ".git",
			},
			pinned: []string{"sub", ".config"},
		},
		"links are not followed": {
			tree:     []string{"link .git elsewhere", "link .bashrc x/y/z", "dir .vscode", "dir .idea", "link l /", "fifo .envrc"},
			readOnly: []string{".git", ".bashrc", ".vscode", ".idea"}, says: ".bashrc is a symbolic link to what does not exist",
			missing: []string{"elsewhere"},
		},
		"what links in the tree lead to": {
			tree: append(gitDir("real/repo"), "link .git real/repo", "link .vscode conf/../conf/x", "file conf/x/tasks.json x",
				"link .idea idea", "link idea .idea", "link .envrc /etc/profile", "link .bashrc ../up"),
			readOnly: []string{".git", "real/repo/hooks", "real/repo/config", ".vscode", "conf/x", ".idea", "idea", ".envrc", ".bashrc"},
			pinned:   []string{"real", "real/repo", "conf"}, missing: git("real/repo"),
		},
		"a link by way of a link": {
			tree:     []string{"dir .git", "dir .idea", "link .vscode way/x", "link way conf", "file conf/x/tasks.json x"},
			readOnly: []string{".git", ".idea", ".vscode"}, says: ".vscode is a symbolic link by way of others",
		},
		"more names than are read": {tree: manyFiles("d/%d", 101), missing: top, truncated: true},
		"more places than are covered": {
			tree:      manyFiles("d%d/.envrc", 20),
			truncated: true, missing: top,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, c.tree...)
			bounds := defaultBounds()
			bounds.entries, bounds.mounts = 100, 20
			g, err := guardTree(dir, "/data", bounds)
			if err != nil {
				t.Fatal(err)
			}
			if (g.Truncated != "") != c.truncated {
				t.Errorf("truncated: %q", g.Truncated)
			}
			if !c.truncated {
				compare(t, dir, g, c.readOnly, c.pinned)
			}
			var missing []string
			for _, p := range g.Missing {
				missing = append(missing, strings.TrimPrefix(p.Path, dir+"/"))
				if p.Reason == "" || p.Target != "/data"+strings.TrimPrefix(p.Path, dir) {
					t.Errorf("bad placeholder %+v", p)
				}
			}
			same(t, "missing", missing, c.missing)
			if c.says != "" && !strings.Contains(strings.Join(g.Unprotected, "\n"), c.says) {
				t.Errorf("unprotected: %q do not say %q", g.Unprotected, c.says)
			}
			if c.says == "" && len(g.Unprotected) > 0 {
				t.Errorf("unprotected: %q", g.Unprotected)
			}
		})
	}
}

func compare(t *testing.T, dir string, g Guarded, wantReadOnly, wantPinned []string) {
	t.Helper()
	var readOnly, pinned []string
	for _, m := range g.Mounts {
		rel := strings.TrimPrefix(m.Source, dir+"/")
		if m.Link {
			if st := stat(t, m.Source); m.Target != "/data/"+rel || m.check() != nil || m.Ino != st.Ino || m.Directory {
				t.Errorf("bad entry %+v", m)
			}
			readOnly = append(readOnly, rel)
			continue
		}
		if m.Target != "/data/"+rel || m.check() != nil || !reflect.DeepEqual(m, bind(m.Source, m.Target, m.ReadOnly)) {
			t.Errorf("bad entry %+v", m)
		}
		if m.ReadOnly {
			readOnly = append(readOnly, rel)
		} else {
			pinned = append(pinned, rel)
		}
	}
	same(t, "read-only", readOnly, wantReadOnly)
	same(t, "pinned", pinned, wantPinned)
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func manyFiles(format string, n int) []string {
	var list []string
	for i := range n {
		list = append(list, "file "+fmt.Sprintf(format, i)+" x")
	}
	return list
}

func TestGuardErrors(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "file f x", "link l .")
	for path, want := range map[string]error{"/none": unix.ENOENT, "/f": unix.ENOTDIR, "/l": unix.ELOOP} {
		if _, err := Guard(dir+path, "/x"); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

// Inside, nothing of what the host obeys can be changed, moved away or made,
// and the rest of the tree can.
func TestGuarded(t *testing.T) {
	dir := t.TempDir()
	repositories := append(gitDir("data/a/.git"), gitDir("data/a/.git/modules/libs/m")...)
	tree(t, dir, append(repositories, "file data/a/.git/worktrees/w/commondir ../..", "file data/.envrc x", "file data/a/code x",
		"link data/.idea other/idea", "file data/other/idea/x x", "link data/b /none", "dir root")...)
	before, err := Guard(filepath.Join(dir, "data"), "/data")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range before.Missing {
		var hold *os.File
		if before.Missing[i], hold, err = p.Create(unnoted); err != nil {
			t.Fatal(err)
		}
		letGo(t, hold)
	}
	inside(t, "guarded", dir)
	for _, p := range before.Missing {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "data")); err != nil || len(entries) != 5 {
		t.Errorf("left in the tree: %v, %v", entries, err)
	}
}

func guardedBody(dir string) error {
	g, err := Guard(dir+"/data", "/data")
	if err != nil {
		return err
	}
	list := append([]Mount{bind(dir+"/data", "/data", false)}, g.Mounts...)
	for _, p := range g.Missing {
		made, hold, err := p.Adopt(unnoted)
		if err != nil {
			return err
		}
		defer hold.Close()
		list = append(list, made.Mount())
	}
	if err := apply(Root{Method: MethodTree, Tree: dir + "/root"}, list); err != nil {
		return err
	}
	c := &checks{}
	for _, path := range []string{
		"a/.git/config", "a/.git/hooks/x", ".envrc", "a/.git/commondir", ".vscode/tasks.json", ".git/config",
		"a/.git/modules/x", "a/.git/modules/libs/x", "a/.git/modules/libs/m/config", "a/.git/modules/libs/m/hooks/x",
		"a/.git/worktrees/x", "a/.git/worktrees/w/commondir", "a/.git/worktrees/w/config.worktree", ".idea/x", "other/idea/x",
	} {
		c.cannotWrite("/data/"+path, unix.EROFS)
	}
	for _, path := range []string{"a/.git/modules/libs/m/HEAD", "a/.git/modules/libs/m/index", "a/.git/worktrees/w/HEAD"} {
		c.ok("write "+path, os.WriteFile("/data/"+path, nil, 0o600))
		c.ok("replace "+path, os.Rename("/data/"+path, "/data/"+path+".new"))
		c.ok("replace "+path, os.Rename("/data/"+path+".new", "/data/"+path))
	}
	for _, path := range []string{
		"a", "a/.git", "a/.git/hooks", "a/.git/config", ".envrc", ".git", ".vscode", "a/.git/commondir",
		"a/.git/modules/libs", "a/.git/modules/libs/m", "a/.git/worktrees/w", "a/.git/worktrees/w/commondir", ".idea", "other", "other/idea",
	} {
		c.fails("rename "+path, os.Rename("/data/"+path, filepath.Dir("/data/"+path)+"/away"), unix.EBUSY, unix.EROFS)
		c.fails("remove "+path, os.Remove("/data/"+path), unix.EBUSY, unix.EROFS, unix.ENOTEMPTY)
	}
	c.fails("replace", errors.Join(os.WriteFile("/data/mine", nil, 0o600), os.Rename("/data/mine", "/data/.envrc")), unix.EBUSY, unix.EXDEV)
	c.ok("remove", os.Remove("/data/mine"))
	c.writes("/data/a/code")
	c.ok("remove", os.Remove("/data/a/code"))
	return c.result()
}
