package initproc

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/internal/seccomp"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// holdSandbox keeps the sandbox's directory reachable after the host's root is
// gone: as a mount of that directory alone, so that no ".." leads out of it.
func (p *process) holdSandbox() error {
	fd, err := unix.OpenTree(int(p.sandbox.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		// The descriptor is of the supervisor's mount namespace; by its path
		// the same directory is in ours.
		fd, err = unix.OpenTree(unix.AT_FDCWD, p.plan.Root.Sandbox, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("hold %q: %w", p.plan.Root.Sandbox, err)
	}
	p.dir = fd
	return nil
}

// copyProgram puts the program and the libraries that the image lacks in their
// places. The program was opened once, by the supervisor (SECURITY J7).
func (p *process) copyProgram() error {
	root, err := p.newRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	for i, lib := range p.plan.Program.Libraries {
		if err := p.copyLibrary(root, lib, os.NewFile(uintptr(p.libs[i]), lib.File)); err != nil {
			return err
		}
	}
	uid, gid := p.payloadIDs()
	dst, err := p.create(root, p.plan.Program.Inside, uid, gid, true)
	if err != nil {
		return err
	}
	defer dst.Close()
	src := os.NewFile(uintptr(p.program), p.plan.Program.Host)
	defer src.Close()
	if p.plan.Program.Hash {
		p.sha256, err = copyHashed(dst, src)
	} else {
		err = copyFile(dst, src)
	}
	if err != nil {
		return err
	}
	return seal(dst, 0o755)
}

// copyFile copies src whole.
func copyFile(dst, src *os.File) error {
	file, err := rootfs.ProgramFromFile(src, src.Name())
	if err != nil {
		return err
	}
	return file.CopyUnhashed(dst)
}

// copyHashed is copyFile, and returns the SHA-256 of what was written.
func copyHashed(dst, src *os.File) (sum string, err error) {
	file, err := rootfs.ProgramFromFile(src, src.Name())
	if err != nil {
		return "", err
	}
	return file.CopyTo(dst)
}

func (p *process) copyLibrary(root *rootfs.Root, lib rootfs.Library, src *os.File) error {
	defer src.Close()
	owner := p.plan.Identity.Layout.Root()
	dst, err := p.create(root, lib.Inside, int(owner.UID), int(owner.GID), lib.Replaces)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := copyFile(dst, src); err != nil {
		return err
	}
	return seal(dst, 0o755)
}

// seal gives the file its mode last: until then nobody can run half of it.
func seal(f *os.File, mode uint32) error {
	if err := unix.Fchmod(int(f.Fd()), mode); err != nil {
		return fmt.Errorf("set the mode of %q: %w", f.Name(), err)
	}
	return nil
}

// newRoot is the sandbox's root, reached through the descriptor that the mounts
// were made on.
func (p *process) newRoot() (*rootfs.Root, error) {
	fd, err := p.builder.Open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open the new root: %w", err)
	}
	return rootfs.RootFromFile(os.NewFile(uintptr(fd), "/"), "/"), nil
}

// create makes a new file of mode 0600 inside, and the directories above it. With
// replace a file that is there goes: an imported image may have one of its own in
// /box. So it does in a kept sandbox: it is that of the run before, or whatever
// its program has put in the place.
func (p *process) create(root *rootfs.Root, name string, uid, gid int, replace bool) (*os.File, error) {
	if err := p.makeParent(name); err != nil {
		return nil, err
	}
	fd, err := p.createIn(root, name, replace || p.plan.Root.Again)
	if err != nil {
		return nil, fmt.Errorf("create %q: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := unix.Fchown(fd, uid, gid); err != nil {
		f.Close()
		return nil, fmt.Errorf("give %q to its owner: %w", name, err)
	}
	return f, nil
}

// createIn makes the file in a directory of the sandbox's own. A link of the
// tree may lead to a directory that is shared with the host (SECURITY C3).
func (p *process) createIn(root *rootfs.Root, name string, replace bool) (int, error) {
	dir, err := root.OpenFD(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	if err := p.builder.Own(dir); err != nil {
		return -1, err
	}
	if replace {
		if err := unix.Unlinkat(dir, path.Base(name), 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return -1, err
		}
	}
	return unix.Openat(dir, path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}

func (p *process) makeParent(name string) error {
	dir := path.Dir(name)
	if dir == "/" || dir == "." {
		return nil
	}
	owner := p.plan.Identity.Layout.Root()
	return p.builder.Attach(mounts.Mount{Kind: mounts.Dir, Target: dir, Mode: 0o755, UID: owner.UID, GID: owner.GID, Directory: true})
}

// copyIn copies one --copy-in, which was opened while the host was in reach.
func (p *process) copyIn(index int) error {
	job := p.plan.CopyIn[index]
	src := os.NewFile(uintptr(p.held[index]), job.Source)
	defer src.Close()
	root, err := p.newRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	uid, gid := p.payloadIDs()
	if job.Directory {
		return p.copyInTree(root, job, src, uid, gid)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return fmt.Errorf("look at %q: %w", job.Source, err)
	}
	dst, err := p.create(root, job.Target, uid, gid, false)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := copyFile(dst, src); err != nil {
		return err
	}
	return seal(dst, st.Mode&0o777|0o600)
}

// copyInTree copies a directory. The caller's files become the program's user's.
func (p *process) copyInTree(root *rootfs.Root, job plan.CopyJob, src *os.File, uid, gid int) error {
	if err := p.makeParent(job.Target); err != nil {
		return err
	}
	err := p.builder.Attach(mounts.Mount{Kind: mounts.Dir, Target: job.Target, Mode: 0o755, UID: uint32(uid), GID: uint32(gid), Directory: true})
	if err != nil {
		return err
	}
	fd, err := root.OpenFD(job.Target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", job.Target, err)
	}
	defer unix.Close(fd)
	if err := p.builder.Own(fd); err != nil {
		return fmt.Errorf("open %q: %w", job.Target, err)
	}
	owner := rootfs.Ownership{Single: p.singleOwner() && uid == 0, UID: uid, GID: gid}
	return p.copyElsewhere(int(src.Fd()), fd, plan.TreeJob{From: job.Source, Options: rootfs.CopyOptions{
		Method: rootfs.CopyFull, Owner: &owner, SkipChown: owner.Single,
	}})
}

// payloadIDs are the program's ids as U1 has them, for fchown(2).
func (p *process) payloadIDs() (uid, gid int) {
	id := p.plan.SetupIDs()
	return int(id.UID), int(id.GID)
}

// writeMaps writes U2's maps through a procfs that only pid 1 has.
func (p *process) writeMaps(pid int) error {
	l := p.plan.Identity.Layout
	return userns.WriteDirectIn(p.proc, pid, l.PayloadUID, l.PayloadGID, false)
}

// openConsole opens a pty of the sandbox's own devpts: the payload gets the
// slave, the supervisor the master, and the user's terminal stays outside.
func (p *process) openConsole() error {
	master, err := p.builder.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open /dev/pts/ptmx: %w", err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the terminal: %w", err)
	}
	// TIOCGPTPEER and not a path: what /dev/pts/0 leads to is the devpts's
	// business, the peer is the kernel's (CVE-2025-52565).
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fmt.Errorf("open the terminal's other side: %w", errno)
	}
	p.slave = int(slave)
	uid, gid := p.payloadIDs()
	if err := unix.Fchown(p.slave, uid, gid); err != nil {
		return fmt.Errorf("give the terminal to the user: %w", err)
	}
	if err := p.builder.AttachFile(p.slave, "/dev/console"); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(p.slave, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("make it the controlling terminal: %w", err)
	}
	return p.conn.Send(reaper.Packet{Op: reaper.Terminal}, master)
}

// buildFilter makes the BPF program, nil for none.
func buildFilter(s plan.Seccomp) ([]unix.SockFilter, error) {
	if s.Profile == "off" {
		return nil, nil
	}
	if len(s.OCI) == 0 {
		return seccomp.Build(seccomp.Options{Profile: s.Profile, Fakeroot: s.Fakeroot})
	}
	profile, err := seccomp.ParseOCI(strings.NewReader(string(s.OCI)))
	if err != nil {
		return nil, fmt.Errorf("read the profile %q: %w", s.Profile, err)
	}
	target := seccomp.Target{Caps: s.Capabilities}
	// For the last gate, and for the program itself.
	if err := profile.Starts(target, "read", "execve"); err != nil {
		return nil, err
	}
	filter, _, err := profile.Build(target)
	return filter, err
}
