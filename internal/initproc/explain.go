package initproc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explainStart adds the next step to a clone that failed. See getrlimit(2) and, for
// what is counted, user_namespaces(7).
func explainStart(err error) error {
	err = fmt.Errorf("make the program's own user namespace: %w", err)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("%w; a limit of processes is reached: --ulimit nproc=N raises that of the sandbox, which before Linux 5.14 counts those of your other sandboxes too", err)
	}
	return err
}
