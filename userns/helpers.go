package userns

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The reasons for which a helper cannot be used, wrapped by what [FindHelpers]
// returns, so that a caller can name the remedy.
var (
	// ErrNotInstalled: in none of the fixed directories. Debian's package is
	// uidmap, Fedora's shadow-utils-subid, Arch's and Alpine's shadow and
	// shadow-subids.
	ErrNotInstalled = errors.New("not installed")
	// ErrNotPrivileged: installed without the setuid bit or file capability, or
	// where the kernel ignores both (nosuid mount, no_new_privs).
	ErrNotPrivileged = errors.New("would run without privileges")
	// ErrUnsafe: someone else than root can replace or rewrite it.
	ErrUnsafe = errors.New("not only root can change it")
)

// Helpers are the absolute paths of newuidmap(1) and newgidmap(1), the setuid
// programs that write maps of more than one id for an ordinary user.
type Helpers struct {
	NewUIDMap string `json:"newuidmap"`
	NewGIDMap string `json:"newgidmap"`
}

// helperDirs are the only places a helper is looked for. $PATH is not one: in it a
// directory of the user's, or of a program he once ran, may come first. The
// second row is NixOS (/run/wrappers) and Guix (/run/privileged).
func helperDirs() []string {
	return []string{
		"/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin",
		"/run/wrappers/bin", "/run/privileged/bin", "/run/setuid-programs",
	}
}

// FindHelpers looks for both helpers and checks, without running them, that they
// would work: owned and writable by root alone, in a directory of which the same
// holds, and privileged by setuid root or by a file capability. Its errors wrap
// [ErrNotInstalled], [ErrNotPrivileged] or [ErrUnsafe].
func FindHelpers() (Helpers, error) {
	// Under no_new_privs execve(2) drops setuid bits and file capabilities in
	// silence, and the helper's own message, "write to uid_map failed", would
	// put the blame on the map.
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err == nil && nnp == 1 {
		return Helpers{}, fmt.Errorf("use newuidmap: %w: this process has no_new_privs set", ErrNotPrivileged)
	}
	return findHelpers(helperDirs())
}

func findHelpers(dirs []string) (Helpers, error) {
	var h Helpers
	for _, want := range []struct {
		name       string
		capability int
		path       *string
	}{
		{"newuidmap", unix.CAP_SETUID, &h.NewUIDMap},
		{"newgidmap", unix.CAP_SETGID, &h.NewGIDMap},
	} {
		path, err := findTrusted(dirs, want.name)
		if err != nil {
			return Helpers{}, err
		}
		if err := checkPrivileged(path, want.capability); err != nil {
			return Helpers{}, fmt.Errorf("use %s: %w", path, err)
		}
		*want.path = path
	}
	return h, nil
}

// findTrusted returns the real path of the first regular file of that name, with
// all links followed, after checking that only root can change it.
func findTrusted(dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			// What counts is the directory that the target lies in.
			if path, err = filepath.EvalSymlinks(path); err == nil {
				err = unix.Lstat(path, &st)
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
			continue
		case err != nil:
			return "", fmt.Errorf("find %s: %w", path, err)
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			continue
		}
		var parent unix.Stat_t
		if err := unix.Stat(filepath.Dir(path), &parent); err != nil {
			return "", fmt.Errorf("find %s: %w", path, err)
		}
		if err := cmp.Or(checkOnlyRoot(path, &st), checkOnlyRoot(filepath.Dir(path), &parent)); err != nil {
			return "", fmt.Errorf("use %s: %w", path, err)
		}
		return path, nil
	}
	return "", fmt.Errorf("find %s: %w", name, ErrNotInstalled)
}

// checkOnlyRoot reports as [ErrUnsafe] mode bits that let anybody but root write. The
// group bits also bound what an ACL can grant (acl(5), the mask entry). The owner is
// in the text because in a user namespace without the host's root, where setuid bits
// have no effect either, it reads 65534.
func checkOnlyRoot(path string, st *unix.Stat_t) error {
	group := st.Mode&unix.S_IWGRP != 0 && st.Gid != 0
	if st.Uid == 0 && !group && st.Mode&unix.S_IWOTH == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s has owner %d, group %d, mode %04o", ErrUnsafe, path, st.Uid, st.Gid, st.Mode&0o7777)
}

// checkPrivileged reports as [ErrNotPrivileged] a file that execve(2) would start
// without the capability.
func checkPrivileged(path string, capability int) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISUID == 0 && !hasFileCapability(path, capability) {
		return fmt.Errorf("%w: neither setuid root nor with file capabilities", ErrNotPrivileged)
	}
	var mount unix.Statfs_t
	if err := unix.Statfs(path, &mount); err != nil {
		return err
	}
	if mount.Flags&unix.ST_NOSUID != 0 {
		return fmt.Errorf("%w: its file system is mounted nosuid", ErrNotPrivileged)
	}
	return nil
}

// hasFileCapability reads the security.capability attribute, whose layout is struct
// vfs_cap_data of linux/capability.h: a word of revision and flags, then the lower
// permitted set, all little endian.
func hasFileCapability(path string, capability int) bool {
	var data [64]byte
	n, err := unix.Getxattr(path, "security.capability", data[:])
	if err != nil || n < 8 {
		return false
	}
	return binary.LittleEndian.Uint32(data[4:8])&(1<<capability) != 0
}

// Write gives the user namespace of the child pid its maps, and reads them back. It
// is [Helpers.Start] and [Writing.Wait].
func (h Helpers) Write(pid int, uid, gid Map) error {
	w, err := h.Start(forkExec, pid, uid, gid)
	if err != nil {
		return err
	}
	return w.Wait()
}

// Writing is the writing of a child's maps that both helpers are at.
type Writing struct {
	child         process
	uid, gid      Map
	users, groups *mapHelper
}

// Start has both helpers write the maps of the child pid's user namespace, at the same
// time, since each takes 1-2 ms, and does not wait for them. The start is called for
// newuidmap, and then for newgidmap. Who starts has to call [Writing.Wait], once.
//
// The child must be this process's own, cloned with CLONE_NEWUSER and not waited
// for until Wait has returned. The helpers of shadow 4.14 and older take a pid only; newer
// ones also take "fd:N", but nothing short of running one tells which it is, and the failed
// try would cost more than the whole map. It is not needed either: the number of an
// unreaped child cannot be given to another process, so Start and Wait check, before and
// after, that the child is one, and compare through a descriptor of its /proc
// directory that was opened in between. A child that dies meanwhile is an error.
//
// Errors wrap [ErrNotChild], [ErrBadMap], or the errno.
func (h Helpers) Start(start Starter, pid int, uid, gid Map) (*Writing, error) {
	target, err := openChild(hostProc, pid, uid, gid)
	if err != nil {
		return nil, err
	}
	return &Writing{
		child: target, uid: uid, gid: gid,
		users:  startMapHelper(start, mapTimeout, h.NewUIDMap, helperArgs(pid, uid)...),
		groups: startMapHelper(start, mapTimeout, h.NewGIDMap, helperArgs(pid, gid)...),
	}, nil
}

// Wait waits for the helpers, and compares what the kernel holds with what was meant.
// Errors are a [HelperError] where a helper refused, or wrap [ErrNotChild],
// [ErrMapDiffers], or the errno.
func (w *Writing) Wait() error {
	defer w.child.close()
	err := errors.Join(w.users.wait(), w.groups.wait())
	if gone := checkChild(w.child.pid); gone != nil {
		return errors.Join(gone, err)
	}
	if err != nil {
		return err
	}
	if err := w.child.compare(w.uid, w.gid); err != nil {
		return err
	}
	// newgidmap denies setgroups(2) where it sees no subordinate range in the map
	// (CVE-2018-7169), and then the caller's groups could not be dropped.
	setgroups, err := w.child.read("setgroups")
	if err != nil {
		return err
	}
	if string(setgroups) != "allow\n" {
		return fmt.Errorf("write gid map of process %d: %s left setgroups denied: %w", w.child.pid, w.groups.path, syscall.EPERM)
	}
	return nil
}
