package rootfs

import (
	"path"
	"slices"
	"strings"
)

// skipped matches the last component of name, or as much of its end as a
// pattern with slashes has.
func skipped(name string, patterns []string) bool {
	for _, pattern := range patterns {
		part := name
		for range strings.Count(pattern, "/") + 1 {
			if i := strings.LastIndexByte(part, '/'); i >= 0 {
				part = part[:i]
			}
		}
		if ok, _ := path.Match(pattern, strings.TrimPrefix(name[len(part):], "/")); ok {
			return true
		}
	}
	return false
}

// expand gives the existing paths that match patterns with * ? and [] in any
// component, sorted.
func (p *planner) expand(patterns ...string) []string {
	var out []string
	for _, pattern := range patterns {
		found := []string{""}
		for comp := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
			var next []string
			for _, dir := range found {
				next = append(next, p.expandIn(dir, comp)...)
			}
			found = next
		}
		out = append(out, found...)
	}
	return out
}

func (p *planner) expandIn(dir, comp string) []string {
	if !strings.ContainsAny(comp, "*?[") || comp == "[" {
		return []string{dir + "/" + comp} // missing ones are noticed when taken
	}
	names, err := p.host.ReadDir(dir + "/")
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range names {
		if ok, _ := path.Match(comp, name); ok {
			out = append(out, dir+"/"+name)
		}
	}
	slices.Sort(out)
	return out
}
