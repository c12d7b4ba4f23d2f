package mounts

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Source is a path of the host as it was when Resolve looked at it.
type Source struct {
	// Path is absolute and free of symbolic links.
	Path string `json:"path"`
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	// Directory is false for a regular file.
	Directory bool   `json:"directory"`
	Mode      uint32 `json:"mode"` // st_mode
	UID       uint32 `json:"uid"`
	GID       uint32 `json:"gid"`
}

// Bind returns the entry that shows the source on target.
func (s Source) Bind(target string, readOnly bool) Mount {
	return Mount{
		Kind: Bind, Source: s.Path, Target: target, ReadOnly: readOnly,
		Dev: s.Dev, Ino: s.Ino, Directory: s.Directory,
	}
}

// Resolve looks at a path that the user named, relative to the working
// directory, and follows its symbolic links where he or root controls them: a
// link of another user, or one in a directory where anybody may replace it,
// is refused (ELOOP). Below the tainted directories, those that a sandbox
// could once write, no link is followed at all: it may have been put there to
// be followed in the next run (CVE-2024-42472). Sockets, pipes and devices are
// refused (EINVAL), and so is everything of a procfs, whose links lead into
// other processes.
func Resolve(name string, tainted ...string) (Source, error) {
	full := name
	if !strings.HasPrefix(name, "/") {
		wd, err := os.Getwd()
		if errors.Is(err, unix.ENOENT) {
			return Source{}, fmt.Errorf("resolve %s: the working directory has been removed: %w", quote(name), unix.ENOENT)
		}
		if err != nil {
			return Source{}, fmt.Errorf("resolve %s: working directory: %w", quote(name), err)
		}
		full = wd + "/" + name
	}
	if name == "" || strings.ContainsRune(name, 0) {
		return Source{}, fmt.Errorf("resolve %s: not a path: %w", quote(name), unix.ENOENT)
	}
	r := resolver{uid: uint32(os.Geteuid()), tainted: tainted, todo: strings.Split(full, "/")}
	s, err := r.run()
	if err != nil {
		return Source{}, fmt.Errorf("resolve %s: %w", quote(name), err)
	}
	if strings.HasSuffix(name, "/") && !s.Directory {
		return Source{}, fmt.Errorf("resolve %s: %w", quote(name), unix.ENOTDIR)
	}
	return s, nil
}

// resolver walks through the host's tree by descriptor.
type resolver struct {
	uid     uint32
	tainted []string
	todo    []string
	real    string // without links, "" for the root
	links   int
}

func (r *resolver) run() (Source, error) {
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Source{}, err
	}
	defer func() { unix.Close(dir) }()
	for len(r.todo) > 0 {
		name := r.todo[0]
		r.todo = r.todo[1:]
		if name == "" || name == "." {
			continue
		}
		var next int
		if name == ".." {
			r.real = r.real[:max(strings.LastIndexByte(r.real, '/'), 0)]
			next, err = openDir(r.real + "/")
		} else {
			next, err = r.step(dir, name)
		}
		if err != nil {
			return Source{}, err
		}
		unix.Close(dir)
		dir = next
	}
	return r.source(dir)
}

// step opens one component. For a link it returns the directory from which
// the rest, which now begins with the link's text, has to go on.
func (r *resolver) step(dir int, name string) (int, error) {
	path := r.real + "/" + name
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// Asking for a directory makes autofs(5) mount what belongs here.
	fd, err := retryOpenat2(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY, resolve)
	if err == unix.ENOTDIR {
		fd, err = retryOpenat2(dir, name, unix.O_PATH|unix.O_NOFOLLOW, resolve)
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", quote(path), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("stat %s: %w", quote(path), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		r.real = path
		return fd, nil
	}
	defer unix.Close(fd)
	return r.follow(dir, fd, &st, path)
}

func (r *resolver) follow(dir, link int, st *unix.Stat_t, path string) (int, error) {
	if r.links++; r.links > maxLinks {
		return -1, fmt.Errorf("%s: %w", quote(path), unix.ELOOP)
	}
	if err := r.mayFollow(dir, link, st, path); err != nil {
		return -1, err
	}
	text, err := readLink(link)
	if err != nil {
		return -1, fmt.Errorf("read link %s: %w", quote(path), err)
	}
	r.todo = append(strings.Split(text, "/"), r.todo...)
	if strings.HasPrefix(text, "/") {
		r.real = ""
	}
	return openDir(r.real + "/")
}

func (r *resolver) mayFollow(dir, link int, st *unix.Stat_t, path string) error {
	refuse := func(why string) error {
		return fmt.Errorf("%s is a symbolic link %s: name the place that it leads to: %w", quote(path), why, unix.ELOOP)
	}
	for _, t := range r.tainted {
		if within(r.real, t) {
			return refuse("in " + quote(t) + ", which a sandbox could write")
		}
	}
	if onProc(link) {
		return refuse("into a process")
	}
	if st.Uid != 0 && st.Uid != r.uid {
		return refuse("of another user")
	}
	var parent unix.Stat_t
	if err := unix.Fstat(dir, &parent); err != nil {
		return fmt.Errorf("stat the directory of %s: %w", quote(path), err)
	}
	if parent.Mode&unix.S_IWOTH != 0 && parent.Mode&unix.S_ISVTX == 0 {
		return refuse("in a directory that everybody can write")
	}
	return nil
}

func (r *resolver) source(fd int) (Source, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Source{}, fmt.Errorf("stat: %w", err)
	}
	path := r.real
	if path == "" {
		path = "/"
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFREG:
	case unix.S_IFSOCK:
		return Source{}, fmt.Errorf("%s is a socket: who can talk to its service acts outside of the sandbox: %w", quote(path), unix.EINVAL)
	default:
		return Source{}, fmt.Errorf("%s is a %s: only files and directories can be shared: %w", quote(path), typeName(st.Mode), unix.EINVAL)
	}
	if onProc(fd) {
		return Source{}, fmt.Errorf("%s shows the host's processes: %w", quote(path), unix.EINVAL)
	}
	return Source{
		Path: path, Dev: st.Dev, Ino: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Directory: st.Mode&unix.S_IFMT == unix.S_IFDIR,
	}, nil
}

func onProc(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && int64(fs.Type) == unix.PROC_SUPER_MAGIC
}

// within reports whether path is dir or lies below it; both are clean.
func within(path, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return path == dir || strings.HasPrefix(path, dir+"/")
}
