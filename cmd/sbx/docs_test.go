package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/seccomp"
)

const repository = "../.."

// SECURITY.md names for each promise what holds it. Every probe stands there
// under its id, and every probe, test and script that is named exists.
func TestSecurityPromises(t *testing.T) {
	page := readFile(t, filepath.Join(repository, "SECURITY.md"))
	probes := sourceNames(t, filepath.Join(repository, "internal/probe"), `\{"([A-L]\d+)", "([a-z0-9-]+)", "`, "/")
	if len(probes) < 50 {
		t.Fatalf("only %d probes found", len(probes))
	}
	for _, name := range probes {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("SECURITY.md does not name the probe %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`([A-L][0-9]+/[a-z0-9-]+)`").FindAllStringSubmatch(page, -1) {
		if !slices.Contains(probes, m[1]) {
			t.Errorf("SECURITY.md names the probe %s, which does not exist", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`([a-z-]+\\.txtar)`").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join("testdata", m[1])); err != nil {
			t.Errorf("SECURITY.md: %v", err)
		}
	}
	tests := testNames(t)
	for _, m := range regexp.MustCompile("`([a-z/0-9-]+)\\.((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(page, -1) {
		if !slices.ContainsFunc(tests, func(name string) bool { return strings.HasSuffix(name, "/"+m[1]+"."+m[2]) }) {
			t.Errorf("SECURITY.md names the test %s.%s, which does not exist", m[1], m[2])
		}
	}
}

// A promise is a row of one table. The ids that comments of the code refer to
// are explained on the page.
func TestSecurityIDs(t *testing.T) {
	page := readFile(t, filepath.Join(repository, "SECURITY.md"))
	var rows []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-L]\d+) \|`).FindAllStringSubmatch(page, -1) {
		if slices.Contains(rows, m[1]) {
			t.Errorf("SECURITY.md has two rows %s", m[1])
		}
		rows = append(rows, m[1])
	}
	for _, m := range sourceNames(t, repository, `SECURITY(?:\.md,)? ([A-L])(\d+)`, "") {
		if !slices.Contains(rows, m) && !strings.Contains(page, "("+m+")") {
			t.Errorf("a comment refers to %s, which SECURITY.md does not explain", m)
		}
	}
}

// docs/security-model.md lists the filter group by group, as the table has it.
func TestSeccompPage(t *testing.T) {
	page := readFile(t, filepath.Join(repository, "docs/security-model.md"))
	for _, e := range seccomp.Table() {
		if !strings.Contains(page, "| "+e.Group+" | ") {
			t.Errorf("docs/security-model.md lacks the group %q: %s", e.Group, e.Reason)
		}
	}
}

// docs/rootfs.md has a row for each group of the image base.
func TestBaseGroupsPage(t *testing.T) {
	page := readFile(t, filepath.Join(repository, "docs/rootfs.md"))
	list := readFile(t, filepath.Join(repository, "rootfs/base.list"))
	groups := regexp.MustCompile(`(?m)^group ([a-z-]+): `).FindAllStringSubmatch(list, -1)
	if len(groups) < 10 {
		t.Fatalf("only %d groups found", len(groups))
	}
	for _, m := range groups {
		if !strings.Contains(page, "| "+m[1]+" | ") {
			t.Errorf("docs/rootfs.md lacks the group %s of base.list", m[1])
		}
	}
}

// Links between the pages lead to files that exist.
func TestDocLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Glob(filepath.Join(repository, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range append(pages, top...) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// sourceNames finds a pattern with two groups in the Go files below dir and
// joins the groups with sep.
func sourceNames(t *testing.T, dir, pattern, sep string) []string {
	t.Helper()
	expr := regexp.MustCompile(pattern)
	var names []string
	walkGo(t, dir, func(path, text string) {
		for _, m := range expr.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1]+sep+m[2])
		}
	})
	return names
}

// testNames lists all tests as "/DIRECTORY.NAME", the directory relative to the
// repository; internal/ is left out, as SECURITY.md does.
func testNames(t *testing.T) []string {
	t.Helper()
	expr := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	var names []string
	walkGo(t, repository, func(path, text string) {
		rel, err := filepath.Rel(repository, filepath.Dir(path))
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, m := range expr.FindAllStringSubmatch(text, -1) {
			names = append(names, "/"+rel+"."+m[1])
		}
	})
	return names
}

func walkGo(t *testing.T, dir string, visit func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "." && entry.Name() != ".." {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(path, ".go") {
			visit(path, readFile(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
