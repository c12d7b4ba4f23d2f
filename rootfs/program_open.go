package rootfs

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openProgramFile looks before it opens, because merely opening some devices
// has an effect, and looks again at what it got.
func openProgramFile(path string) (fd int, st unix.Stat_t, err error) {
	fail := func(err error) (int, unix.Stat_t, error) { return -1, st, err }
	if strings.ContainsRune(path, 0) {
		return fail(&ProgramError{Path: path, Problem: NoSuchProgram, Detail: "a NUL in the name", Err: unix.EINVAL})
	}
	if err := unix.Stat(path, &st); err != nil {
		return fail(lookupError(path, err))
	}
	if err := CheckProgramType(path, st.Mode); err != nil {
		return fail(err)
	}
	fd, err = retryEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fail(openError(path, err))
	}
	if err = unix.Fstat(fd, &st); err != nil {
		err = lookupError(path, err)
	} else if err = CheckProgramType(path, st.Mode); err == nil {
		err = mayExecute(fd, path, st)
	}
	if err == nil {
		// Regular files never block; without this every reader would go by the
		// poller first.
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		_ = unix.Close(fd)
		return fail(err)
	}
	return fd, st, nil
}

func lookupError(path string, err error) error {
	problem := Unreachable
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		problem = NoSuchProgram
	}
	e := &ProgramError{Path: path, Problem: problem, Err: err}
	var st unix.Stat_t
	if errors.Is(err, unix.ENOENT) && unix.Lstat(path, &st) == nil {
		e.Detail = "it is a link to something that does not exist"
	}
	return e
}

func openError(path string, err error) error {
	e := &ProgramError{Path: path, Problem: Unreachable, Err: err}
	if errors.Is(err, unix.EACCES) {
		e.Problem = NotReadable
		e.Detail = "sbx runs a copy, so the file has to be readable"
	}
	if errors.Is(err, unix.ENOENT) {
		e.Problem = NoSuchProgram
	}
	return e
}

// CheckProgramType refuses everything but regular files, with a [*ProgramError].
// The mode is that of stat(2); the path is for the message.
func CheckProgramType(path string, mode uint32) error {
	what := ""
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return &ProgramError{Path: path, Problem: IsDirectory, Err: unix.EISDIR}
	case unix.S_IFIFO:
		what = "a named pipe"
	case unix.S_IFSOCK:
		what = "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		what = "a device"
	default:
		what = "not a regular file"
	}
	return &ProgramError{Path: path, Problem: NotRegular, Detail: "it is " + what, Err: unix.EACCES}
}

// mayExecute asks the kernel (faccessat2(2), Linux 5.8) whether the caller may
// execute the open file, which counts access lists and capabilities. A file
// system mounted noexec makes that "no" for every file; there the permission
// bits decide, because it is a copy that runs.
func mayExecute(fd int, path string, st unix.Stat_t) error {
	err := unix.Faccessat2(fd, "", unix.X_OK, unix.AT_EACCESS|unix.AT_EMPTY_PATH)
	if err == nil {
		return nil
	}
	var sfs unix.Statfs_t
	noexec := unix.Fstatfs(fd, &sfs) == nil && sfs.Flags&unix.ST_NOEXEC != 0
	// ENOSYS: an older kernel; EPERM: a seccomp filter that does not know the call.
	if noexec || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if executableBits(st, os.Geteuid(), effectiveGroups()) {
			return nil
		}
	}
	e := &ProgramError{Path: path, Problem: NotExecutable, Err: unix.EACCES}
	switch {
	case st.Mode&0o111 == 0:
		e.Detail = "not executable; `chmod +x` makes it so"
	default:
		e.Detail = "not executable for you"
	}
	return e
}

func effectiveGroups() []int {
	groups, err := unix.Getgroups()
	if err != nil {
		groups = nil
	}
	return append(groups, os.Getegid())
}

// executableBits evaluates the permission bits as path_resolution(7) describes it.
func executableBits(st unix.Stat_t, uid int, groups []int) bool {
	bits := st.Mode & 0o111
	if uid == 0 {
		return bits != 0
	}
	if int(st.Uid) == uid {
		return bits&0o100 != 0
	}
	for _, g := range groups {
		if int(st.Gid) == g {
			return bits&0o010 != 0
		}
	}
	return bits&0o001 != 0
}
