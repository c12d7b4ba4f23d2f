package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/trial"
	"github.com/sbx-run/sbx/userns"
)

// Judge makes the report of what was found. It is pure.
func Judge(f Findings) Report {
	r := Report{User: f.Facts.Caller.Name, UID: f.Facts.Caller.UID, Kernel: f.Uname[0]}
	base := f.base()
	set := slices.Concat(f.Namespaces, base.Results, f.Locks)
	for _, l := range layers() {
		r.Layers = append(r.Layers, f.layerRow(l, base, set))
	}
	for _, l := range parts() {
		if row := l.row(set, nil); len(base.Results) > 0 || row.State == plan.Enforced {
			r.Parts = append(r.Parts, row)
		}
	}
	r.Modes = f.judgeModes(base)
	r.Copy = f.judgeCopy(base)
	r.Store = judgeStore(f.Store)
	r.Switches = f.switches()
	r.Grade = grade(r.Layers, r.Parts)
	r.Meaning = r.Grade.Text()
	for _, p := range []string{f.Look, f.Build} {
		if p != "" {
			r.Problems = append(r.Problems, p)
		}
	}
	r.Needs = Needs(f)
	return r
}

// base is the mode that the rows are about: the one of a run without flags; if
// that fails, the first that works, so that the rest is judged by it.
func (f Findings) base() ModeFinding {
	want := f.Mode
	if want == "" && len(f.Modes) > 0 {
		want = f.Modes[0].Mode
	}
	var chosen ModeFinding
	for _, m := range f.Modes {
		switch {
		case m.Mode == want && m.works():
			return m
		case m.works() && !chosen.works():
			chosen = m
		case m.Mode == want && !chosen.works(), chosen.Mode == "" && len(m.Results) > 0:
			chosen = m
		}
	}
	return chosen
}

// layerRow is the line of one layer, with the two that are about identity.
func (f Findings) layerRow(l layer, base ModeFinding, set trial.Results) Row {
	var r Row
	switch {
	case l.name == "nomap":
		r = f.nomapRow(l, base)
	case l.name == "groups" && base.Mode == userns.Single && f.Facts.Caller.UID != 0:
		// With one id the kernel forbids to drop them; the plan says which.
		r = Row{Name: l.name, State: plan.Enforced, Means: l.does, Evidence: "you have none beside your own"}
		if names := groupNames(f.Facts.Caller.Groups); names != "" {
			r.State, r.Means = plan.Weaker, l.lack
			r.Evidence = "the kernel forbids to drop groups where only one id is mapped; in force: " + names
			r.Fix = "get subordinate ids: `sbx doctor --admin` prints what to ask for"
		}
	case l.name == "pids":
		r = f.pidsRow(l, set)
	case l.name == "landlock" && f.Facts.Kernel.LandlockABI == 0:
		r = Row{
			Name: l.name, State: plan.Missing, Means: l.lack, Evidence: "the kernel has none, or it is switched off",
			Fix: "Linux 5.19 or newer, with landlock among its security modules (lsm=)",
		}
	case l.name == "mnt":
		r = f.mntRow(l, set)
	default:
		r = l.row(set, f.Limits)
	}
	i := slices.IndexFunc(f.Plan, func(p plan.Layer) bool { return p.Name == l.name })
	if i >= 0 && base.Mode == f.Mode {
		r = r.withPlan(f.Plan[i], l.lack)
	}
	r.Fix = strings.ReplaceAll(r.Fix, "enable-linger USER", "enable-linger "+shellWord(f.Facts.Caller.Name))
	return r
}

func groupNames(groups []userns.Group) string {
	var names []string
	for _, g := range groups {
		name := g.String()
		if g.Why != "" {
			name += " (" + g.Why + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// nomapRow: with subordinate ids the program is a stranger, without it is the
// user.
func (f Findings) nomapRow(l layer, base ModeFinding) Row {
	r := Row{Name: l.name, State: plan.Enforced, Means: l.does}
	for _, m := range f.Modes {
		if m.Mode != userns.NoMap {
			continue
		}
		maps, made := m.Results.Get(trial.Maps)
		switch {
		case m.Results.OK(trial.Maps) && m.Results.OK(trial.Nested):
			r.Evidence = maps.Text
			return r
		case m.Refused != "":
			r.Evidence = m.Refused
		case made && !maps.OK:
			r.Evidence, r.Fix = maps.Text, maps.Hint
		default:
			if failed, found := blocking(m.Results); found {
				r.Evidence = "no sandbox can be had under it: " + string(failed.Try) + " failed, see above"
			}
		}
	}
	r.State, r.Means = plan.Missing, l.lack
	if base.works() {
		r.State = plan.Weaker
	}
	if r.Fix == "" && base.works() {
		r.Fix = "`sbx doctor --admin` prints what to ask the administrator for"
	}
	if f.Mode == userns.NoMap && base.works() {
		r.Fix += "; until then --userns=single works"
	}
	return r
}

// pidsRow: a cgroup limits processes, and so does RLIMIT_NPROC; one is enough.
func (f Findings) pidsRow(l layer, set trial.Results) Row {
	r := l.row(set, nil)
	if c, made := f.Limits.Get(trial.CgroupPids); made && c.OK && len(set) > 0 {
		if r.State == plan.Enforced {
			r.Evidence += "; " + c.Text
			return r
		}
		return Row{Name: l.name, State: plan.Enforced, Means: l.does, Evidence: c.Text}
	}
	return r
}

// mntRow adds why no root could be made, which two ways have failed to do.
func (f Findings) mntRow(l layer, set trial.Results) Row {
	r := l.row(set, nil)
	full, made := set.Get(trial.Full)
	if r.State == plan.Enforced || !made || full.OK {
		return r
	}
	overlay, _ := set.Get(trial.Overlay)
	r.Evidence = fmt.Sprintf("no root file system could be made: overlay: %s; copy: %s", overlay.Text, full.Text)
	r.Fix = "set XDG_DATA_HOME to a directory on a local disk that is mounted without noexec and keeps files of other ids"
	return r
}

// blocking is the first failure that a run does not have another way for.
func blocking(rs trial.Results) (trial.Result, bool) {
	for _, r := range rs {
		switch {
		case r.OK, r.Try == trial.Reflink:
		case r.Try == trial.Overlay && rs.OK(trial.Full):
		default:
			return r, true
		}
	}
	return trial.Result{}, false
}

func (f Findings) judgeModes(base ModeFinding) []Mode {
	var list []Mode
	inTable, _ := blocking(base.Results)
	for _, m := range f.Modes {
		mode := Mode{Name: m.Mode, Works: m.works(), Default: m.Mode == f.Mode, Detail: about(m.Mode, f.Facts.Caller.UID == 0)}
		if !mode.Works {
			mode.Detail = m.Refused
			if failed, found := blocking(m.Results); found {
				mode.Detail, mode.Fix = failed.Text, failed.Hint
				if failed.Try == inTable.Try {
					mode.Detail, mode.Fix = string(failed.Try)+" failed, see the table", ""
				}
			}
		}
		list = append(list, mode)
	}
	return list
}

// about says who the program is outside under a mode.
func about(m userns.Mode, root bool) string {
	switch {
	case root:
		return "the program is an id of nobody's outside, never root"
	case m == userns.NoMap:
		return "the program is a stranger outside"
	case m == userns.KeepID:
		return "the program is you on shared paths; for --ro and --rw"
	default:
		return "the program is you outside, with your groups; needs no subordinate ids"
	}
}

func (f Findings) judgeCopy(base ModeFinding) Copy {
	overlay, tried := base.Results.Get(trial.Overlay)
	full, _ := base.Results.Get(trial.Full)
	var c Copy
	switch {
	case !tried:
		return Copy{Why: "not tried: no namespace to try it in"}
	case overlay.OK:
		c = Copy{plan.CopyOverlay, "a layer over the image was mounted; a start copies nothing"}
	case base.Results.OK(trial.Reflink) && full.OK:
		c = Copy{plan.CopyReflink, "files share their blocks until they are written; an overlay was refused: " + overlay.Text}
	case full.OK:
		c = Copy{plan.CopyFull, "every start copies the whole image; an overlay was refused: " + overlay.Text}
	default:
		return Copy{Why: "none works: overlay: " + overlay.Text + "; copy: " + full.Text}
	}
	if f.Store.TriedIn != "" {
		c.Why += " (tried in " + f.Store.TriedIn + ", since the store cannot be used)"
	}
	return c
}

// switches are the sysctls and what is looked up elsewhere.
func (f Findings) switches() []Switch {
	list := judgeSwitches(f.Values)
	list = append(list, judgeKernel(f.Uname[0], f.Uname[1]), cgroupSwitch(f.Cgroup), f.subidSwitch())
	if f.Tun != "" {
		s := Switch{Name: tun, Value: f.Tun, Concern: Fine}
		if !f.TunOpens {
			s.Concern, s.Means = Note, "you may not open it, so no user-mode network can be given to a sandbox"
			s.Fix = "ask the administrator for `chmod 0666 " + tun + "`, the mode that udev gives it: only who has rights over a network namespace can use it"
		}
		list = append(list, s)
	}
	return list
}

func cgroupSwitch(h cgroupv2.Host) Switch {
	s := Switch{Name: "cgroups", Value: string(h.Hierarchy), Concern: Fine}
	if len(h.Available) > 0 {
		s.Value += ", v2 has " + strings.Join(h.Available, " ")
	}
	if len(h.Prospect.Controllers) > 0 {
		s.Value += ", yours: " + strings.Join(h.Prospect.Controllers, " ")
	}
	if h.Hierarchy != cgroupv2.Unified {
		s.Concern, s.Means = Note, "limits of memory, processes and processor time need cgroup v2 with its controllers"
	}
	return s
}

// enough is what distributions grant, and what an image with users up to
// nobody (65534) asks for.
const enough = 65536

func (f Findings) subidSwitch() Switch {
	sub := f.Facts.Subordinate
	s := Switch{Name: "subordinate ids", Concern: Fine}
	var texts []string
	var total uint64
	for _, r := range sub.UID {
		texts = append(texts, r.String())
		total += uint64(r.Count)
	}
	s.Value = strings.Join(texts, " ")
	if sub.Source != "" && s.Value != "" {
		s.Value += " from " + sub.Source
	}
	switch {
	case f.Facts.Caller.UID == 0:
	case total == 0 || len(sub.GID) == 0:
		s.Value = "none"
		if total > 0 {
			s.Value = "none of groups"
		}
		s.Concern, s.Means = Bad, "programs run as you, in the mode single"
		s.Fix = "`sbx doctor --admin` prints the lines for the administrator"
	case total < enough:
		s.Concern = Note
		s.Means = fmt.Sprintf("%d ids: files of users above %d cannot be kept, and uid 1000 may not exist inside", total, total-1)
		s.Fix = "`sbx doctor --admin` prints the lines for the administrator"
	}
	if len(sub.Warnings) > 0 {
		s.Concern = atLeast(s.Concern, Note)
		s.Means = joined(s.Means, strings.Join(sub.Warnings, "; "))
	}
	return s
}

func atLeast(a, b Concern) Concern {
	if a == Fine {
		return b
	}
	return a
}
