package initproc

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// do carries out one step.
func (p *process) do(st plan.Step) error {
	switch st.Op {
	case plan.OpCgroupNS:
		// Here and not at the clone: the namespace's root is the cgroup of the
		// moment, and the supervisor has only now put pid 1 where it belongs.
		// It is this thread's, from which the payload is cloned.
		return unix.Unshare(unix.CLONE_NEWCGROUP)
	case plan.OpNoMoreUserns:
		return p.limitNamespaces()
	case plan.OpBegin:
		return p.beginMounts()
	case plan.OpTake:
		return p.take(st.Index)
	case plan.OpRoot:
		return p.makeRoot()
	case plan.OpGroups:
		return p.clearGroups()
	case plan.OpHostname:
		return unix.Sethostname([]byte(p.plan.Hostname))
	case plan.OpLoopback:
		return loopbackUp()
	case plan.OpInherited:
		return p.setInherited()
	case plan.OpPivot:
		return p.builder.Pivot()
	case plan.OpAttach:
		return p.attach(p.plan.Mounts[st.Index])
	case plan.OpProgram:
		return p.copyProgram()
	case plan.OpCopyIn:
		return p.copyIn(st.Index)
	case plan.OpConsole:
		return p.openConsole()
	case plan.OpFinish:
		return p.builder.Finish()
	default:
		return fmt.Errorf("stage %q is unknown to pid 1 (please report this)", st.Op)
	}
}

func (p *process) beginMounts() error {
	root := p.plan.Identity.Layout.Root()
	var err error
	p.builder, err = mounts.Begin(mounts.Scratch{
		Size: p.plan.Private.Size, Inodes: p.plan.Private.Inodes, RootUID: root.UID, RootGID: root.GID,
	})
	if err != nil {
		return err
	}
	p.proc, err = p.builder.PrivateProc()
	return err
}

func (p *process) attach(m mounts.Mount) error {
	if err := p.builder.Attach(m); err != nil || m.Kind != mounts.Dir {
		return err
	}
	// A directory of the copy itself (--keep): the image may have it already,
	// and then as root's.
	fd, err := p.builder.Open(m.Target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open %s: %w", m.Target, err)
	}
	defer unix.Close(fd)
	if err := p.builder.Own(fd); err != nil {
		return fmt.Errorf("give %s to its owner: %w", m.Target, err)
	}
	if err := unix.Fchown(fd, int(m.UID), int(m.GID)); err != nil {
		return fmt.Errorf("give %s to its owner: %w", m.Target, err)
	}
	if err := unix.Fchmod(fd, m.Mode); err != nil {
		return fmt.Errorf("set the mode of %s: %w", m.Target, err)
	}
	return nil
}

// take holds on to one thing of the host while its root is still there: an
// element of the mount table, or, counted downwards from -1, of the list of
// copies.
func (p *process) take(index int) error {
	if index >= 0 {
		return p.builder.Take(p.plan.Mounts[index])
	}
	c := p.plan.CopyIn[-1-index]
	flags := unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := unix.Open(c.Source, flags, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", c.Source, err)
	}
	p.held[-1-index] = fd
	return nil
}

// takeLibraries opens what the program needs and the image lacks. A library
// that is another file than the plan saw is refused.
func (p *process) takeLibraries() error {
	for _, lib := range p.plan.Program.Libraries {
		fd, err := unix.Open(lib.File, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return fmt.Errorf("open %q: %w", lib.File, err)
		}
		p.libs = append(p.libs, fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("look at %q: %w", lib.File, err)
		}
		if st.Dev != lib.Dev || st.Ino != lib.Ino {
			return fmt.Errorf("open %q: it was replaced a moment ago: %w", lib.File, unix.ESTALE)
		}
	}
	return nil
}

// makeRoot tries the plan's methods in their order. That an overlay cannot be
// mounted here is known once the kernel has refused it.
func (p *process) makeRoot() error {
	if err := p.takeLibraries(); err != nil {
		return err
	}
	r := p.plan.Root
	switch {
	case r.ReadOnly:
		return p.readOnlyRoot()
	case r.InMemory:
		p.copied = plan.CopyOverlay
		return p.builder.MakeRoot(mounts.Root{Method: mounts.MethodOverlay, Lower: []string{r.Lower}})
	}
	if err := p.holdSandbox(); err != nil {
		return err
	}
	var refused error
	for _, method := range r.Methods {
		err := p.rootBy(method)
		if err == nil {
			p.copied = method
			return nil
		}
		var re *mounts.RootError
		if !errors.As(err, &re) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EXDEV) {
			return err
		}
		refused = errors.Join(refused, fmt.Errorf("%s: %w", method, err))
	}
	return refused
}

// readOnlyRoot shows the image itself, with nothing but missing mount points in
// a layer of its own above it; where no overlay can be had, the bare image.
func (p *process) readOnlyRoot() error {
	lower := p.plan.Root.Lower
	err := p.builder.MakeRoot(mounts.Root{Method: mounts.MethodOverlay, Lower: []string{lower}, ReadOnly: true})
	var re *mounts.RootError
	if errors.As(err, &re) {
		return p.builder.MakeRoot(mounts.Root{Method: mounts.MethodTree, Tree: lower, ReadOnly: true, Frozen: true})
	}
	p.copied = "read-only"
	return err
}

func (p *process) rootBy(method string) error {
	sandbox := p.plan.Root.Sandbox
	root := p.plan.Identity.Layout.Root()
	owner := rootfs.Ownership{Single: p.singleOwner(), UID: int(root.UID), GID: int(root.GID)}
	if method == plan.CopyOverlay {
		if !p.plan.Root.Again {
			if err := rootfs.PrepareOverlay(p.sandbox, owner); err != nil {
				return err
			}
		}
		return p.builder.MakeRoot(mounts.Root{
			Method: mounts.MethodOverlay, Lower: []string{p.plan.Root.Lower},
			Upper: path.Join(sandbox, "upper"), Work: path.Join(sandbox, "work"),
			// What is thrown away need not reach the disk.
			Volatile: !p.plan.Root.Keep,
		})
	}
	if !p.plan.Root.Again {
		if err := p.copyTree(p.sandbox, method, owner); err != nil {
			return err
		}
	}
	return p.builder.MakeRoot(mounts.Root{Method: mounts.MethodTree, Tree: path.Join(sandbox, "tree")})
}

// singleOwner: with one id there is nobody to give files to.
func (p *process) singleOwner() bool { return p.plan.Identity.Layout.Root().UID == 0 }

func (p *process) copyTree(dir *os.File, method string, owner rootfs.Ownership) error {
	src, err := unix.Open(p.plan.Root.Lower, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the image: %w", err)
	}
	defer unix.Close(src)
	if method == plan.CopyReflink && !rootfs.CanReflink(dir) {
		return fmt.Errorf("the store's file system shares no blocks: %w", unix.EOPNOTSUPP)
	}
	if err := unix.Mkdirat(int(dir.Fd()), "tree", 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make the sandbox's tree: %w", err)
	}
	fd, err := unix.Openat(int(dir.Fd()), "tree", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open the sandbox's tree: %w", err)
	}
	defer unix.Close(fd)
	opt := rootfs.CopyOptions{Method: rootfs.Method(method), SkipChown: owner.Single}
	if p.plan.Image.Foreign {
		opt.Owner = &owner
	}
	return p.copyElsewhere(src, fd, plan.TreeJob{From: p.plan.Root.Lower, Options: opt})
}

// clearGroups drops the supplementary groups of pid 1; the payload inherits
// none. Only now: a path that is open to a group of the
// caller's had to be taken with it.
func (p *process) clearGroups() error {
	if err := unix.Setgroups([]int{}); err != nil {
		return err
	}
	return dieWithParent(p.control)
}

// limitNamespaces lets exactly one more user namespace exist below U1: U2. The
// limit must be set before U2 exists, and from U1: root of a namespace can
// raise its own (user_namespaces(7), SECURITY A1). The others bound what the
// payload can take of the kernel's per-user pools (I8).
func (p *process) limitNamespaces() error {
	for _, limit := range []struct {
		name  string
		value int
	}{
		{"max_user_namespaces", 1},
		{"max_inotify_instances", 128},
		{"max_inotify_watches", 65536},
	} {
		err := p.writeProc("sys/user/"+limit.name, strconv.Itoa(limit.value))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// writeProc writes a file of pid 1's own procfs. The host's is somebody else's, in a
// container anybody's, and slower: its directory of user/ holds a name for each
// namespace of the host that has just ended, and all are compared (proc_sys_compare
// in the kernel's fs/proc/proc_sysctl.c).
func (p *process) writeProc(name, value string) error {
	fd, err := unix.Openat(p.proc, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/%s: %w", name, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return fmt.Errorf("write %q to /proc/%s: %w", value, name, err)
	}
	return nil
}
