package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	leafPrefix = "sbx-"
	boxDir     = "box"
	helpersDir = "helpers"
)

// Leaf is the cgroup of one sandbox. Its methods may be called from several
// goroutines, except that after [Leaf.Kill] nothing may be started in it.
type Leaf struct {
	// Name is the sandbox's, Dir the outer directory, which has the limits.
	Name string
	Dir  string
	// Applied are the settings as the kernel has them, Skipped the optional ones that
	// it has no file for.
	Applied []Setting
	Skipped []Setting

	k       kernel
	noBirth bool
	mu      sync.Mutex
	box     int // descriptor of the inner directory, -1 when closed
	helpers int
	peak    peaks
}

// CheckName returns an error that wraps [ErrForm] for a name that a leaf cannot have:
// it has to begin with a small letter or digit and go on with those and . _ -, up to
// 63 characters.
func CheckName(name string) error {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return fmt.Errorf("sandbox name %q: %w", name, ErrForm)
		}
	}
	if name == "" || len(name) > 63 {
		return fmt.Errorf("sandbox name %q: %w", name, ErrForm)
	}
	return nil
}

// NewLeaf makes the cgroup of a sandbox and sets its limits, which are read back: an
// error means that nothing is left behind. A controller that a limit needs and that
// does not arrive is a [Lack], a value that the kernel did not take a [NotTaken].
//
// An empty leaf of that name, from a run that crashed, is replaced and not reused: a
// cgroup that was killed once kills whatever is born in it.
func (p *Parent) NewLeaf(ctx context.Context, name string, limits Limits) (*Leaf, error) {
	if err := errors.Join(CheckName(name), limits.Check()); err != nil {
		return nil, err
	}
	if lost := p.Missing(limits.Controllers()...); len(lost) > 0 {
		return nil, p.Lack(lost[0])
	}
	unlock, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	l := &Leaf{Name: name, Dir: filepath.Join(p.Dir, leafPrefix+name), k: p.k, box: -1, helpers: -1}
	if err := l.make(limits); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Leaf) make(limits Limits) (err error) {
	err = l.k.mkdir(l.Dir, 0o755)
	if errors.Is(err, unix.EEXIST) {
		if err = l.k.removeAll(l.Dir); err == nil {
			err = l.k.mkdir(l.Dir, 0o755)
		}
	}
	if err != nil {
		return fmt.Errorf("make the cgroup %s: %w", l.Dir, err)
	}
	defer func() {
		if err != nil {
			l.Close()
			_ = l.k.removeAll(l.Dir)
		}
	}()
	for _, s := range limits.Settings() {
		if err := l.apply(s); err != nil {
			return err
		}
	}
	l.box, err = l.inner(boxDir)
	return err
}

// inner makes a directory for processes below the one with the limits.
func (l *Leaf) inner(name string) (int, error) {
	dir := filepath.Join(l.Dir, name)
	if err := l.k.mkdir(dir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fmt.Errorf("make the cgroup %s: %w", dir, err)
	}
	fd, err := open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, fmt.Errorf("open the cgroup %s: %w", dir, err)
	}
	return fd, nil
}

// FD returns a descriptor of the directory for processes, for CLONE_INTO_CGROUP
// (clone(2), SysProcAttr.CgroupFD); it stays the leaf's. -1 means that [Leaf.Add] has to
// be used: always in a leaf with [Limits.CPUs], since kernels before 6.4 let what is
// born in a cgroup run on every CPU. After [Leaf.Kill] or [Leaf.Close] it is -1 as well.
// Kernels before 5.7 know no such flag, and one that denies it may still allow Add.
//
// A cgroup namespace that is made by the same clone has this directory as its root.
func (l *Leaf) FD() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noBirth {
		return -1
	}
	return l.box
}

// Add moves a process into the leaf, with all its threads. What it allocated before
// stays charged to where it was, so it has to be done before the process goes on. A
// cgroup namespace that it has already keeps its root: it has to be unshared again inside
// for the tree outside to be out of sight.
func (l *Leaf) Add(pid int) error {
	return l.add(pid, boxDir)
}

func (l *Leaf) add(pid int, name string) error {
	dir := filepath.Join(l.Dir, name)
	if err := l.k.write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("move process %d to %s: %w", pid, dir, err)
	}
	return nil
}

// HelperFD is like [Leaf.FD] for the sandbox's helpers on the host's side, such as a
// network helper or a proxy: within the limits, killed with the sandbox, and apart from
// it. -1 without an error means [Leaf.AddHelper]. The directory is made when it is first
// asked for; a closed leaf gives os.ErrClosed.
func (l *Leaf) HelperFD() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.box < 0 {
		return -1, fmt.Errorf("open the cgroup %s: %w", l.Dir, os.ErrClosed)
	}
	if l.helpers < 0 {
		fd, err := l.inner(helpersDir)
		if err != nil {
			return -1, err
		}
		l.helpers = fd
	}
	if l.noBirth {
		return -1, nil
	}
	return l.helpers, nil
}

// AddHelper moves a running helper to where [Leaf.HelperFD] starts one.
func (l *Leaf) AddHelper(pid int) error {
	if _, err := l.HelperFD(); err != nil {
		return err
	}
	return l.add(pid, helpersDir)
}

// Pids returns every process of the sandbox, helpers included, sorted.
func (l *Leaf) Pids() ([]int, error) {
	var all []int
	for _, dir := range subtree(l.Dir) {
		pids, err := pidsOf(dir)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
		all = append(all, pids...)
	}
	slices.Sort(all)
	return all, nil
}

// Open returns a leaf that another process made, for reading and ending it. Nothing can
// be born in it by descriptor.
func Open(dir string) (*Leaf, error) { return openLeaf(host(), dir) }

func openLeaf(k kernel, dir string) (*Leaf, error) {
	name, ok := strings.CutPrefix(filepath.Base(dir), leafPrefix)
	if !ok || CheckName(name) != nil || k.genuine && !isCgroup2(dir) || !isDir(dir) {
		return nil, fmt.Errorf("open the cgroup %s: %w", dir, unix.ENOENT)
	}
	return &Leaf{Name: name, Dir: dir, k: k, box: -1, helpers: -1}, nil
}

// Close closes the descriptors and leaves the cgroup as it is.
func (l *Leaf) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range []*int{&l.box, &l.helpers} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}
