package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
	"github.com/sbx-run/sbx/rootfs"
)

// hello is the tar of a root with one file.
func hello(t testing.TB) []byte {
	t.Helper()
	return tarOf(t, file{name: "./", kind: tar.TypeDir}, file{name: "./etc/", kind: tar.TypeDir}, file{name: "./etc/hello", content: "world"})
}

// through gives the data as a program of this machine compresses it.
func through(t *testing.T, data []byte, program string, args ...string) []byte {
	t.Helper()
	sbxtest.Need(t, sbxtest.Program(program))
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A tar of a root is one whatever it is compressed with, from a file and from a
// pipe, and its digest is that of the tar.
func TestPlainTar(t *testing.T) {
	plainTar := hello(t)
	half := len(plainTar) / 2
	for name, data := range map[string][]byte{
		"not compressed":     plainTar,
		"gzip":               through(t, plainTar, "gzip", "-c"),
		"gzip, two members":  append(gz(t, plainTar[:half]), gz(t, plainTar[half:])...),
		"gzip, filled up":    append(gz(t, plainTar), make([]byte, 1000)...),
		"xz":                 through(t, plainTar, "xz", "-c"),
		"xz, many blocks":    through(t, plainTar, "xz", "-c", "--block-size=1024"),
		"xz, two streams":    append(through(t, plainTar[:half], "xz", "-c"), through(t, plainTar[half:], "xz", "-c")...),
		"xz, best":           through(t, plainTar, "xz", "-9e", "-c"),
		"zstd":               through(t, plainTar, "zstd", "-c"),
		"zstd, best":         through(t, plainTar, "zstd", "-c", "-19"),
		"zstd, two frames":   append(zst(t, plainTar[:half]), zst(t, plainTar[half:])...),
		"zstd, skippable":    append([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), zst(t, plainTar)...),
		"bzip2":              through(t, plainTar, "bzip2", "-c"),
		"bzip2, two streams": append(through(t, plainTar[:half], "bzip2", "-c"), through(t, plainTar[half:], "bzip2", "-c")...),
	} {
		for where, src := range map[string]Source{"file": onFile(t, data), "pipe": onPipe(t, data)} {
			result, dir, err := unpacked(t, src)
			if err != nil {
				t.Errorf("%s, %s: %v", name, where, err)
				continue
			}
			if result.Kind != KindTar || content(t, dir, "etc/hello") != "world" {
				t.Errorf("%s, %s: a %s with %q", name, where, result.Kind, content(t, dir, "etc/hello"))
			}
			if result.Info.Digest != sum(plainTar) {
				t.Errorf("%s, %s: digest %s, want %s", name, where, result.Info.Digest, sum(plainTar))
			}
		}
	}
}

// A root that no entry lists does not have the time of the import.
func TestRootWithoutEntry(t *testing.T) {
	for range 2 {
		_, dir, err := unpacked(t, onFile(t, tarOf(t, file{name: "etc/hello", content: "world"})))
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(dir); err != nil || st.ModTime().UnixNano() != 0 || st.Mode().Perm() != 0o755 {
			t.Errorf("the root is of %v, %v, %v", st.ModTime(), st.Mode(), err)
		}
	}
}

// The caller hears of progress from time to time, also of what is stored on the way.
func TestProgressIsNotEachRead(t *testing.T) {
	data := tarOf(t, file{name: "blobs/", kind: tar.TypeDir}, file{name: "blobs/x", content: string(make([]byte, 40<<20))})
	calls, begin := 0, time.Now()
	_, _, err := unpacked(t, onPipe(t, data), func(o *Options) { o.Progress = func(rootfs.Progress) { calls++ } })
	if most := int(time.Since(begin)/progressEvery) + 1; err == nil || calls == 0 || calls > most {
		t.Errorf("%v, %d calls, want at most %d", err, calls, most)
	}
}

// dockerArchive stores an image as docker save does: the manifest comes last.
func dockerArchive(t testing.TB, layers [][]byte, config []byte, tags ...string) []file {
	t.Helper()
	var files []file
	one := saved{Config: strings.TrimPrefix(sum(config), "sha256:") + ".json", RepoTags: tags}
	for _, l := range layers {
		name := strings.TrimPrefix(sum(l), "sha256:") + "/layer.tar"
		if slices.Contains(one.Layers, name) {
			// docker before 25: a layer that is there already is a link.
			id := fmt.Sprintf("%064d", len(files))
			files = append(files, file{name: id + "/layer.tar", kind: tar.TypeSymlink, link: "../" + name})
			name = id + "/layer.tar"
		} else {
			files = append(files, file{name: name, content: string(l)})
		}
		one.Layers = append(one.Layers, name)
	}
	manifest, err := json.Marshal([]saved{one})
	if err != nil {
		t.Fatal(err)
	}
	return append(files, file{name: one.Config, content: string(config)}, file{name: "manifest.json", content: string(manifest)})
}

// What docker, podman, skopeo, buildah and umoci write of one image is the same
// image, wherever it comes from.
func TestOneImageInEveryForm(t *testing.T) {
	below := tarOf(t, file{name: "etc/old", content: "old"}, file{name: "etc/hello", content: "below"})
	above := tarOf(t, file{name: "etc/.wh.old"}, file{name: "etc/hello", content: "above"})
	layout := disk{}
	manifest := layout.image(t, host(t), below, above, below, above)
	layout.index(t, manifest)
	var doc document
	if err := json.Unmarshal(layout[digest(manifest.Digest).path()], &doc); err != nil {
		t.Fatal(err)
	}
	config := layout[digest(doc.Config.Digest).path()]
	docker := dockerArchive(t, [][]byte{below, above, below, above}, config, "my/tool:1")
	first := slices.Clone(docker)
	slices.Reverse(first)
	flat := disk{"manifest.json": layout[digest(manifest.Digest).path()], "version": []byte("Directory Transport Version: 1.1\n")}
	for name, data := range layout {
		if digits, found := strings.CutPrefix(name, "blobs/sha256/"); found {
			flat[digits] = data
		}
	}
	both := disk{"manifest.json": []byte(`[{"Config": "blobs/sha256/` + digest(doc.Config.Digest).digits() + `", "RepoTags": ["my/tool:1"]}]`)}
	for name, data := range layout {
		both[name] = data
	}
	dockerTar, firstTar := tarOf(t, docker...), tarOf(t, first...)
	for _, test := range []struct {
		name, kind string
		src        Source
		refs       []string
	}{
		{"layout directory", KindLayout, onDir(t, layout.dir(t)), nil},
		{"layout tar", KindLayout, onFile(t, layout.tar(t, false)), nil},
		{"layout tar, index first", KindLayout, onFile(t, layout.tar(t, true)), nil},
		{"layout tar, compressed", KindLayout, onFile(t, gz(t, layout.tar(t, false))), nil},
		{"layout tar, pipe", KindLayout, onPipe(t, layout.tar(t, false)), nil},
		{"docker-archive", KindDocker, onFile(t, dockerTar), []string{"my/tool:1"}},
		{"docker-archive, manifest first", KindDocker, onFile(t, firstTar), []string{"my/tool:1"}},
		{"docker-archive, compressed", KindDocker, onFile(t, zst(t, dockerTar)), []string{"my/tool:1"}},
		{"docker-archive, pipe", KindDocker, onPipe(t, dockerTar), []string{"my/tool:1"}},
		{"docker-archive, compressed pipe", KindDocker, onPipe(t, gz(t, dockerTar)), []string{"my/tool:1"}},
		{"docker 25, both in one", KindLayout, onFile(t, both.tar(t, false)), []string{"my/tool:1"}},
		{"skopeo dir:", KindDir, onDir(t, flat.dir(t)), nil},
	} {
		result, dir, err := unpacked(t, test.src)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if result.Kind != test.kind || !slices.Equal(result.Refs, test.refs) {
			t.Errorf("%s: a %s called %v", test.name, result.Kind, result.Refs)
		}
		if result.Info.Digest != doc.Config.Digest {
			t.Errorf("%s: digest %s, want %s", test.name, result.Info.Digest, doc.Config.Digest)
		}
		if got := content(t, dir, "etc/hello"); got != "above" {
			t.Errorf("%s: hello %q", test.name, got)
		}
		if got := content(t, dir, "etc/old"); !strings.Contains(got, "no such file") {
			t.Errorf("%s: the file that the upper layer removes is there: %q", test.name, got)
		}
		if c := result.Info.Config; c == nil || !slices.Equal(c.Env, []string{"A=b"}) || !slices.Equal(c.Cmd, []string{"/bin/sh"}) {
			t.Errorf("%s: config %+v", test.name, c)
		}
		if len(result.Info.Layers) != 4 {
			t.Errorf("%s: layers %+v", test.name, result.Info.Layers)
		}
	}
}

// A directory that holds no image in files is a tree. Its digest tells two trees
// apart, and not two copies of one.
func TestDirectory(t *testing.T) {
	tree := disk{"usr/bin/tool": []byte("x"), "etc/manifest.json": []byte("{")}
	dir := tree.dir(t)
	first, copied, err := unpacked(t, onDir(t, dir))
	if err != nil || first.Kind != KindDirectory || content(t, copied, "usr/bin/tool") != "x" {
		t.Fatalf("%v, a %s with %q", err, first.Kind, content(t, copied, "usr/bin/tool"))
	}
	again, _, err := unpacked(t, onDir(t, dir))
	if err != nil || again.Info.Digest != first.Info.Digest {
		t.Errorf("%v, digest %s, then %s", err, first.Info.Digest, again.Info.Digest)
	}
	// Holes are zeros, stored or not; where what is not zero stands counts.
	sparse := filepath.Join(dir, "usr/bin/tool")
	digests := map[string]string{}
	for name, at := range map[string]int64{"hole": 0, "zeros": 0, "near": 1 << 30, "far": 1<<30 + 1} {
		if err := os.Truncate(sparse, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(sparse, 4<<30); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(sparse, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		text := "x"
		if name == "zeros" {
			text = strings.Repeat("\x00", 1<<20)
		}
		if name != "hole" {
			_, err = f.WriteAt([]byte(text), at)
		}
		if err := errors.Join(err, f.Close(), os.Chtimes(sparse, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
			t.Fatal(err)
		}
		result, _, err := unpacked(t, onDir(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		digests[name] = result.Info.Digest
	}
	if digests["hole"] != digests["zeros"] || digests["near"] == digests["far"] || digests["near"] == digests["hole"] {
		t.Errorf("%v", digests)
	}
	tree["usr/bin/tool"] = []byte("y")
	other, _, err := unpacked(t, onDir(t, tree.dir(t)))
	if err != nil || other.Info.Digest == first.Info.Digest {
		t.Errorf("%v, two trees have the digest %s", err, other.Info.Digest)
	}
}
