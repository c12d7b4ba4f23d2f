package doctor

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/trial"
	"github.com/sbx-run/sbx/userns"
)

var update = flag.Bool("update", false, "write the letters in testdata anew")

// The letters that users send, word for word: each was read by a person.
func TestLetter(t *testing.T) {
	worst := noHelpers()
	worst.Facts.Subordinate = userns.Subordinate{Source: "/etc/subuid"}
	worst.Cgroup, worst.Limits = noManager().Cgroup, noManager().Limits
	fedora := noHelpers()
	fedora.Admin.Distribution = []string{"fedora"}
	for name, host := range map[string]Findings{
		"complete": goodHost(), "worst": worst, "fedora": fedora, "apparmor": appArmor(), "userns-off": usernsOff(),
		"container": maskedProc(), "delegation": noCPU(), "hybrid": hybrid(), "nfs": onNFS(),
	} {
		t.Run(name, func(t *testing.T) {
			got := Judge(host).Letter(host.Admin.Hostname)
			file := filepath.Join("testdata", name+".letter")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the letter is (-update accepts it):\n%s", got)
			}
		})
	}
}

// What every need has: a title, something to do, and why it does no harm.
func TestNeedsAreComplete(t *testing.T) {
	for _, host := range []Findings{noSubids(), noHelpers(), appArmor(), usernsOff(), maskedProc(), noManager(), noCPU(), hybrid(), oldKernel()} {
		for _, n := range Needs(host) {
			if n.Name == "" || n.Title == "" || len(n.Do) == 0 || n.Safe == "" || strings.HasSuffix(n.Safe, ".") || strings.HasSuffix(n.Title, ".") {
				t.Errorf("%+v", n)
			}
		}
	}
}

// An administrator pastes the lines into a shell: they have to be ones.
func TestNeedsAreShell(t *testing.T) {
	for _, host := range []Findings{noSubids(), noHelpers(), appArmor(), usernsOff(), maskedProc(), noManager(), noCPU(), hybrid(), oldKernel()} {
		host.Facts.Caller.Name = "o'brien (x)"
		for _, n := range Needs(host) {
			cmd := exec.Command("sh", "-n")
			cmd.Stdin = strings.NewReader(strings.Join(n.Do, "\n") + "\n")
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v: %s\n%s", n.Name, err, out, strings.Join(n.Do, "\n"))
			}
		}
	}
}

func needNamed(t *testing.T, f Findings, name string) Need {
	t.Helper()
	needs := Needs(f)
	i := slices.IndexFunc(needs, func(n Need) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("no need %s in %+v", name, needs)
	}
	return needs[i]
}

func TestNeedSubids(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Findings)
		do     string // the first line, empty when nothing is needed
	}{
		{"none", func(f *Findings) { f.Facts.Subordinate = userns.Subordinate{} }, "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 alice"},
		{"no group ids", func(f *Findings) { f.Facts.Subordinate.GID = nil }, "usermod --add-subgids 165536-231071 alice"},
		{"ten ids", func(f *Findings) { f.Facts.Subordinate.UID[0].Count = 10 }, "usermod --add-subuids 165536-231071 alice"},
		{"enough", func(*Findings) {}, ""},
		{"two lines that are enough together", func(f *Findings) {
			f.Facts.Subordinate.UID = []userns.Range{{Start: 100000, Count: 65000}, {Start: 300000, Count: 536}}
		}, ""},
		{"root", func(f *Findings) { f.Facts.Subordinate, f.Facts.Caller.UID = userns.Subordinate{}, 0 }, ""},
		{"an odd name", func(f *Findings) { f.Facts.Subordinate, f.Facts.Caller.Name = userns.Subordinate{}, `ad\al ice` }, `usermod --add-subuids 165536-231071 --add-subgids 165536-231071 'ad\al ice'`},
		{"directory service", func(f *Findings) { f.Facts.Subordinate = userns.Subordinate{Source: "getsubids"} }, "# grant alice 65536 subordinate uids and gids in the directory, for FreeIPA:"},
		{"no room", func(f *Findings) {
			f.Facts.Subordinate = userns.Subordinate{}
			f.Admin.LoginDefs = []byte("SUB_UID_MIN 100000\nSUB_UID_MAX 200000\n")
		}, "# grant alice 65536 free uids and gids in /etc/subuid and /etc/subgid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := goodHost()
			test.change(&f)
			n, yes := needSubids(f)
			if yes != (test.do != "") || yes && n.Do[0] != test.do {
				t.Errorf("%v %q, want %q", yes, n.Do, test.do)
			}
		})
	}
}

func TestFreeRange(t *testing.T) {
	tests := []struct {
		name  string
		admin AdminFinding
		want  uint32 // 0: there is no room
	}{
		{"nothing taken", AdminFinding{}, 100000},
		{"subuid only", AdminFinding{Subuid: []byte("a:100000:65536\n")}, 165536},
		{"subgid only", AdminFinding{Subgid: []byte("a:100000:65536\n")}, 165536},
		{"a gap that is large enough", AdminFinding{Subuid: []byte("a:100000:65536\nb:300000:65536\n")}, 165536},
		{"a gap that is too small", AdminFinding{Subuid: []byte("a:100000:65536\nb:200000:65536\n")}, 265536},
		{"lines out of order, overlapping", AdminFinding{Subuid: []byte("b:150000:65536\na:100000:65536\n1005:100000:10\n")}, 215536},
		{"an account in the way", AdminFinding{Passwd: []byte("x:x:120000:120000::/:\n")}, 120001},
		{"a group in the way", AdminFinding{Group: []byte("x:x:165535:\n")}, 165536},
		{"the host's own bounds", AdminFinding{LoginDefs: []byte("# SUB_UID_MIN 5\nSUB_UID_MIN\t\t  524288\n")}, 524288},
		{"up to the last id", AdminFinding{Subuid: []byte("a:100000:600000001\n")}, 0},
		{"nonsense is passed over", AdminFinding{Subuid: []byte("a:b:c\n:::\na:100000\nx:-1:5\n\n#a:100000:65536\n")}, 165536},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, found := freeRange(test.admin)
			if found != (test.want != 0) || got != test.want {
				t.Errorf("%d %v, want %d", got, found, test.want)
			}
		})
	}
}

// Whatever is in the files: the range that is proposed meets nothing in them.
func FuzzFreeRange(f *testing.F) {
	f.Add([]byte("a:100000:65536\n"), []byte("b:165536:10\n"), []byte("x:x:1:200000::/:\n"), []byte("SUB_UID_MIN 4294900000\n"))
	f.Add([]byte("a:4294967295:1\n"), []byte("a:0:4294967295\n"), []byte(":::"), []byte("SUB_GID_MAX 1"))
	f.Fuzz(func(t *testing.T, subuid, subgid, passwd, defs []byte) {
		a := AdminFinding{Subuid: subuid, Subgid: subgid, Passwd: passwd, LoginDefs: defs}
		start, found := freeRange(a)
		if !found {
			return
		}
		first, end := uint64(start), uint64(start)+enough
		if end > 1<<32-1 {
			t.Errorf("%d runs past the last id", start)
		}
		for _, s := range slices.Concat(subidSpans(subuid), subidSpans(subgid), accountSpans(passwd)) {
			if first < s.end && s.first < end {
				t.Errorf("%d-%d meets %v", first, end-1, s)
			}
		}
	})
}

func TestPackageLines(t *testing.T) {
	for _, test := range []struct {
		distribution []string
		first        string
	}{
		{[]string{"ubuntu", "debian"}, "apt install uidmap"},
		{[]string{"rocky", "rhel", "centos", "fedora"}, "dnf install shadow-utils"},
		{[]string{"arch"}, "pacman -S shadow"},
		{[]string{"alpine"}, "apk add"},
		{[]string{"opensuse-tumbleweed", "opensuse", "suse"}, "zypper install shadow"},
		{nil, "apt install uidmap"},
	} {
		lines := packageLines(test.distribution)
		if len(lines) != 5 || !strings.Contains(lines[0], test.first) {
			t.Errorf("%v: %q", test.distribution, lines)
		}
	}
}

func TestOSRelease(t *testing.T) {
	got := osRelease([]byte("NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n# ID=x\n"))
	if !slices.Equal(got, []string{"rocky", "rhel", "centos", "fedora"}) {
		t.Errorf("%q", got)
	}
	if got := osRelease(nil); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}

func TestApparmorPath(t *testing.T) {
	for path, want := range map[string]string{
		"/usr/local/bin/sbx":   `"/usr/local/bin/sbx"`,
		"/home/a b/sbx":        `"/home/a b/sbx"`,
		"/opt/sbx[1]*{x}@?^":   `"/opt/sbx\[1\]\*\{x\}\@\?\^"`,
		`/opt/"quoted"\sbx`:    `"/opt/\"quoted\"\\sbx"`,
		"/home/müller/bin/sbx": `"/home/müller/bin/sbx"`,
	} {
		if got := apparmorPath(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{
		"alice": "alice", "al ice": "'al ice'", "it's": `'it'\''s'`, "": "''", "$(reboot)": "'$(reboot)'", "a\nb": "'a\nb'",
	} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

// A file that only root can change needs no second thought in the letter.
func TestAppArmorOwner(t *testing.T) {
	f := appArmor()
	f.Admin.Binary, f.Admin.OwnedByRoot = "/usr/local/bin/sbx", true
	if n := needNamed(t, f, "apparmor"); !strings.Contains(n.Safe, "here that is root alone") {
		t.Errorf("%s", n.Safe)
	}
	// With the profile in place everything works, and nothing is to be asked.
	f = goodHost()
	f.Values["kernel.apparmor_restrict_unprivileged_userns"] = "1"
	if needs := Needs(f); len(needs) != 0 {
		t.Errorf("%+v", needs)
	}
}

func TestNeedLandlock(t *testing.T) {
	f := goodHost()
	f.Facts.Kernel.LandlockABI, f.Admin.LSM = 0, "capability,yama"
	if n := needNamed(t, f, "landlock"); !strings.Contains(n.Do[0], "lsm=landlock,capability,yama") {
		t.Errorf("%+v", n)
	}
	f.Uname[0] = "5.15.0"
	if _, yes := needLandlock(f); yes {
		t.Error("asked for on a kernel that is too old")
	}
}

// In a batch job nobody is asked to change the user's session.
func TestNoLingerInJob(t *testing.T) {
	f := noManager()
	f.Cgroup.Job = &cgroupv2.Job{System: "Slurm", ID: "1"}
	if _, yes := needLinger(f); yes {
		t.Error("asked for")
	}
	f = noCPU()
	f.Cgroup.Job = &cgroupv2.Job{System: "Slurm", ID: "1"}
	if _, yes := needDelegation(f); yes {
		t.Error("asked for")
	}
}

// Errors of helpers and names of users reach the terminal harmless.
func TestTextIsSafe(t *testing.T) {
	f := noManager()
	f.Facts.Caller.Name = "al\x1b[31mice"
	f.Modes[0].Results = fails(f.Modes[0].Results, trial.Maps, 1, "a\x07b")
	r := Judge(f)
	for _, text := range []string{r.Text(80), r.Letter("ho\x1bst")} {
		if strings.ContainsAny(text, "\x1b\x07") {
			t.Errorf("%q", text)
		}
	}
}
