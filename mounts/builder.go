package mounts

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Names in the private tmpfs. The payload sees them only as the "root" field
// of its mountinfo.
const (
	baseRoot    = "root"    // where the new root is mounted until Finish
	baseProc    = "proc"    // the procfs that pid 1 works with
	baseScratch = "scratch" // one directory per Shared entry
	baseFiles   = "files"   // one file per File entry
	baseEmpty   = "empty"   // the file behind every mask of a file
	baseVoid    = "void"    // the directory behind every mask of a directory
)

// phase is how far a Builder has come: the order of calls is not free.
type phase int

const (
	taking    phase = iota // the old root is visible
	rooted                 // the new root is mounted below the private tmpfs
	attaching              // the private tmpfs is /, the old root is gone
	finished
)

// Builder is the live state of a mount table inside pid 1, see the package
// comment for the order of its calls. It is not safe for concurrent use.
type Builder struct {
	scratch Scratch
	phase   phase
	umask   int
	base    int    // the private tmpfs
	proc    int    // a procfs without masks, later mounted on baseProc
	root    int    // the new root
	inside  int    // the procfs of the inside, -1 until attached
	procID  uint64 // and its mount
	based   bool
	// noSetattr: the kernel is older than mount_setattr(2), so attributes are
	// set after attaching.
	noSetattr bool
	next      int            // number of the next scratch directory or file
	taken     map[string]int // detached mounts of the host, by target
	placed    []placed
	byID      map[uint64]int   // index in placed, by mount id
	masks     [2]maskSource    // for files and for directories
	inProc    map[string]Mount // masks in the procfs of the inside, by target
}

// placed is one mount of the new root.
type placed struct {
	id       uint64
	target   string
	entry    fmt.Stringer // what the table calls it
	fd       int          // -1 unless something is left to be done in Finish
	foreign  bool         // holds files of the host: nothing is created in it
	tree     bool         // may have further mounts of the host below it
	readOnly bool         // made read-only in Finish
	device   bool         // the one kind of mount without nodev
	link     bool         // on a symbolic link, which is not followed
}

// Begin makes the propagation of all mounts private, so that neither half
// sees the other's later mounts, and prepares the private tmpfs and a procfs
// of the calling process's pid namespace. The file mode creation mask is 0
// until Finish or Close. The error wraps ErrMaskedProc when the kernel refuses
// a procfs; EPERM elsewhere means that CAP_SYS_ADMIN is missing.
func Begin(scratch Scratch) (*Builder, error) {
	b := &Builder{
		scratch: scratch, base: -1, proc: -1, root: -1, inside: -1,
		taken: map[string]int{}, byID: map[uint64]int{}, inProc: map[string]Mount{}, umask: unix.Umask(0),
	}
	for i := range b.masks {
		b.masks[i] = maskSource{fd: -1, spare: -1}
	}
	if err := b.begin(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Builder) begin() error {
	// The copy of the host's namespace receives the host's later mounts as a
	// slave, see "less privileged" in mount_namespaces(7).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	options := append(tmpfsOptions(b.scratch.Size, b.scratch.Inodes), option{"mode", "0711"})
	const attrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	var err error
	// In larger blocks where a file has them whole, so that no memory is lost: the
	// program is copied here, which takes a third of the time (tmpfs(5); in blocks
	// of less than 2 MiB since Linux 6.14).
	b.base, err = newMount("tmpfs", append(options, option{"huge", "within_size"}), attrs)
	if errors.Is(err, unix.EINVAL) {
		// A kernel without huge pages.
		b.base, err = newMount("tmpfs", options, attrs)
	}
	if err != nil {
		return fmt.Errorf("mount the private tmpfs: %w", err)
	}
	for _, name := range []string{baseRoot, baseProc, baseScratch, baseFiles, baseVoid} {
		if err := unix.Mkdirat(b.base, name, 0o755); err != nil {
			return fmt.Errorf("fill the private tmpfs: %w", err)
		}
	}
	if err := unix.Mknodat(b.base, baseEmpty, unix.S_IFREG|0o444, 0); err != nil {
		return fmt.Errorf("fill the private tmpfs: %w", err)
	}
	if b.proc, err = newProc(); err != nil {
		return fmt.Errorf("mount a procfs: %w", err)
	}
	return nil
}

// attachBase puts the private tmpfs over the old root's own root directory:
// the one place that exists, is a directory and is no link on every host. The
// process keeps seeing the old root below it, since its root is not moved. It
// happens as late as possible, because a recursive bind of / taken afterwards
// would contain the tmpfs.
func (b *Builder) attachBase() error {
	if b.based {
		return nil
	}
	if err := unix.MoveMount(b.base, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach the private tmpfs: %w", err)
	}
	b.based = true
	if err := unix.MoveMount(b.proc, "", b.base, baseProc, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach the private procfs: %w", err)
	}
	return nil
}

// Pivot makes the private tmpfs the root of the process and its namespace,
// and detaches the old root with everything below it. No path of the host can
// be reached afterwards except through descriptors that the caller still has.
func (b *Builder) Pivot() error {
	if b.phase != rooted {
		return errOrder("Pivot before MakeRoot")
	}
	if err := pivot(b.base); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	b.phase = attaching
	return nil
}

// pivot makes the mount of newRoot the root and detaches the old one, by
// pivot_root(".", "."), which needs no directory for the old root; see the
// notes of pivot_root(2).
func pivot(newRoot int) error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	if err := unix.Fchdir(newRoot); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	// The old root is now on top of the new one.
	if err := unix.Fchdir(old); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	return unix.Chdir("/")
}

// PrivateProc returns a descriptor of the root of a procfs that no path of
// the inside leads to and that has no masks, for pid 1's own reading and
// writing below it. It belongs to the Builder and is closed by Close. The
// payload's /proc is never the right place for that: CVE-2025-52881.
func (b *Builder) PrivateProc() (int, error) {
	if b.proc < 0 {
		return -1, fmt.Errorf("private procfs: %w", unix.EBADF)
	}
	return b.proc, nil
}

// Close closes every descriptor that the Builder still has and restores the
// file mode creation mask. Mounts stay as they are: a namespace that was left
// half-made ends with its pid 1.
func (b *Builder) Close() error {
	for _, fd := range b.taken {
		unix.Close(fd)
	}
	for i := range b.placed {
		b.placed[i].release()
	}
	fds := []*int{&b.base, &b.proc, &b.root, &b.inside}
	for i := range b.masks {
		fds = append(fds, &b.masks[i].fd, &b.masks[i].spare)
	}
	for _, fd := range fds {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	clear(b.taken)
	b.restoreUmask()
	return nil
}

func (b *Builder) restoreUmask() {
	if b.umask >= 0 {
		unix.Umask(b.umask)
		b.umask = -1
	}
}

func (p *placed) release() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

// nextName returns a name that is unused in the private tmpfs.
func (b *Builder) nextName() string {
	b.next++
	return strconv.Itoa(b.next)
}

// errOrder reports a call that the package comment's order does not allow.
func errOrder(what string) error {
	return fmt.Errorf("mounts: wrong order of calls: %s: %w", what, errors.ErrUnsupported)
}
