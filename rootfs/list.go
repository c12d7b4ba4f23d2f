package rootfs

import (
	_ "embed"
	"fmt"
	"strings"
)

// The contents of the images, as data.
var (
	//go:embed base.list
	baseList string
	//go:embed host.list
	hostList string
)

// group is one paragraph of a list.
type group struct {
	name, reason string
	when, unless []string // patterns; a "when" of the form "bin NAME" has binPrefix
	must         []string // program names without which there is no image
	bins, libs   []string // names and patterns
	files, trees []string // patterns of absolute paths
	skip         []string // patterns of base names, or of path ends with a slash
}

// bindLine is one "bind" line of host.list.
type bindLine struct {
	paths  []string
	reason string
}

const binPrefix = "bin "

// parseList reads a list. The grammar: "#" starts a comment line; "group NAME:
// reason" opens a group; "bind PATH...: reason" stands outside of groups; any
// other line is a verb and words, and may be repeated.
func parseList(text string) (groups []group, binds []bindLine, err error) {
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		head, reason, _ := strings.Cut(rest, ": ")
		switch {
		case verb == "group":
			groups = append(groups, group{name: head, reason: reason})
		case verb == "bind":
			binds = append(binds, bindLine{paths: strings.Fields(head), reason: reason})
		case len(groups) == 0 || !groups[len(groups)-1].add(verb, rest):
			return nil, nil, fmt.Errorf("list line %d: %q is not understood", n+1, line)
		}
	}
	return groups, binds, nil
}

// add takes one line of a group; false means an unknown verb.
func (g *group) add(verb, rest string) bool {
	words := strings.Fields(rest)
	switch verb {
	case "if":
		if name, ok := strings.CutPrefix(rest, binPrefix); ok {
			words = []string{binPrefix + strings.TrimSpace(name)}
		}
		g.when = append(g.when, words...)
	case "unless":
		g.unless = append(g.unless, words...)
	case "must":
		g.must = append(g.must, words...)
	case "bin":
		g.bins = append(g.bins, words...)
	case "lib":
		g.libs = append(g.libs, words...)
	case "file":
		g.files = append(g.files, words...)
	case "tree":
		g.trees = append(g.trees, words...)
	case "skip":
		g.skip = append(g.skip, words...)
	default:
		return false
	}
	return true
}
