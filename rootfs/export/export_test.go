package export_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/archive"
	"github.com/sbx-run/sbx/rootfs/export"
	"github.com/sbx-run/sbx/rootfs/pack"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sample is a small root tree.
func sample(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"bin/tool": "#!/bin/sh\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "odd \x1b[31m\nname": "x", "empty": "",
	} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	must(t, os.Chmod(filepath.Join(dir, "bin/tool"), 0o751))
	must(t, os.Link(filepath.Join(dir, "bin/tool"), filepath.Join(dir, "bin/twin")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	must(t, os.Truncate(filepath.Join(dir, "empty"), 1<<20)) // a hole
	must(t, os.Chtimes(filepath.Join(dir, "etc"), time.Time{}, time.Unix(1e9, 5)))
	return open(t, dir)
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func info() rootfs.ImageInfo {
	return rootfs.ImageInfo{
		Owner: rootfs.Ownership{Single: true}, Digest: "sha256:" + strings.Repeat("a", 64),
		Config: &rootfs.ImageConfig{
			Env: []string{"PATH=/bin", "A=\x1b"}, Entrypoint: []string{"/bin/tool"}, Cmd: []string{"x"}, WorkingDir: "/etc", User: "0",
			Labels: map[string]string{"b": "2", "a": "1"}, Architecture: "amd64", OS: "linux", Created: time.Unix(1e9, 0).UTC(),
		},
	}
}

func write(t *testing.T, tree *os.File, req export.Request) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := export.Image(context.Background(), tree, &out, req, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is exported can be imported, and is the same then.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	tree := sample(t)
	for _, format := range []string{export.DockerArchive, export.OCIArchive, export.Tree} {
		req := export.Request{Format: format, Info: info(), Names: []string{"example.com/tool:1"}}
		data := write(t, tree, req)
		if again := write(t, tree, req); !bytes.Equal(data, again) {
			t.Errorf("%s: two exports differ", format)
		}
		file := filepath.Join(t.TempDir(), "archive")
		must(t, os.WriteFile(file, data, 0o644))
		back := open(t, t.TempDir())
		result, err := archive.Import(context.Background(), archive.Source{File: open(t, file)}, back, archive.Options{
			Name: "archive", Owner: rootfs.Ownership{Single: true},
		})
		must(t, err)
		if want, got := content(t, tree), content(t, back); !bytes.Equal(want, got) {
			t.Errorf("%s: what came back is another tree: %d bytes, %d", format, len(want), len(got))
		}
		if format == export.Tree {
			continue
		}
		got := result.Info.Config
		if want := info().Config; got == nil || !slices.Equal(got.Env, want.Env) || !slices.Equal(got.Entrypoint, want.Entrypoint) ||
			!slices.Equal(got.Cmd, want.Cmd) || got.User != want.User || got.WorkingDir != want.WorkingDir || !got.Created.Equal(want.Created) {
			t.Errorf("%s: the configuration came back as %+v", format, got)
		}
		if !slices.Equal(result.Refs, req.Names) {
			t.Errorf("%s: the names came back as %q", format, result.Refs)
		}
	}
}

// content is a tree as bytes.
func content(t *testing.T, tree *os.File) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := pack.Tree(context.Background(), tree, &out, pack.Options{Single: true})
	must(t, err)
	return out.Bytes()
}

// Every blob is called by its digest, and every descriptor tells the truth.
func TestDigests(t *testing.T) {
	t.Parallel()
	data := write(t, sample(t), export.Request{Format: export.DockerArchive, Info: info(), Names: []string{"a:1", "a:2", "b@sha256:" + strings.Repeat("0", 64)}})
	files := map[string][]byte{}
	in := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if hdr.Uid != 0 || hdr.Mode != 0o644 && hdr.Typeflag == tar.TypeReg || !hdr.ModTime.Equal(time.Unix(0, 0)) || hdr.Uname != "" {
			t.Errorf("entry %+v tells of this host", hdr)
		}
		if hdr.Typeflag == tar.TypeDir {
			continue
		}
		files[hdr.Name], err = io.ReadAll(in)
		must(t, err)
	}
	for name, data := range files {
		sum := sha256.Sum256(data)
		if digest, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && digest != hex.EncodeToString(sum[:]) {
			t.Errorf("%s has another digest", name)
		}
	}
	var index struct {
		Manifests []struct {
			Digest string
			Size   int64
		}
	}
	must(t, json.Unmarshal(files["index.json"], &index))
	if len(index.Manifests) != 3 {
		t.Errorf("%d manifests, want one for each name", len(index.Manifests))
	}
	for _, m := range index.Manifests {
		if blob := files["blobs/"+strings.Replace(m.Digest, ":", "/", 1)]; int64(len(blob)) != m.Size {
			t.Errorf("manifest %+v has %d bytes", m, len(blob))
		}
	}
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	must(t, json.Unmarshal(files["manifest.json"], &saved))
	if len(saved) != 1 || !slices.Equal(saved[0].RepoTags, []string{"a:1", "a:2"}) || files[saved[0].Config] == nil || files[saved[0].Layers[0]] == nil {
		t.Errorf("manifest.json: %+v", saved)
	}
}

// A tree that changes between the two readings is an error, not a broken
// archive that looks whole.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	tree := sample(t)
	changed := false
	_, err := export.Image(context.Background(), tree, io.Discard, export.Request{Format: export.OCIArchive, Info: info()}, func(p rootfs.Progress) {
		if p.Stage == rootfs.StageCopy && !changed {
			changed = true
			if err := os.WriteFile(filepath.Join(tree.Name(), "odd \x1b[31m\nname"), make([]byte, 1<<20), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	if !changed || !errors.Is(err, unix.ESTALE) {
		t.Errorf("changed %v: %v", changed, err)
	}
}

// What cannot be in a layer is told, and errors of the output are errors.
func TestNotesAndErrors(t *testing.T) {
	t.Parallel()
	tree := sample(t)
	must(t, os.WriteFile(filepath.Join(tree.Name(), ".wh.passwd"), nil, 0o644))
	for format, notes := range map[string]int{export.OCIArchive: 1, export.Tree: 0} {
		stats, err := export.Image(context.Background(), tree, io.Discard, export.Request{Format: format, Info: info()}, nil)
		if err != nil || len(stats.Notes) != notes {
			t.Errorf("%s: notes %v, %v", format, stats.Notes, err)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	if _, err := export.Image(context.Background(), tree, full, export.Request{Format: export.OCIArchive, Info: info()}, nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	if _, err := export.Image(context.Background(), tree, io.Discard, export.Request{Format: "zip"}, nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an unknown format: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := export.Image(ctx, tree, io.Discard, export.Request{Format: export.Tree, Info: info()}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Owners are the numbers inside, whatever ids the files have outside.
func TestOwnersInside(t *testing.T) {
	t.Parallel()
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	i := info()
	// As if the caller's own id were the 7th of the image.
	i.Owner = rootfs.Ownership{
		UID: int(uid) - 7, GID: int(gid) - 7,
		UIDMap: []rootfs.IDRange{{Inside: 0, Outside: 5, Count: 1}, {Inside: uid - 7, Outside: 100, Count: 10}},
		GIDMap: []rootfs.IDRange{{Inside: 0, Outside: 5, Count: 1}, {Inside: gid - 7, Outside: 100, Count: 10}},
	}
	if uid < 7 || gid < 7 {
		i.Owner.UID, i.Owner.GID = 0, 0 // root's ids are below all offsets
	}
	data := write(t, sample(t), export.Request{Format: export.Tree, Info: i})
	in := tar.NewReader(bytes.NewReader(data))
	hdr, err := in.Next()
	must(t, err)
	want := 7
	if uid < 7 || gid < 7 {
		want = 0
	}
	if hdr.Uid != want || hdr.Gid != want {
		t.Errorf("%s belongs to %d:%d, want %d", hdr.Name, hdr.Uid, hdr.Gid, want)
	}
}
