package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sbx-run/sbx/rootfs"
)

// file is one entry of a tar that a test makes.
type file struct {
	name, content string
	kind          byte   // tar.TypeReg when 0
	link          string // target
	pax           map[string]string
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		hdr := &tar.Header{Name: f.name, Typeflag: f.kind, Linkname: f.link, Mode: 0o644, Size: int64(len(f.content)), PAXRecords: f.pax}
		if f.kind == 0 {
			hdr.Typeflag = tar.TypeReg
		}
		if f.kind == tar.TypeDir {
			hdr.Mode = 0o755
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, data []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(h[:])
}

// disk are the files of a source by their paths.
type disk map[string][]byte

// blob adds a blob of a layout and describes it.
func (d disk) blob(mediaType string, data []byte) descriptor {
	id := digest(sum(data))
	d[id.path()] = data
	return descriptor{MediaType: mediaType, Digest: string(id), Size: int64(len(data))}
}

func (d disk) json(t testing.TB, mediaType string, v any) descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return d.blob(mediaType, data)
}

// object is a JSON document.
type object map[string]any

// image adds an image of these uncompressed layers, which are stored with gzip.
func (d disk) image(t testing.TB, platform Platform, layers ...[]byte) descriptor {
	t.Helper()
	var list []descriptor
	for _, l := range layers {
		list = append(list, d.blob("application/vnd.oci.image.layer.v1.tar+gzip", gz(t, l)))
	}
	return d.imageOf(t, platform, list, layers...)
}

func (d disk) imageOf(t testing.TB, platform Platform, list []descriptor, layers ...[]byte) descriptor {
	t.Helper()
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, sum(l))
	}
	config := d.json(t, ociConfig, object{
		"os": platform.OS, "architecture": platform.Architecture, "variant": platform.Variant,
		"config": object{"Env": []string{"A=b"}, "Cmd": []string{"/bin/sh"}},
		"rootfs": object{"type": "layers", "diff_ids": ids},
	})
	return d.json(t, ociManifest, object{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": list})
}

// index makes the layout one of these manifests.
func (d disk) index(t testing.TB, list ...descriptor) disk {
	t.Helper()
	data, err := json.Marshal(object{"schemaVersion": 2, "manifests": list})
	if err != nil {
		t.Fatal(err)
	}
	d["index.json"] = data
	d["oci-layout"] = []byte(`{"imageLayoutVersion": "1.0.0"}`)
	return d
}

// tar gives the files in the order of their names, "./" first, or backwards.
func (d disk) tar(t testing.TB, backwards bool) []byte {
	t.Helper()
	names := slices.Sorted(maps.Keys(d))
	if backwards {
		slices.Reverse(names)
	}
	files := []file{{name: "./", kind: tar.TypeDir}}
	for _, n := range names {
		files = append(files, file{name: n, content: string(d[n])})
	}
	return tarOf(t, files...)
}

// dir writes the files to a directory.
func (d disk) dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range d {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// host is the platform of the tests' images.
func host(t testing.TB) Platform {
	t.Helper()
	p, err := wanted("")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func onFile(t testing.TB, data []byte) Source {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "source")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return Source{File: f}
}

func onPipe(t testing.TB, data []byte) Source {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	go func() {
		_, _ = w.Write(data) // the reader may have had enough
		w.Close()
	}()
	return Source{File: r}
}

func onDir(t testing.TB, path string) Source {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Source{File: f, Directory: true}
}

// unpacked imports a source with one id, and gives the directory it went to.
func unpacked(t testing.TB, src Source, change ...func(*Options)) (Result, string, error) {
	t.Helper()
	dir := t.TempDir()
	tree, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	result, err := importInto(tree, src, change...)
	return result, dir, err
}

// importInto imports a source with one id.
func importInto(tree *os.File, src Source, change ...func(*Options)) (Result, error) {
	opt := Options{Name: "it", Owner: rootfs.Ownership{Single: true}}
	opt.Limits.MinFree = 1 << 20 // the disk of a guest is small
	for _, c := range change {
		c(&opt)
	}
	return Import(context.Background(), src, tree, opt)
}

// content reads a file of a tree.
func content(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(data)
}
