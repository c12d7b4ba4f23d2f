package probe

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelChecks tries the parts of the kernel that a program does not need and
// an attacker does.
func kernelChecks() []check {
	return []check{
		{"H1", "clone-flags", "no new namespace can be made or joined", cloneFlags},
		{"H2", "unknown-call", "a system call that the filter does not know does not exist", unknownCalls},
		{"H3", "x32", "calls of the x32 ABI do not exist", x32},
		{"H4", "socket-families", "only unix, inet, inet6 and route sockets can be made", socketFamilies},
		{"H4", "socket-works", "the allowed families work", socketsWork},
		{"H6", "ptrace", "no process can be traced or read", noTrace},
		{"H8", "mount-api", "no mount can be made by the old or the new interface", noMountAPI},
		{"H8", "kernel-surface", "bpf, perf, io_uring, userfaultfd, kexec and modules are refused", kernelSurface},
		{"H8", "file-handles", "no file can be opened by handle", fileHandles},
		{"H8", "admin", "the clock, the host's name, swap, quota and reboot cannot be touched", adminCalls},
		{"H9", "landlock", "Landlock is in force where the kernel has it", landlocked},
		{"H11", "vsock", "no host or hypervisor socket can be made", vsock},
	}
}

func ioctlErrno(fd int, request uint64, arg *[16]byte) unix.Errno {
	return call(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(arg)))
}

func expect(text string, want unix.Errno, number uintptr, args ...uintptr) attempt {
	return attempt{text, []unix.Errno{want}, func() unix.Errno { return call(number, args...) }}
}

func cloneFlags(*Facts) outcome {
	var attempts []attempt
	for _, ns := range []struct {
		name string
		flag uintptr
	}{
		{"user", unix.CLONE_NEWUSER},
		{"mnt", unix.CLONE_NEWNS},
		{"net", unix.CLONE_NEWNET},
		{"pid", unix.CLONE_NEWPID},
		{"ipc", unix.CLONE_NEWIPC},
		{"uts", unix.CLONE_NEWUTS},
		{"cgroup", unix.CLONE_NEWCGROUP},
	} {
		attempts = append(attempts,
			expect("unshare "+ns.name, unix.EPERM, unix.SYS_UNSHARE, ns.flag),
			attempt{"clone " + ns.name, []unix.Errno{unix.EPERM}, func() unix.Errno {
				pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "exit", "0"},
					&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: ns.flag}})
				if err == nil {
					syscall.Wait4(pid, nil, 0, nil)
				}
				errno, _ := err.(syscall.Errno)
				return errno
			}})
	}
	minus1 := ^uintptr(0)
	attempts = append(attempts,
		expect("setns", unix.EPERM, unix.SYS_SETNS, minus1, 0),
		expect("clone3", unix.ENOSYS, unix.SYS_CLONE3, 0, 0),
	)
	o := refused(attempts...)
	if o.state == Held {
		o.detail = fmt.Sprintf("%d attempts refused", len(attempts))
	}
	return o
}

func unknownCalls(*Facts) outcome {
	return refused(
		expect("number 700", unix.ENOSYS, 700),
		expect("number 9999", unix.ENOSYS, 9999),
		expect("number 0x3fffffff", unix.ENOSYS, 0x3fffffff),
	)
}

// x32Bit marks a call of the x32 ABI on x86-64; elsewhere it is only a number
// that no call has.
const x32Bit = 0x40000000

func x32(*Facts) outcome {
	return refused(
		expect("x32 getpid", unix.ENOSYS, x32Bit|unix.SYS_GETPID),
		expect("x32 ptrace", unix.ENOSYS, x32Bit|521),
		expect("x32 execve", unix.ENOSYS, x32Bit|520),
	)
}

func socketFamilies(*Facts) outcome {
	var attempts []attempt
	for name, args := range map[string][3]int{
		"AF_ALG": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, "AF_PACKET": {unix.AF_PACKET, unix.SOCK_RAW, 0},
		"AF_VSOCK": {unix.AF_VSOCK, unix.SOCK_STREAM, 0}, "AF_KEY": {unix.AF_KEY, unix.SOCK_RAW, 2},
		"AF_CAN": {unix.AF_CAN, unix.SOCK_RAW, 1}, "AF_XDP": {unix.AF_XDP, unix.SOCK_RAW, 0},
		"AF_TIPC": {unix.AF_TIPC, unix.SOCK_STREAM, 0}, "AF_RDS": {unix.AF_RDS, unix.SOCK_SEQPACKET, 0},
		"AF_BLUETOOTH": {unix.AF_BLUETOOTH, unix.SOCK_RAW, 0}, "AF_RXRPC": {unix.AF_RXRPC, unix.SOCK_DGRAM, 0},
		"AF_NFC": {unix.AF_NFC, unix.SOCK_RAW, 0}, "AF_SMC": {unix.AF_SMC, unix.SOCK_STREAM, 0},
		"netfilter": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		"xfrm":      {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM},
		"uevent":    {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT},
		"inet raw":  {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
	} {
		attempts = append(attempts, attempt{name, []unix.Errno{unix.EAFNOSUPPORT, unix.EPERM, unix.EPROTONOSUPPORT}, func() unix.Errno {
			fd, err := unix.Socket(args[0], args[1]|unix.SOCK_CLOEXEC, args[2])
			if err == nil {
				unix.Close(fd)
			}
			errno, _ := err.(unix.Errno)
			return errno
		}})
	}
	return refused(attempts...)
}

func socketsWork(*Facts) outcome {
	for name, args := range map[string][3]int{
		"unix": {unix.AF_UNIX, unix.SOCK_STREAM, 0}, "inet": {unix.AF_INET, unix.SOCK_STREAM, 0},
		"inet udp": {unix.AF_INET, unix.SOCK_DGRAM, 0}, "route": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
	} {
		fd, err := unix.Socket(args[0], args[1]|unix.SOCK_CLOEXEC, args[2])
		if err != nil {
			return broken("%s: %v", name, err)
		}
		unix.Close(fd)
	}
	return held("unix, inet, route")
}

func noTrace(*Facts) outcome {
	return refused(
		expect("ptrace(TRACEME)", unix.EPERM, unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0),
		expect("process_vm_readv", unix.EPERM, unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0, 0),
		expect("process_vm_writev", unix.EPERM, unix.SYS_PROCESS_VM_WRITEV, 1, 0, 0, 0, 0, 0),
		expect("pidfd_getfd", unix.ENOSYS, unix.SYS_PIDFD_GETFD, 0, 0, 0),
		expect("process_madvise", unix.ENOSYS, unix.SYS_PROCESS_MADVISE, 0, 0, 0, 0, 0),
		expect("kcmp", unix.EPERM, unix.SYS_KCMP, 1, 1, 0, 0, 0),
	)
}

func noMountAPI(*Facts) outcome {
	return refused(
		expect("mount", unix.EPERM, unix.SYS_MOUNT, 0, 0, 0, 0, 0),
		expect("umount2", unix.EPERM, unix.SYS_UMOUNT2, 0, 0),
		expect("pivot_root", unix.EPERM, unix.SYS_PIVOT_ROOT, 0, 0),
		expect("open_tree", unix.ENOSYS, unix.SYS_OPEN_TREE, 0, 0, 0),
		expect("move_mount", unix.ENOSYS, unix.SYS_MOVE_MOUNT, 0, 0, 0, 0, 0),
		expect("fsopen", unix.ENOSYS, unix.SYS_FSOPEN, 0, 0),
		expect("fsconfig", unix.ENOSYS, unix.SYS_FSCONFIG, 0, 0, 0, 0, 0),
		expect("fsmount", unix.ENOSYS, unix.SYS_FSMOUNT, 0, 0, 0),
		expect("fspick", unix.ENOSYS, unix.SYS_FSPICK, 0, 0, 0),
		expect("mount_setattr", unix.ENOSYS, unix.SYS_MOUNT_SETATTR, 0, 0, 0, 0, 0),
	)
}

func kernelSurface(*Facts) outcome {
	return refused(
		expect("bpf", unix.EPERM, unix.SYS_BPF, 0, 0, 0),
		expect("perf_event_open", unix.EPERM, unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0),
		expect("io_uring_setup", unix.ENOSYS, unix.SYS_IO_URING_SETUP, 1, 0),
		expect("userfaultfd", unix.ENOSYS, unix.SYS_USERFAULTFD, 0),
		expect("kexec_load", unix.EPERM, unix.SYS_KEXEC_LOAD, 0, 0, 0, 0),
		expect("init_module", unix.EPERM, unix.SYS_INIT_MODULE, 0, 0, 0),
		expect("finit_module", unix.EPERM, unix.SYS_FINIT_MODULE, 0, 0, 0),
		expect("delete_module", unix.EPERM, unix.SYS_DELETE_MODULE, 0, 0),
		expect("vmsplice", unix.EPERM, unix.SYS_VMSPLICE, 0, 0, 0, 0),
		expect("fanotify_init", unix.EPERM, unix.SYS_FANOTIFY_INIT, 0, 0),
		expect("personality", unix.EPERM, unix.SYS_PERSONALITY, 0x0040000),
	)
}

func fileHandles(*Facts) outcome {
	return refused(
		expect("open_by_handle_at", unix.EPERM, unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0),
		expect("name_to_handle_at", unix.EPERM, unix.SYS_NAME_TO_HANDLE_AT, 0, 0, 0, 0, 0),
	)
}

func adminCalls(*Facts) outcome {
	return refused(
		expect("clock_settime", unix.EPERM, unix.SYS_CLOCK_SETTIME, 0, 0),
		expect("settimeofday", unix.EPERM, unix.SYS_SETTIMEOFDAY, 0, 0),
		expect("sethostname", unix.EPERM, unix.SYS_SETHOSTNAME, 0, 0),
		expect("swapon", unix.EPERM, unix.SYS_SWAPON, 0, 0),
		expect("quotactl", unix.EPERM, unix.SYS_QUOTACTL, 0, 0, 0, 0),
		expect("reboot", unix.EPERM, unix.SYS_REBOOT, 0, 0, 0, 0),
		expect("syslog", unix.EPERM, unix.SYS_SYSLOG, 10, 0, 0),
		expect("acct", unix.EPERM, unix.SYS_ACCT, 0),
		expect("vhangup", unix.EPERM, unix.SYS_VHANGUP),
	)
}

func vsock(*Facts) outcome {
	return refused(attempt{"AF_VSOCK", nil, func() unix.Errno {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		errno, _ := err.(unix.Errno)
		return errno
	}})
}
