package rootfs

import (
	"path"
	"strings"
)

// maxSearchDirs bounds the directories of one DT_RPATH or DT_RUNPATH.
const maxSearchDirs = 1024

// searchDirs are the directories of an object's DT_RUNPATH, or else its DT_RPATH.
func (l *load) searchDirs(o *object) []place {
	if o.split {
		return o.dirs
	}
	o.split = true
	list := o.elf.RunPath
	if list == "" {
		list = o.elf.RPath
	}
	if list == "" {
		return nil
	}
	for dir := range strings.SplitSeq(list, ":") {
		if len(o.dirs) >= maxSearchDirs {
			break
		}
		o.dirs = append(o.dirs, l.expand(dir, o)...)
	}
	return o.dirs
}

// expand replaces $ORIGIN, $LIB and $PLATFORM (also in braces; see ld.so(8)) in
// a path that object o names, and makes it absolute. $LIB gives several
// results, since its meaning is compiled into the loader. A path that needs an
// unknown directory gives none.
func (l *load) expand(text string, o *object) []place {
	variants := []place{{outside: text, inside: text}}
	if strings.Contains(text, "$") {
		variants = l.expandTokens(text, o)
	}
	made := variants[:0]
	for _, p := range variants {
		if p.outside, p.inside = absolute(p.outside, l.cwd.outside), absolute(p.inside, l.cwd.inside); p != (place{}) {
			// Inside, the directories above are the fresh ones of sbx and hold
			// no links, so ".." can be taken off the text.
			if o.tree == nil || !o.tree.inside {
				p.inside = cleanPath(p.inside)
			}
			made = append(made, p)
		}
	}
	return made
}

func cleanPath(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean(p)
}

// absolute puts a relative path below dir; without dir there is no path. An
// empty element of a list means the working directory.
func absolute(p, dir string) string {
	switch {
	case strings.HasPrefix(p, "/"):
		return p
	case dir == "":
		return ""
	case p == "":
		return dir
	default:
		return dir + "/" + p
	}
}

func (l *load) expandTokens(text string, o *object) []place {
	if l.musl && strings.Count(text, "$") != strings.Count(text, "$ORIGIN")+strings.Count(text, "${ORIGIN}") {
		return nil // musl drops a path with any other token
	}
	if hasToken(text, "ORIGIN") && o.origin == (place{}) {
		return nil
	}
	p := place{
		outside: replaceToken(text, "ORIGIN", o.origin.outside),
		inside:  replaceToken(text, "ORIGIN", o.origin.inside),
	}
	if l.musl || !hasToken(text, "PLATFORM") && !hasToken(text, "LIB") {
		return []place{p}
	}
	var variants []place
	for _, lib := range libDirs() {
		v := p
		for _, side := range []*string{&v.outside, &v.inside} {
			*side = replaceToken(replaceToken(*side, "PLATFORM", platform()), "LIB", lib)
		}
		variants = append(variants, v)
		if !hasToken(text, "LIB") {
			break
		}
	}
	return variants
}

func hasToken(text, name string) bool {
	return strings.Contains(text, "$"+name) || strings.Contains(text, "${"+name+"}")
}

func replaceToken(text, name, value string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "${"+name+"}", value), "$"+name, value)
}
