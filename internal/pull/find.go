package pull

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Name is the file name of the helper program.
const Name = "sbx-image"

// find opens the helper in the directory of the running program, wherever that is called from, and checks that only the
// user and root can change it. The descriptor (O_PATH) is what is executed: the file cannot be swapped between the check and
// the start. PATH is not looked at, since a directory in it may be another's.
func find() (*os.File, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", Name, err)
	}
	return findIn(filepath.Dir(strings.TrimSuffix(self, " (deleted)")))
}

func findIn(dir string) (*os.File, error) {
	path := filepath.Join(dir, Name)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("find %s beside sbx: %w: it is a program of its own; build it with `CGO_ENABLED=0 go build ./cmd/%s` and put it into %s",
			Name, err, Name, dir)
	} else if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := trusted(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("use %s: %w", path, err)
	}
	return f, nil
}

// trusted refuses what somebody else could have written. The group bits also bound what an access control list grants (acl(5)).
func trusted(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("%w: it is a link; put the program itself there", unix.ELOOP)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: it is no file", unix.EACCES)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: it belongs to uid %d, and would run as you", unix.EPERM, st.Uid)
	case st.Mode&unix.S_IWOTH != 0 || st.Mode&unix.S_IWGRP != 0 && st.Gid != 0:
		return fmt.Errorf("%w: others can write to it (mode %04o), and it would run as you; run chmod go-w on it", unix.EPERM, st.Mode&0o7777)
	case st.Mode&0o111 == 0:
		return fmt.Errorf("%w: it is not executable; run chmod +x on it", unix.EACCES)
	}
	return nil
}
