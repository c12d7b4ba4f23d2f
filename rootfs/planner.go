package rootfs

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is one file of an image to be: copied from the host, or generated.
type entry struct {
	path   string // absolute, its parents free of links
	kind   uint32 // S_IFDIR, S_IFREG or S_IFLNK; others are never taken
	mode   uint32 // permission bits, cleaned
	size   int64
	mtime  unix.Timespec
	ino    uint64
	dev    uint64
	nlink  uint64
	target string // of a link
	data   []byte // of a generated file; nil for a copied one
	taken  bool   // part of the image
	open   bool   // everyone may read it (files), or enter and list it (directories)
}

// planner finds out what an image consists of by looking at the host, without
// running or loading anything of it.
type planner struct {
	ctx   context.Context
	host  *Root
	known map[string]*entry // everything that was looked at
	bound []string          // directories that will be bound: nothing below is copied
	links []string          // links in trees that point to directories, decided last
	tops  []string          // directories and files for the stamp
	notes []string

	binDirs, libDirs []string
}

// systemDirs are where links of the distribution may lead. /usr/local and /home
// are the administrator's and the users'.
var systemDirs = [...]string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/libx32", "/lib64", "/etc",
	"/nix/store", "/gnu/store",
}

func newPlanner(ctx context.Context, host *Root) *planner {
	p := &planner{ctx: ctx, host: host, known: make(map[string]*entry)}
	p.binDirs = p.realDirs("/usr/bin", "/bin", "/usr/sbin", "/sbin")
	p.libDirs = p.realDirs(append(p.expand("/usr/lib/"+triplet(), "/lib/"+triplet()),
		"/usr/lib64", "/usr/lib", "/lib64", "/lib")...)
	return p
}

// triplet is the pattern of this machine's library directory on a multiarch
// system; a host may have those of other machines beside it.
func triplet() string {
	cpu, ok := map[string]string{
		"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "powerpc64le", "s390x": "s390x", "riscv64": "riscv64",
		"loong64": "loongarch64",
	}[runtime.GOARCH]
	if !ok {
		cpu = "*"
	}
	return cpu + "-linux-*"
}

// realDirs resolves directories and drops those that are missing or the same.
func (p *planner) realDirs(paths ...string) []string {
	var dirs []string
	for _, name := range paths {
		chain, err := p.walk(name)
		if err != nil || len(chain) == 0 {
			continue
		}
		end := chain[len(chain)-1]
		if end.kind == unix.S_IFDIR && !slices.Contains(dirs, end.path) {
			dirs = append(dirs, end.path)
		}
	}
	return dirs
}

// note keeps a remark for image.json.
func (p *planner) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// look gives what stands at a path whose parents are free of links. It is
// looked at once. The error is the bare errno.
func (p *planner) look(name string) (*entry, error) {
	if e := p.known[name]; e != nil {
		return e, nil
	}
	fd, err := p.host.OpenFD(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	e := newEntry(name, &st)
	if e.kind == unix.S_IFLNK {
		if e.target, err = readlinkat(fd, ""); err != nil {
			return nil, err
		}
	}
	p.known[name] = e
	return e, nil
}

// newEntry cleans what the host has: no set-id and sticky bits, nothing that
// others may write.
func newEntry(name string, st *unix.Stat_t) *entry {
	e := &entry{
		path: name, kind: st.Mode & unix.S_IFMT, mode: st.Mode & 0o775, size: st.Size,
		mtime: st.Mtim, ino: st.Ino, dev: st.Dev, nlink: uint64(st.Nlink),
	}
	if e.kind == unix.S_IFDIR {
		e.size, e.open = 0, st.Mode&0o005 == 0o005
	} else {
		e.open = st.Mode&0o004 != 0
	}
	return e
}

// walk resolves a path inside the host one component at a time and gives every
// directory, link and file on the way, the end last.
func (p *planner) walk(name string) ([]*entry, error) {
	var chain []*entry
	links, cur, rest := 0, "", name
	for rest != "" {
		var comp string
		comp, rest, _ = strings.Cut(rest, "/")
		switch comp {
		case "", ".":
			continue
		case "..":
			cur = parentOf(cur)
			continue
		}
		e, err := p.look(cur + "/" + comp)
		if err != nil {
			return nil, err
		}
		chain = append(chain, e)
		if e.kind != unix.S_IFLNK {
			cur = e.path
			continue
		}
		if links++; links > maxLinks {
			return nil, unix.ELOOP
		}
		if strings.HasPrefix(e.target, "/") {
			cur = ""
		}
		rest = e.target + "/" + rest
	}
	if end := p.known[cur]; end != nil && (len(chain) == 0 || chain[len(chain)-1] != end) {
		chain = append(chain, end) // the path ended in ".."
	}
	return chain, nil
}

// take makes name and everything on the way to it part of the image. A path
// that leads out of the system's directories, is missing, or may not be read by
// everyone is left out: false.
func (p *planner) take(name string) (*entry, bool) {
	chain, err := p.walk(name)
	if err != nil || len(chain) == 0 {
		return nil, false
	}
	end := chain[len(chain)-1]
	if !p.fit(end) || !inSystem(end.path) {
		return nil, false
	}
	p.takeAll(chain)
	return end, true
}

// fit reports whether something may be copied at all: a file or directory that
// everyone may read.
func (p *planner) fit(e *entry) bool {
	return e.open && (e.kind == unix.S_IFREG || e.kind == unix.S_IFDIR)
}

func (p *planner) takeAll(chain []*entry) {
	for _, e := range chain {
		if !p.isBound(e.path) {
			e.taken = true
		}
	}
}

// isBound reports whether a path lies below a directory that will be bound, not
// counting that directory itself.
func (p *planner) isBound(name string) bool {
	for _, b := range p.bound {
		if below(name, b) && name != b {
			return true
		}
	}
	return false
}

func inSystem(name string) bool {
	if below(name, "/usr/local") {
		return false
	}
	return slices.ContainsFunc(systemDirs[:], func(dir string) bool { return below(name, dir) })
}

// below reports whether name is dir or lies in it; both are clean.
func below(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// takeTree takes a directory with all below it but what skip matches.
func (p *planner) takeTree(name string, skip []string) error {
	end, ok := p.take(name)
	if !ok {
		return nil
	}
	if end.kind != unix.S_IFDIR || p.isBound(end.path) {
		return nil
	}
	p.tops = append(p.tops, end.path)
	fd, err := p.host.OpenFD(end.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		p.note("not readable: %s", end.path)
		return nil
	}
	defer unix.Close(fd)
	return p.takeBelow(fd, end.path, skip)
}

func (p *planner) takeBelow(dirfd int, dir string, skip []string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	return eachEntry(dirfd, func(d dirent) error {
		name := dir + "/" + d.name
		if skipped(name, skip) {
			return nil
		}
		e := p.known[name]
		if e == nil {
			var st unix.Stat_t
			if err := unix.Fstatat(dirfd, d.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return nil // gone meanwhile; the next comparison sees it
			}
			if st.Mode&unix.S_IFMT == unix.S_IFLNK {
				p.takeLink(name)
				return nil
			}
			e = newEntry(name, &st)
			p.known[name] = e
		}
		if e.kind == unix.S_IFLNK {
			p.takeLink(name)
			return nil
		}
		if !p.fit(e) {
			return nil
		}
		e.taken = true
		if e.kind != unix.S_IFDIR {
			return nil
		}
		fd, err := unix.Openat(dirfd, d.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		defer unix.Close(fd)
		return p.takeBelow(fd, name, skip)
	})
}

// takeLink takes a link met in a tree, with the file it leads to. One that
// leads to a directory is decided when all trees are known.
func (p *planner) takeLink(name string) {
	chain, err := p.walk(name)
	if err != nil || len(chain) == 0 {
		return
	}
	end := chain[len(chain)-1]
	switch {
	case !p.fit(end) || !inSystem(end.path):
	case end.kind == unix.S_IFDIR && !p.isBound(end.path):
		p.links = append(p.links, name)
	default:
		p.takeAll(chain)
	}
}

// finishLinks takes the links to directories whose directory is in the image.
func (p *planner) finishLinks() {
	for _, name := range p.links {
		chain, err := p.walk(name)
		if err == nil && chain[len(chain)-1].taken {
			p.takeAll(chain)
		}
	}
}
