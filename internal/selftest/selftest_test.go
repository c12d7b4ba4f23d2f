package selftest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/probe"
)

func finding(id, name string, s probe.State, detail string) probe.Finding {
	return probe.Finding{ID: id, Name: name, Promise: "the promise of " + name, State: s, Detail: detail}
}

// twoModes is a report of a host on which one mode cannot be had.
func twoModes(extra ...probe.Finding) Report {
	nomap := []probe.Finding{finding("B10", "late", probe.Held, ""), finding("B2", "early", probe.Held, "")}
	single := []probe.Finding{finding("B10", "late", probe.Weaker, "one id"), finding("B2", "early", probe.Unknown, "no way to try")}
	r := Report{Seconds: 1.25, Modes: []*Mode{
		{Name: "nomap", Ran: true, findings: append(nomap, extra...)},
		{Name: "keep-id", Why: "no range\x1b[2J"},
		{Name: "single", Ran: true, findings: single},
	}}
	r.collect()
	return r
}

func TestText(t *testing.T) {
	want := `ID   PROMISE               nomap   single
B2   the promise of early  held    ?
B10  the promise of late   held    weaker

keep-id was not attacked: no range\x1b[2J

WEAKER, AS DOCUMENTED
B10  late (single): one id

NOT TRIED
B2   early (single): no way to try

no hole: 2 promises were attacked in 2 mode(s), 1.2 s
`
	if got := twoModes().Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A hole is in the table, in a list of its own, in the conclusion and counted.
func TestHole(t *testing.T) {
	r := twoModes(finding("A1", "escape", probe.Broken, "it opened"))
	text := r.Text()
	for _, want := range []string{
		"A1   the promise of escape  HOLE    -\n", "HOLES\nA1   escape (nomap): it opened\n", "1 hole(s): do not run",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if r.Holes != 1 {
		t.Errorf("%d holes", r.Holes)
	}
}

func TestNothingRan(t *testing.T) {
	r := Report{Modes: []*Mode{{Name: "nomap", Why: "no namespaces"}, {Name: "single", Broken: true, Why: "killed"}}}
	r.collect()
	if text := r.Text(); r.Ran() || !strings.Contains(text, "`sbx doctor` says what is missing") || !strings.Contains(text, "nomap was not attacked: no namespaces") {
		t.Errorf("%s", text)
	}
	if b := r.Broken(); b == nil || b.Name != "single" {
		t.Errorf("broken: %v", b)
	}
}

func TestModes(t *testing.T) {
	var user, root []string
	for _, m := range modes(false) {
		user = append(user, m.Name)
	}
	for _, m := range modes(true) {
		root = append(root, m.Name)
	}
	if got := strings.Join(user, ","); got != "nomap,keep-id,single,fake root" {
		t.Errorf("of a user: %s", got)
	}
	if got := strings.Join(root, ","); got != "nomap,single,fake root" {
		t.Errorf("of root: %s", got)
	}
}

// Outside of a sandbox nothing is tried: it would succeed.
func TestProbeOutside(t *testing.T) {
	host := func(string) (string, error) { return "mnt:[1]", nil }
	findings, err := answer(strings.NewReader(`{"namespaces":{"mnt":"mnt:[1]"}}`), host)
	if err != nil || len(findings) != 1 || findings[0].State != probe.Broken {
		t.Errorf("%v %v", findings, err)
	}
	for _, text := range []string{"", "{}", `{"namespaces":{"net":"net:[1]"}}`, "no JSON"} {
		if _, err := answer(strings.NewReader(text), host); err == nil {
			t.Errorf("%q was taken for facts", text)
		}
	}
	failing := func(string) (string, error) { return "", unix.EACCES }
	if _, err := answer(strings.NewReader(`{"namespaces":{"mnt":"mnt:[1]"}}`), failing); !errors.Is(err, unix.EACCES) {
		t.Errorf("%v", err)
	}
}

// What is laid out is there for an attacker who is outside, and gone afterwards.
func TestBait(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	b, err := layOut()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(b.facts.Canary)
	if err != nil || !strings.Contains(string(data), b.facts.Secret) || !strings.HasPrefix(b.facts.Canary, os.Getenv("HOME")) {
		t.Errorf("%s: %q %v", b.facts.Canary, data, err)
	}
	if b.facts.Port == 0 || b.facts.Abstract == "" || b.facts.Namespaces["mnt"] == "" || len(b.files) != 2 {
		t.Errorf("%+v", b)
	}
	b.close()
	if left, _ := os.ReadDir(os.Getenv("HOME")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A home that cannot be written is no reason not to test.
	t.Setenv("HOME", "/does/not/exist")
	b, err = layOut()
	if err != nil {
		t.Fatal(err)
	}
	b.close()
	if _, err := os.Lstat(b.facts.Canary); err == nil {
		t.Errorf("%s was left behind", b.facts.Canary)
	}
}
