package unpack

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
)

// Names that mean something else than a file, as the image specification of
// the Open Container Initiative has them from aufs.
const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// refusal is an entry that no archive may have; it is EINVAL, or EXDEV for one
// that leads out.
type refusal struct {
	errno error
	text  string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.errno }

func refuse(errno error, text string) error { return &refusal{errno: errno, text: text} }

// cleanName checks a name of an archive and brings it to the form "a/b/c";
// "" is the root of the archive.
func cleanName(name string, depth int64) (string, error) {
	switch {
	case name == "":
		return "", refuse(unix.EINVAL, "an entry without a name")
	case len(name) > maxPath:
		return "", refuse(unix.ENAMETOOLONG, "a name of more than 4095 bytes")
	case strings.IndexByte(name, 0) >= 0:
		return "", refuse(unix.EINVAL, "a name with a NUL byte")
	}
	for strings.HasPrefix(name, "./") || strings.HasPrefix(name, "/") {
		name = name[strings.IndexByte(name, '/')+1:]
	}
	name = strings.TrimRight(name, "/")
	clean, levels := true, int64(0)
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			clean = false
			continue
		case part == "..":
			return "", refuse(unix.EXDEV, `a name with ".." in it`)
		case len(part) > maxName:
			return "", refuse(unix.ENAMETOOLONG, "a component of more than 255 bytes")
		}
		levels++
	}
	if levels > depth {
		return "", &LimitError{LimitDepth, depth}
	}
	if !clean {
		name = squeeze(name)
	}
	return name, nil
}

// squeeze takes empty components and "." away.
func squeeze(name string) string {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// split gives the directory of a clean name, "" for the root, and the last
// component.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// meaning is what a clean name stands for.
type meaning int

const (
	aFile    meaning = iota
	aRemoval         // of base in dir
	anOpaque         // all of dir is removed
	aufsFile         // of a file system that left its own files in the archive
)

// interpret finds the whiteouts. A ".wh." anywhere else could come back as a
// whiteout when the tree is packed again, so it is refused.
func interpret(name string) (m meaning, dir, base string, err error) {
	dir, base = split(name)
	if !strings.Contains(name, whiteoutPrefix) {
		return aFile, dir, base, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		switch {
		case strings.HasPrefix(part, aufsPrefix):
			return aufsFile, dir, base, nil
		case strings.HasPrefix(part, whiteoutPrefix):
			return 0, "", "", refuse(unix.EINVAL, "a file below the whiteout "+quote.Quote(part))
		}
	}
	target, isWhiteout := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !isWhiteout:
		return aFile, dir, base, nil
	case base == opaqueName:
		return anOpaque, dir, "", nil
	case target == "" || target == "." || target == "..":
		return 0, "", "", refuse(unix.EINVAL, "a whiteout of no file: "+quote.Quote(base))
	case strings.HasPrefix(base, aufsPrefix):
		return aufsFile, dir, base, nil
	}
	return aRemoval, dir, target, nil
}
