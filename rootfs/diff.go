package rootfs

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"os"
	"path"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// ChangeKind is what happened to a path, in docker's letters.
type ChangeKind string

// A directory in which something changed counts as changed itself.
const (
	Added   ChangeKind = "A"
	Changed ChangeKind = "C"
	Deleted ChangeKind = "D"
)

// Change is one difference of a sandbox from its image. Path is absolute inside,
// and every byte of its names is the program's choice.
type Change struct {
	Kind ChangeKind
	Path string
}

// maxDiffDepth is how many directories below each other Diff enters; each costs
// three descriptors.
const maxDiffDepth = maxCopyDepth

// The entries of a directory are taken in batches, so that one with millions of
// them, and a thousand such below each other, take a bounded amount of memory:
// large batches as long as all names that are held take less than diffBudget
// bytes, small ones then. Within a batch changes come in the order of names.
const (
	diffBatch, diffSmallBatch = 1 << 16, 1 << 8
	diffBudget                = 64 << 20
)

// DiffOptions say how the tree came to be.
type DiffOptions struct {
	// Upper is the upper directory of the overlay that the tree is a view of,
	// nil for a copy: what is not in it comes from the image.
	Upper *os.File
	// Copy says how a copy was made: what CopyTree leaves out or sets by itself
	// is no change.
	Copy *CopyOptions
	// Places were mounted on. What had to be made for that is no change, nor
	// what became of their owners and modes.
	Places []string
}

// Diff compares a tree with the image that it is a copy of and tells emit each
// difference, a directory before what is in it. Two files are the same when
// their kinds, owners, modes, sizes, times of modification and user.* attributes
// are, and their content is too: a program can set any time that it likes.
// Neither of the times of a directory counts.
//
// The tree may be as hostile as can be; it must be quiet. No link is followed,
// no mount entered, nothing but regular files and directories is opened. Where
// more than a thousand directories lie below each other the rest is left out,
// and the error, at the end, is ENAMETOOLONG.
func Diff(ctx context.Context, image, tree *os.File, opt DiffOptions, emit func(Change) error) error {
	defer runtime.KeepAlive(image)
	defer runtime.KeepAlive(tree)
	defer runtime.KeepAlive(opt.Upper)
	d := differ{ctx: ctx, opt: opt, emit: emit, places: make(map[string]bool), given: make(map[string]bool), seed: maphash.MakeSeed()}
	for _, place := range opt.Places {
		d.given[place] = true
		for dir := place; dir != "/" && dir != "."; dir = path.Dir(dir) {
			d.places[dir] = true
		}
	}
	top := diffDir{image: -1, tree: -1, upper: -1, kind: Changed, told: true}
	defer top.close()
	for _, f := range []struct {
		from *os.File
		to   *int
	}{{image, &top.image}, {tree, &top.tree}, {opt.Upper, &top.upper}} {
		if f.from == nil {
			continue
		}
		var err error
		if *f.to, err = openBelow(int(f.from.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return fmt.Errorf("open %s: %w", shown(f.from.Name()), err)
		}
	}
	if err := d.walk(&top, 0); err != nil {
		return err
	}
	return d.late
}

// diffDir is one directory in both trees; a descriptor that there is none of is
// -1.
type diffDir struct {
	above              *diffDir
	path               string // "" for the root
	image, tree, upper int
	// kind is what will be told of the directory when something in it is, if it
	// was not told yet.
	kind ChangeKind
	told bool
}

func (d *diffDir) close() {
	for _, fd := range []int{d.image, d.tree, d.upper} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// differ is one Diff.
type differ struct {
	ctx           context.Context
	opt           DiffOptions
	emit          func(Change) error
	places, given map[string]bool
	held          int   // bytes of names
	late          error // what could not be looked at
	bufs          [2][]byte
	seed          maphash.Seed
}

// tell tells of name in dir, and of the directories above it first.
func (d *differ) tell(kind ChangeKind, dir *diffDir, name string) error {
	if err := d.tellDir(dir); err != nil {
		return err
	}
	return d.emit(Change{kind, dir.path + "/" + name})
}

func (d *differ) tellDir(dir *diffDir) error {
	if dir == nil || dir.told {
		return nil
	}
	if err := d.tellDir(dir.above); err != nil {
		return err
	}
	dir.told = true
	return d.emit(Change{dir.kind, dir.path})
}

// walk compares what is in a directory.
func (d *differ) walk(dir *diffDir, depth int) error {
	if depth > maxDiffDepth {
		d.late = fmt.Errorf("compare %s…: %w", shown(dir.path[:min(len(dir.path), 100)]),
			explain(unix.ENAMETOOLONG, "more than a thousand directories below each other; what is in the innermost was left out"))
		return nil
	}
	inImage, err := d.imageNames(dir)
	if err != nil {
		return err
	}
	entries := dirReader{fd: dir.tree}
	for {
		limit := diffBatch
		if d.held > diffBudget {
			limit = diffSmallBatch
		}
		names, more, err := entries.next(limit)
		if err != nil {
			return fmt.Errorf("list %s: %w", shown(dir.path+"/"), err)
		}
		batch := make([]diffEntry, 0, len(names))
		for _, name := range names {
			batch = append(batch, diffEntry{name: name, inTree: true, inImage: inImage[name]})
			delete(inImage, name)
		}
		if !more {
			for name := range inImage {
				batch = append(batch, diffEntry{name: name, inImage: true})
			}
		}
		slices.SortFunc(batch, func(a, b diffEntry) int { return cmp.Compare(a.name, b.name) })
		if err := d.batch(dir, batch, depth); err != nil || !more {
			return err
		}
	}
}

// diffEntry is a name of one or both directories.
type diffEntry struct {
	name            string
	inTree, inImage bool
}

func (d *differ) batch(dir *diffDir, batch []diffEntry, depth int) error {
	size := 0
	for _, e := range batch {
		size += len(e.name) + 48
	}
	d.held += size
	defer func() { d.held -= size }()
	for _, e := range batch {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if err := d.entry(dir, e, depth); err != nil {
			return err
		}
	}
	return nil
}

// imageNames lists what the image has in a directory.
func (d *differ) imageNames(dir *diffDir) (map[string]bool, error) {
	names := make(map[string]bool)
	if dir.image < 0 {
		return names, nil
	}
	err := eachEntry(dir.image, func(e dirent) error {
		names[e.name] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s of the image: %w", shown(dir.path+"/"), err)
	}
	return names, nil
}

// dirReader reads the names of a directory in pieces.
type dirReader struct {
	fd      int
	buf     []byte
	pending []string
}

// next gives at most limit names, and whether there may be more.
func (r *dirReader) next(limit int) (names []string, more bool, err error) {
	if r.buf == nil {
		r.buf = make([]byte, direntBuffer)
	}
	for len(r.pending) < limit {
		n, err := retryEINTR(func() (int, error) { return unix.Getdents(r.fd, r.buf) })
		if err != nil {
			return nil, false, err
		}
		if n == 0 {
			names, r.pending = r.pending, nil
			return names, false, nil
		}
		err = parseDirents(r.buf[:n], func(e dirent) error {
			r.pending = append(r.pending, e.name)
			return nil
		})
		if err != nil {
			return nil, false, err
		}
	}
	names, r.pending = r.pending[:limit:limit], slices.Clone(r.pending[limit:])
	return names, true, nil
}
