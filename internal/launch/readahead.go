package launch

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// readAhead knows what the relay has read of the caller's standard input and the
// program has not: whoever reads the same input next would miss it, as in
//
//	while read name; do sbx run ./tool "$name"; done < list
//
// A file is set back to where the program has read to. A pipe cannot be; there
// the caller is told. All methods may be called on nil.
type readAhead struct {
	pipe *os.File      // our copy of the end that the program reads
	file *os.File      // the input itself, which the relay closes; nil for a pipe
	done chan struct{} // closed when the relay has ended, nil before it has begun
	lost int
}

// maxRelayEnd is how long a relay may take to end once it has been told to.
const maxRelayEnd = time.Second

// newReadAhead is nil for an input that nobody else reads: with our copy of the
// pipe open the writer of such an input would not learn that the program has
// closed it.
func newReadAhead(kind string, pipe *os.File) (*readAhead, error) {
	if kind != plan.StreamFile && (kind != plan.StreamPipe || !parentReads()) {
		return nil, nil
	}
	a := &readAhead{}
	var err error
	if a.pipe, err = duplicate(pipe); err == nil && kind == plan.StreamFile {
		a.file, err = duplicate(os.Stdin)
	}
	return a, err
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// parentReads tells whether the shell that started sbx has the same input.
func parentReads() bool {
	own, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return false
	}
	parent := os.Getppid()
	for range maxWrappers {
		if !slices.Contains([]string{"timeout", "time", "strace", "ltrace", "perf", "sudo"}, value(fmt.Sprintf("/proc/%d/comm", parent))) {
			break
		}
		parent = parentOf(parent)
	}
	parents, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", parent))
	return err == nil && own == parents
}

// maxWrappers bounds how many programs that only wait for sbx, and read nothing
// themselves, are looked past.
const maxWrappers = 4

// parentOf is 0 where it cannot be known.
func parentOf(pid int) int {
	for line := range strings.Lines(value(fmt.Sprintf("/proc/%d/status", pid))) {
		if number, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ := strconv.Atoi(strings.TrimSpace(number))
			return parent
		}
	}
	return 0
}

func (a *readAhead) begin() {
	if a != nil {
		a.done = make(chan struct{})
	}
}

func (a *readAhead) end() {
	if a != nil {
		close(a.done)
	}
}

// settle comes when the program has ended and the relay has been told to end.
func (a *readAhead) settle() {
	if a == nil {
		return
	}
	defer a.close()
	if a.done == nil {
		return
	}
	select {
	case <-a.done:
	case <-time.After(maxRelayEnd):
		return
	}
	// FIONREAD, by its other name.
	n, err := unix.IoctlGetInt(int(a.pipe.Fd()), unix.TIOCINQ)
	if err != nil || n <= 0 {
		return
	}
	if a.file != nil {
		_, err = unix.Seek(int(a.file.Fd()), -int64(n), unix.SEEK_CUR)
	}
	if a.file == nil || err != nil {
		a.lost = n
	}
}

func (a *readAhead) close() {
	a.pipe.Close()
	if a.file != nil {
		a.file.Close()
	}
}

func (a *readAhead) swallowed() int {
	if a == nil {
		return 0
	}
	return a.lost
}
