package plan

import "github.com/sbx-run/sbx/internal/reaper"

// The descriptors that come with [reaper.Go], in this order: the payload's 0, 1
// and 2, the sandbox's directory and lock, and the program. What there is none of
// is /dev/null.
const (
	GoStdin = iota
	GoStdout
	GoStderr
	GoSandbox
	GoLock
	GoProgram
)

// FDControl is the one descriptor behind 0, 1 and 2 of pid 1 and of a worker, the
// socket to the supervisor. A worker has others behind it, see [FDJob].
const FDControl = reaper.Control
