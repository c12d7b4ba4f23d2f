package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// bodies run inside, see body.
var bodies = map[string]body{
	"cost":        costBody,
	"ordinary":    func(dir string) error { return ordinaryBody(dir) },
	"ordinaryOld": func(dir string) error { return ordinaryBody(dir, old) },
	"binds":       func(dir string) error { return bindsBody(dir) },
	"bindsOld":    func(dir string) error { return bindsBody(dir, old) },
	"submounts":   func(dir string) error { return submountsBody(dir) },
	"submountsOld": func(dir string) error {
		return submountsBody(dir, old)
	},
	"locked":       func(dir string) error { return lockedBody(dir, "lockedIn") },
	"lockedOld":    func(dir string) error { return lockedBody(dir, "lockedInOld") },
	"lockedIn":     func(dir string) error { return lockedInBody(dir) },
	"lockedInOld":  func(dir string) error { return lockedInBody(dir, old) },
	"slash":        slashBody,
	"swapped":      swappedBody,
	"hostile":      hostileBody,
	"conflicts":    conflictsBody,
	"hidden":       hiddenBody,
	"roots":        rootsBody,
	"frozen":       func(dir string) error { return frozenBody(dir) },
	"frozenOld":    func(dir string) error { return frozenBody(dir, old) },
	"console":      consoleBody,
	"maskedProc":   maskedProcBody,
	"maskedProcIn": maskedProcInBody,
	"payload":      payloadBody,
	"payloadIn":    payloadInBody,
	"guarded":      guardedBody,
	"order":        orderBody,
	"owners":       ownersBody,
}

// The whole table of a usual run does what it says, on new and old kernels.
func TestOrdinary(t *testing.T) {
	for _, name := range []string{"ordinary", "ordinaryOld"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, ordinaryTree...)
			inside(t, name, dir)
			if _, err := os.Stat(filepath.Join(dir, "s/upper/new")); err != nil && overlays() {
				t.Error("what was written inside is not in the upper directory:", err)
			}
		})
	}
}

func ordinaryBody(dir string, change ...func(*Builder)) error {
	root := Root{Method: MethodOverlay, Lower: []string{dir + "/lower"}, Upper: dir + "/s/upper", Work: dir + "/s/work"}
	if err := apply(root, ordinary(), change...); err != nil {
		return err
	}
	c := &checks{}
	c.fails("the host's path", unix.Access(dir, unix.F_OK), unix.ENOENT)
	if wd, err := os.Getwd(); wd != "/" {
		c.ok("working directory", fmt.Errorf("%q, %v", wd, err))
	}
	c.writes("/new")
	for _, path := range []string{"/tmp/x", "/run/x", "/var/tmp/x", "/home/sbx/x", "/box/x", "/dev/shm/x", "/dev/null", "/dev/full"} {
		if path != "/dev/full" {
			c.writes(path)
		} else {
			c.cannotWrite(path, unix.ENOSPC)
		}
	}
	c.cannotWrite("/dev/x", unix.EROFS)
	c.cannotWrite("/etc/hosts", unix.EROFS)
	c.fails("chmod of a device", os.Chmod("/dev/null", 0o600), unix.EROFS, unix.EPERM)
	c.reads("/etc/hostname", "box\n")
	for _, path := range []string{"/", "/tmp", "/proc", "/proc/sys", "/proc/cmdline", "/etc/hosts", "/dev", "/dev/shm"} {
		c.flags(path, unix.ST_NOSUID|unix.ST_NODEV, 0)
	}
	c.flags("/dev/shm", unix.ST_NOEXEC, unix.ST_RDONLY)
	c.flags("/dev/null", unix.ST_NOSUID|unix.ST_NOEXEC, unix.ST_NODEV)
	c.flags("/dev/pts", unix.ST_NOSUID|unix.ST_NOEXEC, unix.ST_NODEV)
	c.flags("/tmp", 0, unix.ST_NOEXEC|unix.ST_RDONLY)
	if info, err := os.Stat("/tmp"); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		c.ok("mode of /tmp", fmt.Errorf("%v, %v", info.Mode(), err))
	}
	c.reads("/proc/cmdline", "")
	c.reads("/proc/self/comm", "mounts.test\n")
	c.cannotWrite("/proc/sys/kernel/shmmax", unix.EROFS)
	c.cannotWrite("/proc/cmdline", unix.EROFS)
	if entries, err := os.ReadDir("/proc/acpi"); len(entries) != 0 {
		c.ok("/proc/acpi", fmt.Errorf("%d entries, %v", len(entries), err))
	}
	for _, path := range []string{"/dev/ptmx", "/dev/fd/0", "/dev/stdout", "/dev/mqueue"} {
		_, err := os.Stat(path)
		c.ok("stat "+path, err)
	}
	// One size for all: 1 MiB in total, wherever it is written.
	half := make([]byte, 600<<10)
	c.ok("fill one half", os.WriteFile("/tmp/half", half, 0o600))
	c.fails("fill the other half", os.WriteFile("/run/half", half, 0o600), unix.ENOSPC)
	data, err := os.ReadFile("/proc/self/mountinfo")
	c.ok("mountinfo", err)
	if strings.Contains(string(data), dir) && overlays() {
		c.ok("mountinfo", errors.New("it tells the store's path"))
	}
	return c.result()
}

// What a process in a further user namespace, as the payload is, can do to
// the table: nothing (SECURITY A1).
func TestPayloadCannotUndo(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, append(ordinaryTree, "file data/secret x")...)
	inside(t, "payload", dir)
}

func payloadBody(dir string) error {
	root := Root{Method: MethodTree, Tree: dir + "/lower"}
	list := append(ordinary(), bind(dir+"/data", "/data", true))
	if err := apply(root, list); err != nil {
		return err
	}
	return again("payloadIn", "/")
}

func payloadInBody(string) error {
	c := &checks{}
	c.fails("unmount a mask", unix.Unmount("/proc/cmdline", unix.MNT_DETACH), unix.EINVAL, unix.EPERM)
	c.fails("unmount /proc", unix.Unmount("/proc", unix.MNT_DETACH), unix.EINVAL, unix.EPERM)
	c.fails("unmount a bind", unix.Unmount("/data", unix.MNT_DETACH), unix.EINVAL, unix.EPERM)
	for name, flags := range map[string]uintptr{"rw": unix.MS_NOSUID | unix.MS_NODEV, "suid": unix.MS_RDONLY | unix.MS_NODEV, "dev": unix.MS_RDONLY | unix.MS_NOSUID} {
		c.fails("remount "+name, unix.Mount("", "/data", "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""), unix.EPERM)
	}
	c.cannotWrite("/data/secret", unix.EROFS)
	_, err := cloneOne("/proc")
	c.fails("a copy of /proc without its masks", err, unix.EINVAL, unix.EPERM)
	return c.result()
}

// cloneOne asks for a copy without the mounts below.
func cloneOne(path string) (int, error) {
	return unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// The calls have an order, and the Builder says so.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "dir root")
	inside(t, "order", dir)
}

func orderBody(dir string) error {
	c := &checks{}
	b, err := Begin(Scratch{})
	if err != nil {
		return err
	}
	c.fails("Pivot before MakeRoot", b.Pivot(), errors.ErrUnsupported)
	c.fails("Attach before Pivot", b.Attach(Mount{Kind: Dir, Target: "/a", Mode: 0o755}), errors.ErrUnsupported)
	c.fails("Finish before Pivot", b.Finish(), errors.ErrUnsupported)
	left := bind(dir+"/root", "/left", true)
	c.ok("Take", b.Take(left))
	c.fails("Take twice", b.Take(left), unix.EEXIST)
	c.ok("MakeRoot", b.MakeRoot(Root{Method: MethodTree, Tree: dir + "/root"}))
	c.fails("Take after MakeRoot", b.Take(bind(dir+"/root", "/other", true)), errors.ErrUnsupported)
	c.fails("MakeRoot twice", b.MakeRoot(Root{}), errors.ErrUnsupported)
	c.ok("Pivot", b.Pivot())
	c.fails("Attach without Take", b.Attach(bind("/", "/other", true)), errors.ErrUnsupported)
	c.fails("Finish with an entry left", b.Finish(), unix.EINVAL)
	c.ok("Attach", b.Attach(left))
	c.ok("Finish", b.Finish())
	c.fails("Attach after Finish", b.Attach(Mount{Kind: Dir, Target: "/a", Mode: 0o755}), errors.ErrUnsupported)
	proc, err := b.PrivateProc()
	c.ok("PrivateProc", err)
	fd, err := unix.Openat(proc, "sys/kernel/hostname", unix.O_RDONLY, 0)
	c.ok("read below the private procfs", err)
	unix.Close(fd)
	c.ok("Close", b.Close())
	c.ok("Close twice", b.Close())
	_, err = b.PrivateProc()
	c.fails("PrivateProc after Close", err, unix.EBADF)
	return c.result()
}

// What has to be made belongs to root of the inside, the rest to whom the
// table says.
func TestOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("cannot: only root maps several ids without a helper")
	}
	dir := t.TempDir()
	tree(t, dir, "dir root", "file src x", "link root/dangling far/away")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 700000, Size: 2000}}
	insideAs(t, "owners", dir, ids, ids)
	for path, want := range map[string]uint32{"made": 700000, "made/link": 700000, "made/file": 700000, "dir": 700041} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, "root", path), &st); err != nil || st.Uid != want || st.Gid != want+1 {
			t.Errorf("%s: %d:%d, %v, want %d", path, st.Uid, st.Gid, err, want)
		}
	}
}

func ownersBody(dir string) error {
	b, err := Begin(Scratch{RootUID: 1, RootGID: 2})
	if err != nil {
		return err
	}
	defer b.Close()
	err = attachAll(b, Root{Method: MethodTree, Tree: dir + "/root"}, []Mount{
		bind(dir+"/src", "/made/file", true),
		{Kind: Symlink, Source: "x", Target: "/made/link"},
		{Kind: Dir, Target: "/dir", Mode: 0o700, UID: 42, GID: 43},
		{Kind: Dir, Target: "/dangling", Mode: 0o1777, UID: 82, GID: 83},
		{Kind: Shared, Target: "/shared", Mode: 0o1777, UID: 52, GID: 53},
		{Kind: Tmpfs, Target: "/tmpfs", Mode: 0o711, UID: 62, GID: 63},
		{Kind: File, Target: "/file", Mode: 0o604, UID: 72, GID: 73},
	})
	if err == nil {
		err = b.Finish()
	}
	if err != nil {
		return err
	}
	c := &checks{}
	for path, want := range map[string]uint32{"/dir": 42<<12 | 0o700, "/far/away": 82<<12 | 0o1777, "/shared": 52<<12 | 0o1777, "/tmpfs": 62<<12 | 0o711, "/file": 72<<12 | 0o604, "/made": 1<<12 | 0o755} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Uid<<12|st.Mode&0o7777 != want || st.Gid != st.Uid+1 {
			c.ok(path, fmt.Errorf("%d:%d %o, %v", st.Uid, st.Gid, st.Mode, err))
		}
	}
	return c.result()
}
