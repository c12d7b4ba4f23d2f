package mounts

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// place attaches a detached mount, which it takes over, to m's target by
// descriptor: what is mounted over is exactly what was found (CVE-2021-30465).
// Finish looks at the result once more by path.
func (b *Builder) place(m Mount, mount int, w want, p placed) error {
	done := false
	defer func() {
		if !done {
			unix.Close(mount)
		}
	}()
	at, err := b.find(m.Target, w)
	if err != nil {
		return err
	}
	defer unix.Close(at.fd)
	// Two paths can be one place through a link, which Sort cannot see.
	if i, ours := b.byID[at.id]; ours && at.isRoot {
		return fmt.Errorf("target is already taken by %q: %w", b.placed[i].entry.String(), unix.EEXIST)
	}
	const byDescriptor = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(mount, "", at.fd, "", byDescriptor); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if err := b.settle(m, mount); err != nil {
		return err
	}
	p.id, _, err = mountID(mount)
	if err != nil {
		return err
	}
	p.target, p.entry, p.fd = m.Target, m, -1
	if p.readOnly {
		p.fd, done = mount, true
	}
	b.remember(p)
	return nil
}

// settle gives a mount those attributes that it did not get when it was made.
func (b *Builder) settle(m Mount, mount int) error {
	switch m.Kind {
	case Bind, Device:
		if !b.noSetattr {
			return nil // done by Take
		}
		return b.restrict(mount, m.attrs(), m.Directory)
	case File, Mask, ReadOnly:
		return b.restrict(mount, m.attrs(), m.Kind == ReadOnly)
	case Shared:
		// The private tmpfs is nosuid and nodev, and so are its copies.
		if m.NoExec {
			return b.restrict(mount, unix.MOUNT_ATTR_NOEXEC, false)
		}
	}
	return nil
}

func (b *Builder) remember(p placed) {
	b.byID[p.id] = len(b.placed)
	b.placed = append(b.placed, p)
}

// isOurs refuses a directory that is not the sandbox's own.
func (b *Builder) isOurs(dir found) error {
	if i, ours := b.byID[dir.id]; !ours || b.placed[i].foreign {
		return fmt.Errorf("nothing is made in a directory that is not the sandbox's own: %w", unix.EPERM)
	}
	return nil
}
