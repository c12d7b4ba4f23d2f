package main

import (
	"fmt"
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
	next := "write it outside"
	if path.Base(guarded) == ".git" {
		next = "run `git init` outside first"
	}
	return fmt.Sprintf("%s stays read-only in a --rw tree, because programs of this host obey what is in it; %s", quote.Quote(guarded), next)
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
