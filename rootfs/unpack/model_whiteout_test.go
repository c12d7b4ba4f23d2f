package unpack

import (
	"errors"
	"strings"
)

// special does whiteouts.
func (m *model) special(parts []string) (done bool, err error) {
	if len(parts) == 0 {
		return false, nil
	}
	dir, base := parts[:len(parts)-1], parts[len(parts)-1]
	for _, part := range dir {
		if strings.HasPrefix(part, ".wh..wh.") {
			return true, nil
		}
		if strings.HasPrefix(part, ".wh.") {
			return true, errModel
		}
	}
	name, is := strings.CutPrefix(base, ".wh.")
	switch {
	case !is:
		return false, nil
	case name == "" || name == "." || name == "..":
		return true, errModel
	case name != ".wh..opq" && strings.HasPrefix(name, ".wh."):
		return true, nil
	case !m.lower:
		return true, nil
	}
	n, err := m.find(dir)
	if errors.Is(err, errMissing) || errors.Is(err, errNoDir) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	if name == ".wh..opq" {
		m.clear(n)
	} else {
		m.remove(n, name)
	}
	return true, nil
}

func (m *model) remove(dir *mnode, name string) {
	e := dir.in[name]
	switch {
	case e == nil || e.layer == m.layer || e.node.kind == '5' && e.node.made == m.layer:
	case e.node.kind == '5' && e.node.touched == m.layer:
		m.clear(e.node)
	default:
		delete(dir.in, name)
	}
}

func (m *model) clear(dir *mnode) {
	for name := range dir.in {
		m.remove(dir, name)
	}
}

func (m *model) leaveOut(name string, dir []string, base string) error {
	m.gone[name] = true
	parent, err := m.find(dir)
	if errors.Is(err, errMissing) || errors.Is(err, errNoDir) {
		return nil
	}
	if err == nil {
		delete(parent.in, base)
	}
	return err
}
