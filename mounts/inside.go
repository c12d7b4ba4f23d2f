package mounts

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// want is what a target has to be.
type want int

const (
	wantAny want = iota
	wantDir
	wantFile // anything but a directory
	wantLink // a symbolic link, not what it leads to; it is never made
)

// maxLinks is the kernel's own bound for links in one path (MAXSYMLINKS).
const maxLinks = 40

// inRoot resolves like chroot(2) would: ".." and absolute links stay inside.
// Absolute links are followed on purpose, since /var/run -> /run is ordinary;
// links of procfs that lead out of any path never are.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Open opens a path of the new root, between Pivot and Finish, with the given
// flags of open(2) and close-on-exec. Links are followed inside only. The
// descriptor is the caller's.
func (b *Builder) Open(path string, flags int) (int, error) {
	if b.phase != attaching {
		return -1, errOrder("Open outside of Pivot and Finish")
	}
	fd, err := retryOpenat2(b.root, path, flags, inRoot)
	if err != nil {
		return -1, fmt.Errorf("open %s inside: %w", quote(path), err)
	}
	return fd, nil
}

// found is a target inside, opened with O_PATH.
type found struct {
	fd     int
	id     uint64 // of the mount that it is in
	isRoot bool   // of that mount
}

// find opens a target inside and makes it, with the directories that lead to
// it, when it is missing.
func (b *Builder) find(target string, w want) (found, error) {
	if w == wantLink {
		return b.findLink(target)
	}
	fd, err := retryOpenat2(b.root, target, unix.O_PATH, inRoot)
	if err == unix.ENOENT {
		fd, err = b.makeLast(target, w)
	}
	if err == unix.ENOENT || err == unix.EEXIST {
		p := walk{b: b, todo: strings.Split(strings.Trim(target, "/"), "/")}
		fd, err = p.run(w)
	}
	if err != nil {
		return found{}, fmt.Errorf("find the target inside: %w", err)
	}
	f, err := look(fd, w)
	if err != nil {
		unix.Close(fd)
		return found{}, err
	}
	return f, nil
}

// findLink opens a link that is there.
func (b *Builder) findLink(target string) (found, error) {
	fd, err := retryOpenat2(b.root, target, unix.O_PATH|unix.O_NOFOLLOW, inRoot)
	if err != nil {
		return found{}, fmt.Errorf("find the link inside: %w", err)
	}
	f, err := look(fd, wantLink)
	if err != nil {
		unix.Close(fd)
	}
	return f, err
}

// look says in which mount fd is, and holds that it is what was wanted.
func look(fd int, w want) (found, error) {
	var st unix.Statx_t
	const mask = unix.STATX_TYPE | unix.STATX_MNT_ID
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, mask, &st); err != nil {
		return found{}, fmt.Errorf("stat the target: %w", err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if w == wantDir && !isDir {
		return found{}, fmt.Errorf("target is a %s inside, not a directory: %w", typeName(uint32(st.Mode)), unix.ENOTDIR)
	}
	if w == wantFile && isDir {
		return found{}, fmt.Errorf("target is a directory inside: %w", unix.EISDIR)
	}
	if w == wantLink && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return found{}, fmt.Errorf("target is no link inside, but a %s: %w", typeName(uint32(st.Mode)), unix.EINVAL)
	}
	return found{fd: fd, id: st.Mnt_id, isRoot: st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0}, nil
}

// makeLast makes a target whose directory is there already, the usual case.
// ENOENT and EEXIST say that it is another case, a dangling link for example.
func (b *Builder) makeLast(target string, w want) (int, error) {
	dirPath, name, _ := splitLast(target)
	dir, err := retryOpenat2(b.root, dirPath, unix.O_PATH|unix.O_DIRECTORY, inRoot)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	err = b.make(dir, name, target, w)
	if errors.Is(err, unix.EEXIST) {
		return -1, unix.EEXIST
	}
	if err != nil {
		return -1, err
	}
	return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// walk goes to a target one component at a time. It reads each link itself:
// what a dangling link names is made where the link points inside, as a
// program in a chroot would do.
type walk struct {
	b     *Builder
	real  string   // how far it has come, without any link
	todo  []string // components that are left
	links int
}

func (p *walk) run(w want) (int, error) {
	for len(p.todo) > 0 {
		name := p.todo[0]
		p.todo = p.todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			p.real = p.real[:max(strings.LastIndexByte(p.real, '/'), 0)]
			continue
		}
		last := w
		if len(p.todo) > 0 {
			last = wantDir
		}
		if err := p.step(name, last); err != nil {
			return -1, err
		}
	}
	return p.open(p.real)
}

// open opens a path that is known to have no links.
func (p *walk) open(path string) (int, error) {
	return retryOpenat2(p.b.root, "/"+path, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

func (p *walk) step(name string, w want) error {
	parent, err := p.open(p.real)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	path := p.real + "/" + name
	fd, err := retryOpenat2(parent, name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if err == unix.ENOENT {
		if err := p.b.make(parent, name, path, w); err != nil {
			return err
		}
		p.real = path
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", quote(path), err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", quote(path), err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return p.follow(fd, path)
	}
	if len(p.todo) > 0 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is a %s inside: %w", quote(path), typeName(st.Mode), unix.ENOTDIR)
	}
	p.real = path
	return nil
}

func (p *walk) follow(fd int, path string) error {
	p.links++
	if p.links > maxLinks {
		return fmt.Errorf("%s: %w", quote(path), unix.ELOOP)
	}
	text, err := readLink(fd)
	if err != nil {
		return fmt.Errorf("read link %s: %w", quote(path), err)
	}
	if strings.HasPrefix(text, "/") {
		p.real = ""
	}
	p.todo = append(strings.Split(text, "/"), p.todo...)
	return nil
}

// readLink reads the link that an O_PATH|O_NOFOLLOW descriptor refers to.
func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	if n == 0 || n == len(buf) {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}

// make makes one mount point, owned by root of the inside. It refuses to make
// one in a directory that is shared with the host: that would leave a trace
// in the user's own files.
func (b *Builder) make(parent int, name, path string, w want) error {
	id, _, err := mountID(parent)
	if err != nil {
		return err
	}
	i, ours := b.byID[id]
	if !ours || b.placed[i].foreign {
		return fmt.Errorf("%s does not exist and would have to be made in a directory that is not the sandbox's own: %w",
			quote(path), unix.ENOENT)
	}
	if w == wantFile {
		err = unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
	} else {
		err = unix.Mkdirat(parent, name, 0o755)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", quote(path), err)
	}
	return b.own(parent, name, b.scratch.RootUID, b.scratch.RootGID)
}

// own gives a file that was just made to its owner. Ids 0 are what it has
// already, and chown might be refused where only one id is mapped.
func (b *Builder) own(parent int, name string, uid, gid uint32) error {
	if uid == 0 && gid == 0 {
		return nil
	}
	if err := unix.Fchownat(parent, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("give %s to %d:%d: %w", quote(name), uid, gid, err)
	}
	return nil
}
