package initproc

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplainStart(t *testing.T) {
	for errno, hint := range map[unix.Errno]bool{unix.EAGAIN: true, unix.EPERM: false} {
		err := explainStart(errno)
		if !errors.Is(err, errno) || strings.Contains(err.Error(), "--ulimit nproc") != hint {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
