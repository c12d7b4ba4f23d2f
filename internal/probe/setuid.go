package probe

import (
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysFchmodat2 is the same on every architecture since Linux 6.6.
const sysFchmodat2 = 452

// noSetuid tries every system call that can set the bits. A fake root may set
// them, since package managers must: his files lie in a 0700 store and belong
// to an id that nobody else has.
func noSetuid(facts *Facts) outcome {
	dir, err := os.MkdirTemp("/tmp", "probe")
	if err != nil {
		return broken("%v", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o755); err != nil {
		return broken("%v", err)
	}
	o := refused(setuidAttempts(dir, file)...)
	if o.state == Broken && facts.FakeRoot {
		return weaker("allowed to a fake root: %s", o.detail)
	}
	return o
}

func setuidAttempts(dir, file string) []attempt {
	path, err := unix.BytePtrFromString(file)
	if err != nil {
		return nil
	}
	errnoOf := func(err error) unix.Errno { errno, _ := err.(unix.Errno); return errno }
	creates := func(name string, flags int) func() unix.Errno {
		return func() unix.Errno {
			fd, err := unix.Open(filepath.Join(dir, name), flags|unix.O_WRONLY|unix.O_CLOEXEC, 0o4755)
			if err == nil {
				unix.Close(fd)
			}
			return errnoOf(err)
		}
	}
	return []attempt{
		{"chmod u+s", nil, func() unix.Errno { return errnoOf(unix.Chmod(file, 0o4755)) }},
		{"chmod g+s", nil, func() unix.Errno { return errnoOf(unix.Chmod(file, 0o2755)) }},
		{"fchmod u+s", nil, func() unix.Errno {
			fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return errnoOf(err)
			}
			defer unix.Close(fd)
			return errnoOf(unix.Fchmod(fd, 0o6755))
		}},
		{"fchmodat u+s", nil, func() unix.Errno { return errnoOf(unix.Fchmodat(unix.AT_FDCWD, file, 0o4755, 0)) }},
		{"fchmodat2 u+s", nil, func() unix.Errno {
			dirfd := unix.AT_FDCWD
			return call(sysFchmodat2, uintptr(dirfd), uintptr(unsafe.Pointer(path)), 0o4755, 0)
		}},
		{"mkdir g+s", nil, func() unix.Errno { return errnoOf(unix.Mkdir(filepath.Join(dir, "d"), 0o2755)) }},
		{"mkdirat g+s", nil, func() unix.Errno { return errnoOf(unix.Mkdirat(unix.AT_FDCWD, filepath.Join(dir, "e"), 0o2755)) }},
		{"mknod u+s", nil, func() unix.Errno {
			return errnoOf(unix.Mknod(filepath.Join(dir, "n"), unix.S_IFREG|0o4755, 0))
		}},
		{"open O_CREAT u+s", nil, creates("o", unix.O_CREAT)},
		{"openat2 u+s", nil, func() unix.Errno {
			fd, err := unix.Openat2(unix.AT_FDCWD, filepath.Join(dir, "p"),
				&unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY | unix.O_CLOEXEC, Mode: 0o4755})
			if err == nil {
				unix.Close(fd)
			}
			return errnoOf(err)
		}},
	}
}
