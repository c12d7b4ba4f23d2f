package landlock

import "golang.org/x/sys/unix"

// Access is what a rule grants below its path, a set of the constants here. A directory's rule is for everything below it.
type Access uint8

const (
	// Read is reading and executing files and listing directories.
	Read Access = 1 << iota
	// Write is Read, and writing, truncating, making, removing and renaming files of every kind, from Linux 5.19 on across directories that
	// both have it.
	Write
	// Device is opening files for reading and writing, listing their directory, and every ioctl on device files among them. Without it a
	// device, a terminal for example, still takes the few requests that every file takes.
	Device
	// Socket is connecting to Unix sockets that have a name here and were made outside the sandbox. Kernels before Linux 7.1 allow that
	// everywhere, and mounts must hold it off.
	Socket
)

// Rights of ABI 1, without those that came later.
const (
	readRights  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeRights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
)

// fileRights are those that a rule on anything but a directory may have; the kernel refuses others with EINVAL, see landlock_add_rule(2).
const fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
	unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX

// rights returns the kernel's rights for the access, of all ABIs.
func (a Access) rights() uint64 {
	var r uint64
	if a&(Read|Write) != 0 {
		r |= readRights
	}
	if a&Write != 0 {
		r |= writeRights | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if a&Device != 0 {
		r |= unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
			unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if a&Socket != 0 {
		r |= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	}
	return r
}
