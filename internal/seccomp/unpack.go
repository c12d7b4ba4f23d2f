package seccomp

import "golang.org/x/sys/unix"

// goThread is how the Go runtime makes a thread: CLONE_VM, FS, FILES, SIGHAND,
// SYSVSEM and THREAD; on x86-64 with CLONE_SETTLS.
const goThread = 0x50f00

// goProcess are the calls of a process of ours that works with what is open, and
// of the Go runtime in it. There is no execve, no signal to anybody else, and
// nothing of mounts, namespaces and credentials.
var goProcess = []group{
	{
		name:   "data",
		reason: "Reading and writing through descriptors.",
		calls: []call{
			sysRead, sysWrite, sysReadv, sysWritev, sysPread64, sysPwrite64, sysLseek, sysSendfile, sysCopyFileRange, sysSplice,
			sysFtruncate, sysFallocate, sysFsync, sysFdatasync, sysSyncfs, sysSyncFileRange, sysFadvise64,
			sysClose, sysCloseRange, sysDup, sysDup3, sysFcntl, sysPipe2, sysFlock,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "memory",
		reason: "Memory, none of it executable, and none shared: RLIMIT_DATA does not count that.",
		calls:  []call{sysMmap},
		answer: answer{[]rule{{[]cond{anyBit(2, unix.PROT_EXEC)}, eperm}, {[]cond{anyBit(3, unix.MAP_SHARED)}, eperm}}, allow},
	},
	{
		name:   "protection",
		reason: "None of it becomes executable.",
		calls:  []call{sysMprotect},
		answer: answer{[]rule{{[]cond{anyBit(2, unix.PROT_EXEC)}, eperm}}, allow},
	},
	{
		name:   "the Go runtime",
		reason: "What it needs to run goroutines and collect garbage.",
		calls: []call{
			sysMunmap, sysMadvise, sysMremap, sysBrk, sysMincore,
			sysFutex, sysSchedYield, sysSchedGetaffinity, sysGettid, sysGetpid, sysNanosleep, sysClockNanosleep, sysClockGettime,
			sysGettimeofday, sysRtSigaction, sysRtSigprocmask, sysRtSigreturn, sysSigaltstack, sysRestartSyscall, sysExit, sysExitGroup,
			sysGetrandom, sysRseq, sysSetRobustList, sysEpollCreate1, sysEpollCtl, sysEpollPwait, sysEpollWait, sysEventfd2,
			sysGetuid, sysGeteuid, sysGetgid, sysGetegid, sysUname,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "threads",
		reason: "Threads of this process, and nothing else.",
		calls:  []call{sysClone},
		answer: answer{[]rule{{[]cond{oneOf(0, goThread, goThread|unix.CLONE_SETTLS)}, allow}}, eperm},
	},
	{
		name:   "prctl",
		reason: "The runtime names its memory.",
		calls:  []call{sysPrctl},
		answer: answer{[]rule{{[]cond{equals(0, unix.PR_SET_VMA)}, allow}}, eperm},
	},
}

// unpackable are those that a process which does nothing but read what is open
// and write files below its root has beside them. There is no socket.
var unpackable = []group{
	{
		name:   "names",
		reason: "Files below the root, by descriptor.",
		calls: []call{
			sysOpenat, sysOpenat2, sysGetdents64, sysNewfstatat, sysFstat, sysStatx, sysFstatfs, sysReadlinkat, sysFaccessat, sysFaccessat2,
			sysMkdirat, sysUnlinkat, sysLinkat, sysSymlinkat, sysRenameat, sysRenameat2, sysUmask,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "attributes",
		reason: "Owners, modes, times and user.* attributes of new files.",
		calls: []call{
			sysFchmod, sysFchmodat, sysFchmodat2, sysFchown, sysFchownat, sysUtimensat,
			sysFsetxattr, sysFgetxattr, sysFlistxattr, sysFremovexattr,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "special files",
		reason: "Fifos; the kernel makes no device in a user namespace anyway.",
		calls:  []call{sysMknodat},
		answer: answer{[]rule{
			{[]cond{{arg: 2, op: opMasked, mask: unix.S_IFMT, val: unix.S_IFIFO}}, allow},
			{[]cond{{arg: 2, op: opMasked, mask: unix.S_IFMT, val: unix.S_IFREG}}, allow},
		}, eperm},
	},
	{
		name:   "ioctl",
		reason: "FICLONE and FICLONERANGE copy without copying.",
		calls:  []call{sysIoctl},
		answer: answer{[]rule{{[]cond{oneOf(1, unix.FICLONE, unix.FICLONERANGE)}, allow}}, eperm},
	},
}

// BuildUnpacker returns the program for the process that unpacks archives of
// strangers. pid is its own number, the only one that it may send a signal to:
// the Go runtime wakes its threads by signals. A call that the policy knows and
// that is not in the list gets EPERM, all others ENOSYS; another architecture
// ends the process.
func BuildUnpacker(pid int) ([]unix.SockFilter, error) { return buildUnpacker(Native(), pid) }

func buildUnpacker(arch Arch, pid int) ([]unix.SockFilter, error) {
	return buildList(arch, pid, goProcess, unpackable)
}

// buildList builds the program that allows nothing but what the lists say.
func buildList(arch Arch, pid int, lists ...[]group) ([]unix.SockFilter, error) {
	if err := arch.check(); err != nil {
		return nil, err
	}
	d := newDispatch(arch, enosys)
	known := d.index(answer{verdict: eperm})
	for c := range calls {
		d.set(call(c), known)
	}
	for _, list := range lists {
		for i := range list {
			index := d.index(list[i].answer)
			for _, c := range list[i].calls {
				d.set(c, index)
			}
		}
	}
	own := answer{[]rule{{[]cond{equals(0, uint32(pid))}, allow}}, eperm}
	d.set(sysTgkill, d.index(own))
	d.set(sysClone3, d.index(answer{verdict: enosys}))
	return d.build()
}
