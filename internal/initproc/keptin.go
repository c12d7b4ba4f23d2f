package initproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// copyIn copies what was given into a kept sandbox.
func copyIn(job *plan.CopyInJob, from *os.File) (*plan.Copied, error) {
	var incoming *os.File
	if job.Kind == plan.SourceTar {
		var err error
		if incoming, err = openTree(job.Tree.Sandbox); err != nil {
			return nil, fmt.Errorf("open the sandbox's directory: %w", err)
		}
		defer incoming.Close()
	}
	root, proc, err := keptView(job.Tree, false)
	if err != nil {
		return nil, err
	}
	unix.Umask(0)
	c := &plan.Copied{}
	if incoming != nil {
		remove, dir, err := unpackIncoming(incoming, from, c)
		if err != nil {
			return nil, err
		}
		defer remove()
		from = dir
	}
	dst, name, err := placeIn(root, job)
	if err != nil {
		return nil, fmt.Errorf("copy to %s inside: %w", quote.Quote(string(job.Path)), err)
	}
	t := rootfs.NewTransfer(context.Background(), dst, proc, rootfs.TransferOptions{
		Replace: true, Owner: &job.Owner, Name: dst.Name(),
	})
	switch {
	case job.Kind == plan.SourceLink:
		err = t.Link(string(job.Link), name)
	case job.Kind == plan.SourceFile:
		err = t.File(from, name)
	case name == "":
		err = t.Contents(from)
	default:
		err = t.Directory(from, name)
	}
	if err != nil {
		return nil, err
	}
	done := copied(t.Stats())
	done.LeftOut = append(c.LeftOut, done.LeftOut...)
	return done, nil
}

// placeIn finds the directory that the copy goes into and its name there, empty
// for the directory itself.
func placeIn(root *rootfs.Root, job *plan.CopyInJob) (dst *os.File, name string, err error) {
	asked := string(job.Path)
	clean := path.Clean(asked)
	fd, err := root.OpenFD(clean, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case err == nil:
		if job.Kind != plan.SourceContents && job.Kind != plan.SourceTar {
			name = string(job.Name)
		}
		return os.NewFile(uintptr(fd), clean), name, nil
	case job.Kind == plan.SourceTar:
		return nil, "", err
	case errors.Is(err, unix.ENOENT):
		if strings.HasSuffix(asked, "/") && job.Kind != plan.SourceDirectory && job.Kind != plan.SourceContents {
			return nil, "", err
		}
	case !errors.Is(err, unix.ENOTDIR) || strings.HasSuffix(asked, "/"):
		return nil, "", err
	}
	fd, err = root.OpenFD(path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), path.Dir(clean)), path.Base(clean), nil
}

// unpackIncoming unpacks an archive beside the sandbox's copy. Nothing of it is
// in the copy before all of it could be read, and its entries meet nothing of
// what the program has left.
func unpackIncoming(sandbox, archive *os.File, c *plan.Copied) (remove func(), dir *os.File, err error) {
	if err := rootfs.RemoveTree(sandbox, rootfs.IncomingDir); err != nil {
		return nil, nil, err
	}
	remove = func() { _ = rootfs.RemoveTree(sandbox, rootfs.IncomingDir) } // else Collect does
	if err := unix.Mkdirat(int(sandbox.Fd()), rootfs.IncomingDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make room for the archive: %w", err)
	}
	fd, err := unix.Openat(int(sandbox.Fd()), rootfs.IncomingDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		remove()
		return nil, nil, fmt.Errorf("make room for the archive: %w", err)
	}
	dir = os.NewFile(uintptr(fd), "/")
	var st unpack.State
	err = unpack.Layer(context.Background(), dir, io.Reader(archive), unpack.Options{Single: true, AnyName: true}, &st)
	if err != nil {
		remove()
		return nil, nil, limited("read the archive", err)
	}
	for _, n := range st.Notes {
		if n.Kind != unpack.NoteSingle {
			c.LeftOut = append(c.LeftOut, n.String())
		}
	}
	return remove, dir, nil
}
