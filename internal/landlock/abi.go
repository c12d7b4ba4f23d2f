package landlock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// version is one ABI of Landlock: what a ruleset can handle with it beyond the versions before.
type version struct {
	abi    int
	kernel string
	files  uint64 // LANDLOCK_ACCESS_FS_
	scopes uint64 // LANDLOCK_SCOPE_
	gains  string // what a payload cannot do any more
}

// versions has a row for each ABI that brought something for files or scopes. ABI 4 and 10 brought network ports, 7 audit, 8 all threads.
var versions = []version{
	{1, "5.13", readRights | writeRights, 0, "reading, executing, writing, making and removing files outside the given paths"},
	{2, "5.19", unix.LANDLOCK_ACCESS_FS_REFER, 0, "renaming and linking between directories where that would gain access"},
	{3, "6.2", unix.LANDLOCK_ACCESS_FS_TRUNCATE, 0, "truncating files"},
	{5, "6.10", unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, 0, "ioctl on devices"},
	{6, "6.12", 0, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL, "abstract Unix sockets of others, and signals to others"},
	{9, "7.1", unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX, 0, "Unix sockets of others in shared directories"},
}

// ErrTooOld says that the kernel's Landlock is version 1 (Linux 5.13 to 5.18). It forbids every rename and link from one directory to
// another, inside the sandbox's own files too, which ordinary programs do not survive.
var ErrTooOld = errors.New("landlock ABI 1 forbids renames between directories; Linux 5.19 or newer is needed")

// ErrAbsent says that the kernel has no Landlock, or that it is not among the active security modules.
var ErrAbsent = errors.New("this kernel has no landlock, or has it switched off")

// Check says whether a ruleset is made with this ABI: nil, or ErrAbsent for 0 and less, or ErrTooOld for 1.
func Check(abi int) error {
	switch {
	case abi <= 0:
		return ErrAbsent
	case abi == 1:
		return ErrTooOld
	}
	return nil
}

// Gaps lists what a payload can still do with this ABI and could not with the newest that this package knows, each with the kernel that
// brings it. For an ABI that is not used it lists everything.
func Gaps(abi int) []string {
	if Check(abi) != nil {
		abi = 0
	}
	var gaps []string
	for _, v := range versions {
		if v.abi > abi {
			gaps = append(gaps, fmt.Sprintf("%s (Linux %s)", v.gains, v.kernel))
		}
	}
	return gaps
}

// handled returns what a ruleset handles with this ABI. Newer ABIs than the table's keep all that the older ones had.
func handled(abi int) (files, scopes uint64) {
	for _, v := range versions {
		if v.abi <= abi {
			files |= v.files
			scopes |= v.scopes
		}
	}
	return files, scopes
}

// granted returns the rights of a rule with this ABI: those of the access that are handled and that the path's kind may have.
func granted(abi int, a Access, directory bool) uint64 {
	files, _ := handled(abi)
	r := a.rights() & files
	if !directory {
		r &= fileRights
	}
	return r
}
