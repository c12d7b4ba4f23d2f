package initproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/pack"
)

// keptView opens the root of a kept sandbox, and this process's descriptors in
// procfs, and leaves the host.
func keptView(tree plan.KeptTree, readOnly bool) (root *rootfs.Root, proc *os.File, err error) {
	view, err := mounts.View(tree.Root(readOnly))
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		proc = os.NewFile(uintptr(fd), "/proc/self/fd")
	}
	if err := mounts.LeaveHost(); err != nil {
		return nil, nil, err
	}
	return rootfs.RootFromFile(view, "/"), proc, nil
}

// source is what Path of a CopyOutJob leads to.
type source struct {
	// file is it, when it is a directory; else dir has it, under real.
	file, dir *os.File
	real      string
	name      string // what it is called, before any link was followed
	isDir     bool
	contents  bool // only what is in it is meant
}

// findSource opens the path, as far as links may be followed: inside, and at the
// end only if that was asked for.
func findSource(root *rootfs.Root, job *plan.CopyOutJob) (s source, err error) {
	name := string(job.Path)
	clean := path.Clean(name)
	s.contents = strings.HasSuffix(name, "/.") || clean == "/"
	follow := job.Follow || s.contents || strings.HasSuffix(name, "/")
	flags := unix.O_PATH
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := root.OpenFD(clean, flags, 0)
	if err != nil {
		return s, err
	}
	s.name = path.Base(clean)
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return s, err
	}
	s.isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !s.isDir && (s.contents || strings.HasSuffix(name, "/")) {
		return s, unix.ENOTDIR
	}
	if s.isDir {
		s.file, err = openInside(root, clean)
		return s, err
	}
	dir, base := path.Split(clean)
	for links := 0; follow; links++ {
		target, err := root.Readlink(dir + base)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // no link
		}
		if err != nil || links > maxLinks {
			return s, unix.ELOOP
		}
		if !path.IsAbs(target) {
			target = dir + target
		}
		dir, base = path.Split(target)
	}
	s.real = base
	s.dir, err = openInside(root, dir)
	return s, err
}

// maxLinks is the kernel's own bound (path_resolution(7)).
const maxLinks = 40

// openInside opens a directory of the tree for reading.
func openInside(root *rootfs.Root, name string) (*os.File, error) {
	fd, err := root.OpenFD(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// copyOut copies from a kept sandbox to the directory or archive that was given.
func copyOut(job *plan.CopyOutJob, to *os.File) (*plan.Copied, error) {
	root, proc, err := keptView(job.Tree, true)
	if err != nil {
		return nil, err
	}
	s, err := findSource(root, job)
	if err != nil {
		return nil, fmt.Errorf("open %s inside: %w", quote.Quote(string(job.Path)), err)
	}
	if job.Tar {
		return packOut(s, job.Owner, to)
	}
	unix.Umask(0)
	t := rootfs.NewTransfer(context.Background(), to, proc, rootfs.TransferOptions{
		Replace: job.Replace, InsideLinks: true, Umask: job.Umask, Name: into(job.Target),
	})
	if err := placeOut(t, s, job.Target); err != nil {
		return nil, err
	}
	return copied(t.Stats()), nil
}

// into is the directory that the copy goes into, for messages.
func into(target plan.Target) string {
	if len(target.Name) == 0 {
		return string(target.Shown)
	}
	return path.Dir(path.Clean(string(target.Shown)))
}

// placeOut gives the copy its place as docker does: in a directory that is there
// under its own name, else under the name that was written.
func placeOut(t *rootfs.Transfer, s source, target plan.Target) error {
	shown := quote.Quote(string(target.Shown))
	name := string(target.Name)
	switch {
	case s.isDir && target.Taken:
		return fmt.Errorf("copy the directory %s to %s: %w", quote.Quote(s.name), shown, unix.ENOTDIR)
	case s.isDir && name == "" && s.contents:
		return t.Contents(s.file)
	case s.isDir && name == "":
		return t.Directory(s.file, s.name)
	case s.isDir:
		return t.Directory(s.file, name)
	case name != "" && target.WantDir:
		return fmt.Errorf("copy a file to %s: there is no such directory: %w", shown, unix.ENOENT)
	case name == "":
		name = s.name
	}
	return t.Entry(s.dir, s.real, name)
}

func copied(stats rootfs.TransferStats) *plan.Copied {
	c := &plan.Copied{Files: stats.Files, Bytes: stats.Bytes}
	if stats.Special > 0 {
		c.LeftOut = append(c.LeftOut, fmt.Sprintf("devices, fifos and sockets left out: %d, the first is %s",
			stats.Special, quote.Quote(stats.FirstSpecial)))
	}
	if stats.Links > 0 {
		c.LeftOut = append(c.LeftOut, fmt.Sprintf("links that lead out of the copy left out: %d, the first is %s",
			stats.Links, quote.Quote(stats.FirstLink)))
	}
	return c
}

// packOut writes the source as a tar stream.
func packOut(s source, owner rootfs.Ownership, to *os.File) (*plan.Copied, error) {
	w := pack.NewWriter(to, pack.Options{
		UIDOffset: uint32(owner.UID), GIDOffset: uint32(owner.GID), UIDCount: mapped(owner.UIDMap), GIDCount: mapped(owner.GIDMap),
		Single: owner.Single, AnyName: true,
	})
	var err error
	switch {
	case s.isDir && s.contents:
		err = w.Add(context.Background(), s.file, ".", "")
	case s.isDir:
		err = w.Add(context.Background(), s.file, ".", s.name)
	default:
		err = w.Add(context.Background(), s.dir, s.real, s.name)
	}
	if err != nil {
		return nil, err
	}
	stats, err := w.Close()
	if err != nil {
		return nil, err
	}
	c := &plan.Copied{Files: stats.Entries, Bytes: stats.Bytes}
	for _, n := range stats.Notes {
		c.LeftOut = append(c.LeftOut, n.String())
	}
	return c, nil
}

// mapped counts the ids that belong to the sandbox: all but the caller's own.
func mapped(ranges []rootfs.IDRange) uint32 {
	var n uint32
	for _, r := range ranges {
		if r.Inside > 0 {
			n += r.Count
		}
	}
	return max(n, 1)
}

// limited says what was being done. The advice of a limit's error is left out: it
// is about flags of another command.
func limited(what string, err error) error {
	text, _, _ := strings.Cut(err.Error(), "; --limit")
	return &limitedError{text: what + ": " + text, err: err}
}

type limitedError struct {
	text string
	err  error
}

func (e *limitedError) Error() string { return e.text }
func (e *limitedError) Unwrap() error { return e.err }
