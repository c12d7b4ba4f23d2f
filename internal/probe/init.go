package probe

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// initChecks attacks the sandbox's first process, which is on the other side
// of the boundary and holds what the payload must not see.
func initChecks() []check {
	return []check{
		{"B5", "init-memory", "nothing of process 1 can be opened: environment, memory, descriptors, directories", initFiles},
		{"B5", "init-argv", "the command line of process 1 tells nothing of the host", initArgv},
		{"B5", "init-ptrace", "process 1 can be neither traced nor read", initTrace},
		{"B6", "init-exe", "the program file of process 1 cannot be opened or named", initExe},
		{"B6", "other-exe", "no process but those of the payload shows its program file", otherExe},
		{"A1", "init-namespaces", "the namespaces of process 1 cannot be opened", initNamespaces},
	}
}

// notThere are the errnos of a refused look at another process: EACCES and
// EPERM from the kernel's ptrace rules, ENOENT with hidepid=invisible.
var notThere = []unix.Errno{unix.EACCES, unix.EPERM, unix.ENOENT, unix.ESRCH}

func openAttempt(path string, flags int, want ...unix.Errno) attempt {
	text := path
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		text += " for writing"
	}
	return attempt{text, want, func() unix.Errno { return opens(path, flags) }}
}

func initFiles(*Facts) outcome {
	return refused(
		openAttempt("/proc/1/environ", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/mem", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/mem", unix.O_WRONLY, notThere...),
		openAttempt("/proc/1/maps", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/fd", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/cwd", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/root", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/auxv", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/root/etc/passwd", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/task/1/mem", unix.O_RDONLY, notThere...),
	)
}

func initArgv(facts *Facts) outcome {
	data, err := os.ReadFile("/proc/1/cmdline")
	if err != nil {
		return held("%v", err)
	}
	text := strings.TrimRight(strings.ReplaceAll(string(data), "\x00", " "), " ")
	if strings.Contains(text, "/") || facts.names(text) {
		return broken("%q", text)
	}
	return held("%q", text)
}

func initTrace(*Facts) outcome {
	word := make([]byte, 8)
	local := []unix.Iovec{{Base: &word[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: 0x400000, Len: 8}}
	return refused(
		attempt{"ptrace(SEIZE)", nil, func() unix.Errno { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1, 0, 0) }},
		attempt{"process_vm_readv", nil, func() unix.Errno {
			_, err := unix.ProcessVMReadv(1, local, remote, 0)
			errno, _ := err.(unix.Errno)
			return errno
		}},
		attempt{"pidfd_getfd", nil, func() unix.Errno {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				errno, _ := err.(unix.Errno)
				return errno
			}
			defer unix.Close(fd)
			return call(unix.SYS_PIDFD_GETFD, uintptr(fd), 0, 0)
		}},
		attempt{"kcmp", nil, func() unix.Errno { return call(unix.SYS_KCMP, 1, uintptr(os.Getpid()), 0, 0, 0) }},
	)
}

func initExe(*Facts) outcome {
	if target, err := os.Readlink("/proc/1/exe"); err == nil {
		return broken("/proc/1/exe is %s", target)
	}
	// ETXTBSY would say that only the running program stands in the way.
	return refused(
		openAttempt("/proc/1/exe", unix.O_RDONLY, notThere...),
		openAttempt("/proc/1/exe", unix.O_WRONLY, notThere...),
		openAttempt("/proc/1/map_files", unix.O_RDONLY, notThere...),
	)
}

// otherExe looks at every process that is not a descendant of this one's
// session: what shows its program file may be the host's.
func otherExe(*Facts) outcome {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return broken("%v", err)
	}
	own, _ := unix.Getsid(0)
	var seen []string
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if sid, err := unix.Getsid(pid); err == nil && sid == own {
			continue
		}
		if target, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			return broken("process %d is %s", pid, target)
		}
		seen = append(seen, entry.Name())
	}
	return held("refused for %v", seen)
}

func initNamespaces(*Facts) outcome {
	var attempts []attempt
	for _, name := range []string{"user", "mnt", "pid", "net", "uts", "ipc", "cgroup", "pid_for_children"} {
		attempts = append(attempts, openAttempt("/proc/1/ns/"+name, unix.O_RDONLY, notThere...))
	}
	return refused(attempts...)
}
