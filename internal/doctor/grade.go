package doctor

import (
	"slices"

	"github.com/sbx-run/sbx/internal/plan"
)

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
