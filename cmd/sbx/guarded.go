package main

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/mounts"
)

// guardedFile says why a name in a --rw tree could not be written: the words of
// the kernel look like a broken disk.
func guardedFile(p *plan.Plan, tail string) string {
	name := lastMatch(`E(?:ROFS|BUSY): [^,]+, \w+ '([^']+)'|['"‘]?([^\s'":‘’]+)['"’]?: (?:Read-only file system|Device or resource busy|read-only file system|device or resource busy)|`+
		`Read-only file system: ['"]([^'"]+)['"]|Device or resource busy: ['"]([^'"]+)['"]|`+
		`cannot create ([^\s:]+): Read-only file system`, tail)
	if name == "" {
		return ""
	}
	if !path.IsAbs(name) {
		name = path.Join(p.Process.Dir, name)
	}
	guarded := ""
	for _, m := range p.Mounts {
		if m.Kind == mounts.Bind && m.ReadOnly {
			guarded = longer(guarded, m.Target, name)
		}
	}
	for _, ph := range p.Placeholders {
		guarded = longer(guarded, ph.Target, name)
	}
	if guarded == "" || slices.Contains(p.Shown, guarded) || !inWritable(p, guarded) {
		return ""
	}
	return fmt.Sprintf("%s stays read-only in a --rw tree, because programs of this host obey what is in it; %s", quote.Quote(guarded), outside(guarded))
}

// outside says how the user himself does what the program could not.
func outside(guarded string) string {
	switch dir, name := path.Split(guarded); {
	case name == ".git":
		return "run `git init` outside first"
	case !strings.Contains(dir, ".git/"):
		return "write it outside"
	case name == "config", name == "config.worktree":
		return "the rest of git works; settings, remotes and names of branches are for git outside"
	case name == "worktrees":
		return "run `git worktree` outside"
	case name == "modules":
		return "run `git submodule` outside"
	default:
		return "write it outside"
	}
}

// notEmpty knows git's words for a share that has nothing in it but what holds
// places, which the user cannot see from outside.
func notEmpty(p *plan.Plan, tail string) string {
	name := lastMatch(`destination path '([^']+)' already exists and is not an empty directory`, tail)
	if name == "" {
		return ""
	}
	if !path.IsAbs(name) {
		name = path.Join(p.Process.Dir, name)
	}
	name = path.Clean(name)
	var held []string
	for _, ph := range p.Placeholders {
		if path.Dir(ph.Target) == name {
			held = append(held, path.Base(ph.Target))
		}
	}
	if len(held) == 0 {
		return ""
	}
	return fmt.Sprintf("%s has %s in it while the program runs, empty and read-only, because programs of this host would obey them; name a new directory in it",
		quote.Quote(name), strings.Join(held, ", "))
}

// longer is the one of two places that holds name and lies deeper.
func longer(place, other, name string) string {
	if (name == other || strings.HasPrefix(name, other+"/")) && len(other) > len(place) {
		return other
	}
	return place
}

// inWritable tells a place that sbx itself protects from one that --ro shows.
func inWritable(p *plan.Plan, place string) bool {
	var nearest mounts.Mount
	for _, m := range p.Mounts {
		if m.Kind == mounts.Bind && m.Target != place && strings.HasPrefix(place, m.Target+"/") && len(m.Target) > len(nearest.Target) {
			nearest = m
		}
	}
	return nearest.Target != "" && !nearest.ReadOnly
}

// missingRepository is for a share that is a linked worktree or a submodule alone.
func missingRepository(p *plan.Plan, tail string) string {
	name := lastMatch(`not a git repository: (/[^\n]*[^\n)])`, tail)
	if name == "" {
		return ""
	}
	if _, err := os.Lstat(name); err != nil {
		return ""
	}
	return fmt.Sprintf("the repository of this worktree, %s, is not in the sandbox; share a directory that has both, under its own name", quote.Quote(name))
}
