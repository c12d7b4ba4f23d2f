package mounts

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maskSource is the one mount that all masks of a type are copies of: an
// empty file or directory of the private tmpfs with its final attributes. A
// /dev/null of the inside is no source to trust (CVE-2025-31133).
type maskSource struct {
	fd    int // attached on itself in the private tmpfs
	spare int // a detached copy whose target turned out to be absent
}

// index returns the place of a type in Builder.masks.
func index(directory bool) int {
	if directory {
		return 1
	}
	return 0
}

func (b *Builder) prepareMask(directory bool) (*maskSource, error) {
	s := &b.masks[index(directory)]
	if s.fd >= 0 {
		return s, nil
	}
	name := baseEmpty
	if directory {
		name = baseVoid
	}
	fd, err := cloneTree(b.base, name)
	if err != nil {
		return nil, err
	}
	err = unix.MoveMount(fd, "", b.base, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err == nil {
		err = b.restrict(fd, Mount{Kind: Mask}.attrs(), false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("prepare the mask: %w", err)
	}
	s.fd = fd
	return s, nil
}

// copy returns a detached copy, which the caller owns.
func (s *maskSource) copy() (int, error) {
	if s.spare >= 0 {
		fd := s.spare
		s.spare = -1
		return fd, nil
	}
	return cloneTree(s.fd, "")
}

func (b *Builder) attachMask(m Mount) error {
	if name, ok := b.belowProc(m.Target); ok {
		return b.maskProc(m, name)
	}
	at, err := retryOpenat2(b.root, m.Target, unix.O_PATH, inRoot)
	if (err == unix.ENOENT || err == unix.ENOTDIR) && m.Optional {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the target inside: %w", err)
	}
	var st unix.Stat_t
	err = unix.Fstat(at, &st)
	unix.Close(at)
	if err != nil {
		return fmt.Errorf("stat the target: %w", err)
	}
	s, err := b.prepareMask(st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	fd, err := s.copy()
	if err != nil {
		return err
	}
	return b.place(m, fd, wantAny, placed{foreign: true})
}

// maskProc is the short way for names in the inside's procfs. The type in the
// table is tried first and the other one when the kernel refuses it.
func (b *Builder) maskProc(m Mount, name string) error {
	var err error
	for _, directory := range []bool{m.Directory, !m.Directory} {
		var s *maskSource
		if s, err = b.prepareMask(directory); err != nil {
			return err
		}
		var fd int
		if fd, err = s.copy(); err != nil {
			return err
		}
		err = unix.MoveMount(fd, "", b.inside, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err == nil {
			unix.Close(fd)
			b.inProc[m.Target] = m
			return nil
		}
		if s.spare < 0 {
			s.spare = fd
		} else {
			unix.Close(fd)
		}
		if err == unix.ENOENT && m.Optional {
			return nil
		}
		if err != unix.EINVAL && err != unix.ENOTDIR {
			break
		}
	}
	return fmt.Errorf("move_mount: %w", err)
}

// attachReadOnly binds a target on itself.
func (b *Builder) attachReadOnly(m Mount) error {
	at, name := b.inside, ""
	var ok bool
	if name, ok = b.belowProc(m.Target); !ok {
		var err error
		at, err = retryOpenat2(b.root, m.Target, unix.O_PATH, inRoot)
		if err == unix.ENOENT && m.Optional {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find the target inside: %w", err)
		}
		defer unix.Close(at)
	}
	fd, err := cloneTree(at, name)
	if m.Optional && isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if name == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	if err := unix.MoveMount(fd, "", at, name, flags); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if err := b.restrict(fd, m.attrs(), true); err != nil {
		return err
	}
	if at == b.inside {
		b.inProc[m.Target] = m
		return nil
	}
	id, _, err := mountID(fd)
	if err != nil {
		return err
	}
	b.remember(placed{id: id, target: m.Target, entry: m, fd: -1, foreign: true})
	return nil
}
