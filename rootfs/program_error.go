package rootfs

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Problem is the reason why a file cannot be run.
type Problem int

// The problems. A shell ends with status 127 for NoSuchProgram and with 126 for
// all others.
const (
	// NoSuchProgram: nothing stands there (ENOENT, ENOTDIR).
	NoSuchProgram Problem = iota + 1
	// Unreachable: the path cannot be looked up or opened for another reason
	// (EACCES, ELOOP, ENAMETOOLONG, EIO ...).
	Unreachable
	// IsDirectory: a directory (EISDIR).
	IsDirectory
	// NotRegular: a fifo, socket or device (EACCES, as execve(2) has it).
	NotRegular
	// NotReadable: executable perhaps, but it cannot be copied (EACCES).
	NotReadable
	// NotExecutable: no execute permission for the caller (EACCES).
	NotExecutable
	// EmptyProgram: no bytes in it (ENOEXEC).
	EmptyProgram
	// ForeignProgram: an ELF file for another machine, byte order, operating
	// system, or for 32 bits (ENOEXEC).
	ForeignProgram
	// DamagedProgram: an ELF file that is cut short or contradicts itself
	// (ENOEXEC).
	DamagedProgram
	// NotAProgram: an ELF file that is no program (library, object file, core
	// dump), or a file of a known other kind (ENOEXEC).
	NotAProgram
	// NoInterpreterLine: text without a "#!" line (ENOEXEC). A shell would run
	// it with sh; the kernel does not.
	NoInterpreterLine
	// BadInterpreterLine: a "#!" line that the kernel refuses or that cannot
	// work (ENOEXEC or ENOENT).
	BadInterpreterLine
)

// ProgramError says why a file cannot be run. errors.Is finds the errno.
type ProgramError struct {
	// Path is the path as the user gave it.
	Path string
	// Problem is the reason as a value.
	Problem Problem
	// Detail is the reason in words, for Problems that the errno does not tell
	// apart; it may be empty.
	Detail string
	// Err is the errno that execve(2) or open(2) has for it.
	Err error
}

// Error has the form "run PATH: ERRNO (DETAIL)". A path with control characters
// is quoted.
func (e *ProgramError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("run %s: %v", shown(e.Path), e.Err)
	}
	return fmt.Sprintf("run %s: %v (%s)", shown(e.Path), e.Err, e.Detail)
}

// Unwrap returns the errno.
func (e *ProgramError) Unwrap() error { return e.Err }

func foreignProgram(path string, e *ELF) *ProgramError {
	return &ProgramError{Path: path, Problem: ForeignProgram, Detail: e.foreign(), Err: unix.ENOEXEC}
}

func damagedProgram(path string, err error) *ProgramError {
	return &ProgramError{Path: path, Problem: DamagedProgram, Detail: err.Error(), Err: unix.ENOEXEC}
}

// shown is a name as it may be put into a message: as it is, or quoted when it
// has control characters, direction marks or bytes that are no UTF-8, which
// could rewrite the user's terminal line.
func shown(name string) string {
	for _, r := range name {
		if r == '\uFFFD' || !strconv.IsPrint(r) {
			return strconv.Quote(name)
		}
	}
	if name == "" {
		return `""`
	}
	return name
}
