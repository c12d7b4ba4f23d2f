package rootfs

import (
	"path"
	"strings"
)

// maxProbes is how many files the loading of one program may look for, and
// maxObjects how many it may load: a hostile header could ask for millions. The
// largest programs known stay below a twentieth of either.
const (
	maxProbes  = 100_000
	maxObjects = 4096
)

// place is one path on both sides: in the tree a library is taken from, and in
// the tree the program sees.
type place struct {
	outside, inside string
}

func (p place) in(t *tree) string {
	if t.inside {
		return p.inside
	}
	return p.outside
}

// below is the place of a name, a path or a single component, under p.
func (p place) below(name string) place {
	return place{outside: p.outside + "/" + name, inside: p.inside + "/" + name}
}

// object is a loaded file: the program or a library.
type object struct {
	elf    *ELF
	tree   *tree // nil for the program
	file   *libFile
	name   string
	at     place
	origin place   // $ORIGIN; empty when unknown
	loader *object // the object that asked first; nil for the program
	via    Via
	dirs   []place // DT_RPATH or DT_RUNPATH, expanded once
	split  bool
}

// load is the loading of one program as the dynamic loader would do it, by
// reading only.
type load struct {
	// trees are searched in this order at each step: the one that the program
	// sees, then the one that copies are taken from.
	trees []*tree
	// defaults are the trees whose cache and default directories count. It
	// lacks the image when the loader comes from the host: the image's
	// libraries are made for another C library then.
	defaults []*tree
	musl     bool
	interp   string // as named by the program
	cwd      place  // for names and directories that are not absolute; empty to find nothing there
	// home is where a library that was found by a cache or default directory of
	// the host has to stand inside.
	home func(name, at string) string

	known   map[string]*object // by name and soname; nil for one that is missing
	queue   []*object
	missing []MissingLibrary
	probes  int
}

// isMusl tells the loader of musl from that of glibc by its name, which both fix.
func isMusl(interp string) bool { return strings.HasPrefix(path.Base(interp), "ld-musl-") }

// run loads first and everything that it needs, breadth first as the loader
// does. The objects are in l.queue, first included.
func (l *load) run(first, interp *object) {
	l.known = make(map[string]*object, 16)
	if interp != nil {
		l.known[path.Base(l.interp)] = interp
		if interp.elf.SoName != "" {
			l.known[interp.elf.SoName] = interp
		}
	}
	if first.elf.SoName != "" {
		l.known[first.elf.SoName] = first
	}
	l.queue = append(l.queue, first)
	for i := 0; i < len(l.queue) && i < maxObjects; i++ {
		for _, name := range l.queue[i].elf.Needed {
			l.need(name, l.queue[i])
		}
	}
}

// need loads the library called name for the object by, if it is not loaded yet.
func (l *load) need(name string, by *object) {
	if _, ok := l.known[name]; ok || name == "" || l.musl && isMuslItself(name) {
		return
	}
	o, reason := l.find(name, by)
	if o == nil {
		l.known[name] = nil
		l.missing = append(l.missing, MissingLibrary{Name: name, NeededBy: by.path(), Reason: reason})
		return
	}
	for _, other := range l.queue {
		// The loader knows a file it has by its inode, whatever it is called.
		if other.file != nil && other.file.dev == o.file.dev && other.file.ino == o.file.ino {
			l.known[name] = other
			return
		}
	}
	o.name, o.loader = name, by
	l.known[name] = o
	if soname := o.elf.SoName; soname != "" {
		if _, ok := l.known[soname]; !ok {
			l.known[soname] = o
		}
	}
	l.queue = append(l.queue, o)
}

// isMuslItself is true for the names under which musl's loader means itself:
// the C library and those that glibc once kept apart from it.
func isMuslItself(name string) bool {
	stem, _, ok := strings.Cut(strings.TrimPrefix(name, "lib"), ".")
	if !ok || !strings.HasPrefix(name, "lib") {
		return false
	}
	switch stem {
	case "c", "pthread", "rt", "m", "dl", "util", "xnet":
		return true
	}
	return false
}

// path is the path of an object in the tree that it was found in.
func (o *object) path() string {
	if o.tree == nil {
		return o.at.outside
	}
	return o.at.in(o.tree)
}

// find searches a library in the order of ld.so(8), without LD_LIBRARY_PATH.
// reason is set when the search ended at an unusable file.
func (l *load) find(name string, by *object) (o *object, reason string) {
	if strings.Contains(name, "/") {
		for _, at := range l.expand(name, by) {
			if o, reason := l.probe(at, ViaPath); o != nil || reason != "" {
				return o, reason
			}
		}
		return nil, ""
	}
	if o, reason := l.findInPaths(name, by); o != nil || reason != "" {
		return o, reason
	}
	for _, t := range l.defaults {
		if o, reason := l.findByDefault(t, name, by); o != nil || reason != "" {
			return o, reason
		}
	}
	return nil, ""
}

// findInPaths does the steps DT_RPATH and DT_RUNPATH. With glibc a DT_RUNPATH
// serves its own object only and switches every DT_RPATH off, while a DT_RPATH
// also serves the libraries below; with musl both are the latter.
func (l *load) findInPaths(name string, by *object) (o *object, reason string) {
	via := ViaRPath
	own := !l.musl && by.elf.RunPath != ""
	if own {
		via = ViaRunPath
	}
	for o := by; o != nil; o = o.loader {
		if o.elf.RunPath != "" && !l.musl && !own {
			continue // its DT_RPATH is ignored, and its DT_RUNPATH is not inherited
		}
		for _, dir := range l.searchDirs(o) {
			if found, reason := l.probe(dir.below(name), via); found != nil || reason != "" {
				return found, reason
			}
		}
		if own {
			break
		}
	}
	return nil, ""
}

// probe looks for a file at a place in each tree.
func (l *load) probe(at place, via Via) (o *object, reason string) {
	for _, t := range l.trees {
		name := at.in(t)
		if name == "" {
			continue
		}
		f, v, reason := l.look(t, name)
		switch v {
		case takeIt:
			if t.inside {
				at.outside = name // a library of the image has its neighbours, if they lack there, in the same place outside
			}
			return newObject(t, f, at, via), ""
		case giveUp:
			return nil, "found as " + shown(name) + ": " + reason
		}
	}
	return nil, ""
}

func (l *load) look(t *tree, name string) (*libFile, verdict, string) {
	if l.probes++; l.probes > maxProbes {
		return nil, giveUp, "the program asks for too many files"
	}
	f := t.file(name)
	v, reason := judge(f)
	return f, v, reason
}

// newObject makes the object of a library. Its $ORIGIN is the directory of the
// path that it was found by, links unresolved.
func newObject(t *tree, f *libFile, at place, via Via) *object {
	return &object{
		elf: f.elf, tree: t, file: f, at: at, via: via,
		origin: place{outside: dirOf(at.outside), inside: dirOf(at.inside)},
	}
}

// dirOf is the directory part of a path as it stands: "a/../b" stays, since a
// may be a link.
func dirOf(name string) string {
	i := strings.LastIndexByte(name, '/')
	switch {
	case i < 0:
		return "."
	case i == 0:
		return "/"
	}
	return name[:i]
}

// findByDefault does the steps ld.so.cache and default directories in one tree.
func (l *load) findByDefault(t *tree, name string, by *object) (o *object, reason string) {
	dirs := t.muslDirs
	if !l.musl {
		dirs = t.glibcDirs
		if cache := t.ldCache(); cache != nil {
			for _, at := range cache.Lookup(name) {
				if by.elf.NoDefaultLibs && l.isSystemDir(t, path.Dir(at)) {
					continue
				}
				if o, reason := l.tryDefault(t, name, at, ViaCache); o != nil || reason != "" {
					return o, reason
				}
			}
		}
		if by.elf.NoDefaultLibs {
			return nil, ""
		}
	}
	for _, dir := range dirs(l.interp) {
		if o, reason := l.tryDefault(t, name, dir+"/"+name, ViaDefault); o != nil || reason != "" {
			return o, reason
		}
	}
	return nil, ""
}

func (l *load) isSystemDir(t *tree, dir string) bool {
	for _, d := range t.glibcDirs(l.interp) {
		if d == dir {
			return true
		}
	}
	return false
}

func (l *load) tryDefault(t *tree, name, at string, via Via) (o *object, reason string) {
	f, v, reason := l.look(t, at)
	switch v {
	case takeIt:
		p := place{outside: at, inside: at}
		if !t.inside && l.home != nil {
			p.inside = l.home(name, at)
		}
		return newObject(t, f, p, via), ""
	case giveUp:
		return nil, "found as " + shown(at) + ": " + reason
	}
	return nil, ""
}
