package launch

import (
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// The child that unpacks may have been taken over: what it reports is held to
// its form, and has no say in anything but the image.
func TestImportedIsHeldToItsForm(t *testing.T) {
	honest := func() *plan.Imported {
		return &plan.Imported{Kind: "tar", Info: rootfs.ImageInfo{Digest: someDigest, Files: 1}}
	}
	for name, spoil := range map[string]func(*plan.Imported){
		"no digest":            func(r *plan.Imported) { r.Info.Digest = "" },
		"a path as a digest":   func(r *plan.Imported) { r.Info.Digest = "sha256:../../x" },
		"a layer's digest":     func(r *plan.Imported) { r.Info.Layers = []rootfs.LayerInfo{{DiffID: "x"}} },
		"a negative size":      func(r *plan.Imported) { r.Info.Bytes = -1 },
		"a layer below zero":   func(r *plan.Imported) { r.Info.Layers = []rootfs.LayerInfo{{Size: -1}} },
		"very many names":      func(r *plan.Imported) { r.Refs = make([]string, maxRefs+1) },
		"a very long name":     func(r *plan.Imported) { r.Refs = []string{strings.Repeat("a", maxWord+1)} },
		"a very long note":     func(r *plan.Imported) { r.Info.Notes = []string{strings.Repeat("a", maxWord+1)} },
		"a NUL in a variable":  func(r *plan.Imported) { r.Info.Config = &rootfs.ImageConfig{Env: []string{"A=\x00"}} },
		"a NUL in a word":      func(r *plan.Imported) { r.Info.Config = &rootfs.ImageConfig{Cmd: []string{"\x00"}} },
		"very many variables":  func(r *plan.Imported) { r.Info.Config = &rootfs.ImageConfig{Env: make([]string, maxSettings+1)} },
		"a media type of 5 KB": func(r *plan.Imported) { r.Info.Layers = []rootfs.LayerInfo{{MediaType: strings.Repeat("a", 5<<10)}} },
	} {
		r := honest()
		spoil(r)
		if err := checkImported(r); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	r := honest()
	r.Info.Binds, r.Info.Shell, r.Info.Key, r.Info.Name = []string{"/home"}, "/evil", "k", "base"
	r.Info.Owner = rootfs.Ownership{UID: 0}
	if err := checkImported(r); err != nil {
		t.Fatal(err)
	}
	if r.Info.Binds != nil || r.Info.Shell != "" || r.Info.Key != "" || r.Info.Name != "" {
		t.Errorf("the child sets what it is not asked about: %+v", r.Info)
	}
}

func TestFollowImport(t *testing.T) {
	for _, test := range []struct {
		name, report string
		want         string // in the error; "" for a result
	}{
		{"a result", `{"progress":{"files":1}}` + "\n" + `{"imported":{"kind":"tar","info":{"digest":"` + someDigest + `"}}}` + "\n", ""},
		{"an error with its errno", `{"error":"no room","errno":28}`, "no room"},
		{"nothing", "", "EOF"},
		{"progress only", `{"progress":{"files":1}}` + "\n", "EOF"},
		{"no JSON", "\x1b[31m\n", "read the report"},
		{"a line without end", strings.Repeat(" ", maxReport+1), "token too long"},
		{"a result that is none", `{"imported":{"info":{"digest":"x"}}}`, "is none"},
	} {
		result, err := followImport(strings.NewReader(test.report), nil)
		switch {
		case test.want == "" && (err != nil || result.Kind != "tar"):
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	_, err := followImport(strings.NewReader(`{"error":"no room","errno":28}`), nil)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the errno got lost: %v", err)
	}
	if _, err := followImport(strings.NewReader(""), nil); !errors.Is(err, io.EOF) {
		t.Errorf("an end without a word is %v", err)
	}
}

func TestCrashed(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "was killed",
		"fatal error: runtime: out of memory\n": "needs more memory",
		"panic: index out of range\ngoroutine":  "panic: index out of range (please report this)",
	} {
		f, err := crashFile()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(text), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("x"), maxCrash); err == nil {
			t.Error("the file for messages can grow")
		}
		if err := crashed(f); !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		f.Close()
	}
}
