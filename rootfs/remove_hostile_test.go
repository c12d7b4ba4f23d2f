package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Removal goes on in several places at once; what stays in one of them, and why,
// must be known above it.
func TestRemoveTreeKeepsToItsOwnFailures(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cannot: only root can make a file that its owner cannot remove")
	}
	parent := openParent(t)
	tree := parent.Name() + "/tree"
	var stay []string
	for i := range 40 {
		dir := fmt.Sprintf("%s/%d/a/b/c", tree, i)
		must(t, os.MkdirAll(dir, 0o755))
		for j := range 20 {
			must(t, os.WriteFile(fmt.Sprintf("%s/%d", dir, j), nil, 0o644))
		}
		if i%10 == 3 {
			stay = append(stay, dir+"/7")
			setAttribute(t, dir+"/7", unix.STATX_ATTR_IMMUTABLE)
		}
	}
	err := RemoveTree(parent, "tree")
	for _, name := range stay {
		setAttribute(t, name, 0)
	}
	if !errors.Is(err, unix.EPERM) || errors.Is(err, ErrNeedsMap) ||
		!strings.Contains(err.Error(), "remove "+tree) || !strings.Contains(err.Error(), "chattr -i") {
		t.Errorf("got %v", err)
	}
	left := 0
	must(t, filepath.WalkDir(tree, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left++
		}
		return err
	}))
	if left != len(stay) {
		t.Errorf("%d files are left, want %d", left, len(stay))
	}
	must(t, RemoveTree(parent, "tree"))
	checkGone(t, parent)
}

func TestRemoveTreeSaysWhatIsInTheWay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cannot: only root can make what nobody removes")
	}
	for _, tc := range []struct {
		name string
		file string // what gets the attribute
		flag uint64
		want string
	}{
		{"an immutable file", "/sub/fi\x1ble", unix.STATX_ATTR_IMMUTABLE, `chattr -i`},
		{"one that can only grow", "/sub/fi\x1ble", unix.STATX_ATTR_APPEND, `chattr -a`},
		{"an immutable directory", "/sub", unix.STATX_ATTR_IMMUTABLE, `its directory has the attribute "immutable"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parent := openParent(t)
			tree := parent.Name() + "/tree"
			must(t, os.MkdirAll(tree+"/sub", 0o755))
			must(t, os.WriteFile(tree+"/sub/fi\x1ble", nil, 0o644))
			setAttribute(t, tree+tc.file, tc.flag)
			err := RemoveTree(parent, "tree")
			setAttribute(t, tree+tc.file, 0)
			if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), tc.want) ||
				!strings.Contains(err.Error(), `tree/sub/fi\x1ble"`) {
				t.Errorf("got %v", err)
			}
			must(t, RemoveTree(parent, "tree"))
			checkGone(t, parent)
		})
	}
}

// setAttribute sets one of the attributes of chattr(1), or takes all away.
func setAttribute(t *testing.T, name string, flag uint64) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	// The bits of STATX_ATTR_IMMUTABLE and _APPEND are those of FS_IOC_SETFLAGS.
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flag)); err != nil {
		t.Skipf("cannot: no such attributes here: %v", err)
	}
}

// A mount inside is neither entered nor taken away, and the message says so.
func TestRemoveTreeLeavesMounts(t *testing.T) {
	parent := openParent(t)
	must(t, os.MkdirAll(parent.Name()+"/tree/a/mnt", 0o755))
	must(t, os.WriteFile(parent.Name()+"/tree/a/file", nil, 0o644))
	must(t, os.MkdirAll(parent.Name()+"/tree/b/c", 0o755))
	cmd := worker(t, workerTask{
		Do: "mounted", Dir: parent.Name(), Names: []string{parent.Name() + "/canary", parent.Name() + "/tree/a/mnt"},
	}, false)
	must(t, cmd.Wait())
	for _, name := range []string{"/tree/a/file", "/tree/b"} {
		if _, err := os.Lstat(parent.Name() + name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mountedTask(t *testing.T, task workerTask) {
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount(task.Names[0], task.Names[1], "", unix.MS_BIND, ""))
	parent, err := os.Open(task.Dir)
	must(t, err)
	defer parent.Close()
	err = RemoveTree(parent, "tree")
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) ||
		!strings.Contains(err.Error(), "remove "+task.Names[1]+": something is mounted on it") {
		t.Errorf("got %v", err)
	}
}

// Files of ids that no map of this user has stay, with the word for the
// administrator, and everything else in the trash goes.
func TestEmptyTrashNamesTheAdministratorsCommand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cannot: only root can make files of ids that he does not map")
	}
	s := newTestStore(t)
	trash := filepath.Join(s.Path(), "trash")
	must(t, os.MkdirAll(trash+"/old/tree/d", 0o755))
	must(t, os.WriteFile(trash+"/old/tree/d/file", nil, 0o644))
	for _, name := range []string{"", "/d", "/d/file"} {
		must(t, os.Chown(trash+"/old/tree"+name, 1_500_000_000, 1_500_000_000))
	}
	must(t, os.MkdirAll(trash+"/fine/tree", 0o755))
	must(t, worker(t, workerTask{Do: "unmapped", Request: ImageRequest{Store: s.Path()}, Names: []string{"old", "fine"}}, true).Wait())
	if _, err := os.Lstat(trash + "/old/tree/d/file"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(trash + "/fine"); !errors.Is(err, os.ErrNotExist) {
		t.Error("what could go is still there")
	}
	must(t, os.RemoveAll(trash+"/old"))
}

func unmappedTask(t *testing.T, task workerTask) {
	err := EmptyTrash(task.Request.Store, task.Names...)
	want := "an administrator has to run: rm -rf " + filepath.Join(task.Request.Store, "trash/old")
	if !errors.Is(err, ErrNeedsMap) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}

// A removal that is killed at any moment is finished by the next one.
func TestRemovalIsFinishedAfterKills(t *testing.T) {
	owner := mappedOwner(t)
	s := newTestStore(t)
	canary := t.TempDir()
	must(t, os.WriteFile(canary+"/file", []byte("alive"), 0o644))
	b, err := s.NewSandbox(SandboxState{Owner: owner})
	must(t, err)
	task := workerTask{Do: "fill", Dir: b.Path, Names: []string{canary}, Request: ImageRequest{Owner: owner}}
	must(t, worker(t, task, true).Wait())
	must(t, b.Close())
	for round := range 200 {
		var name string
		if left, err := s.Collect(nil); err == nil && len(left) == 0 {
			break
		} else if err != nil {
			t.Fatalf("round %d: %v", round, err)
		} else if name = left[0].Trash; len(left[0].Owner.UIDMap) != 2 {
			t.Fatalf("round %d: the map is lost: %+v", round, left[0])
		}
		cmd := worker(t, workerTask{Do: "empty", Names: []string{name}, Request: ImageRequest{Store: s.Path()}}, true)
		time.Sleep(time.Duration(20+round*3) * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	}
	checkStoreIsEmpty(t, s)
	if data, err := os.ReadFile(canary + "/file"); err != nil || string(data) != "alive" {
		t.Errorf("the canary: %q, %v", data, err)
	}
}

// fillTask makes what a payload may leave: wide, deep, closed, of other ids.
func fillTask(t *testing.T, task workerTask) {
	dir, err := os.Open(task.Dir)
	must(t, err)
	defer dir.Close()
	must(t, PrepareOverlay(dir, task.Request.Owner))
	upper := task.Dir + "/upper"
	deep, err := os.Open(upper)
	must(t, err)
	digDown(t, deep, 2000)
	must(t, deep.Close())
	for i := range 60 {
		sub := fmt.Sprintf("%s/d%d/e", upper, i)
		must(t, os.MkdirAll(sub, 0o755))
		for j := range 50 {
			must(t, os.WriteFile(fmt.Sprintf("%s/%d", sub, j), nil, 0o600))
			must(t, os.Lchown(fmt.Sprintf("%s/%d", sub, j), 1+j*100, 1+j*100))
		}
		must(t, os.Symlink(task.Names[0], sub+"/link"))
		must(t, os.Lchown(sub, 1000+i, 1000+i))
		must(t, os.Chmod(sub, 0))
	}
}
