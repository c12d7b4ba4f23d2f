package vfork

// What is said, and the exit status, when the process was killed while it had
// the goroutine.
const (
	lostMessage = "sbx: the sandbox's first process was killed from outside\n"
	lostLength  = len(lostMessage)
	lostStatus  = 125
)

var lostText = [lostLength]byte([]byte(lostMessage))
