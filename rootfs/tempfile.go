package rootfs

import (
	"os"
	"runtime"
)

// TempFile makes a file in dir that has no name and is gone when it is closed,
// open for reading and writing.
func TempFile(dir *os.File) (*os.File, error) {
	defer runtime.KeepAlive(dir)
	fd, err := tempFile(dir, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "a file without a name"), nil
}
