package rootfs

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a View together with everything that was read from it for the search
// of libraries. It is not safe for concurrent use.
type tree struct {
	view View
	// inside is true for the tree that the program will see, and so decides
	// which of the two paths of a place applies.
	inside bool
	// source is true for a tree that libraries are copied from: a directory
	// that only ldconfig would search counts as well.
	source bool

	files map[string]*libFile
	cache *LdCache            // nil until cacheRead, and when there is none
	glibc map[string][]string // default directories by loader
	musl  []string            // likewise, nil until asked for
	// cacheRead is true when cache has been looked for.
	cacheRead bool
}

// libFile is a file that was opened in the search.
type libFile struct {
	elf      *ELF // nil when err is set
	dev, ino uint64
	size     int64
	err      error
}

func newTree(view View) *tree {
	return &tree{view: view, files: make(map[string]*libFile), glibc: make(map[string][]string)}
}

// file opens and reads the file at a path once. An absent file has an errno for
// an error, another one [ErrNotELF] or [ErrBadELF].
func (t *tree) file(name string) *libFile {
	if f, ok := t.files[name]; ok {
		return f
	}
	f := t.read(name)
	t.files[name] = f
	return f
}

func (t *tree) read(name string) *libFile {
	fd, st, err := t.view.openRegular(name)
	if err != nil {
		return &libFile{err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	f := &libFile{dev: st.Dev, ino: st.Ino, size: st.Size}
	f.elf, f.err = ReadELF(fdReader(fd))
	return f
}

// verdict is what the loader does with a file that it meets in its search.
type verdict int

const (
	passOver verdict = iota // not there, or for another machine: the search goes on
	takeIt
	giveUp // there, but no library: the loader ends with an error
)

// judge decides on a file as open_verify of glibc's loader does: what cannot be
// opened or is of another class or machine is passed over in silence, anything
// else that is no shared library is an error.
func judge(f *libFile) (v verdict, reason string) {
	switch {
	case f.err == nil && !f.elf.native():
		return passOver, ""
	case f.err == nil && f.elf.Type == elfTypeDyn && !f.elf.PIE:
		return takeIt, ""
	case f.err == nil:
		return giveUp, "a program, not a library"
	case errors.Is(f.err, ErrNotELF), errors.Is(f.err, ErrBadELF):
		return giveUp, f.err.Error()
	default:
		return passOver, ""
	}
}

// ldCache returns the tree's /etc/ld.so.cache, nil without one.
func (t *tree) ldCache() *LdCache {
	if !t.cacheRead {
		t.cacheRead = true
		if data, err := t.view.readFile("/etc/ld.so.cache", maxLdCache); err == nil {
			// A cache that cannot be read is no cache, as for the loader.
			t.cache, _ = ParseLdCache(data)
		}
	}
	return t.cache
}

// loaderDir is the directory in which the loader named interp really is: the
// one that glibc was configured for (slibdir), in which it searches by itself
// on every distribution, NixOS included. It is empty when the loader is not
// there.
func (t *tree) loaderDir(interp string) string {
	_, file, err := t.view.walk(interp)
	if err != nil {
		return ""
	}
	return path.Dir(file)
}

// glibcDirs are the directories that glibc's loader searches after the cache.
// Which of them it was built with differs between distributions; searching all
// of them in this order finds the same files, since each distribution keeps
// libraries of one kind in one place.
func (t *tree) glibcDirs(interp string) []string {
	if dirs, ok := t.glibc[interp]; ok {
		return dirs
	}
	var dirs []string
	for _, lib := range libDirs() {
		dirs = append(dirs, "/"+lib, "/usr/"+lib)
	}
	if interp != "" {
		if dir := t.loaderDir(interp); dir != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if t.source && t.ldCache() == nil {
		dirs = append(dirs, t.view.ldSoConf()...)
	}
	t.glibc[interp] = dirs
	return dirs
}

// muslDirs are the directories of /etc/ld-musl-$ARCH.path, separated by colons
// or newlines, or musl's own three.
func (t *tree) muslDirs(interp string) []string {
	if t.musl != nil {
		return t.musl
	}
	arch := strings.TrimSuffix(strings.TrimPrefix(path.Base(interp), "ld-musl-"), ".so.1")
	if data, err := t.view.readFile("/etc/ld-musl-"+arch+".path", maxConfFile); err == nil {
		t.musl = strings.FieldsFunc(string(data), func(r rune) bool { return r == ':' || r == '\n' })
	}
	if t.musl == nil {
		t.musl = []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	return t.musl
}
