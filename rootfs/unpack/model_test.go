package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// model is what an archive should become, written without a file system: nodes
// and names only. It is as simple as can be and shares no code with the package.
type model struct {
	root  *mnode
	layer int
	lower bool // something was there before this layer
	gone  map[string]bool
}

// mnode is a file of the model.
type mnode struct {
	kind    byte // tar's: '0', '2', '5'
	data    string
	mode    int64
	when    time.Time
	up      *mnode
	in      map[string]*mentry
	made    int // the layer that made this directory
	touched int // the last layer that has something in it
}

// mentry is a name, with the layer that made it.
type mentry struct {
	node  *mnode
	layer int
}

var errModel = errors.New("an error is due")

func newModel() *model {
	return &model{root: &mnode{kind: '5', mode: 0o755, in: map[string]*mentry{}}}
}

// clean splits a name, nil for one that is refused.
func (m *model) clean(name string) ([]string, error) {
	if name == "" {
		return nil, errModel
	}
	parts := []string{}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return nil, errModel
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

var (
	errMissing = errors.New("missing")
	errNoDir   = errors.New("no directory")
	errLoop    = errors.New("too many links")
)

// walk follows a path from a directory as the kernel does after chroot.
func (m *model) walk(from *mnode, path string, links *int) (*mnode, error) {
	cur := from
	if strings.HasPrefix(path, "/") {
		cur = m.root
	}
	for part := range strings.SplitSeq(path, "/") {
		if cur.kind != '5' {
			return nil, errNoDir
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if cur != m.root {
				cur = cur.up
			}
			continue
		}
		e := cur.in[part]
		if e == nil {
			return nil, errMissing
		}
		next := e.node
		if next.kind == '2' {
			if *links++; *links > 40 {
				return nil, errLoop
			}
			var err error
			if next, err = m.walk(cur, next.data, links); err != nil {
				return nil, err
			}
		}
		cur = next
	}
	return cur, nil
}

// find resolves a directory of the archive.
func (m *model) find(parts []string) (*mnode, error) {
	links := 0
	n, err := m.walk(m.root, strings.Join(parts, "/"), &links)
	if err == nil && n.kind != '5' {
		err = errNoDir
	}
	return n, err
}

// parent resolves a directory, making what is missing.
func (m *model) parent(parts []string, when time.Time) (*mnode, error) {
	n, err := m.find(parts)
	if errors.Is(err, errMissing) {
		above, err := m.parent(parts[:len(parts)-1], when)
		if err != nil {
			return nil, err
		}
		name := parts[len(parts)-1]
		if above.in[name] != nil {
			return nil, errModel // a link to nothing
		}
		n = &mnode{kind: '5', mode: 0o755, when: when, up: above, in: map[string]*mentry{}, made: m.layer}
		above.in[name] = &mentry{n, m.layer}
		m.touch(n)
		return n, nil
	}
	if err != nil {
		return nil, err
	}
	m.touch(n)
	return n, nil
}

func (m *model) touch(n *mnode) {
	for ; n != nil; n = n.up {
		n.touched = m.layer
	}
}

// attached reports whether a directory is still in the tree.
func (m *model) attached(n *mnode) bool {
	for ; n.up != nil; n = n.up {
		if !slices.ContainsFunc(entries(n.up), func(e *mentry) bool { return e.node == n }) {
			return false
		}
	}
	return n == m.root
}

func entries(n *mnode) []*mentry {
	var list []*mentry
	for _, e := range n.in {
		list = append(list, e)
	}
	return list
}

// begin starts a layer.
func (m *model) begin() {
	m.layer++
	m.lower = len(m.root.in) > 0
	m.gone = map[string]bool{}
}

// apply does one entry.
func (m *model) apply(e item) error {
	parts, err := m.clean(e.Name)
	if err != nil {
		return err
	}
	if done, err := m.special(parts); done || err != nil {
		return err
	}
	if len(parts) == 0 {
		if e.Typeflag != tar.TypeDir {
			return errModel
		}
		m.root.mode, m.root.when = e.Mode, e.ModTime
		return nil
	}
	name := strings.Join(parts, "/")
	delete(m.gone, name)
	dir, base := parts[:len(parts)-1], parts[len(parts)-1]
	switch e.Typeflag {
	case tar.TypeChar, tar.TypeFifo:
		return m.leaveOut(name, dir, base)
	case tar.TypeLink:
		return m.hard(e, name, dir, base)
	case tar.TypeSymlink:
		if e.Linkname == "" {
			return errModel
		}
	}
	parent, err := m.parent(dir, e.ModTime)
	if err != nil {
		return err
	}
	if old := parent.in[base]; e.Typeflag == tar.TypeDir && old != nil && old.node.kind == '5' {
		old.node.mode, old.node.when = e.Mode, e.ModTime
		m.touch(old.node)
		return nil
	}
	n := &mnode{kind: e.Typeflag, data: e.data, mode: e.Mode, when: e.ModTime, up: parent, made: m.layer}
	switch e.Typeflag {
	case tar.TypeDir:
		n.in, n.touched = map[string]*mentry{}, m.layer
	case tar.TypeSymlink:
		n.data, n.mode = e.Linkname, 0o777
	}
	parent.in[base] = &mentry{n, m.layer}
	return nil
}

func (m *model) hard(e item, name string, dir []string, base string) error {
	parts, err := m.clean(e.Linkname)
	if err != nil {
		return err
	}
	if m.gone[strings.Join(parts, "/")] {
		return m.leaveOut(name, dir, base)
	}
	if len(parts) == 0 {
		return errModel
	}
	from, err := m.find(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	target := from.in[parts[len(parts)-1]]
	if target == nil {
		return errMissing
	}
	parent, err := m.parent(dir, e.ModTime)
	if err != nil {
		return err
	}
	if old := parent.in[base]; old != nil && old.node == target.node {
		old.layer = m.layer
		return nil
	}
	switch target.node.kind {
	case '5':
		return errModel
	case '2':
		n := *target.node
		parent.in[base] = &mentry{&n, m.layer}
	default:
		old := parent.in[base]
		delete(parent.in, base)
		if old != nil && !m.attached(from) {
			return errModel
		}
		parent.in[base] = &mentry{target.node, m.layer}
	}
	return nil
}

// list is the tree in lines, hard links by the first name in order.
func (m *model) list() []string {
	var list []string
	first := map[*mnode]string{}
	var visit func(n *mnode, name string)
	visit = func(n *mnode, name string) {
		line := fmt.Sprintf("%s %c %o %d", name, n.kind, n.mode, n.when.UnixNano())
		if n.kind != '5' {
			line += " " + n.data
			if f, known := first[n]; known && n.kind == '0' {
				line += " = " + f
			} else {
				first[n] = name
			}
		}
		list = append(list, line)
		var names []string
		for name := range n.in {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, below := range names {
			visit(n.in[below].node, name+"/"+below)
		}
	}
	visit(m.root, "")
	return list
}
