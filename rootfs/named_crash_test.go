package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Two imports of one name at once, each by a process of its own as far as the
// locks can tell: both images are there and whole, and one has the name.
func TestCommitsOfOneName(t *testing.T) {
	t.Parallel()
	path := newTestStore(t).Path()
	var wg sync.WaitGroup
	const n = 8
	for i := range n {
		wg.Go(func() {
			s, err := OpenStore(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			g, err := s.NewStaging(singleOwner)
			if err != nil {
				t.Error(err)
				return
			}
			err = writeNew(int(g.Tree.Fd()), "file", fmt.Append(nil, i), 0o644)
			names := []Reference{{Repository: "shared", Tag: "1"}, {Repository: "own", Tag: fmt.Sprint(i)}}
			if _, commitErr := g.Commit(ImageInfo{Digest: sumOf(byte('0' + i))}, names...); err != nil || commitErr != nil {
				t.Error(err, commitErr)
			}
			if _, err := s.Collect(nil); err != nil { // as each run does
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := OpenStore(path)
	must(t, err)
	defer s.Close()
	if list, err := s.Images(); err != nil || len(list) != n {
		t.Errorf("%d images, %v", len(list), err)
	}
	shared := checkImages(t, s)["shared:1"]
	for i := range n {
		img, err := s.FindNamed(fmt.Sprintf("own:%d", i))
		must(t, err)
		if data, err := os.ReadFile(img.Path + "/file"); err != nil || string(data) != fmt.Sprint(i) {
			t.Errorf("own:%d has %q, %v", i, data, err)
		}
		if img.Key == shared {
			shared = ""
		}
		img.Close()
	}
	if shared != "" {
		t.Errorf("the name leads to %q, which is none of the images", shared)
	}
}

// checkImages holds that each image of the store is whole, that each name leads
// to one, and that after a Collect nothing else is there. It returns the names.
func checkImages(t *testing.T, s *Store) map[string]string {
	t.Helper()
	dir, err := s.imported(createMissing)
	must(t, err)
	defer dir.Close()
	left, err := s.Collect(nil)
	if err != nil || len(left) > 0 {
		t.Errorf("collect: %v, %v", left, err)
	}
	for _, name := range imported(t, s) {
		if name[0] == '.' {
			t.Errorf("%s is left", name)
		}
	}
	if names, err := allNames(s.trashcan); err != nil || len(names) > 0 {
		t.Errorf("the trash has %q, %v", names, err)
	}
	names := map[string]string{}
	list, err := s.Images()
	must(t, err)
	for _, img := range list {
		if _, err := os.ReadFile(img.Path + "/file"); err != nil {
			t.Errorf("image %s: %v", img.Key, err)
		}
		for _, name := range img.Names {
			names[name] = img.Key
		}
	}
	table, err := readNames(dir)
	must(t, err)
	for name := range table {
		if names[name] != "" {
			continue
		}
		// Killed between a removal and the list of names: leads nowhere, and says so.
		if _, err := s.FindNamed(name); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s leads nowhere: %v", name, err)
		}
	}
	return names
}

// lifeOfAnImage does each thing once that changes the store.
func lifeOfAnImage(path string) error {
	s, err := OpenStore(path)
	if err != nil {
		return err
	}
	commit := func(digit byte, name string) error {
		g, err := s.NewStaging(singleOwner)
		if err != nil {
			return err
		}
		if err := writeNew(int(g.Tree.Fd()), "file", []byte{digit}, 0o644); err != nil {
			return err
		}
		_, err = g.Commit(ImageInfo{Digest: sumOf(digit)}, Reference{Repository: name, Tag: "1"})
		return err
	}
	if err := errors.Join(commit('1', "a"), commit('1', "b"), commit('2', "b"), s.Tag("a:1", Reference{Repository: "c", Tag: "1"})); err != nil {
		return err
	}
	g, err := s.NewStaging(singleOwner)
	if err != nil {
		return err
	}
	if _, err := g.Discard(); err != nil {
		return err
	}
	for _, ref := range []string{"c:1", "a:1", "b:1"} {
		if _, err := s.RemoveImage(ref, Spare); err != nil {
			return err
		}
	}
	return nil
}

// SIGKILL at each call that changes the store: what is there afterwards is whole,
// and what is not is collected.
func TestImagesOfKilledProcesses(t *testing.T) {
	if path := os.Getenv("SBX_ROOTFS_LIFE"); path != "" {
		must(t, lifeOfAnImage(path))
		return
	}
	strace := tool(t, "strace")
	for _, call := range []string{"mkdirat", "renameat", "renameat2", "unlinkat", "flock", "write", "syncfs"} {
		killed := 0
		for nth := 1; ; nth++ {
			path := filepath.Join(t.TempDir(), "sbx")
			s, err := OpenStore(path) // so that what makes it is not counted
			must(t, err)
			cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, nth), os.Args[0], "-test.run=^TestImagesOfKilledProcesses$")
			cmd.Env = append(os.Environ(), "SBX_ROOTFS_LIFE="+path)
			out, err := cmd.CombinedOutput()
			checkImages(t, s)
			must(t, s.Close())
			removeBelow(t, filepath.Dir(path))
			if t.Failed() {
				t.Fatalf("killed at %s number %d: %v\n%s", call, nth, err, out)
			}
			if err == nil {
				break
			}
			if !bytes.Contains(out, []byte("--- FAIL")) {
				killed++
			} else {
				t.Fatalf("it failed by itself: %s", out)
			}
			if nth > 200 {
				t.Fatalf("%s is called without end", call)
			}
		}
		if killed == 0 && call != "renameat2" {
			t.Errorf("nothing was killed at %s", call)
		}
		t.Logf("%s: killed %d times", call, killed)
	}
}

// Files that two images have in common share their blocks on btrfs, and remain
// two files.
func TestImagesShareBlocks(t *testing.T) {
	if mnt := os.Getenv("SBX_ROOTFS_SHARE"); mnt != "" {
		shareOn(t, mnt)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("cannot: only root can mount a file system for it")
	}
	onBtrfs(t, "SBX_ROOTFS_SHARE")
}

func shareOn(t *testing.T, mnt string) {
	s, err := OpenStore(mnt + "/sbx")
	must(t, err)
	defer s.Close()
	if !s.CanReflink() {
		t.Fatal("btrfs cannot reflink")
	}
	layer := LayerInfo{DiffID: sumOf('f')}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	other := append(bytes.Clone(large[:len(large)-1]), 'x')
	var infos []ImageInfo
	for i, content := range [][]byte{large, large} {
		g := stage(t, s, "small")
		for name, data := range map[string][]byte{"same": content, "differs": content} {
			if i == 1 && name == "differs" {
				data = other
			}
			must(t, os.Mkdir(g.Path+"/tree/"+name, 0o755))
			must(t, os.WriteFile(g.Path+"/tree/"+name+"/f", data, 0o600))
			must(t, unix.UtimesNano(g.Path+"/tree/"+name+"/f", []unix.Timespec{{Sec: 1}, {Sec: 1}}))
		}
		info, err := g.Commit(ImageInfo{Digest: sumOf(byte('0' + i)), Layers: []LayerInfo{layer}})
		must(t, err)
		infos = append(infos, info)
	}
	before := used(t, mnt)
	must(t, ShareImage(t.Context(), s.Path(), infos[1].Key))
	// All of "same", and of "differs" the first chunks but not the last.
	if saved := before - used(t, mnt); saved < 15<<20 || saved > 32<<20 {
		t.Errorf("%d bytes were saved", saved)
	}
	tree := func(i int) string { return filepath.Join(s.Path(), "images/imported", infos[i].Key, "tree") }
	for i, want := range []map[string][]byte{{"same": large, "differs": large}, {"same": large, "differs": other}} {
		for name, data := range want {
			if got, err := os.ReadFile(tree(i) + "/" + name + "/f"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("image %d: %s is not what it was: %v", i, name, err)
			}
		}
	}
	// A change of one is no change of the other (D14).
	must(t, os.WriteFile(tree(1)+"/same/f", []byte("changed"), 0o600))
	if got, err := os.ReadFile(tree(0) + "/same/f"); err != nil || !bytes.Equal(got, large) {
		t.Errorf("a change of one image changed the other: %v", err)
	}
}

// used is how many bytes of the file system are taken, when all is written.
func used(t *testing.T, mnt string) int64 {
	t.Helper()
	f, err := os.Open(mnt)
	must(t, err)
	defer f.Close()
	for range 3 { // freed blocks are counted with the next transaction
		must(t, syncfs(f))
	}
	var st unix.Statfs_t
	must(t, unix.Fstatfs(int(f.Fd()), &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// onBtrfs runs the calling test again in a mount namespace of its own with a new
// btrfs at the path in the variable.
func onBtrfs(t *testing.T, variable string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/mnt", 0o755))
	must(t, os.WriteFile(dir+"/image", nil, 0o600))
	must(t, os.Truncate(dir+"/image", 512<<20))
	if out, err := exec.Command(tool(t, "mkfs.btrfs"), "-q", dir+"/image").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v: %s", err, out)
	}
	script := `mount -t btrfs -o loop "$1/image" "$1/mnt" || exit 77; exec "$2" -test.run="^$3$"`
	cmd := exec.Command("unshare", "--mount", "/bin/sh", "-c", script, "sh", dir, os.Args[0], t.Name())
	cmd.Env = append(os.Environ(), variable+"="+dir+"/mnt")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("cannot: no btrfs here: %s", strings.TrimSpace(string(out)))
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
