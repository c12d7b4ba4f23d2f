package main_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

const (
	manyFiles = 200_000
	largeFile = 5_000_000_000 // bytes, none of them in a hole
)

// diskFor requires room on the disk for what the test imports and copies.
func diskFor(bytes uint64) sbxtest.Requirement {
	return sbxtest.Requirement{
		Text: fmt.Sprintf("%d GB of free disk", bytes/1e9), Cannot: true,
		Missing: func() string {
			var fs unix.Statfs_t
			if err := unix.Statfs(os.TempDir(), &fs); err != nil {
				return err.Error()
			}
			if free := fs.Bavail * uint64(fs.Bsize); free < bytes {
				return fmt.Sprintf("%d GB are free", free/1e9)
			}
			return ""
		},
	}
}

// importStream imports what write writes as a tar.
func importStream(t *testing.T, box sbxtest.Sandbox, name string, write func(*tar.Writer) error) {
	t.Helper()
	out, in := io.Pipe()
	box.Stdin = out
	go func() {
		w := tar.NewWriter(in)
		err := write(w)
		if err == nil {
			err = w.Close()
		}
		in.CloseWithError(err)
	}()
	box.MustRun(t, "image", "import", "-q", "-", name)
}

func addProbe(t *testing.T, w *tar.Writer) error {
	data, err := os.ReadFile(sbxtest.Probe(t))
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// An image of very many files is imported, run, copied whole and removed.
func TestManySmallFiles(t *testing.T) {
	sbxtest.Need(t, sbxtest.OrdinaryUser(), sbxtest.UserNamespaces(), diskFor(6e9))
	box := sbxtest.NewStore(t)
	importStream(t, box, "many", func(w *tar.Writer) error {
		for i := range manyFiles {
			name := fmt.Sprintf("d%03d/f%06d", i%997, i)
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name))}); err != nil {
				return err
			}
			if _, err := io.WriteString(w, name); err != nil {
				return err
			}
		}
		return addProbe(t, w)
	})
	last := fmt.Sprintf("d%03d/f%06d", (manyFiles-1)%997, manyFiles-1)
	for _, method := range []string{"overlay", "full"} {
		result := box.MustRun(t, "run", "-q", "--copy="+method, "--image", "many", "/probe", "cat", "/"+last)
		if result.Stdout != last {
			t.Errorf("%s: %v", method, result)
		}
	}
	if list := box.Sandboxes(t); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
	box.MustRun(t, "image", "rm", "many")
	checkStoreHasNone(t, box, "f000000")
}

// So is one that has a single large file.
func TestOneLargeFile(t *testing.T) {
	sbxtest.Need(t, sbxtest.OrdinaryUser(), sbxtest.UserNamespaces(), diskFor(3*largeFile))
	box := sbxtest.NewStore(t)
	want := sha256.New()
	importStream(t, box, "large", func(w *tar.Writer) error {
		if err := addProbe(t, w); err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: "large", Mode: 0o644, Size: largeFile}); err != nil {
			return err
		}
		return writeNumbered(io.MultiWriter(w, want), largeFile)
	})
	for _, method := range []string{"overlay", "full"} {
		if got := hashOf(t, box, "run", "-q", "--copy="+method, "--image", "large", "/probe", "cat", "/large"); got != hexSum(want) {
			t.Errorf("%s: the content is %s, want %s", method, got, hexSum(want))
		}
	}
	box.MustRun(t, "image", "rm", "large")
	checkStoreHasNone(t, box, "large")
}

// writeNumbered writes n bytes in blocks of 1 MiB that begin with their number.
func writeNumbered(w io.Writer, n int64) error {
	block := []byte(strings.Repeat("0123456789abcde\n", 1<<16))
	for at := int64(0); at < n; at += int64(len(block)) {
		copy(block, fmt.Sprintf("%015d", at))
		if _, err := w.Write(block[:min(int64(len(block)), n-at)]); err != nil {
			return err
		}
	}
	return nil
}

func hexSum(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }

// hashOf is the SHA-256 of what a run writes.
func hashOf(t *testing.T, box sbxtest.Sandbox, args ...string) string {
	t.Helper()
	cmd := box.Command(t, args...)
	sum := sha256.New()
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = sum, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, &stderr)
	}
	return hexSum(sum)
}

// checkStoreHasNone looks for a file of a removed image.
func checkStoreHasNone(t *testing.T, box sbxtest.Sandbox, name string) {
	t.Helper()
	err := filepath.WalkDir(box.Store(), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == name && entry.Type().IsRegular() {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
