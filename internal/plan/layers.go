package plan

import (
	"fmt"
	"slices"
	"strings"
)

// State says how much of a layer this host gives.
type State string

// The three states of a layer; `sbx plan`, the report and doctor use these words.
const (
	Enforced State = "enforced"
	Weaker   State = "weaker"
	Missing  State = "missing"
)

// Layer is one of the things that stand between the program and the host.
type Layer struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Detail is the value in force ("512 processes") or the cause on this host.
	Detail string `json:"detail,omitempty"`
	// Fix is the next step where the state is not enforced and one is known.
	Fix string `json:"fix,omitempty"`
}

// LayerNames are all layers, outermost first. --require and --allow-degraded
// take these words.
func LayerNames() []string {
	return []string{
		"userns", "pid", "mnt", "uts", "ipc", "net", "cgroup-ns", "nomap", "groups",
		"caps", "nnp", "seccomp", "landlock", "memory", "pids", "cpu",
	}
}

// MissingLayer is the refusal to start without a layer that was asked for or is
// on by default. Exit status 125.
type MissingLayer struct {
	Layer Layer
	// Asked is true when --require named it: then --allow-degraded is no way out.
	Asked bool
}

func (e *MissingLayer) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "layer %s is %s on this host", e.Layer.Name, e.Layer.State)
	if e.Layer.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Layer.Detail)
	}
	if e.Layer.Fix != "" {
		fmt.Fprintf(&b, "; %s", e.Layer.Fix)
	}
	if e.Asked {
		fmt.Fprintf(&b, " (or run without --require=%s)", e.Layer.Name)
	} else {
		fmt.Fprintf(&b, " (or accept it with --allow-degraded=%s)", e.Layer.Name)
	}
	return b.String()
}

// optional are the layers that a run goes on without, named in plan and report:
// limits need a delegated cgroup, Landlock a kernel that has it, and nomap
// subordinate ids; the last is announced on stderr instead.
func optional() []string { return []string{"memory", "cpu", "pids", "landlock", "nomap", "groups"} }

// checkLayers refuses what may not be dropped silently.
func checkLayers(layers []Layer, s Spec) error {
	for _, name := range slices.Concat(s.Require, s.AllowDegraded) {
		if !slices.Contains(LayerNames(), name) {
			return misuse("no layer is called %q; the layers are %s", name, strings.Join(LayerNames(), " "))
		}
	}
	for _, l := range layers {
		if l.State == Enforced {
			continue
		}
		if slices.Contains(s.Require, l.Name) {
			return &MissingLayer{Layer: l, Asked: true}
		}
		asked := l.Name == "net" && s.Network == NetworkHost || l.Name == "seccomp" && s.Seccomp == "off" ||
			l.Name == "nomap" && s.Userns != ""
		if asked || slices.Contains(optional(), l.Name) || slices.Contains(s.AllowDegraded, l.Name) {
			continue
		}
		return &MissingLayer{Layer: l}
	}
	return nil
}

func misuse(format string, args ...any) error {
	return &Misuse{Reason: fmt.Sprintf(format, args...)}
}
