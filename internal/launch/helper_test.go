package launch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A helper runs as the caller, so it must be a program that only he and root can
// have written.
func TestHelper(t *testing.T) {
	for name, test := range map[string]struct {
		make  func(path string) error
		errno error
		says  string
	}{
		"missing":          {func(string) error { return nil }, unix.ENOENT, "go build ./cmd/sbx-image"},
		"link":             {func(p string) error { return os.Symlink("/bin/true", p) }, unix.ELOOP, "a link"},
		"directory":        {func(p string) error { return os.Mkdir(p, 0o700) }, unix.EACCES, "no file"},
		"group can write":  {func(p string) error { return program(p, 0o775, 12345) }, unix.EPERM, "chmod go-w"},
		"others can write": {func(p string) error { return program(p, 0o757, -1) }, unix.EPERM, "chmod go-w"},
		"not executable":   {func(p string) error { return program(p, 0o644, -1) }, unix.EACCES, "chmod +x"},
		"right":            {func(p string) error { return program(p, 0o755, -1) }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.make(filepath.Join(dir, ImageHelper)); err != nil {
				t.Fatal(err)
			}
			f, err := helperIn(dir, ImageHelper)
			if err == nil {
				defer f.Close()
			}
			if !errors.Is(err, test.errno) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Fatalf("error %v, want %v with %q", err, test.errno, test.says)
			}
			if err == nil && f.Fd() < leastHelperFD {
				t.Errorf("descriptor %d could be overwritten in the child", f.Fd())
			}
		})
	}
}

// program writes a file; group is for root, whose own group would do.
func program(path string, mode os.FileMode, group int) error {
	err := os.WriteFile(path, []byte("#!/bin/true\n"), 0o700)
	if err == nil && os.Geteuid() == 0 && group >= 0 {
		err = os.Chown(path, 0, group)
	}
	return errors.Join(err, os.Chmod(path, mode))
}
