package rootfs

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one lookup may pass, the kernel's own
// number (path_resolution(7)).
const maxLinks = 40

// Bind is a file or directory of the host that will be mounted over a path of a
// tree.
type Bind struct {
	// Inside is the absolute, clean path of the mount point, without links.
	Inside string `json:"inside"`
	// Outside is the absolute path on the host.
	Outside string `json:"outside"`
}

// View is a tree as a program in it will find it: a Root with the mounts that
// are going to lie over it. The zero Binds is a plain Root.
type View struct {
	// Root is the tree.
	Root *Root
	// Host is the root of the host, in which the Outside of each Bind is looked
	// up. It may be nil when there are no Binds.
	Host *Root
	// Binds are the mounts, in any order.
	Binds []Bind
}

// Link is one symbolic link met on the way to a file.
type Link struct {
	// Path is the link itself, absolute, without any other link in it.
	Path string `json:"path"`
	// Target is the text of the link, as readlink(2) gives it: absolute or
	// relative to the directory of Path.
	Target string `json:"target"`
}

// locate says in which Root, and under which path there, a path of the view
// without links lies. The innermost mount wins.
func (v *View) locate(path string) (*Root, string) {
	root, at, depth := v.Root, path, -1
	for _, b := range v.Binds {
		inside := strings.TrimSuffix(b.Inside, "/")
		below, ok := strings.CutPrefix(path, inside)
		if ok && (below == "" || below[0] == '/') && len(inside) > depth {
			root, at, depth = v.Host, b.Outside+below, len(inside)
		}
	}
	return root, at
}

// walk goes to path one component at a time. It returns every link that was
// passed, in order, and the path of what stands at the end, free of links.
// Directories on the way are opened with O_PATH only, so it works below
// directories of mode 0711. Errors are bare errnos.
func (v *View) walk(path string) (links []Link, file string, err error) {
	rest := path
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			file = parentOf(file)
			continue
		}
		next := file + "/" + name
		target, isLink, err := v.linkAt(next)
		if err != nil {
			return nil, "", err
		}
		if !isLink {
			file = next
			continue
		}
		if len(links) == maxLinks {
			return nil, "", unix.ELOOP
		}
		links = append(links, Link{Path: next, Target: target})
		if strings.HasPrefix(target, "/") {
			file = ""
		}
		rest = target + "/" + rest
	}
	if file == "" {
		file = "/"
	}
	return links, file, nil
}

// parentOf is the directory above a path without links; the root, here "", is
// its own parent.
func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return ""
}

// aboveMount is true for a directory that will be made, if it is not there,
// because something is mounted below it.
func (v *View) aboveMount(path string) bool {
	for _, b := range v.Binds {
		if strings.HasPrefix(b.Inside, path+"/") {
			return true
		}
	}
	return false
}

// linkAt returns the text of the link at path; isLink is false when something
// else stands there.
func (v *View) linkAt(path string) (target string, isLink bool, err error) {
	root, at := v.locate(path)
	fd, err := root.OpenFD(at, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) && v.aboveMount(path) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, err
	}
	target, err = readlinkat(fd, "")
	return target, true, err
}

// mounted is true when a file made at path would lie on a mount. As much of the
// path as exists is followed.
func (v *View) mounted(path string) bool {
	if len(v.Binds) == 0 {
		return false
	}
	for dir := path; dir != ""; dir = parentOf(dir) {
		if _, file, err := v.walk(dir); err == nil {
			root, _ := v.locate(file)
			return root != v.Root
		}
	}
	return false
}

// resolve says where a path of the view lies. Without mounts the kernel does
// the whole lookup when the file is opened.
func (v *View) resolve(path string) (root *Root, at string, err error) {
	if len(v.Binds) == 0 {
		return v.Root, path, nil
	}
	_, file, err := v.walk(path)
	if err != nil {
		return nil, "", err
	}
	root, at = v.locate(file)
	return root, at, nil
}

// Exists tells whether something stands at the absolute path once all links on
// the way are followed.
func (v *View) Exists(path string) bool {
	_, err := v.Stat(path)
	return err == nil
}

// Stat returns the status of what stands at path, after links. Errors are bare
// errnos.
func (v *View) Stat(path string) (st unix.Stat_t, err error) {
	root, at, err := v.resolve(path)
	if err != nil {
		return st, err
	}
	return st, statIn(root, at, &st)
}

func statIn(root *Root, at string, st *unix.Stat_t) error {
	fd, err := root.OpenFD(at, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Fstat(fd, st)
}

// openRegular opens a regular file for reading, after links. It looks before it
// opens: merely opening some devices has an effect (a watchdog starts to
// count), and the path may come out of a hostile ELF header while root runs the
// program. O_NONBLOCK is for the race in which a fifo comes between. Errors are
// bare errnos: EISDIR for a directory, EINVAL for anything else that is not a
// regular file.
func (v *View) openRegular(path string) (fd int, st unix.Stat_t, err error) {
	root, at, err := v.resolve(path)
	if err != nil {
		return -1, st, err
	}
	if err = statIn(root, at, &st); err == nil {
		err = mustBeRegular(&st)
	}
	if err != nil {
		return -1, st, err
	}
	fd, err = root.OpenFD(at, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = mustBeRegular(&st)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// readFile returns a regular file of at most limit bytes; a longer one is EFBIG.
func (v *View) readFile(path string, limit int64) ([]byte, error) {
	fd, st, err := v.openRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if st.Size > limit {
		return nil, unix.EFBIG
	}
	data := make([]byte, st.Size)
	n, err := fdReader(fd).ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}

// fdReader reads a descriptor by pread(2), without an os.File and its
// registration with the poller.
type fdReader int

// ReadAt implements [io.ReaderAt].
func (fd fdReader) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := retryEINTR(func() (int, error) { return unix.Pread(int(fd), p[done:], off+int64(done)) })
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}
