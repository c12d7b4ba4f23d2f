package plan

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// seek refuses a program of the image that is certain not to be found or not to be
// a file. pid 1 looks again, with other eyes and with everything in its place, so in
// doubt this says nothing: where the image has still to be made, where a directory
// is closed to the caller, in what is mounted. The error is a [*rootfs.ProgramError].
func (l *look) seek() error {
	name := l.facts.Program.Inside
	if !l.opt.Seek || l.tree == nil || l.facts.Program.Host != "" {
		return nil
	}
	if strings.Contains(name, "/") {
		return l.seekFile(name)
	}
	denied := false
	for _, dir := range strings.Split(l.pathInside(), ":") {
		if !path.IsAbs(dir) {
			continue
		}
		st, err := l.seekOne(path.Join(dir, name))
		switch {
		case errors.Is(err, errInDoubt):
			return nil
		case err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG:
			continue
		case st.Mode&0o111 != 0:
			return nil
		}
		denied = true
	}
	if denied {
		return &rootfs.ProgramError{Path: name, Problem: rootfs.NotExecutable, Err: unix.EACCES}
	}
	return &rootfs.ProgramError{Path: name, Problem: rootfs.NoSuchProgram, Err: unix.ENOENT}
}

// seekFile is seek for a path.
func (l *look) seekFile(name string) error {
	st, err := l.seekOne(name)
	switch {
	case errors.Is(err, errInDoubt):
		return nil
	case err != nil:
		return &rootfs.ProgramError{Path: name, Problem: rootfs.NoSuchProgram, Err: err}
	}
	if err := rootfs.CheckProgramType(name, st.Mode); err != nil {
		return err
	}
	if st.Mode&0o111 == 0 {
		return &rootfs.ProgramError{Path: name, Problem: rootfs.NotExecutable, Err: unix.EACCES}
	}
	return nil
}

// errInDoubt: what stands at a path cannot be known from here.
var errInDoubt = errors.New("in doubt")

// seekOne returns the status of a file inside, ENOENT or ENOTDIR where there is
// certain to be none, else errInDoubt. An empty directory of sbx's own or of --tmpfs
// that will lie over it is not taken into account: it takes a file away, and brings
// none.
func (l *look) seekOne(file string) (st unix.Stat_t, err error) {
	for _, kernels := range []string{"/proc", "/dev", "/sys"} {
		if under(path.Clean(file), kernels) {
			return st, errInDoubt
		}
	}
	for _, c := range l.facts.CopyIn {
		// By whatever links: it may come to stand there.
		if c.Directory || path.Base(c.inside()) == path.Base(file) {
			return st, errInDoubt
		}
	}
	v := l.view()
	st, err = v.Stat(file)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		err = errInDoubt
	}
	return st, err
}
