package launch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// memoryFiles are the sandbox's file systems in memory, held to see how much is in
// them: no process need have mapped it.
type memoryFiles struct {
	fds []int // the private one first, then those of --tmpfs
}

// holdMemoryFiles opens them through pid 1, which is behind pivot_root by now. One
// that cannot be opened, or that a link of the image leads past, is left out.
func (r *run) holdMemoryFiles() {
	if r.plan.Cgroup.Watch == 0 && !r.plan.Root.Bounded {
		return
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", r.init.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	root := rootfs.RootFromFile(os.NewFile(uintptr(fd), "/"), "/")
	defer root.Close()
	held := &memoryFiles{}
	for _, target := range memoryTargets(r.plan.Mounts) {
		fd, err := root.OpenFD(target, unix.O_PATH, 0)
		if err != nil {
			continue
		}
		if fs := statfs(fd); fs == nil || fs.Type != unix.TMPFS_MAGIC {
			unix.Close(fd)
			continue
		}
		held.fds = append(held.fds, fd)
	}
	r.memory.Store(held)
}

// memoryTargets are the places of one mount of the private file system and of all
// those of --tmpfs.
func memoryTargets(list []mounts.Mount) []string {
	var targets []string
	for _, m := range list {
		if m.Kind == mounts.Shared && m.Directory {
			targets = append(targets, m.Target)
			break
		}
	}
	for _, m := range list {
		if m.Kind == mounts.Tmpfs {
			targets = append(targets, m.Target)
		}
	}
	return targets
}

// used is how many bytes are in them. It may be called before they are held.
func (m *memoryFiles) used() uint64 {
	var sum uint64
	if m == nil {
		return 0
	}
	for _, fd := range m.fds {
		if fs := statfs(fd); fs != nil {
			sum += (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
		}
	}
	return sum
}

// full tells whether the private file system has no room for a further page or file.
func (m *memoryFiles) full() bool {
	if m == nil || len(m.fds) == 0 {
		return false
	}
	fs := statfs(m.fds[0])
	return fs != nil && (fs.Bfree == 0 || fs.Ffree == 0)
}

func (m *memoryFiles) close() {
	if m == nil {
		return
	}
	for _, fd := range m.fds {
		unix.Close(fd)
	}
}

func statfs(fd int) *unix.Statfs_t {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return nil
	}
	return &fs
}
