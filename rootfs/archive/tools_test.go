package archive

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// tool runs a program of this machine in a directory.
func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// umociLayout makes an image of two layers, the upper of which replaces and
// removes files, as umoci does it.
func umociLayout(t *testing.T) string {
	t.Helper()
	sbxtest.Need(t, sbxtest.Program("umoci"))
	dir := t.TempDir()
	tool(t, dir, "umoci", "init", "--layout", "layout")
	tool(t, dir, "umoci", "new", "--image", "layout:one")
	lower := tarOf(t, file{name: "etc/", kind: tar.TypeDir}, file{name: "etc/hello", content: "below"}, file{name: "etc/old", content: "old"})
	if err := os.WriteFile(filepath.Join(dir, "lower.tar"), lower, 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "umoci", "raw", "add-layer", "--image", "layout:one", "lower.tar")
	tool(t, dir, "umoci", "unpack", "--rootless", "--image", "layout:one", "bundle")
	if err := os.WriteFile(filepath.Join(dir, "bundle/rootfs/etc/hello"), []byte("above"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "bundle/rootfs/etc/old")); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "umoci", "repack", "--image", "layout:two", "bundle")
	tool(t, dir, "umoci", "config", "--image", "layout:two", "--config.cmd", "/bin/tool", "--config.env", "A=b")
	return dir
}

// A layer of umoci insert ends with its last file, without padding.
func TestUmociInsert(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("umoci"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("inserted"), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "umoci", "init", "--layout", "layout")
	tool(t, dir, "umoci", "new", "--image", "layout:one")
	tool(t, dir, "umoci", "insert", "--rootless", "--image", "layout:one", "hello", "/etc/hello")
	_, tree, err := unpacked(t, onDir(t, filepath.Join(dir, "layout")))
	if err != nil || content(t, tree, "etc/hello") != "inserted" {
		t.Errorf("%v, hello %q", err, content(t, tree, "etc/hello"))
	}
}

// What umoci and skopeo write is read, and is one image in every form.
func TestUmociAndSkopeo(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("skopeo"))
	dir := umociLayout(t)
	first, tree, err := unpacked(t, onDir(t, filepath.Join(dir, "layout")), func(o *Options) { o.Ref = "two" })
	if err != nil || first.Tag != "two" || len(first.Info.Layers) != 2 {
		t.Fatalf("%v, %+v", err, first)
	}
	if content(t, tree, "etc/hello") != "above" || content(t, tree, "etc/old") == "old" {
		t.Errorf("hello %q, old %q", content(t, tree, "etc/hello"), content(t, tree, "etc/old"))
	}
	for name, target := range map[string][]string{
		"docker-archive": {"docker-archive:docker.tar:example.com/my/tool:2"},
		"oci-archive":    {"oci-archive:oci.tar:my/tool:2"},
		"dir":            {"dir:dir"},
		"zstd":           {"oci:zstd:my/tool:2", "--dest-compress-format", "zstd", "--dest-compress"},
		"docker types":   {"dir:types", "--format", "v2s2"},
	} {
		args := append([]string{"copy", "--insecure-policy", "--quiet", "oci:layout:two"}, target...)
		tool(t, dir, "skopeo", args...)
		path := filepath.Join(dir, map[string]string{
			"docker-archive": "docker.tar", "oci-archive": "oci.tar", "dir": "dir", "zstd": "zstd", "docker types": "types",
		}[name])
		src := Source{}
		if info, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			src = onDir(t, path)
		} else {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			src = onFile(t, data)
		}
		result, tree, err := unpacked(t, src)
		if err != nil || content(t, tree, "etc/hello") != "above" {
			t.Errorf("%s: %v, hello %q", name, err, content(t, tree, "etc/hello"))
		}
		if name != "docker types" && result.Info.Digest != first.Info.Digest {
			t.Errorf("%s: digest %s, want %s", name, result.Info.Digest, first.Info.Digest)
		}
	}
}
