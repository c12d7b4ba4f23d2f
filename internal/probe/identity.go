package probe

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// identityChecks looks at who the payload is and in which namespaces.
func identityChecks() []check {
	return []check{
		{"A1", "nested-userns", "no further user namespace can be made", nestedUserns},
		{"A1", "userns-limit", "the limit on user namespaces cannot be raised", usernsLimit},
		{"A1", "parent-userns", "the namespace that owns the mounts cannot be reached", parentUserns},
		{"A2", "caller-unmapped", "the caller's own user id is not mapped", callerUnmapped},
		{"A3", "groups", "no supplementary group of the caller is in force", groups},
		{"A5", "namespaces", "all seven namespaces are the sandbox's own", namespaces},
		{"A5", "hostname", "the host's name is not shown", hostname},
		{"A5", "pid", "the payload is not process 1 and sees only the sandbox's processes", processes},
		{"A6", "names", "the caller's name is not in the sandbox's user database", userDatabase},
	}
}

func nestedUserns(*Facts) outcome {
	return refused(attempt{"clone(CLONE_NEWUSER)", []unix.Errno{unix.EPERM, unix.ENOSPC, unix.EUSERS}, func() unix.Errno {
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "exit", "0"}, &syscall.ProcAttr{
			Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER},
		})
		if err == nil {
			var status syscall.WaitStatus
			syscall.Wait4(pid, &status, 0, nil)
			return 0
		}
		errno, _ := err.(syscall.Errno)
		return errno
	}})
}

func usernsLimit(*Facts) outcome {
	const path = "/proc/sys/user/max_user_namespaces"
	if errno := opens(path, unix.O_WRONLY); errno == 0 {
		return broken("%s can be opened for writing", path)
	} else if errno == unix.ENOENT {
		return unknown("%s does not exist", path)
	} else {
		return held("opening %s for writing: %s", path, errnoName(errno))
	}
}

// nsGetParent is NS_GET_PARENT of ioctl_ns(2): the parent of a user namespace.
const nsGetParent = 0xb702

func parentUserns(*Facts) outcome {
	fd, err := unix.Open("/proc/self/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return held("open /proc/self/ns/user: %v", err)
	}
	defer unix.Close(fd)
	return refused(attempt{"NS_GET_PARENT", nil, func() unix.Errno {
		return call(unix.SYS_IOCTL, uintptr(fd), nsGetParent)
	}})
}

// callerUnmapped reads the map as the payload sees it: its outer column counts
// in the set-up namespace, in which 0 is the caller.
func callerUnmapped(facts *Facts) outcome {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return broken("%v", err)
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	mapped := false
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		mapped = mapped || len(fields) == 3 && fields[1] == "0"
	}
	switch {
	case !mapped:
		return held("%s", text)
	case facts.Userns == "single" || facts.Userns == "keep-id":
		return weaker("userns %s: %s", facts.Userns, text)
	default:
		return broken("%s", text)
	}
}

func groups(facts *Facts) outcome {
	list, err := unix.Getgroups()
	switch {
	case err != nil:
		return broken("getgroups: %v", err)
	case len(list) == 0:
		return held("none")
	case facts.Userns == "single":
		return weaker("userns single: %v", list)
	default:
		return broken("%v", list)
	}
}

func namespaces(facts *Facts) outcome {
	var shared []string
	names := []string{"user", "pid", "mnt", "uts", "ipc", "net", "cgroup"}
	for _, name := range names {
		host, known := facts.Namespaces[name]
		if !known {
			return unknown("the host's %s namespace was not told", name)
		}
		if linkOf("/proc/self/ns/"+name) == host && (name != "net" || !facts.HostNetwork) {
			shared = append(shared, name)
		}
	}
	if len(shared) > 0 {
		return broken("shared with the host: %s", strings.Join(shared, " "))
	}
	if facts.HostNetwork {
		return weaker("the network is the host's")
	}
	return held("%s", strings.Join(names, " "))
}

func hostname(facts *Facts) outcome {
	name, err := os.Hostname()
	if err != nil {
		return broken("%v", err)
	}
	if facts.Hostname != "" && name == facts.Hostname {
		return broken("%s", name)
	}
	return held("%s", name)
}

// maxOwnProcesses is how many processes a sandbox that runs only the probe can
// have: pid 1, the probe and what a wrapper may add.
const maxOwnProcesses = 8

func processes(*Facts) outcome {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return broken("%v", err)
	}
	var pids []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, entry.Name())
		}
	}
	if os.Getpid() == 1 || len(pids) > maxOwnProcesses || !slices.Contains(pids, strconv.Itoa(os.Getpid())) {
		return broken("pid %d, sees %v", os.Getpid(), pids)
	}
	return held("pid %d, sees %v", os.Getpid(), pids)
}

func userDatabase(facts *Facts) outcome {
	if facts.UserName == "" {
		return unknown("the caller's name was not told")
	}
	if !facts.recognisable() {
		return held("%q is a name that every sandbox has", facts.UserName)
	}
	for _, path := range []string{"/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid", "/etc/shadow"} {
		data, err := os.ReadFile(path)
		if err == nil && facts.names(string(data)) {
			return broken("%s names %s", path, facts.UserName)
		}
	}
	return held("not in /etc/passwd, group, subuid, subgid, shadow")
}
