package doctor

import (
	"strings"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/trial"
)

// layer is what there is to say about one: the tries behind it, what it does
// for the user, and what its lack means to him.
type layer struct {
	name         string
	tries        []trial.Try
	does, lack   string
	fromTheOther bool // is in the results that are not of the set-up: cgroups
}

// layers are those of the plan, in its order.
func layers() []layer {
	return []layer{
		{
			name: "userns", tries: []trial.Try{trial.CloneUser, trial.CloneAll, trial.Nested, trial.Third},
			does: "being root inside is worth nothing outside, and no further namespace can be made",
			lack: "without user namespaces an ordinary user cannot have any other layer",
		},
		{
			name: "pid", tries: []trial.Try{trial.ClonePid, trial.Proc},
			does: "the program sees and signals its own processes only",
			lack: "the program would see your processes and could signal them",
		},
		{
			name: "mnt", tries: []trial.Try{trial.CloneMnt, trial.Tmpfs, trial.Devices, trial.DevPts, trial.Root},
			does: "the program sees a small system of its own and none of your files",
			lack: "your files could not be kept out of the program's sight",
		},
		{
			name: "uts", tries: []trial.Try{trial.CloneUts, trial.Hostname},
			does: "the program does not learn this host's name",
			lack: "the program would learn this host's name",
		},
		{
			name: "ipc", tries: []trial.Try{trial.CloneIpc},
			does: "no shared memory, semaphores or queues in common with your other programs",
			lack: "the program could reach shared memory of your other programs",
		},
		{
			name: "net", tries: []trial.Try{trial.CloneNet, trial.Loopback},
			does: "no network, and no services of this host; only a loopback of its own",
			lack: "the program could reach the network and services of this host",
		},
		{
			name: "cgroup-ns", tries: []trial.Try{trial.CloneCgroup},
			does: "the program does not learn how this host names its groups of processes",
			lack: "the program sees the host's names of cgroups, and nothing else comes of it",
		},
		{
			name: "nomap",
			does: "whoever breaks out is a stranger to this host, and not you",
			lack: "whoever breaks out acts as you, on all of your files",
		},
		{
			name: "groups", tries: []trial.Try{trial.Groups},
			does: "your supplementary groups do not go with the program",
			lack: "what your groups may read or do, a program that breaks out may too",
		},
		{
			name: "caps", tries: []trial.Try{trial.Caps},
			does: "the program has no special right, not even in its own namespaces",
			lack: "the program would have rights over its own namespaces",
		},
		{
			name: "nnp", tries: []trial.Try{trial.NNP},
			does: "no program gains rights by being executed, set-user-ID or not",
			lack: "set-user-ID programs would work inside",
		},
		{
			name: "seccomp", tries: []trial.Try{trial.Seccomp},
			does: "the parts of the kernel that programs do not need and attackers do are closed",
			lack: "every system call of the kernel is open to the program",
		},
		{
			name: "landlock", tries: []trial.Try{trial.Landlock},
			does: "a second lock behind the mounts: files, signals and abstract sockets",
			lack: "there is no second lock behind the mounts, should one of them be wrong",
		},
		{
			name: "memory", tries: []trial.Try{trial.CgroupMemory}, fromTheOther: true,
			does: "the program cannot take the memory of this host",
			lack: "the program can take as much memory as you can",
		},
		{
			name: "pids", tries: []trial.Try{trial.Nproc},
			does: "a fork bomb stays within the sandbox",
			lack: "a fork bomb inside is as bad as one outside",
		},
		{
			name: "cpu", tries: []trial.Try{trial.CgroupCPU}, fromTheOther: true,
			does: "the program cannot take all of the processors' time",
			lack: "the program can take as much of the processors' time as you can",
		},
	}
}

// parts are what a run needs besides the layers, or does without being asked.
func parts() []layer {
	return []layer{
		{
			name: "id-maps", tries: []trial.Try{trial.Maps},
			does: "files and processes inside have owners of their own",
			lack: "there are no ids to give to the program",
		},
		{
			name: "limit", tries: []trial.Try{trial.Limit},
			does: "the kernel itself refuses further user namespaces inside",
			lack: "a program could make namespaces of its own, and with them reach more of the kernel",
		},
		{
			name: "keyring", tries: []trial.Try{trial.Keyring},
			does: "Kerberos tickets and other keys of your session are out of reach",
			lack: "the program would possess the keys of your session",
		},
		{
			name: "core-dumps", tries: []trial.Try{trial.Rlimits},
			does: "a crash inside starts no handler of this host, which would run as root",
			lack: "a crash inside could start a handler of this host as root",
		},
	}
}

// row makes the line of a layer from what was tried.
func (l layer) row(set, other trial.Results) Row {
	r := Row{Name: l.name, State: plan.Enforced, Means: l.does}
	results := set
	if l.fromTheOther {
		results = other
	}
	var seen []string
	for _, t := range l.tries {
		result, made := results.Get(t)
		if !made {
			result, made = other.Get(t)
		}
		switch {
		case !made:
			r.State, r.Means = plan.Missing, l.lack
			return l.neverTried(r, set, seen)
		case !result.OK:
			r.State, r.Means = plan.Missing, l.lack
			r.Evidence, r.Fix = result.Text, result.Hint
			if first, _ := set.Get(trial.CloneUser); l.name != "userns" && !first.OK && first.Text == result.Text {
				r.Evidence, r.Fix = "it needs a user namespace, and none can be made", ""
			}
			return r
		case result.Text != "":
			seen = append(seen, result.Text)
		}
	}
	r.Evidence = strings.Join(seen, "; ")
	return r
}

// neverTried says which step before it failed.
func (l layer) neverTried(r Row, set trial.Results, seen []string) Row {
	r.Evidence = "not tried"
	if failed, found := blocking(set); found {
		r.Evidence = "not tried, because this failed before: " + string(failed.Try)
	}
	if len(seen) > 0 {
		r.Evidence = strings.Join(seen, "; ") + "; the rest " + r.Evidence
	}
	return r
}

// rank orders states, the best first.
func rank(s plan.State) int {
	switch s {
	case plan.Enforced:
		return 0
	case plan.Weaker:
		return 1
	default:
		return 2
	}
}

// withPlan adds what a run would have of the layer: a host may give more than
// the run can use, and a flag or a mode may give something away.
func (r Row) withPlan(p plan.Layer, lack string) Row {
	switch {
	case rank(p.State) > rank(r.State):
		if r.Evidence != "" {
			r.Evidence += "; in a run: "
		}
		r.Evidence += p.Detail
		r.State, r.Means, r.Fix = p.State, lack, p.Fix
	case p.Detail != "" && r.State == plan.Enforced && shown(p.Name):
		if r.Evidence != "" {
			r.Evidence += "; "
		}
		r.Evidence += "in a run: " + p.Detail
	}
	return r
}

// shown are the layers whose value in a run is worth a word.
func shown(name string) bool {
	return name == "nomap" || name == "pids" || name == "memory" || name == "cpu"
}
