package rootfs

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Placement says where a program stands inside, and where its user stands outside.
type Placement struct {
	// Path is the absolute path of the program inside, such as "/box/tool". Its
	// directory is $ORIGIN there.
	Path string
	// Dir is the working directory inside. A library that is named by a
	// relative path is looked up from there.
	Dir string
	// HostDir is the working directory outside, the other half of Dir. When
	// empty, relative paths are not found outside.
	HostDir string
}

// Lacking returns what a program needs and an image lacks: libraries of the
// host that have to be copied, each from File (see [Library.Open]) to Inside,
// so that the loader finds them; the dynamic loader itself among them when the
// image has none. missing are those that neither has. For a static program or a
// script there is nothing to do.
//
// The order of ld.so(8) holds on both sides at once: where it looks at a
// directory, the image's file wins over the host's of the same place, and what
// the image finds by its own cache and default directories is not looked for
// outside. So libraries that a program brings along ($ORIGIN) come with it, and
// all others are the image's where it has them. Libraries that were found
// outside in a place where the loader inside does not look (/usr/local/lib) are
// given a place where it does.
//
// A program made for another C library than the image's gets loader, C library
// and all the rest from the host, and the image's are left out of account. Not
// covered: what [Resolver] does not cover either; above all a library of the
// image may be older than the program wants.
//
// A hostile program chooses the names, so a Library may be any shared library
// of this architecture that the caller can read; nothing else is ever taken,
// and nothing that is not a regular file is opened.
func Lacking(p *Program, at Placement, host *Root, image View) (libs []Library, missing []MissingLibrary, err error) {
	if p.ELF == nil || p.ELF.Interp == "" {
		return nil, nil, nil
	}
	origin := ""
	if strings.Contains(p.ELF.RPath+p.ELF.RunPath+strings.Join(p.ELF.Needed, ""), "$") {
		origin = p.hostDir()
	}
	return lackingIn(p, origin, at, host, image)
}

// lackingIn is Lacking for a program with a known $ORIGIN outside; empty when
// there is none.
func lackingIn(p *Program, origin string, at Placement, host *Root, image View) (libs []Library, missing []MissingLibrary, err error) {
	inside, outside := newTree(image), newTree(View{Root: host})
	inside.inside, outside.source = true, true

	l := load{
		trees: []*tree{inside, outside}, defaults: []*tree{inside, outside},
		interp: p.ELF.Interp, musl: isMusl(p.ELF.Interp),
		cwd: place{outside: at.HostDir, inside: at.Dir},
	}
	first := &object{elf: p.ELF, at: place{outside: p.Path, inside: at.Path}}
	if origin != "" {
		first.origin = place{outside: origin, inside: path.Dir(at.Path)}
	}
	interp := l.findInterp(first)
	if interp == nil {
		return nil, []MissingLibrary{{Name: p.ELF.Interp, NeededBy: p.Path, Interp: true}}, nil
	}
	if interp.tree == outside {
		l.defaults = []*tree{outside}
	}
	l.home = func(name, found string) string { return homeFor(interp, inside, l.musl, name, found) }
	l.run(first, interp)

	taken := make(map[string]bool)
	for _, o := range append([]*object{interp}, l.queue[1:]...) {
		if o.tree != outside || taken[o.at.inside] {
			continue // the image's, or its place is taken by what the loader meets first there
		}
		taken[o.at.inside] = true
		lib, err := o.library()
		if err != nil {
			return nil, nil, err
		}
		if image.mounted(lib.Inside) {
			l.missing = append(l.missing, MissingLibrary{
				Name: lib.Name, NeededBy: lib.NeededBy, Interp: lib.Via == ViaInterp,
				Reason: "the host has " + shown(lib.Path) + ", but " + shown(lib.Inside) + " lies below a mount",
			})
			continue
		}
		_, statErr := image.Stat(lib.Inside)
		lib.Replaces = statErr == nil
		libs = append(libs, lib)
	}
	return libs, l.missing, nil
}

// findInterp finds the dynamic loader, which the kernel opens by its path as it
// stands.
func (l *load) findInterp(first *object) *object {
	at := place{outside: absolute(l.interp, l.cwd.outside), inside: absolute(l.interp, l.cwd.inside)}
	for _, t := range l.trees {
		name := at.in(t)
		if name == "" {
			continue
		}
		if f := t.file(name); isLoader(f) {
			at.inside = path.Clean(at.inside)
			return &object{elf: f.elf, tree: t, file: f, name: l.interp, at: at, loader: first, via: ViaInterp}
		}
	}
	return nil
}

// homeFor is where a library that the host found by itself, at the path found,
// has to stand so that the loader interp finds it too: where it was when that
// is one of the loader's own directories, else in the first of those.
func homeFor(interp *object, inside *tree, musl bool, name, found string) string {
	dir := path.Dir(found)
	var own []string
	if musl {
		own = inside.muslDirs(interp.name) // read from a file by the loader inside, wherever that comes from
	} else if at := interp.tree.loaderDir(interp.path()); at != "" {
		// glibc is built with one name for its directory and with the other for
		// its libraries': /lib/x and /usr/lib/x.
		own = []string{at, "/usr" + at, strings.TrimPrefix(at, "/usr")}
	}
	if len(own) == 0 || slices.Contains(own, dir) {
		return path.Clean(found)
	}
	return path.Join(own[0], name)
}

// hostDir is the directory of the program free of links, as the kernel would
// tell it to the loader. The descriptor's own link in /proc is asked first, as
// it cannot be deceived by a rename; without /proc the path is resolved once
// more, which decides on nothing but $ORIGIN.
func (p *Program) hostDir() string {
	if file, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(p.File.Fd()))); err == nil {
		var st unix.Stat_t
		if unix.Stat(file, &st) == nil && st.Dev == p.Dev && st.Ino == p.Ino {
			return path.Dir(file)
		}
	}
	file := p.Path
	if !path.IsAbs(file) {
		dir, err := os.Getwd()
		if err != nil {
			return ""
		}
		file = path.Join(dir, file)
	}
	host, err := OpenRoot("/")
	if err != nil {
		return ""
	}
	defer func() { _ = host.Close() }()
	if _, file, err = (&View{Root: host}).walk(file); err != nil {
		return ""
	}
	return path.Dir(file)
}
