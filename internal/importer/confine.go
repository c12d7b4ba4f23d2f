package importer

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/seccomp"
	"github.com/sbx-run/sbx/mounts"
)

// confine leaves the process nothing but what is open and the directory, which
// is its root and which it gives back. The order matters: mounting takes a
// capability, and giving up capabilities takes calls that the filter refuses.
func confine(dir string) (*os.File, error) {
	if err := mounts.Confine(dir); err != nil {
		return nil, err //nolint:wrapcheck // it says what was being done
	}
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	tree := os.NewFile(uintptr(fd), "image") // what messages call it
	unix.Umask(0)
	for _, step := range []func() error{setLimits, dropCapabilities, installFilter} {
		if err := step(); err != nil {
			tree.Close()
			return nil, err
		}
	}
	return tree, nil
}

// setLimits bounds what the kernel keeps for the process. RLIMIT_DATA counts the
// Go heap, but not the address space that the runtime reserves.
func setLimits() error {
	for _, l := range []struct {
		what     string
		resource int
		value    uint64
	}{
		{"memory", unix.RLIMIT_DATA, plan.ImportMemory},
		{"core dumps", unix.RLIMIT_CORE, 0},
		{"open files", unix.RLIMIT_NOFILE, 4096}, // a copy takes two for each level of directories
		{"message queues", unix.RLIMIT_MSGQUEUE, 0},
		{"locked memory", unix.RLIMIT_MEMLOCK, 0},
	} {
		var old unix.Rlimit
		if err := unix.Getrlimit(l.resource, &old); err != nil {
			return fmt.Errorf("read the limit of %s: %w", l.what, err)
		}
		limit := unix.Rlimit{Cur: min(l.value, old.Max), Max: min(l.value, old.Max)}
		if err := unix.Setrlimit(l.resource, &limit); err != nil {
			return fmt.Errorf("set the limit of %s: %w", l.what, err)
		}
	}
	return nil
}

// keptCapabilities are over files alone, and hold for the ids of the image: set
// owners, modes and times of files that belong to any of them.
const keptCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID

// dropCapabilities takes all others from every thread: capset(2) concerns one.
// The ambient set follows, because nothing stays inheritable.
func dropCapabilities() error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{{Effective: keptCapabilities, Permitted: keptCapabilities}}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
	runtime.KeepAlive(header)
	runtime.KeepAlive(data)
	if errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	return nil
}

// installFilter installs the filter for every thread, and no_new_privs with it.
func installFilter() error {
	filter, err := seccomp.BuildUnpacker(os.Getpid())
	if err != nil {
		return err //nolint:wrapcheck // it says what was being done
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	prog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Not 0 and no errno: the number of a thread that could not be given it.
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(prog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return fmt.Errorf("install the system call filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("install the system call filter: thread %d has another one (please report this)", thread)
	}
	return nil
}
