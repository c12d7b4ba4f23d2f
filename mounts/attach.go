package mounts

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Attach puts an entry on its target in the new root, which is made when it
// is missing, with the directories above it owned by root of the inside. The
// order of calls is that of Sort. Errors: ENOTDIR or EISDIR when the target is
// of the wrong type, EEXIST when another entry is already there (also by way
// of a link), ENOENT when a mount point would have to be made in a directory
// of the host.
func (b *Builder) Attach(m Mount) error {
	if b.phase != attaching {
		return errOrder("Attach outside of Pivot and Finish")
	}
	if err := m.check(); err != nil {
		return err
	}
	if err := b.attach(m); err != nil {
		return fmt.Errorf("%s: %w", m, err)
	}
	return nil
}

func (b *Builder) attach(m Mount) error {
	switch m.Kind {
	case Bind, Device:
		return b.attachTaken(m)
	case Tmpfs, DevPts, Mqueue:
		return b.attachNew(m)
	case Shared:
		return b.attachScratch(m)
	case Proc:
		return b.attachProc(m)
	case Mask:
		return b.attachMask(m)
	case ReadOnly:
		return b.attachReadOnly(m)
	case File:
		return b.attachFile(m)
	case Symlink:
		return b.symlink(m)
	case Dir:
		return b.dir(m)
	}
	return fmt.Errorf("unknown kind: %w", unix.EINVAL)
}

func (b *Builder) attachTaken(m Mount) error {
	tree, ok := b.taken[m.Target]
	if !ok {
		if m.Optional {
			return nil
		}
		return errOrder("Attach without Take")
	}
	delete(b.taken, m.Target)
	w := wantFile
	switch {
	case m.Directory:
		w = wantDir
	case m.Link:
		w = wantLink
	}
	return b.place(m, tree, w, placed{foreign: true, tree: m.Directory, device: m.Kind == Device, link: m.Link})
}

// attachNew mounts a file system that does not need the old root.
func (b *Builder) attachNew(m Mount) error {
	attrs := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	var options []option
	p := placed{}
	switch m.Kind {
	case Tmpfs:
		options = append(tmpfsOptions(m.Size, m.Inodes),
			option{"mode", fmt.Sprintf("%#o", m.Mode)}, option{"uid", fmt.Sprint(m.UID)}, option{"gid", fmt.Sprint(m.GID)})
		p.readOnly = m.ReadOnly
		if m.NoExec {
			attrs |= unix.MOUNT_ATTR_NOEXEC
		}
	case DevPts:
		// A pts file system holds the devices that it makes itself, so it is
		// the second exception from nodev.
		options = []option{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}
		attrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
		p.device, p.foreign = true, true
	case Mqueue:
		attrs |= unix.MOUNT_ATTR_NOEXEC
		p.foreign = true
	}
	fd, err := newMount(string(m.Kind), options, attrs)
	if err != nil {
		if m.Optional && errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	}
	return b.place(m, fd, wantDir, p)
}

// attachScratch makes a directory in the private tmpfs and binds it.
func (b *Builder) attachScratch(m Mount) error {
	name := baseScratch + "/" + b.nextName()
	if err := unix.Mkdirat(b.base, name, m.Mode); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	if err := b.own(b.base, name, m.UID, m.GID); err != nil {
		return err
	}
	fd, err := cloneTree(b.base, name)
	if err != nil {
		return err
	}
	return b.place(m, fd, wantDir, placed{readOnly: m.ReadOnly})
}

// attachFile writes a generated file to the private tmpfs and binds it.
func (b *Builder) attachFile(m Mount) error {
	name := baseFiles + "/" + b.nextName()
	fd, err := unix.Openat(b.base, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, m.Mode)
	if err != nil {
		return fmt.Errorf("make the file: %w", err)
	}
	for rest := m.Content; len(rest) > 0 && err == nil; {
		var n int
		n, err = unix.Write(fd, rest)
		rest = rest[max(n, 0):]
	}
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	if err := b.own(b.base, name, m.UID, m.GID); err != nil {
		return err
	}
	tree, err := cloneTree(b.base, name)
	if err != nil {
		return err
	}
	return b.place(m, tree, wantFile, placed{foreign: true})
}

func (b *Builder) symlink(m Mount) error {
	parentPath, name, _ := splitLast(m.Target)
	parent, err := b.find(parentPath, wantDir)
	if err != nil {
		return err
	}
	defer unix.Close(parent.fd)
	fd, err := retryOpenat2(parent.fd, name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if err == nil {
		defer unix.Close(fd)
		if text, err := readLink(fd); err == nil && text == m.Source {
			return nil
		}
		return fmt.Errorf("target exists inside: %w", unix.EEXIST)
	}
	if err := b.isOurs(parent); err != nil {
		return err
	}
	if err := unix.Symlinkat(m.Source, parent.fd, name); err != nil {
		return fmt.Errorf("symlinkat: %w", err)
	}
	return b.own(parent.fd, name, b.scratch.RootUID, b.scratch.RootGID)
}

// dir makes a directory of the root itself; one that exists stays as it is.
func (b *Builder) dir(m Mount) error {
	fd, err := retryOpenat2(b.root, m.Target, unix.O_PATH, inRoot)
	if err == nil {
		defer unix.Close(fd)
		_, err := look(fd, wantDir)
		return err
	}
	if err != unix.ENOENT {
		return fmt.Errorf("find the target inside: %w", err)
	}
	parentPath, name, _ := splitLast(m.Target)
	parent, err := b.find(parentPath, wantDir)
	if err != nil {
		return err
	}
	defer unix.Close(parent.fd)
	if err := b.isOurs(parent); err != nil {
		return err
	}
	err = unix.Mkdirat(parent.fd, name, m.Mode)
	if errors.Is(err, unix.EEXIST) {
		return b.dirBehind(m)
	}
	if err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	return b.own(parent.fd, name, m.UID, m.GID)
}

// dirBehind makes a directory where a link stands that leads to nothing.
func (b *Builder) dirBehind(m Mount) error {
	made, err := b.find(m.Target, wantDir)
	if err != nil {
		return err
	}
	defer unix.Close(made.fd)
	fd, err := unix.Openat(made.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, m.Mode); err != nil {
		return fmt.Errorf("set the mode of the directory: %w", err)
	}
	return b.own(fd, ".", m.UID, m.GID)
}

// AttachFile binds the file behind fd, typically the slave of a
// pseudo-terminal of the inside on /dev/console, on a target between Pivot and
// Finish. The file must be on a mount of this namespace.
func (b *Builder) AttachFile(fd int, target string) error {
	if b.phase != attaching {
		return errOrder("AttachFile outside of Pivot and Finish")
	}
	m := Mount{Kind: Device, Source: "descriptor " + fmt.Sprint(fd), Target: target}
	tree, err := cloneTree(fd, "")
	if err == nil {
		err = b.place(m, tree, wantFile, placed{foreign: true, device: true})
	}
	if err != nil {
		return fmt.Errorf("attach descriptor %d on %s: %w", fd, quote(target), err)
	}
	return nil
}
