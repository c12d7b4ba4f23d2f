package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stores with any name, and one way after the other until one works.
func TestRoots(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a:b,c=d\\e f")
	tree(t, dir, "file image/f image", "dir image/dir", "file top/f top", "dir sandbox/upper", "dir sandbox/work",
		"dir evil/upper", "link evil/work /", "dir elsewhere/work")
	inside(t, "roots", dir)
	if !overlays() {
		return
	}
	// The kernel leaves directories without permissions behind.
	for _, name := range []string{"work", "work/incompat", "work/incompat/volatile"} {
		if err := os.Chmod(filepath.Join(dir, "sandbox/work", name), 0o700); err != nil {
			t.Error(err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "image/f")); string(data) != "image" {
		t.Errorf("the image changed: %q, %v", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "sandbox/upper/f")); string(data) != "x" {
		t.Errorf("the change is not in the upper directory: %q, %v", data, err)
	}
}

func rootsBody(dir string) error {
	b, err := Begin(Scratch{})
	if err != nil {
		return err
	}
	defer b.Close()
	good := Root{
		Method: MethodOverlay, Lower: []string{dir + "/top", dir + "/image"},
		Upper: dir + "/sandbox/upper", Work: dir + "/sandbox/work", Volatile: true,
	}
	c := &checks{}
	refused := func(what string, change func(*Root), want ...error) {
		r := good
		change(&r)
		err := b.MakeRoot(r)
		c.fails(what, err, want...)
		if rootErr := (*RootError)(nil); !errors.As(err, &rootErr) || rootErr.Root.String() != r.String() {
			c.ok(what, fmt.Errorf("not a RootError: %w", err))
		}
	}
	refused("no method", func(r *Root) { r.Method = "" }, unix.EINVAL)
	refused("no lower", func(r *Root) { r.Lower = nil }, unix.EINVAL)
	refused("lower is missing", func(r *Root) { r.Lower = []string{dir + "/none"} }, unix.ENOENT)
	refused("lower is a file", func(r *Root) { r.Lower = []string{dir + "/image/f"} }, unix.ENOTDIR)
	refused("upper without work", func(r *Root) { r.Work = "" }, unix.EINVAL)
	refused("work elsewhere", func(r *Root) { r.Work = dir + "/elsewhere/work" }, unix.EINVAL)
	refused("work is a link", func(r *Root) { r.Upper, r.Work = dir+"/evil/upper", dir+"/evil/work" }, unix.ELOOP)
	refused("upper on procfs", func(r *Root) { r.Upper, r.Work = "/proc/sys/fs", "/proc/sys/vm" }, unix.EINVAL, unix.EROFS, unix.EPERM, unix.EACCES)
	refused("tree is missing", func(r *Root) { r.Method, r.Tree = MethodTree, dir+"/none" }, unix.ENOENT)
	c.ok("noexec", unix.Mount("t", dir+"/elsewhere", "tmpfs", unix.MS_NOEXEC, ""))
	refused("tree on noexec", func(r *Root) { r.Method, r.Tree = MethodTree, dir+"/elsewhere" }, unix.EACCES)
	c.ok("read-only", unix.Mount("t", dir+"/elsewhere", "tmpfs", unix.MS_RDONLY, ""))
	refused("tree on a read-only mount", func(r *Root) { r.Method, r.Tree = MethodTree, dir+"/elsewhere" }, unix.EROFS)
	if !overlays() {
		refused("an overlay before Linux 5.11", func(*Root) {}, unix.EPERM)
		return c.result()
	}
	c.ok("an overlay in the end", b.MakeRoot(good))
	c.ok("Pivot", b.Pivot())
	c.ok("Finish", b.Finish())
	c.reads("/f", "top")
	c.writes("/f")
	c.flags("/", unix.ST_NOSUID|unix.ST_NODEV, unix.ST_RDONLY|unix.ST_NOEXEC)
	return c.result()
}

// A tree that others use as well is never written to: a mount point that it
// lacks is an error.
func TestFrozenTree(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "file image/f image", "dir image/dir")
	inside(t, "frozen", dir)
	inside(t, "frozenOld", dir)
	if entries, err := os.ReadDir(filepath.Join(dir, "image")); err != nil || len(entries) != 2 {
		t.Errorf("the image changed: %v, %v", entries, err)
	}
}

func frozenBody(dir string, change ...func(*Builder)) error {
	b, err := Begin(Scratch{})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, f := range change {
		f(b)
	}
	c := &checks{}
	c.ok("MakeRoot", b.MakeRoot(Root{Method: MethodTree, Tree: dir + "/image", Frozen: true}))
	c.ok("Pivot", b.Pivot())
	c.fails("a mount point that is missing", b.Attach(Mount{Kind: Shared, Target: "/new", Mode: 0o755}), unix.ENOENT)
	c.ok("one that is there", b.Attach(Mount{Kind: Shared, Target: "/dir", Mode: 0o755}))
	c.ok("Finish", b.Finish())
	c.writes("/dir/x")
	c.cannotWrite("/f", unix.EROFS)
	return c.result()
}

// The console is a terminal of the sandbox's own pts, and root may be read-only.
func TestConsole(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "file image/f image")
	inside(t, "console", dir)
}

func consoleBody(dir string) error {
	b, err := Begin(Scratch{Size: 1 << 20})
	if err != nil {
		return err
	}
	defer b.Close()
	root := Root{Method: MethodOverlay, Lower: []string{dir + "/image"}, ReadOnly: true}
	list := append(Dev(true, 0, 0), Mount{Kind: Proc, Target: "/proc"}, Mount{Kind: Shared, Target: "/tmp/new", Mode: 0o755})
	if err := attachAll(b, root, list); err != nil {
		return err
	}
	c := &checks{}
	ptmx, err := b.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY)
	c.ok("open ptmx", err)
	c.ok("unlock", unix.IoctlSetPointerInt(ptmx, unix.TIOCSPTLCK, 0))
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ptmx), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		c.ok("open the slave", errno)
	}
	c.ok("attach the console", b.AttachFile(int(slave), "/dev/console"))
	c.ok("Finish", b.Finish())
	var st unix.Stat_t
	c.ok("stat the console", unix.Stat("/dev/console", &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || unix.Major(st.Rdev) != 136 {
		c.ok("console", fmt.Errorf("mode %o device %d:%d", st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	}
	c.writes("/dev/console")
	c.writes("/tmp/new/x")
	c.cannotWrite("/x", unix.EROFS)
	c.cannotWrite("/tmp/x", unix.EROFS)
	var number uint32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ptmx), unix.TIOCGPTN, uintptr(unsafe.Pointer(&number))); errno != 0 {
		c.ok("number of the terminal", errno)
	}
	_, err = os.Stat("/dev/pts/" + strconv.Itoa(int(number)))
	c.ok("the terminal in /dev/pts", err)
	return c.result()
}
