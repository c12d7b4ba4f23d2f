package mounts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Finish makes the new root the root of the process and its namespace, takes
// the private tmpfs out of sight (its scratch directories and files live on),
// makes read-only what has to be, and verifies that each target is the mount
// that was put there and that the namespace holds nothing else. The working
// directory is / afterwards.
func (b *Builder) Finish() error {
	if b.phase != attaching {
		return errOrder("Finish before Pivot")
	}
	for fd := range b.taken {
		return fmt.Errorf("mounts: %s was taken and never attached: %w", quote(fd), unix.EINVAL)
	}
	for i := range b.placed {
		p := &b.placed[i]
		if !p.readOnly {
			continue
		}
		fd := p.fd
		if p.target == "/" {
			fd = b.root
		}
		if err := b.restrict(fd, unix.MOUNT_ATTR_RDONLY, false); err != nil {
			return fmt.Errorf("%s: make read-only: %w", p.entry, err)
		}
		p.release()
	}
	if err := pivot(b.root); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	b.phase = finished
	b.restoreUmask()
	if err := b.verifyTargets(); err != nil {
		return err
	}
	return b.verifyTable()
}

// verifyTargets holds that each path leads to the mount that was put there:
// none was hidden by a later entry or went elsewhere (CVE-2021-30465).
func (b *Builder) verifyTargets() error {
	for _, p := range b.placed {
		flags := 0
		if p.link {
			flags = unix.AT_SYMLINK_NOFOLLOW
		}
		id, isRoot, err := mountIDAt(unix.AT_FDCWD, p.target, flags)
		if err != nil {
			return fmt.Errorf("%s: look at the result: %w", p.entry, err)
		}
		if id == p.id && isRoot {
			continue
		}
		by := "something else"
		if i, ours := b.byID[id]; ours {
			by = strconv.Quote(b.placed[i].entry.String())
		}
		return fmt.Errorf("%s: target is hidden by %s: %w", p.entry, by, unix.ESTALE)
	}
	return nil
}

// verifyTable reads the mount table once, from the private procfs: every
// mount must be one of ours or lie below a bind, be nosuid and, devices apart,
// nodev. The masks, which are many, are known by their place in the procfs.
func (b *Builder) verifyTable() error {
	table, err := b.mountTable()
	if err != nil {
		return err
	}
	parents := make(map[uint64]uint64, len(table))
	for _, m := range table {
		parents[m.id] = m.parent
	}
	found := 0
	for _, m := range table {
		if _, isMask := b.inProc[m.point]; isMask && m.parent == b.procID {
			found++
			continue
		}
		p, err := b.origin(m.id, parents)
		if err != nil {
			return fmt.Errorf("verify the mount on %s: %w", quote(m.point), err)
		}
		if p.id == m.id {
			found++
		}
		err = verifyFlags(m.options, p.device)
		if err != nil && p.id != m.id && covered(table)[m.id] {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: verify the mount on %s: %w", p.entry, quote(m.point), err)
		}
	}
	if found != len(b.placed)+len(b.inProc) {
		return fmt.Errorf("verify the mounts: %d of %d are there: %w", found, len(b.placed)+len(b.inProc), unix.ESTALE)
	}
	return nil
}

var errUnexpected = errors.New("a mount that is not in the table")

// origin returns the entry that a mount comes from.
func (b *Builder) origin(id uint64, parents map[uint64]uint64) (*placed, error) {
	if i, ours := b.byID[id]; ours {
		return &b.placed[i], nil
	}
	// What was mounted below the host's directory came along with it.
	for steps := 0; steps <= len(parents); steps++ {
		parent, known := parents[id]
		if !known {
			break
		}
		if i, ours := b.byID[parent]; ours {
			if b.placed[i].tree {
				return &b.placed[i], nil
			}
			break
		}
		id = parent
	}
	return nil, errUnexpected
}

func verifyFlags(options string, device bool) error {
	nosuid, nodev := false, device
	for option := range strings.SplitSeq(options, ",") {
		nosuid = nosuid || option == "nosuid"
		nodev = nodev || option == "nodev"
	}
	if !nosuid || !nodev {
		return fmt.Errorf("it is not nosuid and nodev (%s): %w", options, unix.EPERM)
	}
	return nil
}
