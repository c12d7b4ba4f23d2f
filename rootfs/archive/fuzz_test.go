package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// memory are blobs of a test.
type memory map[string][]byte

func (m memory) open(name string) (io.ReadCloser, int64, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		panic(fmt.Sprintf("the name %q is asked for", name))
	}
	data, ok := m[name]
	if !ok {
		return nil, 0, fmt.Errorf("open %s: %w", shown(name), unix.ENOENT)
	}
	return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
}

func (m memory) done(string, []layer) {}

// sound holds what every error has to be: one line without control bytes.
func sound(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
		t.Errorf("the message has control bytes: %q", err)
	}
}

// Whatever comes as an archive, nothing panics, nothing outside of the tree is
// touched, and what is refused is refused in one line.
func FuzzImport(f *testing.F) {
	d := disk{}
	d.index(f, d.image(f, host(f), hello(f)))
	f.Add(hello(f))
	f.Add(gz(f, hello(f)))
	f.Add(zst(f, hello(f)))
	f.Add(d.tar(f, false))
	config := must(json.Marshal(object{"rootfs": object{"diff_ids": []string{sum(hello(f))}}}))
	f.Add(tarOf(f, dockerArchive(f, [][]byte{hello(f)}, config, "a:b")...))
	f.Add(tarOf(f, file{name: "../canary", content: "taken"}, file{name: "l", kind: tar.TypeSymlink, link: ".."}, file{name: "l/canary", content: "taken"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		canary := filepath.Join(outside, "canary")
		if err := os.WriteFile(canary, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(outside, "tree")
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		tree, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		_, err = importInto(tree, onPipe(t, data))
		if err != nil && !errors.Is(err, tar.ErrHeader) {
			sound(t, err)
		}
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) != 2 || content(t, outside, "canary") != "mine" {
			t.Errorf("outside: %v %v", entries, err)
		}
	})
}

// Whatever an index.json says, only blobs are asked for that it names by a
// digest, and what comes out has digests everywhere.
func FuzzLayout(f *testing.F) {
	d := disk{}
	m := d.image(f, host(f), hello(f))
	nested := d.json(f, ociIndex, object{"manifests": []descriptor{m}})
	f.Add([]byte(must(json.Marshal(object{"manifests": []descriptor{m}}))))
	f.Add([]byte(must(json.Marshal(object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []descriptor{nested, m}}))))
	f.Add([]byte(`{"manifests": [{"digest": "sha256:../x", "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1e3}]}`))
	f.Fuzz(func(t *testing.T, index []byte) {
		blobs := memory(maps.Clone(d))
		blobs["index.json"] = index
		p, err := newImporter(t).find(blobs)
		sound(t, err)
		checkPicture(t, p, err)
	})
}

// Whatever manifest.json of a docker-archive says.
func FuzzDockerManifest(f *testing.F) {
	config := must(json.Marshal(object{"rootfs": object{"diff_ids": []string{sum(hello(f))}}}))
	name := strings.TrimPrefix(sum(config), "sha256:") + ".json"
	f.Add([]byte(`[{"Config": "` + name + `", "RepoTags": ["a:b"], "Layers": ["l"]}]`))
	f.Add([]byte(`[{"Config": "../x", "Layers": ["/etc/passwd"]}]`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		blobs := &tarBlobs{sections: map[string]section{}, links: map[string]string{"a": "b", "b": "a"}}
		if blobs.follow("../../../x") != "x" {
			t.Error("a name leads out of the archive")
		}
		p, err := newImporter(t).dockerArchive(memory{name: config, "l": hello(t)}.inside(), manifest)
		sound(t, err)
		checkPicture(t, p, err)
	})
}

// inside resolves names as an archive does.
func (m memory) inside() blobs { return cleaned{m} }

type cleaned struct{ memory }

func (c cleaned) open(name string) (io.ReadCloser, int64, error) { return c.memory.open(clean(name)) }

// Whatever a manifest, an index or a configuration says of itself.
func FuzzDocument(f *testing.F) {
	for _, kind := range []string{"", ociIndex, ociManifest, dockerIndex, dockerManifest} {
		f.Add([]byte(`{"manifests": []}`), kind)
		f.Add([]byte(`{"layers": [], "config": {}}`), kind)
		f.Add([]byte(`{"Manifests": [], "LAYERS": []}`), kind)
	}
	f.Fuzz(func(t *testing.T, data []byte, announced string) {
		d, kind, err := parseDocument("it", data, announced)
		sound(t, err)
		switch {
		case err != nil:
		case d.Manifests != nil && (d.Layers != nil || d.Config != nil):
			t.Error("a document of both kinds is taken")
		case announced != "" && kindOfType(announced) != kind:
			t.Errorf("announced as %q and taken as an %s", announced, kind)
		}
		c, err := parseConfiguration("it", data)
		sound(t, err)
		if err == nil && strings.Contains(strings.Join(c.texts(), ""), "\x00") {
			t.Error("a NUL is taken")
		}
	})
}

// Whatever a file begins with.
func FuzzSniff(f *testing.F) {
	f.Add(hello(f))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3"))
	for _, s := range strangers {
		f.Add(append(make([]byte, s.offset), s.magic...))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		how := compressionOf(head)
		if isTar(head) && how != plain {
			t.Logf("both a tar and %s", how)
		}
		if stranger(head) == nil {
			t.Error("a stranger without a name")
		}
		sound(t, stranger(head))
		sound(t, checkXZ(bufio.NewReader(bytes.NewReader(head))))
		_, whole, err := isImage(bytes.NewReader(head))
		sound(t, err)
		if err == nil {
			if all, err := io.ReadAll(whole); err != nil || !bytes.Equal(all, head) {
				t.Errorf("the stream is another one after a look at it: %v", err)
			}
		}
	})
}

func newImporter(t testing.TB) *importer {
	t.Helper()
	return &importer{ctx: t.Context(), opt: Options{Name: "it", Layers: MaxLayers}, platform: host(t)}
}

// checkPicture holds what an image that was found has.
func checkPicture(t *testing.T, p *picture, err error) {
	t.Helper()
	if err != nil {
		return
	}
	if len(p.layers) == 0 || len(p.layers) > MaxLayers {
		t.Errorf("an image of %d layers", len(p.layers))
	}
	for _, l := range append([]layer{{diffID: p.digest}}, p.layers...) {
		if _, err := parseDigest("it", string(l.diffID)); err != nil {
			t.Error(err)
		}
	}
}
