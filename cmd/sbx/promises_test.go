package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sbx-run/sbx/internal/probe"
	"github.com/sbx-run/sbx/internal/sbxtest"
)

// identity is one way to be somebody inside.
type identity struct {
	name  string
	flags []string
	facts func(*probe.Facts)
	// weaker are the promises that this way gives up, and says so.
	weaker []string
}

func identities() []identity {
	root := os.Geteuid() == 0
	list := []identity{
		{"nomap", []string{"--userns=nomap"}, func(f *probe.Facts) { f.Userns = "nomap" }, nil},
		{"auto", nil, func(f *probe.Facts) { f.Userns = "nomap" }, nil},
		{"user-1234", []string{"--user=1234"}, func(f *probe.Facts) { f.Userns = "nomap" }, nil},
		{
			"fake-root",
			[]string{"--user=0"},
			func(f *probe.Facts) { f.Userns, f.FakeRoot = "nomap", true },
			// Package managers make setuid files.
			[]string{"J3/setuid"},
		},
	}
	if !root {
		list = append(list,
			identity{
				"keep-id",
				[]string{"--userns=keep-id"},
				func(f *probe.Facts) { f.Userns = "keep-id" },
				[]string{"A2/caller-unmapped"},
			},
			identity{
				"single",
				[]string{"--userns=single"},
				func(f *probe.Facts) { f.Userns = "single" },
				[]string{"A2/caller-unmapped", "A3/groups"},
			},
		)
	}
	return list
}

// The kernel shows the sources of binds and the layers of an overlay in the
// mount table and nothing can hide them; docs/security-model.md says so.
var documentedLeaks = []string{"C10/mount-paths"}

// What a kernel or a caller may be unable to show.
var mayBeUnknown = []string{"H9/landlock", "C10/mount-paths", "A1/userns-limit", "G5/abstract"}

// Every promise, under every identity and in every kind of root, as seen by a
// program inside.
func TestPromises(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	images := map[string]string{"base": "base", "host": "host", "scratch": "scratch", "dir": rootTree(t), "imported": importTree(t, box)}
	for name, image := range images {
		for _, id := range identities() {
			t.Run(name+"/"+id.name, func(t *testing.T) {
				facts := sbxtest.HostFacts(t)
				id.facts(&facts)
				facts.HostImage = name == "host"
				if name == "imported" && id.name == "single" {
					image += "-single" // files of other ids are of no use there
				}
				flags := append([]string{"--image", image}, id.flags...)
				checkFindings(t, box.Report(t, facts, flags...), id.weaker)
			})
		}
	}
}

// The same promises where a flag changes what the program sees.
func TestPromisesWithFlags(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	share := t.TempDir()
	if err := os.Chmod(share, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		flags  []string
		facts  func(*probe.Facts)
		weaker []string
	}{
		{"read-only root", []string{"--read-only"}, func(f *probe.Facts) { f.ReadOnly = true }, nil},
		{"strict filter", []string{"--seccomp=strict"}, func(*probe.Facts) {}, nil},
		{"full copy", []string{"--image=scratch", "--copy=full"}, func(*probe.Facts) {}, nil},
		{"variables", []string{"-e", "TOKEN=1", "-e", "B=2"}, func(f *probe.Facts) { f.Env = []string{"TOKEN", "B"} }, nil},
		{
			"host network",
			[]string{"--network=host"},
			func(f *probe.Facts) { f.HostNetwork = true },
			[]string{"A5/namespaces", "G1/interfaces", "G1/host-port", "G2/outside", "G5/abstract"},
		},
		{"shared read-only", []string{"--userns=nomap", "--ro", share + ":/share"}, func(*probe.Facts) {}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			facts := sbxtest.HostFacts(t)
			facts.Userns = "nomap"
			test.facts(&facts)
			checkFindings(t, box.Report(t, facts, test.flags...), test.weaker)
		})
	}
}

func checkFindings(t *testing.T, findings []probe.Finding, weaker []string) {
	t.Helper()
	if len(findings) < 50 {
		t.Errorf("only %d findings", len(findings))
	}
	for _, f := range findings {
		key := f.ID + "/" + f.Name
		switch {
		case f.State == probe.Held:
		case f.State == probe.Weaker && (slices.Contains(weaker, key) || slices.Contains(documentedLeaks, key)):
		case f.State == probe.Unknown && slices.Contains(mayBeUnknown, key):
		default:
			t.Errorf("%v\n\tpromised: %s", f, f.Promise)
		}
	}
}

// importTree makes two images of such a tree, with subordinate ids and, behind
// "-single", without.
func importTree(t *testing.T, box sbxtest.Sandbox) string {
	t.Helper()
	dir := rootTree(t)
	const name = "promises.example.com/tree:1"
	box.MustRun(t, "image", "import", "-q", dir, name)
	box.MustRun(t, "image", "import", "-q", "--userns=single", dir, name+"-single")
	t.Cleanup(func() { box.MustRun(t, "image", "rm", name, name+"-single") })
	return name
}

// rootTree makes the smallest root that a user could bring: a few directories
// and no program.
func rootTree(t *testing.T) string {
	t.Helper()
	// Not below the 0700 directories of t.TempDir's parents: any caller's id
	// map has to be able to read it.
	dir := sbxtest.TempDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin", "etc", "usr", "tmp", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/motd"), []byte("a tree of mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
