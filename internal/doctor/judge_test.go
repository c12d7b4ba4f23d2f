package doctor

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/trial"
	"github.com/sbx-run/sbx/userns"
)

// Hosts, what they are graded, what is not enforced on them, and what an
// administrator is asked for.
func TestJudge(t *testing.T) {
	broken := func(try trial.Try) Findings {
		f := goodHost()
		f.everyMode(func(rs trial.Results) trial.Results { return fails(rs, try, 1, "") })
		return f
	}
	tests := []struct {
		name  string
		host  Findings
		grade Grade
		lacks string // names of layers and parts that are not enforced
		needs string
		ok    bool
	}{
		{"everything works", goodHost(), Full, "", "", true},
		{"no subordinate ids", noSubids(), Weak, "nomap", "subids", false},
		{"no newuidmap", noHelpers(), Weak, "nomap", "helpers", false},
		{"Ubuntu's restriction", appArmor(), None, "userns pid mnt uts net nomap limit", "apparmor", false},
		{"user namespaces switched off", usernsOff(), None, "userns pid mnt uts ipc net cgroup-ns nomap groups id-maps limit", "userns", false},
		{"container with a masked /proc", maskedProc(), None, "userns pid mnt uts net nomap limit", "container", false},
		{"no service manager", noManager(), Good, "memory cpu", "linger", false},
		{"cpu is not delegated", noCPU(), Good, "cpu", "delegation", false},
		{"cgroup v1 hybrid", hybrid(), Good, "memory cpu", "cgroup-v2", false},
		{"home on NFS", onNFS(), None, "mnt", "", false},
		{"Debian 11, unpatched", oldKernel(), Good, "landlock", "kernel", false},
		{"read-only home", readOnlyHome(), Full, "", "", false},
		{"real root", asRoot(), Full, "", "", true},
		{"no filter", broken(trial.Seccomp), Weak, "seccomp", "", false},
		{"no_new_privs refused", broken(trial.NNP), None, "nnp", "", false},
		{"a third namespace could be made", broken(trial.Third), None, "userns", "", false},
		{"keyring refused", broken(trial.Keyring), None, "keyring", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := Judge(test.host)
			if r.Grade != test.grade || r.OK() != test.ok {
				t.Errorf("graded %s (ok %v), want %s (%v)", r.Grade, r.OK(), test.grade, test.ok)
			}
			var lacks, needs []string
			for _, row := range slices.Concat(r.Layers, r.Parts) {
				if row.State != plan.Enforced {
					lacks = append(lacks, row.Name)
				}
				if row.Means == "" || row.Evidence == "" {
					t.Errorf("%s says nothing: %+v", row.Name, row)
				}
			}
			for _, n := range r.Needs {
				needs = append(needs, n.Name)
			}
			if got := strings.Join(lacks, " "); got != test.lacks {
				t.Errorf("not enforced: %s\nwant:         %s", got, test.lacks)
			}
			if got := strings.Join(needs, " "); got != test.needs {
				t.Errorf("asks for %q, want %q", got, test.needs)
			}
			checkText(t, r)
		})
	}
}

// checkText holds what every report has to be: no line is too long, and one
// that is not all right says what to do.
func checkText(t *testing.T, r Report) {
	t.Helper()
	text := r.Text(80)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if len([]rune(line)) > 80 && strings.Contains(strings.TrimSpace(line), " ") || strings.TrimRight(line, " ") != line {
			t.Errorf("line of %d: %q", len(line), line)
		}
	}
	for _, want := range []string{strings.ToUpper(string(r.Grade)), "next: ", "user " + r.User} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	data, err := json.Marshal(r)
	var back Report
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil || back.Grade != r.Grade || len(back.Layers) != len(plan.LayerNames()) {
		t.Errorf("JSON: %v, %+v", err, back)
	}
}

// The layers of the report are those of the plan, in its order.
func TestLayerNames(t *testing.T) {
	var names []string
	for _, l := range layers() {
		names = append(names, l.name)
	}
	if !slices.Equal(names, plan.LayerNames()) {
		t.Errorf("doctor has %v, the plan %v", names, plan.LayerNames())
	}
	for _, name := range slices.Concat(walls(), extras()) {
		if !slices.Contains(names, name) {
			t.Errorf("%s decides over the grade and is no layer", name)
		}
	}
}

// The worse of trial and plan counts, and the reason of the one that is worse.
func TestRowWithPlan(t *testing.T) {
	f := goodHost()
	f.setPlan("memory", plan.Missing, "this run has none")
	r := Judge(f)
	row := r.Layers[slices.IndexFunc(r.Layers, func(r Row) bool { return r.Name == "memory" })]
	if row.State != plan.Missing || !strings.Contains(row.Evidence, "went well; in a run: this run has none") {
		t.Errorf("%+v", row)
	}
}

// A step that a run has another way for is not what kept a layer from being
// tried, and a kernel without Landlock is named as one.
func TestEvidenceNamesTheCause(t *testing.T) {
	r := Judge(oldKernel())
	row := r.Layers[slices.IndexFunc(r.Layers, func(r Row) bool { return r.Name == "landlock" })]
	if !strings.Contains(row.Evidence, "the kernel has none") || !strings.Contains(row.Fix, "5.19") {
		t.Errorf("%+v", row)
	}
	f := noManager()
	f.Limits[0].Hint = "have the administrator run: loginctl enable-linger USER"
	r = Judge(f)
	row = r.Layers[slices.IndexFunc(r.Layers, func(r Row) bool { return r.Name == "memory" })]
	if row.Fix != "have the administrator run: loginctl enable-linger alice" {
		t.Errorf("%+v", row)
	}
	for _, host := range []Findings{appArmor(), maskedProc(), onNFS()} {
		for _, row := range Judge(host).Layers {
			if strings.Contains(row.Evidence, "failed before: reflink") {
				t.Errorf("%+v", row)
			}
		}
	}
}

// A mode that the host refuses is described by its reason; one that stops where
// all stop, by that.
func TestModes(t *testing.T) {
	r := Judge(noSubids())
	if m := r.Modes[0]; m.Works || m.Detail != "no subordinate uids for alice in /etc/subuid" {
		t.Errorf("nomap: %+v", m)
	}
	if m := r.Modes[2]; !m.Works || !m.Default {
		t.Errorf("single: %+v", m)
	}
	r = Judge(appArmor())
	if m := r.Modes[1]; m.Works || m.Detail != "tmpfs failed, see the table" {
		t.Errorf("keep-id: %+v", m)
	}
}

// With one id, groups stay in force; those with power are named with it.
func TestGroupsInSingleMode(t *testing.T) {
	f := noSubids()
	f.Facts.Caller.Groups = []userns.Group{{GID: 999, Name: "docker", Power: true, Why: "may start containers as root"}}
	f.setPlan("groups", plan.Weaker, "docker")
	r := Judge(f)
	row := r.Layers[slices.IndexFunc(r.Layers, func(r Row) bool { return r.Name == "groups" })]
	if row.State != plan.Weaker || !strings.Contains(row.Evidence, "docker (may start containers as root)") || row.Fix == "" {
		t.Errorf("%+v", row)
	}
}

func TestCopy(t *testing.T) {
	reflink := oldKernel()
	reflink.everyMode(func(rs trial.Results) trial.Results {
		for i := range rs {
			rs[i].OK = rs[i].OK || rs[i].Try == trial.Reflink
		}
		return rs
	})
	tests := []struct {
		name, method, why string
		host              Findings
	}{
		{"overlay", "overlay", "copies nothing", goodHost()},
		{"reflink", "reflink", "an overlay was refused: overlay: operation not permitted", reflink},
		{"full", "full", "every start copies the whole image", oldKernel()},
		{"none", "", "none works: overlay: overlay: invalid argument; copy: chown", onNFS()},
		{"elsewhere", "overlay", "tried in /tmp", readOnlyHome()},
		{"no namespace", "", "not tried", usernsOff()},
	}
	for _, test := range tests {
		if c := Judge(test.host).Copy; c.Method != test.method || !strings.Contains(c.Why, test.why) {
			t.Errorf("%s: %+v", test.name, c)
		}
	}
}

func TestJudgeStore(t *testing.T) {
	tests := []struct {
		name          string
		change        func(*StoreFinding)
		problem, note string
	}{
		{"roomy", func(*StoreFinding) {}, "", ""},
		{"problem", func(s *StoreFinding) { s.Problem = "it is a link" }, "it is a link", ""},
		{"read-only", func(s *StoreFinding) { s.Flags = 1 }, "read-only", ""},
		{"little space", func(s *StoreFinding) { s.Free = 10 << 20 }, "", "little free space"},
		{"few files", func(s *StoreFinding) { s.Inodes = 100 }, "", "few files"},
		{"no fixed number of files", func(s *StoreFinding) { s.Inodes = 0 }, "", ""},
		{"noexec", func(s *StoreFinding) { s.Flags = 8 }, "", "noexec"},
		{"network", func(s *StoreFinding) { s.Type = 0x6969 }, "", "network file system"},
		{"leftover", func(s *StoreFinding) { s.Leftover = "empty /x: busy" }, "", "left: empty /x"},
		{"trash", func(s *StoreFinding) { s.Trash = 2 }, "", "(2 in /home/alice/.local/share/sbx/trash): sbx gc"},
		{"other ids", func(s *StoreFinding) { s.Strangers, s.StrangersWhy = 3, "its files belong to others" }, "", "nor remove: 3, and of one of them its files belong"},
	}
	for _, test := range tests {
		f := goodHost().Store
		test.change(&f)
		s := judgeStore(f)
		if !strings.Contains(s.Problem, test.problem) || (test.problem == "") != (s.Problem == "") {
			t.Errorf("%s: problem %q", test.name, s.Problem)
		}
		if !strings.Contains(s.Note, test.note) || (test.note == "") != (s.Note == "") {
			t.Errorf("%s: note %q", test.name, s.Note)
		}
	}
}
