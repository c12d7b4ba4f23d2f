package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// full is a plan in which every kind of stage occurs.
func full(t *testing.T) *Plan {
	t.Helper()
	f := alice()
	f.Image.Build = true
	f.Stdio = [3]Stream{{Kind: StreamTTY}, {Kind: StreamTTY}, {Kind: StreamTTY}}
	f.Cgroup = cgroupv2.Prospect{Rung: "delegated", Controllers: []string{"memory", "pids"}}
	f.Program = Program{Host: "./tool", Inside: "/box/tool"}
	f.CopyIn = []CopyFact{{PathPair: PathPair{Source: "/a/in"}}}
	f.Shares = []Shared{{
		Share: Share{PathPair{"/a/rw", "/a/rw"}, true}, Resolved: "/a/rw", Ino: 1, Directory: true,
		Placeholders: []mounts.Placeholder{{Path: "/a/rw/.git"}},
	}}
	p, err := Build(Spec{Program: "./tool", Copy: CopyFull}, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ops(p *Plan) []Op {
	var list []Op
	for _, st := range p.Stages() {
		list = append(list, st.Op)
	}
	return list
}

// The laws of the order; each has its reason.
func TestOrderOfStages(t *testing.T) {
	list := ops(full(t))
	last := func(op Op) int {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i] == op {
				return i
			}
		}
		return -1
	}
	for _, law := range []struct {
		first, then Op
		why         string
	}{
		{OpBuildImage, OpSandbox, "a sandbox is a copy of the image"},
		{OpSandbox, OpPlace, "what is placed is written down in the sandbox"},
		{OpCgroup, OpClone, "pid 1 is born into its limits"},
		{OpClone, OpMaps, "maps are those of a process"},
		{OpMaps, OpNoMoreUserns, "without maps pid 1 has no rights"},
		{OpCgroupNS, OpBegin, "no procfs may show the cgroups above"},
		{OpBegin, OpNoMoreUserns, "it is written into pid 1's own procfs"},
		{OpNoMoreUserns, OpPayload, "the limit must be there before the program's namespace (A1)"},
		{OpBegin, OpTake, "what is taken is kept in the table"},
		{OpTake, OpGroups, "a path open to a group of the caller's is taken with it"},
		{OpTake, OpPivot, "afterwards the host is out of reach"},
		{OpRoot, OpPivot, "the image lies on the host"},
		{OpGroups, OpPayload, "no group comes along (A3)"},
		{OpInherited, OpPayload, "limits are inherited"},
		{OpPivot, OpAttach, "mount points are made when no link can lead to the host (C3)"},
		{OpAttach, OpProgram, "the program goes into /box and not below it"},
		{OpAttach, OpCopyIn, "copies go into the mounts"},
		{OpAttach, OpConsole, "the terminal is one of the sandbox's own devpts"},
		{OpProgram, OpFinish, "a read-only root takes no file"},
		{OpCopyIn, OpFinish, "nor a copy"},
		{OpFinish, OpPayload, "the program is last"},
	} {
		a, b := last(law.first), slices.Index(list, law.then)
		if a < 0 || b < 0 || a > b {
			t.Errorf("%s (%d) must come before %s (%d): %s", law.first, a, law.then, b, law.why)
		}
	}
	if list[len(list)-1] != OpPayload {
		t.Errorf("the last stage is %s", list[len(list)-1])
	}
}

// Who acts changes hands twice, and never back.
func TestStagesChangeHandsInOrder(t *testing.T) {
	order := []Where{OnHost, InInit, InTarget}
	at := 0
	for _, st := range full(t).Stages() {
		i := slices.Index(order, st.Where)
		if i < at {
			t.Errorf("%q is done by %s after %s", st.Text, st.Where, order[at])
		}
		at = i
	}
	if at != 2 {
		t.Error("the program is not reached")
	}
}

// Whatever has to be attached from the host is taken before, once each.
func TestEveryBindIsTaken(t *testing.T) {
	p := full(t)
	taken := map[int]int{}
	attached := map[int]int{}
	for _, st := range p.Stages() {
		switch st.Op {
		case OpTake:
			taken[st.Index]++
		case OpAttach:
			attached[st.Index]++
		}
	}
	for i, m := range p.Mounts {
		want := 0
		if m.Kind == mounts.Bind || m.Kind == mounts.Device {
			want = 1
		}
		if taken[i] != want || attached[i] != 1 {
			t.Errorf("%s: taken %d times, attached %d times", m, taken[i], attached[i])
		}
	}
	if taken[-1] != 1 {
		t.Error("the --copy-in is not taken")
	}
}

// A stage's text stands in front of an errno, so it is there and on one line.
func TestStageTexts(t *testing.T) {
	for _, st := range full(t).Stages() {
		if st.Text == "" || strings.ContainsAny(st.Text, "\n%") || strings.HasSuffix(st.Text, ".") {
			t.Errorf("%s says %q", st.Op, st.Text)
		}
	}
}

func TestStagesThatAreLeftOut(t *testing.T) {
	for _, c := range []struct {
		name  string
		spec  Spec
		facts func(*Facts)
		not   []Op
	}{
		{"nothing asked for", Spec{Program: "x"}, nil, []Op{OpBuildImage, OpPlace, OpCgroup, OpProgram, OpCopyIn, OpConsole}},
		{"the host's network", Spec{Program: "x", Network: NetworkHost}, nil, []Op{OpLoopback}},
		{"one id only", Spec{Program: "x", Userns: userns.Single}, nil, []Op{OpGroups}},
		{"no cgroup namespaces", Spec{Program: "x", AllowDegraded: []string{"cgroup-ns"}}, func(f *Facts) { f.Kernel.CgroupNS = false }, []Op{OpCgroupNS}},
		{"changes in memory", Spec{Program: "x"}, nil, []Op{OpSandbox}},
	} {
		f := alice()
		if c.facts != nil {
			c.facts(&f)
		}
		p, err := Build(c.spec, f)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, op := range c.not {
			if slices.Contains(ops(p), op) {
				t.Errorf("%s: there is a stage %s", c.name, op)
			}
		}
	}
}

func TestPlaceNamesTheSandbox(t *testing.T) {
	p := full(t)
	p.Place("abc", "/store/sandboxes/abc")
	for _, st := range p.Stages() {
		if st.Op == OpSandbox && !strings.Contains(st.Text, "/store/sandboxes/abc") {
			t.Errorf("%q does not name it", st.Text)
		}
	}
}
