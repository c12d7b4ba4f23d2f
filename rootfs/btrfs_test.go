package rootfs

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestOnBtrfs makes a btrfs and runs what needs one in it, in a mount namespace
// of its own, so that nothing can be left mounted.
func TestOnBtrfs(t *testing.T) {
	if mnt := os.Getenv("SBX_ROOTFS_BTRFS"); mnt != "" {
		t.Run("subvolumes", func(t *testing.T) { removeSubvolumes(t, mnt) })
		t.Run("reflink", func(t *testing.T) { reflinkRandomTrees(t, mnt) })
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("cannot: only root can mount a file system for it")
	}
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/mnt", 0o755))
	must(t, os.WriteFile(dir+"/image", nil, 0o600))
	must(t, os.Truncate(dir+"/image", 512<<20))
	if out, err := exec.Command(tool(t, "mkfs.btrfs"), "-q", dir+"/image").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v: %s", err, out)
	}
	cmd := exec.Command("/bin/sh", "-c", `mount -t btrfs -o loop "$1/image" "$1/mnt" || exit 77; exec "$2" -test.run='^TestOnBtrfs$'`, "sh", dir, os.Args[0])
	cmd.Env = append(os.Environ(), "SBX_ROOTFS_BTRFS="+dir+"/mnt")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("cannot: no btrfs here: %s", strings.TrimSpace(string(out)))
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// D14: what is shared by reflink is shared until one side writes, and no longer.
func reflinkRandomTrees(t *testing.T, mnt string) {
	for seed := range uint64(4) {
		g := grower{t: t, random: rand.New(rand.NewPCG(seed, 2))}
		src, dst := fmt.Sprintf("%s/src%d", mnt, seed), fmt.Sprintf("%s/dst%d", mnt, seed)
		must(t, os.Mkdir(src, 0o755))
		must(t, os.Mkdir(dst, 0o755))
		g.grow(src, 0)
		g.seal()
		_, err := tryCopy(t, src, dst, CopyOptions{Method: CopyReflink, KeepSetID: true})
		must(t, err)
		want := pictureOf(t, src)
		if !equalPictures(want, pictureOf(t, dst)) {
			t.Errorf("seed %d: the copy differs", seed)
		}
		g.scribble()
		if len(g.files) > 0 && equalPictures(want, pictureOf(t, src)) {
			t.Errorf("seed %d: nothing was written", seed)
		}
		if !equalPictures(want, pictureOf(t, dst)) {
			t.Errorf("seed %d: the copy changed with the original", seed)
		}
	}
}

// Anyone may make subvolumes of btrfs in his directories, and make them
// read-only: neither rm nor os.RemoveAll gets them away.
func removeSubvolumes(t *testing.T, mnt string) {
	parent := openParentIn(t, mnt)
	must(t, os.MkdirAll(mnt+"/tree/a", 0o755))
	for _, dir := range []string{"/tree/a", "/tree/a/sub", "/tree"} {
		makeSubvolume(t, mnt+dir)
		must(t, os.WriteFile(mnt+dir+"/sub/file", nil, 0o644))
		must(t, os.Mkdir(mnt+dir+"/sub/dir", 0o755))
	}
	for _, dir := range []string{"/tree/a/sub/sub", "/tree/a/sub", "/tree/sub"} {
		freeze(t, mnt+dir)
	}
	must(t, RemoveTree(parent, "tree"))
	checkGone(t, parent)
}

// makeSubvolume makes dir/sub (BTRFS_IOC_SUBVOL_CREATE).
func makeSubvolume(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	var args [4096]byte
	copy(args[8:], "sub")
	const create = 1<<30 | 4096<<16 | 0x94<<8 | 14
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), create, uintptr(unsafe.Pointer(&args))); errno != 0 {
		t.Fatalf("make a subvolume in %s: %v", dir, errno)
	}
}

func freeze(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	var flags [8]byte
	binary.NativeEndian.PutUint64(flags[:], btrfsSubvolRdonly)
	must(t, subvolumeFlags(int(f.Fd()), btrfsSubvolSetFlag, &flags))
	if err := os.WriteFile(dir+"/file", nil, 0o644); err == nil {
		t.Fatal("a read-only subvolume was written")
	}
}
