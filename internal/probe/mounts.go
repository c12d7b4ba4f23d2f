package probe

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountChecks looks at the mount table and at /proc and /sys.
func mountChecks() []check {
	return []check{
		{"C9", "mount-flags", "every mount is nosuid, and nodev but for the device nodes", mountFlags},
		{"C9", "propagation", "no mount event comes from or goes to the host", propagation},
		{"A1", "locked-mounts", "no mount can be removed, moved or made writable", lockedMounts},
		{"C6", "proc-masks", "what /proc tells of the host is masked", procMasks},
		{"C8", "proc-readonly", "no switch of the kernel below /proc can be written", procReadOnly},
		{"C11", "proc-fresh", "/proc is a procfs of the sandbox's own pid namespace", procFresh},
		{"C9", "no-sysfs", "no sysfs, cgroupfs, debugfs or securityfs is mounted", noSysfs},
		{"C10", "mount-paths", "the mount table names no home directory of the host", mountPaths},
	}
}

// mountLine is one line of /proc/self/mountinfo; see proc_pid_mountinfo(5).
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	(1)(2)(3)   (4)   (5)      (6)      (7)   (8) (9)   (10)         (11)
type mountLine struct {
	Root, Target, FSType, Source, Super string
	Options, Tags                       []string
}

// parseMounts parses mountinfo; lines that have not the form above are
// skipped, since the kernel writes none.
func parseMounts(in io.Reader) ([]mountLine, error) {
	var list []mountLine
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		before, after, found := strings.Cut(scanner.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !found || len(left) < 6 || len(right) < 3 {
			continue
		}
		list = append(list, mountLine{
			Root: left[3], Target: left[4], Options: strings.Split(left[5], ","), Tags: left[6:],
			FSType: right[0], Source: right[1], Super: right[2],
		})
	}
	return list, scanner.Err()
}

func ownMounts() ([]mountLine, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseMounts(file)
}

// isDevice says whether target is one of the nodes that are bound from the
// host's /dev; with nodev they would be dead.
func isDevice(target string) bool {
	name, found := strings.CutPrefix(target, "/dev/")
	number, known := devices[name]
	return found && known && (number != 0 || name == "tty" || name == "console")
}

func mountFlags(*Facts) outcome {
	list, err := ownMounts()
	if err != nil {
		return broken("%v", err)
	}
	var wrong []string
	for _, m := range list {
		if !slices.Contains(m.Options, "nosuid") {
			wrong = append(wrong, m.Target+" lacks nosuid")
		}
		// devpts has no device nodes but terminals, which need it off.
		if !slices.Contains(m.Options, "nodev") && !isDevice(m.Target) && m.FSType != "devpts" {
			wrong = append(wrong, m.Target+" lacks nodev")
		}
		switch m.Target {
		case "/proc", "/dev/shm", "/dev/mqueue":
			if !slices.Contains(m.Options, "noexec") {
				wrong = append(wrong, m.Target+" lacks noexec")
			}
		}
	}
	if len(wrong) > 0 {
		return broken("%s", strings.Join(wrong, ", "))
	}
	return held("%d mounts", len(list))
}

func propagation(*Facts) outcome {
	list, err := ownMounts()
	if err != nil {
		return broken("%v", err)
	}
	for _, m := range list {
		for _, tag := range m.Tags {
			if strings.HasPrefix(tag, "shared:") || strings.HasPrefix(tag, "master:") {
				return broken("%s is %s", m.Target, tag)
			}
		}
	}
	return held("all %d private", len(list))
}

// lockedMounts would undo what hides the host. A fake root has no capability
// for it; the seccomp filter refuses it before that.
func lockedMounts(*Facts) outcome {
	list, err := ownMounts()
	if err != nil {
		return broken("%v", err)
	}
	var attempts []attempt
	errnoOf := func(err error) unix.Errno { errno, _ := err.(unix.Errno); return errno }
	for _, m := range list {
		attempts = append(attempts,
			attempt{"umount " + m.Target, nil, func() unix.Errno { return errnoOf(unix.Unmount(m.Target, unix.MNT_DETACH)) }},
			attempt{"remount " + m.Target, nil, func() unix.Errno {
				return errnoOf(unix.Mount("", m.Target, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
			}})
	}
	o := refused(attempts...)
	if o.state == Held {
		o.detail = fmt.Sprintf("%d attempts refused", len(attempts))
	}
	return o
}

// maskedPaths tell of the host's hardware, kernel, keys or load. Those that a
// kernel does not have are passed over.
var maskedPaths = []string{
	"acpi", "asound", "bootconfig", "cmdline", "config.gz", "diskstats", "driver", "interrupts", "iomem",
	"ioports", "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags",
	"latency_stats", "modules", "mtrr", "partitions", "pressure", "sched_debug", "scsi", "slabinfo",
	"swaps", "timer_list", "timer_stats", "tty", "vmallocinfo",
}

func procMasks(*Facts) outcome {
	var shown []string
	present := 0
	for _, name := range maskedPaths {
		path := "/proc/" + name
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		present++
		if info.IsDir() {
			if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
				shown = append(shown, path)
			}
			continue
		}
		if readsSomething(path) {
			shown = append(shown, path)
		}
	}
	if len(shown) > 0 {
		return broken("readable: %s", strings.Join(shown, " "))
	}
	return held("%d of %d exist, all empty or refused", present, len(maskedPaths))
}

// readsSomething reads one byte; nothing may block, as kmsg would.
func readsSomething(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, _ := unix.Read(fd, make([]byte, 1))
	return n > 0
}

func procReadOnly(*Facts) outcome {
	var attempts []attempt
	for _, path := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/hostname",
		"/proc/sys/kernel/domainname", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn",
		"/proc/sys/vm/drop_caches", "/proc/sys/fs/mqueue/msg_max", "/proc/sys/user/max_user_namespaces",
		"/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/bus/pci/00", "/proc/fs/nfsd/threads",
	} {
		attempts = append(attempts, openAttempt(path, unix.O_WRONLY))
	}
	return refused(attempts...)
}

func procFresh(*Facts) outcome {
	var st unix.Statfs_t
	if err := unix.Statfs("/proc", &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return broken("type %#x, %v", st.Type, err)
	}
	self, err := os.Readlink("/proc/self")
	if err != nil || self != fmt.Sprint(os.Getpid()) {
		return broken("/proc/self is %q, own pid %d, %v", self, os.Getpid(), err)
	}
	return held("/proc/self is %s", self)
}

func noSysfs(facts *Facts) outcome {
	list, err := ownMounts()
	if err != nil {
		return broken("%v", err)
	}
	for _, m := range list {
		switch m.FSType {
		case "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf", "configfs", "fusectl", "efivarfs", "pstore", "binfmt_misc":
			return broken("%s on %s", m.FSType, m.Target)
		}
	}
	return held("none of %d mounts", len(list))
}

func mountPaths(facts *Facts) outcome {
	if !facts.recognisable() {
		return unknown("the caller's name, %q, is not one that could be recognised", facts.UserName)
	}
	list, err := ownMounts()
	if err != nil {
		return broken("%v", err)
	}
	for _, m := range list {
		for _, text := range []string{m.Root, m.Source, m.Super} {
			if facts.names(text) {
				// Documented: the kernel shows the source of a bind and
				// the layers of an overlay, and nothing can hide it.
				return weaker("%s: %s", m.Target, text)
			}
		}
	}
	return held("not named")
}
