package probe

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxLandlockLayers is LANDLOCK_MAX_NUM_LAYERS of the kernel: how many domains
// can be stacked on one process.
const maxLandlockLayers = 16

// landlocked finds out whether a domain is in force, which the kernel does not
// tell: it stacks domains of its own until there is no room, and counts. The
// thread on which it does that is thrown away.
func landlocked(*Facts) outcome {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return unknown("the kernel has no Landlock: %s", errnoName(errno))
	}
	type result struct {
		layers int
		errno  unix.Errno
	}
	done := make(chan result)
	go func() {
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		layers, errno := stackLandlock()
		done <- result{layers, errno}
	}()
	r := <-done
	switch {
	case r.errno != unix.E2BIG:
		return unknown("ABI %d: after %d layers %s", abi, r.layers, errnoName(r.errno))
	case r.layers < maxLandlockLayers:
		return held("ABI %d, %d layer(s) in force", abi, maxLandlockLayers-r.layers)
	default:
		return broken("ABI %d, but no domain is in force", abi)
	}
}

// stackLandlock restricts the calling thread until the kernel refuses and
// returns how often it did not.
func stackLandlock() (layers int, errno unix.Errno) {
	// The first version of struct landlock_ruleset_attr: handled_access_fs.
	attr := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SOCK)
	for layers = range maxLandlockLayers + 1 {
		fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
			uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
		if errno != 0 {
			return layers, errno
		}
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
		unix.Close(int(fd))
		if errno != 0 {
			return layers, errno
		}
	}
	return layers, 0
}
