package seccomp

import "golang.org/x/sys/unix"

// allowed are the calls that a payload may make, some of them depending on arguments. The groups follow what programs do.
var allowed = []group{
	{
		name:   "data",
		reason: "Reading and writing through a descriptor that the program has.",
		calls: []call{
			sysRead, sysWrite, sysReadv, sysWritev, sysPread64, sysPwrite64, sysPreadv, sysPwritev, sysPreadv2, sysPwritev2, sysLseek,
			sysSendfile, sysCopyFileRange, sysSplice, sysTee, sysFsync, sysFdatasync, sysSync, sysSyncfs, sysSyncFileRange, sysFallocate,
			sysFtruncate, sysTruncate, sysReadahead, sysFadvise64, sysCachestat,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "descriptors",
		reason: "Making, copying, locking and closing descriptors.",
		calls:  []call{sysClose, sysCloseRange, sysDup, sysDup2, sysDup3, sysFcntl, sysFlock, sysPipe, sysPipe2},
		answer: answer{verdict: allow},
	},
	{
		name:   "paths",
		reason: "Names in the sandbox's own tree. Mounts, ownership and Landlock decide what they reach.",
		calls: []call{
			sysAccess, sysFaccessat, sysFaccessat2, sysChdir, sysFchdir, sysGetcwd, sysGetdents, sysGetdents64, sysLink, sysLinkat, sysSymlink,
			sysSymlinkat, sysReadlink, sysReadlinkat, sysRename, sysRenameat, sysRenameat2, sysRmdir, sysUnlink, sysUnlinkat, sysUmask,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "file status",
		reason: "Looking at files and file systems, setting times and owners. A change of owner needs a capability that is valid inside only.",
		calls: []call{
			sysStat, sysFstat, sysLstat, sysNewfstatat, sysStatx, sysStatfs, sysFstatfs, sysUtime, sysUtimes, sysUtimensat, sysFutimesat,
			sysChown, sysFchown, sysFchownat, sysLchown,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "extended attributes",
		reason: "user.* and ACLs. security.* and trusted.* need capabilities over the file system's own user namespace.",
		calls: []call{
			sysGetxattr, sysLgetxattr, sysFgetxattr, sysGetxattrat, sysSetxattr, sysLsetxattr, sysFsetxattr, sysSetxattrat, sysListxattr,
			sysLlistxattr, sysFlistxattr, sysListxattrat, sysRemovexattr, sysLremovexattr, sysFremovexattr, sysRemovexattrat,
		},
		answer: answer{verdict: allow},
	},
	{
		name: "modes as the 2nd argument",
		reason: "A setuid or setgid file in a directory shared with the host would give the owner's id to whoever runs it there. " +
			"No program for ordinary users sets these bits.",
		calls:  []call{sysChmod, sysFchmod, sysMkdir, sysMknod, sysCreat},
		answer: answer{[]rule{{[]cond{anyBit(1, setidBits)}, eperm}}, allow},
		when:   onFakeroot, then: answer{verdict: allow},
	},
	{
		name:   "modes as the 3rd argument",
		reason: "As above. fchmodat2 came with Linux 6.6 and was forgotten in older filters.",
		calls:  []call{sysFchmodat, sysFchmodat2, sysMkdirat, sysMknodat},
		answer: answer{[]rule{{[]cond{anyBit(2, setidBits)}, eperm}}, allow},
		when:   onFakeroot, then: answer{verdict: allow},
	},
	{
		name:   "open",
		reason: "As above, where the call makes a file: without O_CREAT or O_TMPFILE the mode's register holds anything.",
		calls:  []call{sysOpen},
		answer: answer{[]rule{{[]cond{anyBit(1, createFlags), anyBit(2, setidBits)}, eperm}}, allow},
		when:   onFakeroot, then: answer{verdict: allow},
	},
	{
		name:   "openat",
		reason: "As open, one argument later.",
		calls:  []call{sysOpenat},
		answer: answer{[]rule{{[]cond{anyBit(2, createFlags), anyBit(3, setidBits)}, eperm}}, allow},
		when:   onFakeroot, then: answer{verdict: allow},
	},
	{
		name:   "waiting for descriptors",
		reason: "Event loops.",
		calls: []call{
			sysPoll, sysPpoll, sysSelect, sysPselect6, sysEpollCreate, sysEpollCreate1, sysEpollCtl, sysEpollWait, sysEpollPwait, sysEpollPwait2,
			sysEventfd, sysEventfd2, sysSignalfd, sysSignalfd4, sysTimerfdCreate, sysTimerfdGettime, sysTimerfdSettime,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "inotify",
		reason: "File managers, build watchers. Its instances and watches are counted against the user, and it has had bugs: not in the strict profile.",
		calls:  []call{sysInotifyInit, sysInotifyInit1, sysInotifyAddWatch, sysInotifyRmWatch},
		answer: answer{verdict: allow},
		when:   onStrict, then: answer{verdict: enosys},
	},
	{
		name:   "asynchronous input and output",
		reason: "libaio, for databases. Few programs use it, and it has had bugs: not in the strict profile.",
		calls:  []call{sysIoSetup, sysIoDestroy, sysIoSubmit, sysIoCancel, sysIoGetevents, sysIoPgetevents},
		answer: answer{verdict: allow},
		when:   onStrict, then: answer{verdict: enosys},
	},
	{
		name:   "memory",
		reason: "The program's own address space, locked pages within RLIMIT_MEMLOCK, and anonymous files.",
		calls: []call{
			sysBrk, sysMmap, sysMunmap, sysMremap, sysMprotect, sysMadvise, sysMsync, sysMincore, sysMlock, sysMlock2, sysMlockall, sysMunlock,
			sysMunlockall, sysMemfdCreate, sysMseal, sysPkeyAlloc, sysPkeyFree, sysPkeyMprotect, sysMembarrier, sysMapShadowStack,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "processes",
		reason: "Starting, waiting for and ordering processes.",
		calls: []call{
			sysFork, sysVfork, sysExecve, sysExecveat, sysExit, sysExitGroup, sysWait4, sysWaitid, sysGetpid, sysGetppid, sysGettid, sysGetpgid,
			sysGetpgrp, sysSetpgid, sysGetsid, sysSetsid, sysPidfdOpen,
		},
		answer: answer{verdict: allow},
	},
	{
		name: "clone",
		reason: "Threads and processes, but no new namespaces: in a user namespace of its own the payload would have every capability " +
			"over network filters, mounts and the like, the way into most kernel bugs of the last years.",
		calls:  []call{sysClone},
		answer: answer{[]rule{{[]cond{anyBit(0, namespaceFlags)}, eperm}}, allow},
	},
	{
		name:   "threads",
		reason: "What a C library needs for threads and locks.",
		calls: []call{
			sysFutex, sysFutexWait, sysFutexWake, sysFutexRequeue, sysFutexWaitv, sysSetRobustList, sysGetRobustList, sysSetTidAddress, sysRseq,
			sysSchedYield, sysArchPrctl, sysGetThreadArea, sysSetThreadArea,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "signals",
		reason: "The PID namespace bounds whom they reach.",
		calls: []call{
			sysRtSigaction, sysRtSigprocmask, sysRtSigpending, sysRtSigqueueinfo, sysRtSigreturn, sysRtSigsuspend, sysRtSigtimedwait,
			sysRtTgsigqueueinfo, sysSigaltstack, sysKill, sysTkill, sysTgkill, sysPidfdSendSignal, sysPause, sysRestartSyscall,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "identity",
		reason: "Asking for ids, and setting them: without capabilities only to ids that the process has.",
		calls: []call{
			sysGetuid, sysGeteuid, sysGetgid, sysGetegid, sysGetresuid, sysGetresgid, sysGetgroups, sysSetuid, sysSetgid, sysSetreuid, sysSetregid,
			sysSetresuid, sysSetresgid, sysSetfsuid, sysSetfsgid, sysSetgroups, sysCapget, sysCapset,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "scheduling",
		reason: "Priorities and affinity of the payload's own processes; resource limits keep it from raising them.",
		calls: []call{
			sysSchedGetaffinity, sysSchedSetaffinity, sysSchedGetattr, sysSchedSetattr, sysSchedGetparam, sysSchedSetparam, sysSchedGetscheduler,
			sysSchedSetscheduler, sysSchedGetPriorityMax, sysSchedGetPriorityMin, sysSchedRrGetInterval, sysGetpriority, sysSetpriority,
			sysIoprioGet, sysIoprioSet, sysGetcpu,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "time",
		reason: "Reading clocks, sleeping, timers. Not setting a clock.",
		calls: []call{
			sysTime, sysGettimeofday, sysTimes, sysClockGettime, sysClockGetres, sysClockNanosleep, sysNanosleep, sysAlarm, sysGetitimer,
			sysSetitimer, sysTimerCreate, sysTimerDelete, sysTimerGettime, sysTimerGetoverrun, sysTimerSettime,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "system information",
		reason: "What any program may ask about the machine, its use of it, and random bytes.",
		calls:  []call{sysUname, sysSysinfo, sysGetrusage, sysGetrlimit, sysGetrandom},
		answer: answer{verdict: allow},
	},
	{
		name: "setrlimit",
		reason: "RLIMIT_CORE stays at 1, the one value with which the kernel starts no core dump handler: such a handler runs as root outside " +
			"every sandbox. Success is pretended, since gpg and ssh-agent end when they cannot switch dumps off.",
		calls:  []call{sysSetrlimit},
		answer: answer{[]rule{{[]cond{equals(0, unix.RLIMIT_CORE)}, pretended}}, allow},
	},
	{
		name:   "prlimit64",
		reason: "As setrlimit. A call that also asks for the old value cannot be pretended and is refused.",
		calls:  []call{sysPrlimit64},
		answer: answer{[]rule{
			{[]cond{equals(1, unix.RLIMIT_CORE), notNull(2), notNull(3)}, eperm},
			{[]cond{equals(1, unix.RLIMIT_CORE), notNull(2)}, pretended},
		}, allow},
	},
	{
		name:   "socket",
		reason: "Unix, IPv4, IPv6 and the routing part of netlink, of which C libraries ask the interfaces. Every other family is kernel code that sandboxes do not need: AF_ALG alone broke all containers once (CVE-2026-31431).",
		calls:  []call{sysSocket},
		answer: answer{[]rule{
			{[]cond{oneOf(0, unix.AF_UNSPEC, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6)}, allow},
			{[]cond{equals(0, unix.AF_NETLINK), equals(2, unix.NETLINK_ROUTE)}, allow},
		}, noFamily},
	},
	{
		name:   "socketpair",
		reason: "Only Unix sockets can be made in pairs by ordinary programs.",
		calls:  []call{sysSocketpair},
		answer: answer{[]rule{{[]cond{equals(0, unix.AF_UNIX)}, allow}}, noFamily},
	},
	{
		name:   "sockets",
		reason: "Using the sockets that could be made. The network namespace decides whom they reach.",
		calls: []call{
			sysBind, sysListen, sysAccept, sysAccept4, sysConnect, sysShutdown, sysGetsockname, sysGetpeername, sysGetsockopt,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "setsockopt",
		reason: "Not TCP_ULP, which puts kernel TLS or ESP-in-TCP on a socket. In the strict profile no packet filters either.",
		calls:  []call{sysSetsockopt},
		answer: answer{[]rule{tcpULP()}, allow},
		when:   onStrict, then: answer{[]rule{
			tcpULP(),
			{[]cond{equals(1, unix.SOL_SOCKET), oneOf(2, unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF, unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF)}, noOption},
		}, allow},
	},
	{
		name:   "messages with flags as the 4th argument",
		reason: "In the strict profile without MSG_OOB: urgent data on Unix sockets is rare and had a use after free (CVE-2025-38236).",
		calls:  []call{sysSendto, sysRecvfrom, sysSendmmsg, sysRecvmmsg},
		answer: answer{verdict: allow},
		when:   onStrict, then: answer{[]rule{{[]cond{anyBit(3, unix.MSG_OOB)}, noOperation}}, allow},
	},
	{
		name:   "messages with flags as the 3rd argument",
		reason: "As above.",
		calls:  []call{sysSendmsg, sysRecvmsg},
		answer: answer{verdict: allow},
		when:   onStrict, then: answer{[]rule{{[]cond{anyBit(2, unix.MSG_OOB)}, noOperation}}, allow},
	},
	{
		name:   "System V IPC",
		reason: "In an IPC namespace of the sandbox's own. Databases use it; not in the strict profile.",
		calls: []call{
			sysShmget, sysShmat, sysShmdt, sysShmctl, sysSemget, sysSemop, sysSemtimedop, sysSemctl, sysMsgget, sysMsgsnd, sysMsgrcv, sysMsgctl,
		},
		answer: answer{verdict: allow},
		when:   onStrict, then: answer{verdict: enosys},
	},
	{
		name:   "POSIX message queues",
		reason: "In the same namespace, bounded by RLIMIT_MSGQUEUE.",
		calls:  []call{sysMqOpen, sysMqUnlink, sysMqTimedsend, sysMqTimedreceive, sysMqNotify, sysMqGetsetattr},
		answer: answer{verdict: allow},
	},
	{
		name:   "confining oneself",
		reason: "A program may add filters and Landlock layers, which only take away.",
		calls:  []call{sysSeccomp, sysLandlockCreateRuleset, sysLandlockAddRule, sysLandlockRestrictSelf},
		answer: answer{verdict: allow},
	},
	{
		name:   "prctl",
		reason: "Names, death signals, dumpability and the like. In the strict profile not PR_SET_MM, which rewrites what /proc shows of a process.",
		calls:  []call{sysPrctl},
		answer: answer{verdict: allow},
		when:   onStrict, then: answer{[]rule{{[]cond{equals(0, unix.PR_SET_MM)}, eperm}}, allow},
	},
	{
		name: "ioctl",
		reason: "All but four requests on terminals: TIOCSTI and TIOCLINUX type into a terminal, TIOCCONS takes the console's output, TIOCSETD " +
			"loads line disciplines.",
		calls:  []call{sysIoctl},
		answer: answer{[]rule{{[]cond{oneOf(1, unix.TIOCSTI, tiocLinux, unix.TIOCSETD, unix.TIOCCONS)}, eperm}}, allow},
	},
	{
		name:   "personality",
		reason: "Asking for it, Linux as it is, and the two harmless changes: 32-bit names and old version numbers. Not switching off address randomisation.",
		calls:  []call{sysPersonality},
		answer: answer{[]rule{{[]cond{oneOf(0, perLinux, perLinux32, uname26, perLinux32|uname26, askPersonality)}, allow}}, eperm},
	},
}

// tcpULP refuses setsockopt(fd, IPPROTO_TCP, TCP_ULP, …).
func tcpULP() rule {
	return rule{[]cond{equals(1, unix.IPPROTO_TCP), equals(2, unix.TCP_ULP)}, noOption}
}

const (
	setidBits   = unix.S_ISUID | unix.S_ISGID
	createFlags = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY // O_TMPFILE without the bit that it shares with O_DIRECTORY

	// CLONE_NEWTIME is not among them: clone(2) reads that bit as part of the exit signal.
	namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID |
		unix.CLONE_NEWNET

	tiocLinux = 0x541C // ioctl_console(2); x/sys has no name for it

	// From <linux/personality.h>, for which x/sys has no names.
	perLinux       = 0
	perLinux32     = 0x8
	uname26        = 0x20000
	askPersonality = 0xffffffff
)
