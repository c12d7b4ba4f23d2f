package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// imageFormat is part of every key: raise it when the same sources give another
// image, and all images are built anew.
const imageFormat = 1

// contents is everything that makes up an image.
type contents struct {
	entries []*entry // sorted by path, parents first
	binds   []string
	shell   string
	stamped []string // what the stamp looks at
	notes   []string
	files   int64
	bytes   int64
	digest  string // of all sources and of what was generated
}

// look finds out what the image of this name consists of on this host.
func look(ctx context.Context, host *Root, name string) (*contents, error) {
	p := newPlanner(ctx, host)
	var binds []string
	var err error
	switch name {
	case ImageBase:
		err = p.base()
	case ImageHost:
		binds, err = p.hostImage()
	case ImageScratch:
	default:
		err = explain(unix.EINVAL, "there is no such image")
	}
	if err != nil {
		return nil, fmt.Errorf("find the files of image %s: %w", name, err)
	}
	p.finishLinks()
	c := &contents{binds: binds, shell: p.shell(binds)}
	p.skeleton(binds)
	p.generated(name, c.shell)
	if name == ImageBase {
		if err := p.loaderCache(); err != nil {
			return nil, err
		}
	}
	c.collect(p)
	return c, nil
}

// base takes what base.list says, with the libraries that all of it needs.
func (p *planner) base() error {
	groups, _, err := parseList(baseList)
	if err != nil {
		return err
	}
	for i := range groups {
		if err := p.takeGroup(&groups[i]); err != nil {
			return err
		}
	}
	return p.closure()
}

// hostImage takes what host.list says; the directories to bind come first, so
// that nothing below them is copied.
func (p *planner) hostImage() ([]string, error) {
	groups, lines, err := parseList(hostList)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		for _, name := range line.paths {
			e, err := p.look(name)
			if err == nil && e.kind == unix.S_IFDIR && e.open {
				p.bound = append(p.bound, name)
			}
		}
	}
	for _, name := range p.bound {
		p.take(name)
		chain, _ := p.walk(name) // /opt and /nix are no system directories
		p.takeAll(chain)
	}
	for i := range groups {
		if err := p.takeGroup(&groups[i]); err != nil {
			return nil, err
		}
	}
	return slices.Clone(p.bound), nil
}

func (p *planner) takeGroup(g *group) error {
	if !p.allExist(g.when) || len(g.unless) > 0 && p.anyExist(g.unless) {
		return nil
	}
	for _, name := range g.must {
		if !p.allExist([]string{binPrefix + name}) {
			return fmt.Errorf("look for %s: %w", name, explain(unix.ENOENT, "the host has none in /usr/bin or /bin"))
		}
	}
	for _, name := range p.expand(inDirs(p.binDirs, g.bins)...) {
		p.take(name)
	}
	for _, name := range p.expand(inDirs(p.libDirs, g.libs)...) {
		p.take(name)
	}
	for _, name := range p.expand(p.placeholders(g.files)...) {
		p.take(name)
	}
	for _, name := range p.expand(p.placeholders(g.trees)...) {
		if err := p.takeTree(name, g.skip); err != nil {
			return err
		}
	}
	return nil
}

func inDirs(dirs, names []string) []string {
	var out []string
	for _, dir := range dirs {
		for _, name := range names {
			out = append(out, dir+"/"+name)
		}
	}
	return out
}

// placeholders replaces {lib} and {terminfo} by each directory they stand for.
func (p *planner) placeholders(patterns []string) []string {
	terminfo := []string{"/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"}
	var out []string
	for _, pattern := range patterns {
		if rest, ok := strings.CutPrefix(pattern, "{lib}"); ok {
			out = append(out, inDirs(p.libDirs, []string{rest[1:]})...)
		} else if rest, ok := strings.CutPrefix(pattern, "{terminfo}"); ok {
			out = append(out, inDirs(terminfo, []string{rest[1:]})...)
		} else {
			out = append(out, pattern)
		}
	}
	return out
}

func (p *planner) allExist(what []string) bool {
	for _, w := range what {
		if !p.anyExist([]string{w}) {
			return false
		}
	}
	return true
}

func (p *planner) anyExist(what []string) bool {
	for _, w := range what {
		paths := []string{w}
		if name, ok := strings.CutPrefix(w, binPrefix); ok {
			paths = inDirs(p.binDirs, []string{name})
		}
		for _, name := range p.expand(paths...) {
			if chain, err := p.walk(name); err == nil && len(chain) > 0 {
				return true
			}
		}
	}
	return false
}

// shell is the best shell of the image, "" when there is none.
func (p *planner) shell(binds []string) string {
	for _, name := range []string{"/bin/bash", "/bin/sh"} {
		chain, err := p.walk(name)
		if err != nil || len(chain) == 0 {
			continue
		}
		end := chain[len(chain)-1]
		if end.taken || slices.ContainsFunc(binds, func(b string) bool { return below(end.path, b) }) {
			return name
		}
	}
	return ""
}

// collect sorts what was taken and computes the sums and the digest.
func (c *contents) collect(p *planner) {
	for _, e := range p.known {
		if e.taken {
			c.entries = append(c.entries, e)
			c.files++
			c.bytes += e.size
		}
	}
	// "/a/b" before "/a-b" does not matter; a parent is a prefix of its children.
	slices.SortFunc(c.entries, func(a, b *entry) int { return strings.Compare(a.path, b.path) })
	c.notes = p.notes
	c.stamped = p.stamped()
	sum := sha256.New()
	fmt.Fprintf(sum, "format %d\n", imageFormat)
	for _, e := range c.entries {
		e.hash(sum)
	}
	c.digest = hex.EncodeToString(sum.Sum(nil)[:8])
}

// hash adds all that decides whether a source is still the same.
func (e *entry) hash(w io.Writer) {
	var buf []byte
	buf = append(buf, e.path...)
	buf = append(buf, 0)
	buf = append(buf, e.target...)
	buf = append(buf, 0)
	buf = binary.LittleEndian.AppendUint32(buf, e.kind|e.mode)
	switch {
	case e.data != nil:
		buf = append(buf, e.data...)
	case e.kind == unix.S_IFREG:
		for _, n := range []uint64{uint64(e.size), e.ino, uint64(e.mtime.Sec), uint64(e.mtime.Nsec)} {
			buf = binary.LittleEndian.AppendUint64(buf, n)
		}
	}
	_, _ = w.Write(buf) // a hash takes everything
}
