package initproc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// loopbackUp sets IFF_UP on lo, see netdevice(7). The kernel then adds
// 127.0.0.1 and ::1 by itself.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name the interface: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// setInherited sets what every process of the sandbox inherits from pid 1.
func (p *process) setInherited() error {
	for _, w := range []struct {
		name, value string
		unless      unix.Errno
	}{
		// When memory runs out the kernel takes the sandbox before the
		// user's own programs; proc(5). A higher score that was set on the
		// caller cannot be lowered.
		{"self/oom_score_adj", "500", unix.EACCES},
		// A core dump of the program would be handed to a handler that may
		// run as root on the host; with no segment chosen there is nothing
		// in it (core(5)). RLIMIT_CORE is the other half. A kernel without
		// CONFIG_ELF_CORE has neither dumps nor this file.
		{"self/coredump_filter", "0", unix.ENOENT},
	} {
		if err := p.writeProc(w.name, w.value); err != nil && !errors.Is(err, w.unless) {
			return err
		}
	}
	return p.limitProcesses()
}

// limitProcesses sets RLIMIT_NPROC before U2 is made: the kernel then keeps the
// value as U2's own maximum, which nothing inside can raise (Linux 5.14). Before, it
// would count the caller's own processes here, and the program sets it for itself
// (addInherited), for good as well: it has no right to raise it.
func (p *process) limitProcesses() error {
	if p.plan.Process.NprocPerID {
		return nil
	}
	for _, r := range p.plan.Process.Rlimits {
		if r.Resource != unix.RLIMIT_NPROC {
			continue
		}
		limit := unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		if err := unix.Prlimit(0, r.Resource, &limit, nil); err != nil {
			return fmt.Errorf("set the limit of processes to %d: %w", r.Hard, err)
		}
	}
	return nil
}
