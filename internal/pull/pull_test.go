package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		text, fallback string
		want           Source
		err            string
	}{
		"tag":                  {"r.example.com/a/b:1", "", Source{"r.example.com", "a/b", "1", ""}, ""},
		"no tag":               {"r.example.com/a", "", Source{"r.example.com", "a", "latest", ""}, ""},
		"port":                 {"r.example.com:5000/a", "", Source{"r.example.com:5000", "a", "latest", ""}, ""},
		"localhost":            {"localhost/a", "", Source{"localhost", "a", "latest", ""}, ""},
		"digest":               {"r.example.com/a@sha256:" + zeros, "", Source{"r.example.com", "a", "", "sha256:" + zeros}, ""},
		"tag and digest":       {"r.example.com/a:1@sha256:" + zeros, "", Source{"r.example.com", "a", "1", "sha256:" + zeros}, ""},
		"short":                {"debian:12", "", Source{}, "HOST/NAME"},
		"short with a path":    {"team/tool", "", Source{}, "SBX_REGISTRY"},
		"short, configured":    {"debian:12", "r.example.com", Source{"r.example.com", "debian", "12", ""}, ""},
		"configured path":      {"debian", "r.example.com/mirror/", Source{"r.example.com", "mirror/debian", "latest", ""}, ""},
		"configured, not used": {"q.example.com/a", "r.example.com", Source{"q.example.com", "a", "latest", ""}, ""},
		"configured wrongly":   {"debian", "registry", Source{}, "SBX_REGISTRY is"},
		"configured scheme":    {"debian", "https://r.example.com", Source{}, "https://r.example.com/debian"},
		"scheme":               {"https://r.example.com/a", "", Source{}, "without https://"},
		"skopeo's":             {"docker://r.example.com/a", "", Source{}, "without docker://"},
		"sha512":               {"r.example.com/a@sha512:" + zeros + zeros, "", Source{}, "no digest that can be fetched"},
		"half a digest":        {"r.example.com/a@sha256:00", "", Source{}, "64"},
		"upper case":           {"r.example.com/A", "", Source{}, "lower case"},
		"dots":                 {"r.example.com/../a", "", Source{}, "not of the form"},
		"user":                 {"alice@r.example.com/a", "", Source{}, "sha256"},
		"line feed":            {"r.example.com/a\n", "", Source{}, "not of the form"},
		"empty":                {"", "r.example.com", Source{}, "not of the form"},
	} {
		got, err := Parse(test.text, test.fallback)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if again, err := Parse(got.String(), ""); test.err == "" && (err != nil || again != got) {
			t.Errorf("%s: %s becomes %+v, %v", name, got, again, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("r.example.com:5000/a/b:1@sha256:"+zeros, "")
	f.Add("debian", "r.example.com/mirror")
	f.Fuzz(func(t *testing.T, text, fallback string) {
		s, err := Parse(text, fallback)
		if err != nil {
			return
		}
		if again, err := Parse(s.String(), ""); err != nil || again != s {
			t.Errorf("%+v becomes %+v, %v", s, again, err)
		}
		if strings.ContainsAny(s.Registry+s.Repository+s.Tag, "?#@%\\ \x00\n") || strings.Contains(s.Repository, "..") || strings.Contains(s.Registry, "/") {
			t.Errorf("%+v does not stay in its place in an URL", s)
		}
	})
}

// What the helper says may have been made up by a registry that took it over.
func TestFollow(t *testing.T) {
	digest := "sha256:" + zeros
	result := fmt.Sprintf(`{"result":{"top":%q,"manifest":%q,"layers":1}}`, digest, digest)
	for name, test := range map[string]struct {
		text string
		err  string
	}{
		"result":          {result, ""},
		"after progress":  {`{"progress":{"bytes":1}}` + "\n" + result, ""},
		"failure":         {`{"failure":{"kind":"local","text":"no space left on device","errno":28}}`, "no space left"},
		"ends early":      {`{"progress":{"bytes":1}}` + "\n", "ends early"},
		"nothing":         {"", "ends early"},
		"no JSON":         {"hello\n" + result, "read what the helper says"},
		"no meaning":      {"{}\n" + result, "without a meaning"},
		"no digest":       {`{"result":{"top":"sha256:../../x","manifest":"` + digest + `"}}`, "no digest"},
		"line of a giant": {`{"progress":{"waiting":"` + strings.Repeat("x", 1<<20) + `"}}` + "\n" + result, "too long"},
	} {
		var seen int
		got, err := follow(strings.NewReader(test.text), func(Progress) { seen++ })
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if name == "failure" && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: the errno is lost: %v", name, err)
		}
	}
}

func FuzzFollow(f *testing.F) {
	f.Add([]byte(`{"progress":{"bytes":1}}` + "\n" + `{"result":{"top":"sha256:` + zeros + `","manifest":"sha256:` + zeros + `"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		result, err := follow(strings.NewReader(string(data)), nil)
		if err == nil && (CheckDigest(result.Manifest) != nil || CheckDigest(result.Top) != nil) {
			t.Errorf("took %+v", result)
		}
	})
}

// A digest that was asked for decides, not what the helper says of it.
func TestVerify(t *testing.T) {
	sum := func(text string) string {
		s := sha256.Sum256([]byte(text))
		return "sha256:" + hex.EncodeToString(s[:])
	}
	manifest := "sha256:" + zeros
	index := `{"manifests":[{"digest":"sha256:1"},{"digest":"` + manifest + `"}]}`
	other := `{"manifests":[{"digest":"sha256:1"}]}`
	layoutOf := `{"manifests":[{"digest":"` + manifest + `"}]}`
	for name, test := range map[string]struct {
		asked  string
		layout map[string]string
		ok     bool
	}{
		"no digest asked for":   {"", map[string]string{"index.json": layoutOf}, true},
		"the manifest":          {manifest, map[string]string{"index.json": layoutOf}, true},
		"one of the index":      {sum(index), map[string]string{"index.json": layoutOf, sum(index): index}, true},
		"not of the index":      {sum(other), map[string]string{"index.json": layoutOf, sum(other): other}, false},
		"the index was changed": {sum(other), map[string]string{"index.json": layoutOf, sum(other): index}, false},
		"no index":              {sum(index), map[string]string{"index.json": layoutOf}, false},
		"another manifest":      {"", map[string]string{"index.json": other}, false},
		"two manifests":         {"", map[string]string{"index.json": index}, false},
		"nothing":               {"", nil, false},
		"no JSON":               {"", map[string]string{"index.json": "x"}, false},
		"huge":                  {"", map[string]string{"index.json": layoutOf + strings.Repeat(" ", MaxManifest)}, false},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range test.layout {
			if hex, found := strings.CutPrefix(file, "sha256:"); found {
				file = "blobs/sha256/" + hex
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := verifyIn(t, dir, Source{Digest: test.asked}, Result{Manifest: manifest})
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	known := `{"config":{"digest":"sha256:known"}}`
	for claim, ok := range map[string]bool{"sha256:known": true, "sha256:other": false} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"index.json": `{"manifests":[{"digest":"` + sum(known) + `"}]}`, "blobs/sha256/" + sum(known)[len("sha256:"):]: known,
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := verifyIn(t, dir, Source{}, Result{Manifest: sum(known), Known: claim}); (err == nil) != ok {
			t.Errorf("%s is said to be known: %v", claim, err)
		}
	}
	// Nothing in the layout leads out of it, or keeps sbx waiting.
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if err := verifyIn(t, dir, Source{}, Result{Manifest: manifest}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v", err)
	}
	dir = t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "index.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verifyIn(t, dir, Source{}, Result{Manifest: manifest}); err == nil {
		t.Error("a pipe is taken for an index")
	}
}

func verifyIn(t *testing.T, dir string, asked Source, result Result) error {
	t.Helper()
	layout, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer layout.Close()
	return verify(Request{Source: asked, Have: []string{"sha256:known"}}, result, layout)
}

// A helper that misbehaves is an error, and never a wait without end.
func TestRunMisbehavingHelper(t *testing.T) {
	for name, test := range map[string]struct{ script, err string }{
		"dies":         {"echo 'panic: something' >&2; exit 3", "ended without a result (exit status 3): panic: something"},
		"is killed":    {"kill -9 $$", "signal: killed"},
		"says nothing": {"exit 0", "exit status 0"},
		"hangs":        {"exec sleep 100", "deadline"},
		"babbles":      {"while :; do echo '{}'; done", "without a meaning"},
		"lies, hangs":  {`echo '{"result":{"top":"x"}}'; exec sleep 100`, "no digest"},
		"environment":  {`[ -z "$SECRET" ] && [ -z "$LD_PRELOAD" ] && [ "$HOME" = /h ] && [ "$PWD" = / ] && echo '{"failure":{"kind":"local","text":"as it should be"}}'`, "as it should be"},
		"descriptors":  {`[ -d /proc/self/fd/3/. ] && [ -d /proc/self/fd/4/. ] && echo '{"failure":{"kind":"local","text":"as it should be"}}'`, "as it should be"},
		"request":      {`read -r line; case $line in *'"repository":"a"'*) echo '{"failure":{"kind":"local","text":"as it should be"}}';; esac`, "as it should be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SECRET", "x")
			t.Setenv("HOME", "/h")
			dir := t.TempDir()
			helper := shell(t, dir, test.script)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			d, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			begin := time.Now()
			_, err = Fetch(ctx, helper, Request{Source: Source{Registry: "r.example.com", Repository: "a"}}, d, d, nil)
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if took := time.Since(begin); took > 6*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// shell opens a script as a helper. It cannot be close-on-exec, since a script's interpreter opens it once more.
func shell(t *testing.T, dir, script string) *os.File {
	t.Helper()
	path := filepath.Join(dir, Name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 32)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	f := os.NewFile(uintptr(high), path)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestReadRequest(t *testing.T) {
	for text, want := range map[string]string{
		`{"protocol":1,"source":{"registry":"r.example.com"}}` + "\nmore": "",
		`{"protocol":2}` + "\n":                 "version 2",
		`{"protocol":1}`:                        "EOF",
		strings.Repeat(" ", maxLine+2) + "{}\n": "more than",
		"x\n":                                   "invalid character",
	} {
		r := strings.NewReader(text)
		_, err := ReadRequest(r)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
		if want == "" && r.Len() != len("more") {
			t.Errorf("%d bytes are left", r.Len())
		}
	}
}
