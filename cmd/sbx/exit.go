package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/rootfs"
)

// Exit statuses of sbx itself. Everything else is the program's own, or 128+n
// when signal n ended it.
const (
	exitTimeout     = 124
	exitSbx         = 125 // sbx could not start the program: misuse, a missing layer, a refusing host
	exitNotRunnable = 126
	exitNotFound    = 127
	exitSignalBase  = 128
)

// exitStatus is the status for an error that kept the program from running.
func exitStatus(err error) int {
	var prog *rootfs.ProgramError
	var interp *rootfs.MissingInterpreter
	var stage *launch.StageError
	switch {
	case errors.As(err, &prog) && prog.Problem == rootfs.NoSuchProgram:
		return exitNotFound
	case errors.As(err, &prog):
		return exitNotRunnable
	case errors.As(err, &interp):
		if errors.Is(interp, unix.ENOENT) {
			return exitNotFound
		}
		return exitNotRunnable
	case errors.As(err, &stage) && stage.NotFound:
		return exitNotFound
	case errors.As(err, &stage) && stage.NotRunnable:
		return exitNotRunnable
	default:
		return exitSbx
	}
}

// hinted is the error's text with the next step where one is known that depends
// on the command line rather than on where the error arose.
func hinted(err error) string {
	// Joined errors stand on lines of their own; a message has one.
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	var interp *rootfs.MissingInterpreter
	switch {
	case !errors.As(err, &interp):
	case interp.Relative != "" && errors.Is(interp, unix.ENOENT):
		// No --image host, even where HostPath is known: that has no more of the
		// user's own directories than any other image.
		text += "; share the directory that it is relative to and work there (--ro DIR -w DIR, with DIR absolute), or name it by an absolute path"
	case interp.HostPath != "":
		text += "; this host has it: add --image host"
	}
	if hint := limitHint(err); hint != "" && !strings.Contains(text, "ulimit") {
		text += "; " + hint
	}
	return text
}

// limitHint names the limit of the caller's that an errno stands for.
func limitHint(err error) string {
	var limit unix.Rlimit
	switch {
	case errors.Is(err, unix.EMFILE) && unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil:
		return fmt.Sprintf("the limit of open files is %d (`ulimit -n`), and what started sbx has some open as well", limit.Max)
	case errors.Is(err, unix.EFBIG) && unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) == nil && limit.Cur != unix.RLIM_INFINITY:
		return fmt.Sprintf("the limit of the size of a file is %d bytes (`ulimit -f`)", limit.Cur)
	}
	return ""
}

// unwrapped is the errno of an *os.PathError: the path stands in the message
// already, as the user wrote it.
func unwrapped(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// endOf is the exit status of a run. The program's own stands, but for one: what
// it wrote to standard output and nobody got is a failure. That standard error
// is not passed on may be nobody's to read either.
func endOf(result launch.Result, s streams) error {
	status := result.ExitStatus()
	for fd, name := range []string{1: "output", 2: "error"} {
		if err := result.Lost[fd]; err != nil {
			s.say("pass on standard %s: %v", name, bare(err))
		}
	}
	if status == 0 && result.Lost[1] != nil {
		status = exitSbx
	}
	if status != 0 {
		return statusError(status)
	}
	return nil
}

// bare is the errno of an error where it has one.
func bare(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
