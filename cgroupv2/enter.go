package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// supervisorDir is the leaf into which the processes of a parent go: a cgroup that
// passes controllers on may hold none itself (cgroups(7), "no internal processes").
// Only the owner can open it, so that its lock is his.
const supervisorDir = "sbx_supervisor"

// controllers are those that limits of this package use.
var controllers = [...]string{"cpu", "cpuset", "io", "memory", "pids"}

var (
	errOccupied = errors.New("other processes are in it")
	errThreaded = errors.New("it is part of a threaded subtree")
	errInvalid  = errors.New("it is below a threaded cgroup, so that it may hold no processes")
	errRoot     = errors.New("it is the root of a threaded subtree")
	errForeign  = errors.New("it holds processes of another pid namespace")
	errEmpty    = errors.New("no controller reaches it")
)

// setup is how a directory is made a parent.
type setup struct {
	dir string
	own string // the caller's cgroup
	// moveOthers allows to move processes that are not the caller's doing.
	moveOthers bool
}

// lock takes the lock of a parent by its supervisor leaf, which is made for that when
// missing. The kernel lets go of it when the process ends.
func (k kernel) lock(ctx context.Context, parent string) (unlock func(), err error) {
	dir := filepath.Join(parent, supervisorDir)
	for {
		if err := k.mkdir(dir, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make the cgroup %s: %w", dir, err)
		}
		fd, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			if err = flock(ctx, fd); err == nil && sameFile(fd, dir) {
				return func() { unix.Close(fd) }, nil
			}
			unix.Close(fd)
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		// Removed by the last one out while this one waited.
	}
}

func flock(ctx context.Context, fd int) error {
	for {
		err := noEINTR(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if err := pause(ctx, slice/10); err != nil {
			return err
		}
	}
}

func sameFile(fd int, path string) bool {
	var held, there unix.Stat_t
	return unix.Fstat(fd, &held) == nil && unix.Lstat(path, &there) == nil &&
		held.Ino == there.Ino && held.Dev == there.Dev
}

// enter makes a directory a parent: it tries to make a cgroup there, moves processes
// out of the way and turns on what controllers there are. What it changed before an
// error is changed back.
func (k kernel) enter(ctx context.Context, s setup) (on []string, err error) {
	switch kind, _ := readFile(filepath.Join(s.dir, "cgroup.type")); kind {
	case "threaded":
		return nil, errThreaded
	case "domain invalid":
		return nil, errInvalid
	case "domain threaded":
		return nil, errRoot
	}
	available := usable(readWords(filepath.Join(s.dir, "cgroup.controllers")))
	if len(available) == 0 {
		return nil, errEmpty
	}
	unlock, err := k.lock(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer func() {
		if err != nil {
			_ = k.leave(s.dir)
		}
	}()
	on = usable(readWords(filepath.Join(s.dir, "cgroup.subtree_control")))
	if len(on) == len(available) {
		return on, nil
	}
	if err := k.vacate(s); err != nil {
		return nil, err
	}
	return k.enable(s.dir, available, on)
}

// usable keeps the controllers that this package knows, sorted.
func usable(words []string) []string {
	var list []string
	for _, c := range controllers {
		if slices.Contains(words, c) {
			list = append(list, c)
		}
	}
	return list
}

// vacate moves the processes of a directory to its supervisor leaf. They may fork
// meanwhile, so it looks again until none is left.
func (k kernel) vacate(s setup) error {
	if _, err := readFile(filepath.Join(s.dir, "cgroup.type")); errors.Is(err, unix.ENOENT) {
		return nil // the root of the tree, which is free of the rule
	}
	for range 20 {
		pids, err := pidsOf(s.dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		if !s.moveOthers && (s.dir != s.own || k.strangers(pids)) {
			return errOccupied
		}
		if err := k.move(pids, filepath.Join(s.dir, supervisorDir)); err != nil {
			return err
		}
	}
	return errOccupied
}

// strangers tells whether processes are among pids that the caller did not start.
func (k kernel) strangers(pids []int) bool {
	var family []int
	for _, pid := range pids {
		if pid == k.pid {
			continue
		}
		if family == nil {
			family = descendants(k.proc, k.pid)
		}
		if !slices.Contains(family, pid) {
			return true
		}
	}
	return false
}

// move writes processes into a cgroup one by one; those that ended are passed over.
func (k kernel) move(pids []int, dir string) error {
	for _, pid := range pids {
		if pid == 0 {
			return errForeign
		}
		err := k.write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("move process %d to %s: %w", pid, dir, err)
		}
	}
	return nil
}

// enable turns controllers on for children of a directory: all at once, which is one
// step for the kernel, or those that can be had when one of them cannot.
func (k kernel) enable(dir string, available, on []string) ([]string, error) {
	file := filepath.Join(dir, "cgroup.subtree_control")
	if k.write(file, "+"+strings.Join(available, " +")) == nil {
		return available, nil
	}
	var first error
	got := slices.Clone(on)
	for _, c := range available {
		if slices.Contains(got, c) {
			continue
		}
		if err := k.write(file, "+"+c); err == nil {
			got = append(got, c)
		} else if first == nil {
			first = fmt.Errorf("pass on %s in %s: %w", c, dir, err)
		}
	}
	if len(got) == 0 {
		return nil, first
	}
	return usable(got), nil
}

// leave makes a parent what it was: controllers off, processes back, leaf gone. It does
// so only where nothing but the supervisor leaf is left, and the lock has to be held.
func (k kernel) leave(dir string) error {
	leaf := filepath.Join(dir, supervisorDir)
	if rest := children(dir); len(rest) != 1 || rest[0] != leaf {
		return nil
	}
	pids, err := pidsOf(leaf)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		if on := readWords(filepath.Join(dir, "cgroup.subtree_control")); len(on) > 0 {
			if err := k.write(filepath.Join(dir, "cgroup.subtree_control"), "-"+strings.Join(on, " -")); err != nil {
				return fmt.Errorf("take back the controllers of %s: %w", dir, err)
			}
		}
	}
	for range 20 {
		if err := k.move(pids, dir); err != nil {
			return err
		}
		if pids, err = pidsOf(leaf); err != nil {
			return err
		}
		if len(pids) == 0 {
			break
		}
	}
	if err := k.rmdir(leaf); err != nil {
		return fmt.Errorf("remove the cgroup %s: %w", leaf, err)
	}
	return nil
}
