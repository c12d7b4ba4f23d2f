package mounts

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// guardBounds limit the look at a tree.
type guardBounds struct {
	depth   int // levels below the top
	entries int // names that are read
	mounts  int // mounts that are asked for
}

func defaultBounds() guardBounds { return guardBounds{depth: 4, entries: 20000, mounts: 256} }

// Guarded is what Guard found in a tree that is to be shared read-write.
type Guarded struct {
	// Mounts keep what the host's programs obey read-only, and pin each
	// directory on the way to it as a mount of its own: otherwise it could be
	// renamed and another one be put in its place.
	Mounts []Mount `json:"mounts,omitempty"`
	// Missing names can be covered only when they exist.
	Missing []Placeholder `json:"missing,omitempty"`
	// Unprotected says, a sentence each, what could not be covered.
	Unprotected []string `json:"unprotected,omitempty"`
	// Truncated is not empty when the tree was too large to be read as a
	// whole, and says at which bound.
	Truncated string `json:"truncated,omitempty"`
}

// Guard reads a tree that will be shared read-write on target, by descriptor,
// without following links and without leaving its file system, down to four
// levels below the top and not below node_modules. source must come from
// Resolve. What is created later and elsewhere, such as a repository in a new
// subdirectory, is not covered. Inside, each pinned directory is a file system
// of its own to rename(2) and link(2): moving a file out of it is EXDEV, which
// mv(1) answers by copying.
func Guard(source, target string) (Guarded, error) {
	return guardTree(source, target, defaultBounds())
}

func guardTree(source, target string, bounds guardBounds) (Guarded, error) {
	g := guard{
		source: source, target: target, bounds: bounds, rules: map[string]GuardRule{}, done: map[string]bool{},
	}
	for _, rule := range GuardRules() {
		for _, name := range rule.Names {
			g.rules[name] = rule
		}
	}
	top, err := openDir(source)
	if err != nil {
		return Guarded{}, fmt.Errorf("look for files to protect: %w", err)
	}
	defer unix.Close(top)
	var st unix.Stat_t
	if err := unix.Fstat(top, &st); err != nil {
		return Guarded{}, fmt.Errorf("look for files to protect in %s: %w", quote(source), err)
	}
	g.top, g.dev = top, st.Dev
	g.read()
	return g.found, nil
}

// guard is the state of one look. Paths are relative to the top, "" for it.
type guard struct {
	source, target string
	bounds         guardBounds
	rules          map[string]GuardRule
	top            int
	dev            uint64
	entries        int
	done           map[string]bool // paths that have a mount or placeholder
	queue          []string
	found          Guarded
}

// read goes through the tree level by level, so that a bound that is hit
// costs the deepest levels.
func (g *guard) read() {
	g.queue = []string{""}
	for len(g.queue) > 0 && g.found.Truncated == "" {
		rel := g.queue[0]
		g.queue = g.queue[1:]
		g.directory(rel)
	}
}

func (g *guard) truncate(why string) {
	if g.found.Truncated == "" {
		g.found.Truncated = why
	}
}

func (g *guard) directory(rel string) {
	names, err := g.list(rel)
	if err != nil {
		// What the user cannot read, a shell or git of his does not obey.
		return
	}
	g.entries += len(names)
	if g.entries > g.bounds.entries {
		g.truncate(fmt.Sprintf("more than %d files", g.bounds.entries))
	}
	if isRepository(names) {
		g.repository(rel)
	}
	depth := 0
	if rel != "" {
		depth = strings.Count(rel, "/") + 1
	}
	for _, e := range names {
		name := join(rel, e.name)
		if e.name == ".git" {
			g.dotGit(name, e)
			continue
		}
		rule, ok := g.rules[e.name]
		if !ok && rel != "" {
			rule, ok = g.rules[path.Base(rel)+"/"+e.name]
		}
		switch {
		case ok:
			g.protect(name, rule.Reason)
		case e.kind == unix.DT_DIR && depth < g.bounds.depth && e.name != "node_modules":
			g.queue = append(g.queue, name)
		}
	}
	if rel == "" {
		g.reserveTop(names)
	}
}

// reserveTop has placeholders made for what is missing at the top.
func (g *guard) reserveTop(names []dirent) {
	missing := func(name string) bool {
		return !slices.ContainsFunc(names, func(e dirent) bool { return e.name == name })
	}
	if missing(".git") && !isRepository(names) {
		g.reserve(".git", gitRule{directory: true, reason: "a repository made here would have its config and hooks obeyed by git"})
	}
	for _, rule := range GuardRules() {
		for _, name := range rule.Names {
			if rule.Reserve && missing(name) {
				g.reserve(name, gitRule{directory: true, reason: rule.Reason})
			}
		}
	}
}

// protect binds one name read-only and pins the directories above it.
func (g *guard) protect(rel, reason string) {
	if g.done[rel] {
		return
	}
	m, marked, wrong := g.bind(rel, true)
	if wrong != "" {
		g.unprotected(rel, wrong+" ("+reason+")")
		return
	}
	g.pin(parent(rel))
	if marked {
		// Another run has made it, and would take it away when it ends.
		rule := gitRule{directory: m.Directory, reason: reason}
		if path.Base(rel) == commonRule.name {
			rule.content = commonRule.content
		}
		g.reserve(rel, rule)
		return
	}
	g.add(rel, m)
	if m.Link {
		g.follow(rel, reason)
	}
}

// pin binds a directory and those above it on themselves, writable: a mount
// point cannot be renamed or removed.
func (g *guard) pin(rel string) {
	if rel == "" || g.done[rel] {
		return
	}
	g.pin(parent(rel))
	m, _, wrong := g.bind(rel, false)
	if wrong != "" {
		g.unprotected(rel, wrong)
		return
	}
	g.add(rel, m)
}

func (g *guard) add(rel string, m Mount) {
	if len(g.found.Mounts) >= g.bounds.mounts {
		g.truncate(fmt.Sprintf("more than %d places to protect", g.bounds.mounts))
		return
	}
	g.done[rel] = true
	g.found.Mounts = append(g.found.Mounts, m)
}

// bind returns the entry for a name and whether it bears the mark of a
// placeholder, or why it cannot be an entry.
func (g *guard) bind(rel string, readOnly bool) (m Mount, marked bool, wrong string) {
	fd, err := retryOpenat2(g.top, rel, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return m, false, err.Error()
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return m, false, err.Error()
	}
	kind := st.Mode & unix.S_IFMT
	link := kind == unix.S_IFLNK && readOnly
	if kind != unix.S_IFDIR && kind != unix.S_IFREG && !link {
		return m, false, "is a " + typeName(st.Mode)
	}
	return Mount{
		Kind: Bind, Source: path.Join(g.source, rel), Target: path.Join(g.target, rel), ReadOnly: readOnly,
		Dev: st.Dev, Ino: st.Ino, Directory: kind == unix.S_IFDIR, Link: link,
	}, !link && st.Mtim.Sec == markSeconds, ""
}

func (g *guard) reserve(rel string, rule gitRule) {
	if g.done[rel] {
		return
	}
	g.done[rel] = true
	g.found.Missing = append(g.found.Missing, Placeholder{
		Path: path.Join(g.source, rel), Target: path.Join(g.target, rel), Reason: rule.reason,
		Directory: rule.directory, Content: rule.content,
	})
}

func (g *guard) unprotected(rel, why string) {
	g.found.Unprotected = append(g.found.Unprotected, quote(path.Join(g.source, rel))+" "+why)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func parent(rel string) string {
	return rel[:max(strings.LastIndexByte(rel, '/'), 0)]
}
