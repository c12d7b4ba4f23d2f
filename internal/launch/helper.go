package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ImageHelper is the program that reads archives and talks to registries. What
// it is made of would cost every start of sbx a third of a millisecond.
const ImageHelper = "sbx-image"

// Helper opens a program that belongs to sbx: beside the running binary, and
// nowhere else, and changeable by the caller and root only. What is executed is
// the descriptor, by the path that [executable] gives: the file cannot be
// swapped between the check and the start.
func Helper(name string) (*os.File, error) {
	exe, err := os.Readlink(self)
	if err != nil {
		return nil, fmt.Errorf("find the program %s: %w", name, err)
	}
	return helperIn(filepath.Dir(strings.TrimSuffix(exe, " (deleted)")), name)
}

// leastHelperFD keeps the descriptor off the numbers that a child's own
// descriptors are put on before it is executed.
const leastHelperFD = 32

func helperIn(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	low, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("find the program %s, which belongs beside sbx in %s: %w; build it with `CGO_ENABLED=0 go build ./cmd/%s` and put it there",
			name, dir, err, name)
	} else if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(low)
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, leastHelperFD)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkHelper(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// checkHelper refuses what somebody else could have written. The group bits also
// bound what an access control list grants (acl(5)).
func checkHelper(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("it is a link, put the program itself there: %w", unix.ELOOP)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("it is no file: %w", unix.EACCES)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to uid %d and would run as you: %w", st.Uid, unix.EPERM)
	case st.Mode&unix.S_IWOTH != 0 || st.Mode&unix.S_IWGRP != 0 && st.Gid != 0:
		return fmt.Errorf("others can write to it (mode %04o) and it would run as you, use chmod go-w: %w", st.Mode&0o7777, unix.EPERM)
	case st.Mode&0o111 == 0:
		return fmt.Errorf("it is not executable, use chmod +x: %w", unix.EACCES)
	}
	return nil
}

// executable is the path under which a child executes what a helper's descriptor
// is open on.
func executable(helper *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", helper.Fd()) }
