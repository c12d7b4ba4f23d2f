package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Via names the step of the search of ld.so(8) by which a library was found.
type Via string

// The steps, in the order in which the loader takes them.
const (
	// ViaInterp is the dynamic loader itself, named by PT_INTERP.
	ViaInterp Via = "interpreter"
	// ViaPath is a DT_NEEDED with a slash in it, which is opened as it stands.
	ViaPath Via = "path"
	// ViaRPath is a DT_RPATH of the object that asks or of one above it.
	ViaRPath Via = "rpath"
	// ViaRunPath is the DT_RUNPATH of the object that asks.
	ViaRunPath Via = "runpath"
	// ViaCache is /etc/ld.so.cache.
	ViaCache Via = "cache"
	// ViaDefault is a directory that the loader searches by itself.
	ViaDefault Via = "default"
)

// Library is one shared object that a program needs, or its dynamic loader.
type Library struct {
	// Name is the text that asked for it: a DT_NEEDED such as "libz.so.1", or
	// the PT_INTERP.
	Name string `json:"name"`
	// Path is where the loader finds it in the tree that was searched; there
	// may be links on the way.
	Path string `json:"path"`
	// Inside is where a copy must stand so that the loader inside finds it.
	// [Resolver.Closure] gives Path, [Lacking] a path in the image.
	Inside string `json:"inside"`
	// Links are all links on the way from Path to File, those of directories
	// included ("/lib" on a merged-/usr system).
	Links []Link `json:"links,omitempty"`
	// File is the regular file at the end, a path without links.
	File string `json:"file"`
	// Dev, Ino and Size (bytes) are those of File when it was read.
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Size int64  `json:"size"`
	// NeededBy is the Path of the first object that asks for it.
	NeededBy string `json:"neededBy"`
	// Via is the step of the search that found it.
	Via Via `json:"via"`
	// Replaces is set by [Lacking] when the image has something else at Inside
	// that the loader cannot use; the copy takes its place.
	Replaces bool `json:"replaces,omitempty"`
}

// MissingLibrary is a library or a dynamic loader that was found nowhere.
type MissingLibrary struct {
	// Name is the text that asks for it.
	Name string `json:"name"`
	// NeededBy is the path of the object that asks.
	NeededBy string `json:"neededBy"`
	// Interp is true when it is the dynamic loader (PT_INTERP): then the kernel
	// itself cannot start the program.
	Interp bool `json:"interp,omitempty"`
	// Reason says why a file that was found cannot be used; empty when there is
	// none.
	Reason string `json:"reason,omitempty"`
}

// String is the name and what needs it, for a message; a hostile name is quoted.
func (m MissingLibrary) String() string {
	text := fmt.Sprintf("%s, needed by %s", shown(m.Name), shown(m.NeededBy))
	if m.Reason != "" {
		text += " (" + m.Reason + ")"
	}
	return text
}

// Closure is everything that a set of files needs to be loaded.
type Closure struct {
	// Interps are the dynamic loaders, nearly always exactly one.
	Interps []Library
	// Libs are the shared libraries, each file once per path, in the order of
	// loading.
	Libs []Library
	// Missing are the libraries that are not there.
	Missing []MissingLibrary
	// NotELF are those of the files that are no ELF objects (scripts, data), as
	// given.
	NotELF []string
	// Refused are ELF files that cannot run on this machine: one
	// [*ProgramError] each.
	Refused []error
}

// Resolver finds the libraries that programs of one tree need, as the dynamic
// loader would find them there, by reading files and never by running one. It
// keeps what it has read, so that one Resolver for many programs reads each
// library once; it must not outlive a change of the tree and is not safe for
// concurrent use.
//
// The search is that of ld.so(8) without LD_LIBRARY_PATH and LD_PRELOAD, and
// that of musl for programs with musl's loader. Not covered, since no header
// says it: libraries opened with dlopen(3), variants for particular processors
// (glibc-hwcaps; the plain library always stands beside them) and whether a
// library is too old for a program (symbol versions).
type Resolver struct {
	tree *tree
}

// NewResolver makes a Resolver for a tree. A tree without /etc/ld.so.cache is
// searched as if ldconfig(8) had run: in the directories of /etc/ld.so.conf as
// well.
func NewResolver(root *Root) *Resolver {
	t := newTree(View{Root: root})
	t.source = true
	return &Resolver{tree: t}
}

// Closure returns what the files, absolute paths in the tree, need together:
// programs as well as libraries (plug-ins). A file that cannot be opened is an
// [fs.PathError] with its errno; one that is no ELF file or not for this
// machine is only listed.
func (r *Resolver) Closure(files ...string) (Closure, error) {
	b := closureBuilder{tree: r.tree, seen: make(map[string]bool)}
	for _, name := range files {
		f := r.tree.file(name)
		switch {
		case errors.Is(f.err, ErrNotELF):
			b.NotELF = append(b.NotELF, name)
		case errors.Is(f.err, ErrBadELF):
			b.Refused = append(b.Refused, damagedProgram(name, f.err))
		case f.err != nil:
			return Closure{}, pathErr("open", name, f.err)
		case !f.elf.native():
			b.Refused = append(b.Refused, foreignProgram(name, f.elf))
		default:
			if err := b.add(name, f); err != nil {
				return Closure{}, err
			}
		}
	}
	return b.Closure, nil
}

// closureBuilder gathers the closures of several files.
type closureBuilder struct {
	Closure
	tree *tree
	seen map[string]bool // paths in Interps and Libs; names in Missing, with what needs them
}

func (b *closureBuilder) add(name string, f *libFile) error {
	if len(f.elf.Needed) == 0 && f.elf.Interp == "" {
		return nil
	}
	first := &object{elf: f.elf, file: f, at: place{outside: name, inside: name}}
	if err := b.setOrigin(first); err != nil {
		return err
	}
	l := load{
		trees: []*tree{b.tree}, defaults: []*tree{b.tree},
		interp: f.elf.Interp, musl: isMusl(f.elf.Interp) || needsMusl(f.elf),
	}
	var interp *object
	if f.elf.Interp != "" {
		at := place{outside: f.elf.Interp, inside: f.elf.Interp}
		if file := b.tree.file(f.elf.Interp); isLoader(file) {
			interp = &object{elf: file.elf, tree: b.tree, file: file, name: f.elf.Interp, at: at, loader: first, via: ViaInterp}
			if err := b.take(&b.Interps, interp); err != nil {
				return err
			}
		} else {
			b.miss(MissingLibrary{Name: f.elf.Interp, NeededBy: name, Interp: true})
		}
	}
	l.run(first, interp)
	for _, o := range l.queue[1:] {
		if err := b.take(&b.Libs, o); err != nil {
			return err
		}
	}
	for _, m := range l.missing {
		b.miss(m)
	}
	return nil
}

// setOrigin finds the $ORIGIN of a file that is loaded first: that of a program
// is free of links (the kernel tells it by /proc/self/exe), that of a library
// is not.
func (b *closureBuilder) setOrigin(first *object) error {
	dir := path.Dir(first.at.outside)
	if first.elf.Interp != "" && first.elf.RPath+first.elf.RunPath != "" {
		_, file, err := b.tree.view.walk(first.at.outside)
		if err != nil {
			return pathErr("look up", first.at.outside, err)
		}
		dir = path.Dir(file)
	}
	first.origin = place{outside: dir, inside: dir}
	return nil
}

// take adds a library to one of the lists, once per path.
func (b *closureBuilder) take(list *[]Library, o *object) error {
	if b.seen[o.path()] {
		return nil
	}
	b.seen[o.path()] = true
	lib, err := o.library()
	if err != nil {
		return err
	}
	lib.Inside = lib.Path
	*list = append(*list, lib)
	return nil
}

func (b *closureBuilder) miss(m MissingLibrary) {
	if key := m.NeededBy + "\x00" + m.Name; !b.seen[key] {
		b.seen[key] = true
		b.Missing = append(b.Missing, m)
	}
}

// library tells of a loaded library to the outside.
func (o *object) library() (Library, error) {
	links, file, err := o.tree.view.walk(o.path())
	if err != nil {
		return Library{}, pathErr("look up", o.path(), err)
	}
	lib := Library{
		Name: o.name, Path: o.path(), Inside: o.at.inside, Links: links, File: file,
		Dev: o.file.dev, Ino: o.file.ino, Size: o.file.size, Via: o.via,
	}
	if o.loader != nil {
		lib.NeededBy = o.loader.path()
	}
	return lib, nil
}

// Open opens the regular file of a library for reading in the tree that it was
// found in. It passes no link, and it must be the file that was read: another
// one is an error with errno ESTALE.
func (l *Library) Open(root *Root) (*os.File, error) {
	fd, err := root.OpenFD(l.File, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, pathErr("open", l.File, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = mustBeRegular(&st)
	}
	if err == nil && (st.Dev != l.Dev || st.Ino != l.Ino) {
		err = unix.ESTALE
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, pathErr("open", l.File, err)
	}
	return os.NewFile(uintptr(fd), l.File), nil
}

// pathErr is an error about a path that may come from a hostile header.
func pathErr(doing, path string, err error) error {
	return fmt.Errorf("%s %s: %w", doing, shown(path), err)
}

// isLoader is true for a file that the kernel of this machine can start as
// PT_INTERP.
func isLoader(f *libFile) bool {
	return f.err == nil && f.elf.native() && (f.elf.Type == elfTypeDyn || f.elf.Type == elfTypeExec)
}

// needsMusl is true for a library that is linked against musl by its own
// soname, as Alpine does it.
func needsMusl(e *ELF) bool {
	for _, name := range e.Needed {
		if strings.HasPrefix(name, "libc.musl-") {
			return true
		}
	}
	return false
}
