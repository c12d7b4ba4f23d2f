package launch

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSpaceAdvice(t *testing.T) {
	dir := t.TempDir()
	for errno, want := range map[unix.Errno]string{
		unix.EDQUOT: "your quota on the disk of " + dir + " is used up",
		unix.ENOSPC: "free some space on the disk of " + dir,
		unix.EIO:    "",
	} {
		err := fmt.Errorf("copy x: %w", errno)
		got := withSpaceAdvice(err, dir)
		if !errors.Is(got, errno) || !strings.Contains(got.Error(), want) || want == "" && got != err {
			t.Errorf("%v", got)
		}
	}
}

// A limit of namespaces is told by the errno of a full disk.
func TestSpaceIsNotNamespaces(t *testing.T) {
	err := fmt.Errorf("make the image: %w", cloneError(unix.ENOSPC))
	if got := withSpaceAdvice(err, t.TempDir()); got.Error() != err.Error() {
		t.Errorf("%v", got)
	}
}
