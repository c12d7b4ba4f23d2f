package seccomp

// refusals are the calls that the policy knows and does not let through. EPERM says "you may not", which most programs report; ENOSYS says
// "this kernel has no such thing", for calls whose callers then take another way.
var refusals = []group{
	{
		name:   "openat2",
		reason: "Its mode lies behind a pointer, where the rule for setuid bits cannot look. All callers fall back to openat.",
		calls:  []call{sysOpenat2},
		answer: answer{verdict: enosys},
		when:   onFakeroot, then: answer{verdict: allow},
	},
	{
		name:   "clone3",
		reason: "Its flags lie behind a pointer, where the rule for namespaces cannot look. C libraries fall back to clone.",
		calls:  []call{sysClone3},
		answer: answer{verdict: enosys},
	},
	{
		name:   "io_uring",
		reason: "A second way to make system calls, past every filter, and for years the largest source of kernel bugs.",
		calls:  []call{sysIoUringSetup, sysIoUringEnter, sysIoUringRegister},
		answer: answer{verdict: enosys},
	},
	{
		name:   "keyrings",
		reason: "Keyrings have no namespace of their own: Kerberos tickets and file system keys of the user lie there.",
		calls:  []call{sysAddKey, sysKeyctl, sysRequestKey},
		answer: answer{verdict: enosys},
	},
	{
		name:   "user faults",
		reason: "Holding the kernel at a chosen memory access makes races in it easy to win.",
		calls:  []call{sysUserfaultfd},
		answer: answer{verdict: enosys},
	},
	{
		name:   "new mount interface",
		reason: "Mounting, in the calls of Linux 5.2 and later, and listing mounts and namespaces.",
		calls: []call{
			sysOpenTree, sysOpenTreeAttr, sysMoveMount, sysFsopen, sysFsconfig, sysFsmount, sysFspick, sysMountSetattr, sysStatmount, sysListmount,
			sysListns,
		},
		answer: answer{verdict: enosys},
	},
	{
		name:   "other processes by descriptor",
		reason: "Taking another process's descriptors or acting on its memory.",
		calls:  []call{sysPidfdGetfd, sysProcessMadvise},
		answer: answer{verdict: enosys},
	},
	{
		name:   "rare memory calls",
		reason: "Secret memory takes pages out of the kernel's own map; remap_file_pages is only emulated since Linux 4.0.",
		calls:  []call{sysMemfdSecret, sysRemapFilePages},
		answer: answer{verdict: enosys},
	},
	{
		name:   "probes",
		reason: "Only code that the kernel itself puts into a traced program makes these, and the kernel lets that pass without asking filters.",
		calls:  []call{sysUretprobe, sysUprobe},
		answer: answer{verdict: enosys},
	},
	{
		name:   "newest calls",
		reason: "Too new to be needed; whoever tries one has the older call at hand.",
		calls:  []call{sysFileGetattr, sysFileSetattr, sysRseqSliceYield},
		answer: answer{verdict: enosys},
	},
	{
		name:   "calls that are no more",
		reason: "Reserved, never written or removed: the kernel's own answer is ENOSYS.",
		calls: []call{
			sysSysctl, sysCreateModule, sysGetKernelSyms, sysQueryModule, sysNfsservctl, sysGetpmsg, sysPutpmsg, sysAfsSyscall, sysTuxcall,
			sysSecurity, sysVserver, sysEpollCtlOld, sysEpollWaitOld, sysLookupDcookie,
		},
		answer: answer{verdict: enosys},
	},
	{
		name:   "debugging",
		reason: "A tracer can change its tracee's calls after the filter saw them (before Linux 4.8), and these reach deep into the kernel.",
		calls:  []call{sysPtrace, sysProcessVmReadv, sysProcessVmWritev},
		answer: answer{verdict: eperm},
		when:   onDebug, then: answer{verdict: allow},
	},
	{
		name:   "other processes",
		reason: "Comparing kernel objects of processes, and freeing the memory of dying ones.",
		calls:  []call{sysKcmp, sysProcessMrelease},
		answer: answer{verdict: eperm},
	},
	{
		name:   "mounts and roots",
		reason: "The sandbox's tree is what it is.",
		calls:  []call{sysMount, sysUmount2, sysPivotRoot, sysChroot},
		answer: answer{verdict: eperm},
	},
	{
		name:   "namespaces",
		reason: "See clone: new or other namespaces bring capabilities back.",
		calls:  []call{sysUnshare, sysSetns},
		answer: answer{verdict: eperm},
	},
	{
		name:   "code in the kernel",
		reason: "Modules, other kernels, BPF programs, performance counters.",
		calls: []call{
			sysInitModule, sysFinitModule, sysDeleteModule, sysKexecLoad, sysKexecFileLoad, sysBpf, sysPerfEventOpen,
		},
		answer: answer{verdict: eperm},
	},
	{
		name:   "the machine as a whole",
		reason: "Power, swap, accounting, quotas, the kernel log, ports, the hang-up of a terminal.",
		calls: []call{
			sysReboot, sysSwapon, sysSwapoff, sysAcct, sysQuotactl, sysQuotactlFd, sysSyslog, sysIoperm, sysIopl, sysVhangup,
		},
		answer: answer{verdict: eperm},
	},
	{
		name:   "clocks and host names",
		reason: "One clock serves everybody. The host name is set before the payload starts.",
		calls:  []call{sysClockSettime, sysSettimeofday, sysClockAdjtime, sysAdjtimex, sysSethostname, sysSetdomainname},
		answer: answer{verdict: eperm},
	},
	{
		name:   "file handles",
		reason: "Opening a file by its handle goes past every directory, and so past the root (CVE-2014-3519, \"shocker\").",
		calls:  []call{sysNameToHandleAt, sysOpenByHandleAt},
		answer: answer{verdict: eperm},
	},
	{
		name:   "fanotify",
		reason: "Watches whole mounts and file systems.",
		calls:  []call{sysFanotifyInit, sysFanotifyMark},
		answer: answer{verdict: eperm},
	},
	{
		name:   "memory nodes",
		reason: "Where pages lie on machines with several memory nodes, for other processes too. Programs manage without.",
		calls:  []call{sysMbind, sysSetMempolicy, sysGetMempolicy, sysSetMempolicyHomeNode, sysMigratePages, sysMovePages},
		answer: answer{verdict: eperm},
	},
	{
		name:   "gifting pages",
		reason: "vmsplice puts a program's pages into a pipe; several ways to write into files that are only readable began there.",
		calls:  []call{sysVmsplice},
		answer: answer{verdict: eperm},
	},
	{
		name:   "security modules",
		reason: "Asking for and changing attributes of AppArmor, SELinux or Smack.",
		calls:  []call{sysLsmGetSelfAttr, sysLsmSetSelfAttr, sysLsmListModules},
		answer: answer{verdict: eperm},
	},
	{
		name:   "relics",
		reason: "Kept by the kernel for very old programs: descriptor tables of 16-bit code, a.out libraries, file system lists.",
		calls:  []call{sysModifyLdt, sysUselib, sysUstat, sysSysfs},
		answer: answer{verdict: eperm},
	},
}
