// Package doctor judges a host: which layers of a sandbox it gives, how good
// the isolation is that comes of it, what is missing and who can mend it.
//
//	plan.Look, trial.… ─→ Findings ─Judge: pure→ Report ─→ table, JSON, letter to the administrator
//
// [Examine] looks and tries; it leaves the host as it was. Everything behind it
// is a pure function of what was found, so that hosts nobody has at hand are a
// table in the tests.
//
// A layer is in the report what it is in a run: the worse of what was tried
// here and of what the plan of a run says.
//
// Do not use it to decide whether a run may start: a run asks the kernel
// itself, and what it needs is a shorter list. It takes some tenth of a second.
package doctor

import (
	"slices"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
)

// Grade is the quality of the isolation that a host gives, in one word.
type Grade string

// The grades, best first.
const (
	// Full means that every layer is enforced.
	Full Grade = "full"
	// Good means that what keeps a program away from the host, its users and
	// their files is enforced, and a limit or a second lock is not.
	Good Grade = "good"
	// Weak means that a sandbox can be had, and a program that breaks out of it
	// acts as the user, keeps his groups, or has the whole kernel before it.
	Weak Grade = "weak"
	// None means that no sandbox can be had.
	None Grade = "none"
)

// Text is the grade in one sentence.
func (g Grade) Text() string {
	switch g {
	case Full:
		return "every layer is enforced"
	case Good:
		return "the program is kept from this host, its users and their files; not every limit or second lock can be had"
	case Weak:
		return "a sandbox can be had, but a wall that should stand behind the first one is missing"
	default:
		return "no program can be run in a sandbox here"
	}
}

// Row is one line of the table.
type Row struct {
	Name  string     `json:"name"`
	State plan.State `json:"state"`
	// Evidence is what was tried and seen.
	Evidence string `json:"evidence"`
	// Means is what the layer does, or what its lack means.
	Means string `json:"means"`
	// Fix is the next step where the state is not enforced and one is known.
	Fix string `json:"fix,omitempty"`
}

// Mode is an identity mode and whether it works here.
type Mode struct {
	Name  userns.Mode `json:"name"`
	Works bool        `json:"works"`
	// Default marks the mode of a run without --userns.
	Default bool   `json:"default,omitempty"`
	Detail  string `json:"detail"`
	Fix     string `json:"fix,omitempty"`
}

// Copy is how a sandbox gets its own copy of an image here.
type Copy struct {
	// Method is overlay, reflink or full; empty when nothing could be tried.
	Method string `json:"method,omitempty"`
	// Why says why it is this one.
	Why string `json:"why"`
}

// Store is where images and copies lie.
type Store struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	// FileSystem is the type's name, Free what an ordinary user may still
	// write, in bytes, Inodes how many files. Zero inodes: no fixed number.
	FileSystem string `json:"fileSystem,omitempty"`
	Free       uint64 `json:"free"`
	Inodes     uint64 `json:"inodes"`
	// Problem keeps the store from being used, Note only slows it down.
	Problem string `json:"problem,omitempty"`
	Note    string `json:"note,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// Report is what doctor says about a host.
type Report struct {
	Grade Grade `json:"grade"`
	// Meaning is the grade in a sentence.
	Meaning string `json:"meaning"`
	User    string `json:"user"`
	UID     uint32 `json:"uid"`
	Kernel  string `json:"kernel"`

	Layers []Row `json:"layers"`
	// Parts are what a sandbox needs besides, and no flag asks for.
	Parts []Row  `json:"parts"`
	Modes []Mode `json:"modes"`
	Copy  Copy   `json:"copy"`
	Store Store  `json:"store"`
	// Switches are settings of the host that bear on a sandbox.
	Switches []Switch `json:"switches"`
	// Problems kept doctor from looking, or a run from starting at all.
	Problems []string `json:"problems,omitempty"`
	// Needs are what an administrator could change for the better.
	Needs []Need `json:"needs,omitempty"`
}

// OK says whether all that is on by default is enforced and a run can start.
func (r Report) OK() bool {
	return r.Grade == Full && len(r.Problems) == 0 && r.Store.Problem == ""
}

// walls are the layers without which a sandbox is weak, though it can be had:
// each stands between a program that broke out of the first wall and the user.
func walls() []string { return []string{"nomap", "groups", "seccomp", "cgroup-ns"} }

// extras are limits and second locks.
func extras() []string { return []string{"landlock", "memory", "pids", "cpu"} }

// grade is the word for what the rows say. A layer that is neither a wall nor
// an extra is one that a run does not start without.
func grade(layers, parts []Row) Grade {
	g := Full
	worsen := func(to Grade) {
		if order(to) > order(g) {
			g = to
		}
	}
	for _, r := range layers {
		switch {
		case r.State == plan.Enforced:
		case slices.Contains(extras(), r.Name):
			worsen(Good)
		case slices.Contains(walls(), r.Name):
			worsen(Weak)
		default:
			worsen(None)
		}
	}
	for _, r := range parts {
		if r.State != plan.Enforced {
			worsen(None)
		}
	}
	return g
}

func order(g Grade) int { return slices.Index([]Grade{Full, Good, Weak, None}, g) }
