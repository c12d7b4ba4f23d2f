package launch

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// Beginning is pid 1 on its way, while it is not yet known what it will do.
//
// Making namespaces takes the kernel, and the re-exec takes the Go runtime, as
// long as looking at the host and deciding takes the supervisor. So they run
// beside each other. Until its id maps are written pid 1 can do nothing, and
// does nothing but wait for them; nothing on the host is changed.
type Beginning struct {
	cloned chan struct{}
	child  *child
	err    error
	end    chan struct{}
	once   sync.Once
}

// Begin clones pid 1. A refusal of the kernel shows when the run asks for it:
// the command line may be wrong as well, and that comes first.
func Begin(hostNetwork bool) *Beginning {
	b := &Beginning{cloned: make(chan struct{}), end: make(chan struct{})}
	go b.clone(namespaces(hostNetwork))
	return b
}

// clone stays until the end: the parent-death signal of pid 1 is sent when the
// *thread* that cloned it ends (prctl(2), golang/go#27505). The goroutine keeps
// its thread, and the thread ends with it.
func (b *Beginning) clone(flags uintptr) {
	runtime.LockOSThread()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		b.err = fmt.Errorf("open /dev/null: %w", err)
	} else {
		b.child, b.err = newChild(plan.InitName, flags, [3]*os.File{null, null, null})
		null.Close()
	}
	close(b.cloned)
	<-b.end
}

// take waits for the clone and hands the child over; it is the caller's then.
func (b *Beginning) take() (*child, error) {
	<-b.cloned
	c := b.child
	b.child = nil
	return c, b.err
}

// Abandon ends what was begun, if no run has taken it, and the thread behind it.
func (b *Beginning) Abandon() {
	b.once.Do(func() {
		<-b.cloned
		if b.child != nil {
			b.child.kill()
			b.child.close()
		}
		close(b.end)
	})
}

func namespaces(hostNetwork bool) uintptr {
	flags := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if !hostNetwork {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}
