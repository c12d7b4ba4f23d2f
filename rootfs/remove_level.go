package rootfs

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// push opens the directory name below dirfd as the next level. It is false when
// the directory stays. One that is gone, perhaps since it was empty and could be
// removed although not opened, is no new level either.
func (r *remover) push(dirfd int, name string) bool {
	fd, err := openPrivate(dirfd, name)
	if err != nil {
		if unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR) == nil || errors.Is(err, unix.ENOENT) {
			return true
		}
		r.refuse(dirfd, name, err)
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		r.refuse(dirfd, name, err)
		return false
	}
	if st.Ino == subvolumeInode {
		thaw(fd)
	}
	if st.Mode&0o700 != 0o700 {
		// Without effect on a directory of someone else; the unlink says so.
		_ = unix.Fchmod(fd, 0o700)
	}
	r.levels = append(r.levels, level{
		fd: fd, name: name, dev: st.Dev, ino: st.Ino, foreign: int(st.Uid) != r.euid,
	})
	if len(r.levels)-r.open > openLevels {
		outer := &r.levels[r.open]
		unix.Close(outer.fd)
		outer.fd, outer.pending = -1, nil
		r.open++
	}
	return true
}

// pop leaves the innermost level and removes it from the one above.
func (r *remover) pop() {
	last := len(r.levels) - 1
	r.levels[last].gather()
	top := r.levels[last]
	above := r.base
	if last > 0 {
		if err := r.reopen(last-1, top.fd); err != nil {
			r.fail(&r.levels[last], "..", err)
			r.stop.Store(true)
			return
		}
		above = r.levels[last-1].fd
	}
	err := ignoringEINTR(func() error { return unix.Unlinkat(above, top.name, unix.AT_REMOVEDIR) })
	if errors.Is(err, unix.ENOTEMPTY) && top.removed {
		// Some file systems skip entries when others are deleted while they
		// are listed: begin again, as long as that gets us further.
		if _, err := unix.Seek(top.fd, 0, unix.SEEK_SET); err == nil {
			r.levels[last].removed, r.levels[last].pending = false, nil
			return
		}
	}
	unix.Close(top.fd)
	r.levels = r.levels[:last]
	r.open = min(r.open, max(last-1, 0))
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		if last > 0 {
			r.levels[last-1].removed = true
		}
	case last > 0:
		r.fail(&r.levels[last-1], top.name, err)
	default:
		r.stays = true
		r.refuse(r.base, r.name, err)
	}
}

// reopen makes sure that level i has a descriptor, by going up from the one
// below it, and that it is the directory that was come through on the way down.
func (r *remover) reopen(i, below int) error {
	l := &r.levels[i]
	if l.fd >= 0 {
		return nil
	}
	fd, err := openat(below, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	if st.Dev != l.dev || st.Ino != l.ino {
		unix.Close(fd)
		return explain(unix.ESTALE, "the directory was moved while it was being removed")
	}
	l.fd, r.open = fd, i
	return nil
}

// openPrivate opens the directory name for reading, without following a link or
// entering a mount. One without permissions is given 0700 first, through a
// descriptor, so that no other file can be hit.
func openPrivate(dirfd int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	}
	fd, err := openat2(dirfd, name, &how)
	if !errors.Is(err, unix.EACCES) {
		return fd, err
	}
	how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	handle, err := openat2(dirfd, name, &how)
	if err != nil {
		return -1, err
	}
	defer unix.Close(handle)
	if err := chmodHandle(handle, 0o700); err != nil {
		return -1, err
	}
	return openat(handle, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// chmodHandle is fchmod(2) for an O_PATH descriptor: fchmodat2(2) from Linux
// 6.6 on, before that the link in /proc/self/fd.
func chmodHandle(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	}
	return err
}

// Subvolumes of btrfs (linux/btrfs.h). Whoever may write to a directory can make
// one in it, and its owner can make it read-only; rmdir(2) removes an empty one
// from Linux 4.18 on.
const (
	subvolumeInode     = 256 // BTRFS_FIRST_FREE_OBJECTID, of the top of each
	btrfsSubvolGetFlag = 2<<30 | 8<<16 | 0x94<<8 | 25
	btrfsSubvolSetFlag = 1<<30 | 8<<16 | 0x94<<8 | 26
	btrfsSubvolRdonly  = 1 << 1
)

// thaw lets a read-only subvolume be written. What is none, or someone else's,
// stays as it is, and the removal says what is wrong.
func thaw(fd int) {
	var flags [8]byte
	if subvolumeFlags(fd, btrfsSubvolGetFlag, &flags) != nil {
		return
	}
	if now := binary.NativeEndian.Uint64(flags[:]); now&btrfsSubvolRdonly != 0 {
		binary.NativeEndian.PutUint64(flags[:], now&^btrfsSubvolRdonly)
		_ = subvolumeFlags(fd, btrfsSubvolSetFlag, &flags)
	}
}

func subvolumeFlags(fd int, request uintptr, flags *[8]byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(flags))); errno != 0 {
		return errno
	}
	return nil
}
