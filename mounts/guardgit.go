package mounts

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// gitRule is one name in the directory of a repository.
type gitRule struct {
	name, reason string
	directory    bool
	reserve      bool
	content      string // of the placeholder of a file
	// within guards what lies in the directory, which is read-only itself: no
	// name can be added, but what is there can be worked with.
	within func(g *guard, rel string)
}

// commonRule is for the file of every git directory that names another one. "."
// is what git does without the file; an empty one is an error to it.
var commonRule = gitRule{name: "commondir", reserve: true, content: ".\n", reason: "names another directory to take config and hooks from"}

// worktreeRule is for the second config of every git directory.
var worktreeRule = gitRule{name: "config.worktree", reserve: true, reason: "read like config when extensions.worktreeConfig is set"}

// gitRules are the names in a git directory through which a repository makes
// git start programs; see gitrepository-layout(5), githooks(5), git-config(1).
func gitRules() []gitRule {
	return []gitRule{
		{name: "hooks", directory: true, reserve: true, reason: "git runs these on commit, checkout, merge and push"},
		{name: "config", reserve: true, reason: "core.fsmonitor, core.sshCommand, aliases and filters are commands"},
		worktreeRule,
		commonRule,
		{
			name: "modules", directory: true, within: (*guard).modules,
			reason: "repositories of submodules, with config and hooks of their own; git takes one that is there for a submodule that is new",
		},
		{
			name: "worktrees", directory: true, within: (*guard).worktrees,
			reason: "tells linked worktrees elsewhere where to take config and hooks from",
		},
	}
}

// linkedRules are those of the directory that a repository has for a linked
// worktree. Config and hooks are those of the repository.
func linkedRules() []gitRule {
	return []gitRule{
		worktreeRule,
		commonRule,
		{name: "gitdir", reason: "says which directory git takes away with the worktree"},
	}
}

// dotGit handles .git: a repository, or a file or link that leads to one elsewhere.
func (g *guard) dotGit(name string, e dirent) {
	if e.kind != unix.DT_DIR {
		g.protect(name, "names the repository, whose config and hooks git obeys")
		return
	}
	g.repository(name)
}

// repository protects the parts of a git directory that make git start
// programs, and leaves objects, refs and index writable.
func (g *guard) repository(rel string) {
	names, err := g.list(rel)
	if err != nil {
		g.unprotected(rel, "cannot be read: "+err.Error())
		return
	}
	if len(names) == 0 {
		// Not a repository yet, perhaps a placeholder that a crash has left.
		g.protect(rel, "a repository made here would have its config and hooks obeyed by git")
		return
	}
	g.gitDirectory(rel, names, gitRules())
	for _, name := range g.configured(rel) {
		g.protect(name, "the repository's config takes hooks or settings from it")
	}
}

func (g *guard) gitDirectory(rel string, names []dirent, rules []gitRule) {
	for _, rule := range rules {
		name := join(rel, rule.name)
		switch {
		case slices.ContainsFunc(names, func(e dirent) bool { return e.name == rule.name }):
			g.protect(name, rule.reason)
			if rule.within != nil {
				rule.within(g, name)
			}
		case rule.reserve:
			g.pin(rel)
			g.reserve(name, rule)
		}
	}
}

// modules lets the repositories of submodules be worked with. The name of a
// submodule may have slashes in it.
func (g *guard) modules(rel string) { g.submodules(rel, g.bounds.depth) }

func (g *guard) submodules(rel string, depth int) {
	for _, dir := range g.directories(rel) {
		name := join(rel, dir)
		names, err := g.list(name)
		switch {
		case err != nil:
		case isRepository(names):
			if !g.spare() {
				return
			}
			g.pin(name)
			g.repository(name)
		case depth > 1:
			g.done[name] = true // read-only, so it cannot be moved; pinned, it could be written
			g.submodules(name, depth-1)
		}
	}
}

// worktrees lets the linked worktrees be worked with.
func (g *guard) worktrees(rel string) {
	for _, dir := range g.directories(rel) {
		name := join(rel, dir)
		names, err := g.list(name)
		if err == nil && slices.ContainsFunc(names, func(e dirent) bool { return e.name == commonRule.name }) && g.spare() {
			g.pin(name)
			g.gitDirectory(name, names, linkedRules())
		}
	}
}

// spare reports whether a place may be taken for convenience: what is left out
// here stays read-only, and what is protected must not lack places for it.
func (g *guard) spare() bool { return len(g.found.Mounts) < g.bounds.mounts/2 }

// directories lists the directories in one, within the bounds.
func (g *guard) directories(rel string) []string {
	names, err := g.list(rel)
	if err != nil {
		return nil
	}
	g.entries += len(names)
	if g.entries > g.bounds.entries {
		g.truncate(fmt.Sprintf("more than %d files", g.bounds.entries))
		return nil
	}
	var dirs []string
	for _, e := range names {
		if e.kind == unix.DT_DIR {
			dirs = append(dirs, e.name)
		}
	}
	return dirs
}
