package mounts

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// option is one parameter of a file system; flag options have no value.
type option struct{ key, value string }

// tmpfsOptions returns the bounds of a tmpfs; 0 leaves the kernel's default.
func tmpfsOptions(size, inodes int64) []option {
	var options []option
	if size > 0 {
		options = append(options, option{"size", strconv.FormatInt(size, 10)})
	}
	if inodes > 0 {
		options = append(options, option{"nr_inodes", strconv.FormatInt(inodes, 10)})
	}
	return options
}

// newMount makes a file system and returns it as a detached mount with the
// given MOUNT_ATTR_ flags. ENODEV means that the kernel has no such file
// system.
func newMount(fsType string, options []option, attrs int) (int, error) {
	fs, err := newFS(fsType, options)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", fsType, err)
	}
	return fd, nil
}

// newFS makes a file system that is not mounted yet, see fsopen(2), Linux 5.2.
func newFS(fsType string, options []option) (int, error) {
	fs, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", fsType, err)
	}
	for _, o := range options {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fs, o.key)
		} else {
			err = unix.FsconfigSetString(fs, o.key, o.value)
		}
		if err != nil {
			unix.Close(fs)
			return -1, fmt.Errorf("option %s=%s of %s: %w", o.key, o.value, fsType, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		unix.Close(fs)
		return -1, fmt.Errorf("create %s: %w", fsType, err)
	}
	return fs, nil
}

// cloneTree returns a detached copy of the mount at fd, of name below fd when
// that is not empty, and of all mounts below; see open_tree(2), Linux 5.2. The
// copy is recursive because the host's own mounts are locked to each other in
// a new user namespace: a copy without them is refused (EINVAL).
func cloneTree(fd int, name string) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE | unix.AT_SYMLINK_NOFOLLOW)
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	tree, err := unix.OpenTree(fd, name, flags)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return tree, nil
}

// mountID returns the number of the mount that fd is in, as in field 1 of
// /proc/PID/mountinfo, and whether fd is its root; Linux 5.8.
func mountID(fd int) (id uint64, isRoot bool, err error) {
	return mountIDAt(fd, "", unix.AT_EMPTY_PATH)
}

func mountIDAt(fd int, name string, flags int) (id uint64, isRoot bool, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, name, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return 0, false, fmt.Errorf("statx: %w", err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, false, fmt.Errorf("statx without mount id (before Linux 5.8): %w", unix.ENOSYS)
	}
	return st.Mnt_id, st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// retryOpenat2 is openat2(2) that repeats a walk which a concurrent rename or
// mount somewhere on the machine made unsafe to judge (EAGAIN). 128 tries are
// what other users of RESOLVE_IN_ROOT found to be enough under a stress test.
func retryOpenat2(dir int, path string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, &how)
		if (err == unix.EAGAIN || err == unix.EINTR) && try < 128 {
			continue
		}
		return fd, err
	}
}
