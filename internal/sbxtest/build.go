package sbxtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

const module = "github.com/sbx-run/sbx"

// Binary returns the path of the built sbx: $SBX_BIN, or one that is built
// once for each test binary. Its helper sbx-image is beside it.
func Binary(t testing.TB) string {
	path := built(t, "SBX_BIN", module+"/cmd/sbx", &binaryBuild)
	if os.Getenv("SBX_BIN") == "" {
		built(t, "", module+"/cmd/sbx-image", &helperBuild)
	}
	return path
}

// Probe returns the path of the built probe program: $SBX_PROBE, or one that
// is built once for each test binary.
func Probe(t testing.TB) string {
	return built(t, "SBX_PROBE", module+"/internal/sbxtest/probe", &probeBuild)
}

type build struct {
	once sync.Once
	path string
	err  error
}

// Each test binary builds each program once at most; tests of it share them.
var binaryBuild, helperBuild, probeBuild build

func built(t testing.TB, variable, pkg string, b *build) string {
	t.Helper()
	b.once.Do(func() {
		if b.path = os.Getenv(variable); b.path != "" {
			return
		}
		cache, err := os.UserCacheDir()
		if err != nil {
			b.err = err
			return
		}
		// Kept between runs: a link of the tool chain takes a second, and a
		// temporary directory would have no owner to remove it.
		b.path = filepath.Join(cache, "sbx-test", "bin", filepath.Base(pkg))
		cmd := exec.Command("go", "build", "-trimpath", "-o", b.path, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// TempDir is like t.TempDir for directories in which sbx keeps a store: files
// in it may belong to subordinate ids, which the user himself cannot remove.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sbxtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { RemoveAll(t, dir) })
	return dir
}

// RemoveAll removes a directory in which sbx kept a store; see [TempDir]. What
// cannot be removed is an error of the test.
func RemoveAll(t testing.TB, dir string) {
	t.Helper()
	if os.RemoveAll(dir) == nil {
		return
	}
	// Directories may be unreadable, and owned by a mapped id.
	remove := `chmod -R u+rwX "$1"; rm -rf "$1"`
	out, err := MappedRoot("", "sh", "-c", remove, "sh", dir)
	if err != nil {
		out2, err2 := exec.Command("sh", "-c", remove, "sh", dir).CombinedOutput()
		if err2 != nil {
			t.Errorf("remove %s: %v: %s%s", dir, err, out, out2)
		}
	}
	if _, err := os.Lstat(dir); err == nil {
		// The directory itself belongs to the caller.
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
