package userns

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotChild is wrapped when a process is not a living child of this one that
	// nobody has waited for, the condition under which its pid is sure to be its.
	ErrNotChild = errors.New("not a living child of this process")
	// ErrMapDiffers is wrapped when the kernel holds another map than was meant.
	ErrMapDiffers = errors.New("the kernel holds another id map")
)

// WriteDirect writes the maps of the child pid without helpers and reads them back.
// Who may is in user_namespaces(7). Here it is:
//
//   - an ordinary user, one extent of one id that is his own, denySetgroups set;
//   - real root, anything;
//   - the first process of U1, for the maps of U2: it needs CAP_SETUID and
//     CAP_SETGID in U1, and, where id 0 of U1 is mapped (keep-id), from Linux 5.12
//     on CAP_SETFCAP too. /proc must be mounted.
//
// denySetgroups writes "deny" to /proc/PID/setgroups first. Without a capability
// the kernel demands that (Linux 3.19, CVE-2014-8989), and from then on groups can
// no longer be dropped inside: see [SurvivingGroups].
//
// The child must be unreaped, as for [Helpers.Write]. Errors wrap the errno,
// [ErrNotChild], [ErrBadMap] or [ErrMapDiffers].
func WriteDirect(pid int, uid, gid Map, denySetgroups bool) error {
	return WriteDirectIn(hostProc, pid, uid, gid, denySetgroups)
}

// hostProc is the procfs of the mount namespace, as a directory for openat(2).
const hostProc = -1

// WriteDirectIn is [WriteDirect] through the procfs that is open as proc, for a
// process whose /proc was made for somebody else: pid 1 of a sandbox keeps one of
// its own, for the payload's has masks and is what the payload sees (CVE-2025-52881).
func WriteDirectIn(proc, pid int, uid, gid Map, denySetgroups bool) error {
	target, err := openChild(proc, pid, uid, gid)
	if err != nil {
		return err
	}
	defer target.close()
	if denySetgroups {
		if err := target.write("setgroups", "deny"); err != nil {
			return err
		}
	}
	if err := target.write("gid_map", gid.String()); err != nil {
		return err
	}
	if err := target.write("uid_map", uid.String()); err != nil {
		return err
	}
	return target.compare(uid, gid)
}

// ReadBack compares the maps of process pid, as seen from this process's user
// namespace, with those that were meant, and wraps [ErrMapDiffers] if they are
// others. The caller must know that the pid is still that of the process he means.
func ReadBack(pid int, uid, gid Map) error {
	target, err := openProcess(hostProc, pid)
	if err != nil {
		return err
	}
	defer target.close()
	return target.compare(uid, gid)
}

// OwnMaps reads the maps of the namespace this process is in, as its parent
// namespace sees them. In the initial one both are "0 0 4294967295".
func OwnMaps() (uid, gid Map, err error) {
	self, err := openProcess(hostProc, unix.Getpid())
	if err != nil {
		return nil, nil, err
	}
	defer self.close()
	if uid, err = self.readMap("uid_map"); err != nil {
		return nil, nil, err
	}
	gid, err = self.readMap("gid_map")
	return uid, gid, err
}

// process is one process, held by a descriptor of its /proc directory: once the
// process is gone that descriptor leads to nothing, never to a successor of the
// same number.
type process struct {
	pid int
	dir int
}

// openChild checks the maps and the pid before anything is done.
func openChild(proc, pid int, uid, gid Map) (process, error) {
	if err := errors.Join(uid.Validate(), gid.Validate()); err != nil {
		return process{}, fmt.Errorf("write id maps of process %d: %w", pid, err)
	}
	target, err := openProcess(proc, pid)
	if err != nil {
		return process{}, err
	}
	// After the open: a child now was the same child when its directory was opened.
	if err := checkChild(pid); err != nil {
		target.close()
		return process{}, err
	}
	return target, nil
}

// checkChild looks with waitid(2), which WNOWAIT keeps from reaping anything.
func checkChild(pid int) error {
	if pid <= 0 { // waitid would look at a process group or at every child
		return fmt.Errorf("write id maps of process %d: %w", pid, ErrNotChild)
	}
	var info unix.Siginfo
	err := ignoringEINTR(func() error {
		return unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	})
	if err != nil {
		return fmt.Errorf("write id maps of process %d: %w: %w", pid, ErrNotChild, err)
	}
	if info.Signo != 0 {
		return fmt.Errorf("write id maps of process %d: %w: it has ended", pid, ErrNotChild)
	}
	return nil
}

// openProcess refuses a /proc that is something else than procfs: a directory of
// that name with a uid_map in it would make every comparison true.
func openProcess(proc, pid int) (process, error) {
	path := "/proc/" + strconv.Itoa(pid)
	name := path
	if proc >= 0 {
		name = strconv.Itoa(pid)
	}
	dir, err := unix.Openat(proc, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, fmt.Errorf("open %s: %w", path, err)
	}
	target := process{pid: pid, dir: dir}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err != nil {
		target.close()
		return process{}, fmt.Errorf("open %s: %w", path, err)
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		target.close()
		return process{}, fmt.Errorf("open %s: not a procfs: %w", path, unix.ENOTSUP)
	}
	return target, nil
}

func (p process) close() { _ = unix.Close(p.dir) }

// write hands over the whole text in one call: the kernel takes a map only once and
// only from offset 0.
func (p process) write(name, text string) error {
	fd, err := unix.Openat(p.dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
		_ = unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("write %q to /proc/%d/%s: %w", text, p.pid, name, err)
	}
	return nil
}

// read reads up to maxMapBytes+1 bytes, one more than ParseMap accepts.
func (p process) read(name string) ([]byte, error) {
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc/%d/%s: %w", p.pid, name, err)
	}
	defer unix.Close(fd)
	text := make([]byte, 0, maxMapBytes+1)
	for len(text) < cap(text) {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil, fmt.Errorf("read /proc/%d/%s: %w", p.pid, name, err)
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	return text, nil
}

func (p process) readMap(name string) (Map, error) {
	text, err := p.read(name)
	if err != nil {
		return nil, err
	}
	m, err := ParseMap(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read /proc/%d/%s: %w", p.pid, name, err)
	}
	return m, nil
}

func (p process) compare(uid, gid Map) error {
	for _, want := range []struct {
		name string
		m    Map
	}{{"uid_map", uid}, {"gid_map", gid}} {
		got, err := p.readMap(want.name)
		if err != nil {
			return err
		}
		if !got.Equal(want.m) {
			return fmt.Errorf("compare /proc/%d/%s: %w: %q, not %q", p.pid, want.name, ErrMapDiffers, got, want.m)
		}
	}
	return nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
