package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ImageHelper is the program that reads archives and talks to registries. What
// it is made of would cost every start of sbx a third of a millisecond.
const ImageHelper = "sbx-image"

// Helper finds a program that belongs to sbx: beside the running binary, and
// nowhere else. Who may write there may change sbx as well.
func Helper(name string) (string, error) {
	exe, err := os.Readlink(self)
	if err != nil {
		return "", fmt.Errorf("find the program %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(exe), name)
	if err := unix.Access(path, unix.X_OK); errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("find the program %s: it belongs beside sbx, and %s is not there: %w", name, path, err)
	} else if err != nil {
		return "", fmt.Errorf("run %s: %w", path, err)
	}
	return path, nil
}
