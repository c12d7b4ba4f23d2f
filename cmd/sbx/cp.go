package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
)

type cpCommand struct {
	Force      bool   `short:"f" help:"Replace files of yours that are there."`
	FollowLink bool   `short:"L" help:"Copy what SOURCE leads to, where it is a link."`
	Quiet      bool   `short:"q" help:"Do not say what was left out."`
	Source     string `arg:"" help:"SANDBOX:PATH, a path of yours, or - for an archive on standard input."`
	Dest       string `arg:"" help:"The other of the two, or - for an archive on standard output."`
}

// Run is the command.
func (c *cpCommand) Run(s streams) error {
	from, fromPath, out := splitInside(c.Source)
	to, toPath, in := splitInside(c.Dest)
	ref, inside := from, fromPath
	switch {
	case in && out:
		return &plan.Misuse{Reason: "both paths are in a sandbox; copy to a directory of yours first"}
	case in:
		ref, inside = to, toPath
	case !out:
		return &plan.Misuse{Reason: "neither path is in a sandbox: write one of them as SANDBOX:PATH"}
	}
	if strings.ContainsRune(inside, 0) {
		return &plan.Misuse{Reason: fmt.Sprintf("%q holds a NUL byte", inside)}
	}
	k, err := openKept()
	if err != nil {
		return err
	}
	defer k.close()
	b, err := k.use(ref)
	if err != nil {
		return err
	}
	defer b.Close()
	if !strings.HasPrefix(inside, "/") {
		inside = "/" + inside // as docker takes it
	}
	if err := checkHidden(b, inside, in); err != nil {
		return err
	}
	var copied plan.Copied
	if in {
		copied, err = c.copyIn(b, inside)
	} else {
		copied, err = c.copyOut(b, inside)
	}
	if err != nil {
		return err
	}
	if !c.Quiet {
		for _, line := range copied.LeftOut {
			s.say("%s", line)
		}
	}
	return nil
}

// splitInside takes SANDBOX:PATH apart. A path of the host's that has a colon is
// written with a slash before it, as in ./a:b.
func splitInside(arg string) (ref, inside string, ok bool) {
	ref, inside, ok = strings.Cut(arg, ":")
	if !ok || ref == "" || strings.Contains(ref, "/") || ref == "." || ref == ".." {
		return "", arg, false
	}
	return ref, inside, true
}

// checkHidden refuses places where the copy has something else than a program
// sees: what a run has in memory or shares with the host.
func checkHidden(b *launch.Kept, inside string, in bool) error {
	name := path.Clean(inside)
	hidden := func(place string) bool { return name == place || strings.HasPrefix(name, place+"/") }
	i := slices.IndexFunc(b.Sandbox.State.Hidden, hidden)
	if i < 0 {
		return nil
	}
	place := b.Sandbox.State.Hidden[i]
	if in {
		return &plan.Misuse{Reason: fmt.Sprintf("copy to %s inside: a run has something else at %s, and would not see the copy; choose another place, such as /box", inside, place)}
	}
	return &plan.Misuse{Reason: fmt.Sprintf("copy %s: what the program saw at %s was in memory or the host's, and is not in the sandbox's copy", inside, place)}
}

// copyOut copies from the sandbox to c.Dest.
func (c *cpCommand) copyOut(b *launch.Kept, inside string) (plan.Copied, error) {
	job := plan.CopyOutJob{Path: []byte(inside), Follow: c.FollowLink, Replace: c.Force}
	if c.Dest == "-" {
		if _, err := unix.IoctlGetTermios(unix.Stdout, unix.TCGETS); err == nil {
			return plan.Copied{}, &plan.Misuse{Reason: "an archive is not for a terminal: redirect standard output"}
		}
		job.Tar = true
		return b.CopyOut(job, os.Stdout)
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	job.Umask = uint32(mask)
	dir, target, err := destination(c.Dest)
	if err != nil {
		return plan.Copied{}, err
	}
	defer dir.Close()
	job.Target = target
	return b.CopyOut(job, dir)
}

// destination opens the directory that a copy goes into, and says what it is to
// be called there.
func destination(dest string) (*os.File, plan.Target, error) {
	target := plan.Target{Shown: []byte(dest), WantDir: strings.HasSuffix(dest, "/")}
	if dest == "" {
		return nil, target, &plan.Misuse{Reason: "the destination is empty"}
	}
	dir := dest
	var st unix.Stat_t
	err := unix.Stat(dest, &st)
	isDir := err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir {
		clean := filepath.Clean(dest)
		target.Name = []byte(filepath.Base(clean))
		dir = filepath.Dir(clean)
		target.Taken = unix.Lstat(clean, &st) == nil
		if target.Taken && target.WantDir {
			return nil, target, fmt.Errorf("copy to %s: %w", quote.Quote(dest), unix.ENOTDIR)
		}
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return nil, target, fmt.Errorf("copy to %s: %w", quote.Quote(dest), err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, target, fmt.Errorf("copy to %s: %w", quote.Quote(dest), err)
	}
	return os.NewFile(uintptr(fd), dir), target, nil
}

// copyIn copies c.Source into the sandbox.
func (c *cpCommand) copyIn(b *launch.Kept, inside string) (plan.Copied, error) {
	job := plan.CopyInJob{Path: []byte(inside)}
	if c.Source == "-" {
		job.Kind = plan.SourceTar
		return b.CopyIn(job, os.Stdin)
	}
	from, err := openOwn(c.Source, c.FollowLink, &job)
	if err != nil {
		return plan.Copied{}, err
	}
	defer from.Close()
	return b.CopyIn(job, from)
}

// openOwn opens a file or directory of the user's, or reads a link.
func openOwn(name string, follow bool, job *plan.CopyInJob) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		return nil, fmt.Errorf("copy %s: %w", quote.Quote(name), err)
	}
	if name == "" {
		return fail(unix.ENOENT)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return fail(unwrapped(err))
	}
	job.Name = []byte(filepath.Base(abs))
	var st unix.Stat_t
	stat := unix.Lstat
	if follow || strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") || name == "." {
		stat = unix.Stat
	}
	if err := stat(name, &st); err != nil {
		return fail(err)
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		job.Kind = plan.SourceFile
	case unix.S_IFDIR:
		flags |= unix.O_DIRECTORY
		job.Kind = plan.SourceDirectory
		if strings.HasSuffix(name, "/.") || name == "." || abs == "/" {
			job.Kind = plan.SourceContents
		}
	case unix.S_IFLNK:
		link, err := os.Readlink(name)
		if err != nil {
			return fail(unwrapped(err))
		}
		job.Kind, job.Link = plan.SourceLink, []byte(link)
		name, flags = "/dev/null", unix.O_RDONLY|unix.O_CLOEXEC
	default:
		return fail(errors.New("it is a device, a fifo or a socket"))
	}
	fd, err := unix.Open(name, flags, 0)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), name)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err == nil && job.Kind != plan.SourceLink && now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		f.Close()
		return fail(unix.ESTALE)
	}
	return f, nil
}
