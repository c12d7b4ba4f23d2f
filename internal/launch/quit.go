package launch

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// goQuit is what Go does at SIGQUIT: what it would say about that is 10 KiB of stacks.
var goQuit sigaction

// QuitByDefault makes SIGQUIT end this process as it ends any other, until [CatchSignals].
func QuitByDefault() { _ = act(unix.SIGQUIT, &sigaction{}, &goQuit) }

// CatchSignals is signal.Notify, for who may catch SIGQUIT: Go knows its own handler to be in
// place, and would not put it there again.
func CatchSignals(c chan<- os.Signal, signals ...os.Signal) {
	signal.Notify(c, signals...)
	if goQuit != (sigaction{}) {
		_ = act(unix.SIGQUIT, &goQuit, nil)
	}
}
