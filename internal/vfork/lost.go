package vfork

//lint:file-ignore U1000 the assembly uses what is here

import "golang.org/x/sys/unix"

// When the process is killed while it has the goroutine, the state of that is
// anything, and its thread can never run Go again. It sleeps for lostTime, in
// which the caller's other goroutines see that the process has ended, undo what
// there is to undo, and end the program. If they cannot, because the goroutine
// took a lock of the runtime's along, the thread ends it after that.
var lostTime = [2]int64{10, 0} // a timespec

const (
	lostMessage = "sbx: the sandbox's first process was killed from outside\n"
	lostLength  = len(lostMessage)
	lostStatus  = 125
)

var lostText = [lostLength]byte([]byte(lostMessage))

// What the assembly needs.
const (
	prSetPdeathsig = unix.PR_SET_PDEATHSIG
	sigkill        = int(unix.SIGKILL)
)
