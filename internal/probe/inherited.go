package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// inheritedChecks looks at what a process gets from the one that started it.
func inheritedChecks() []check {
	return []check{
		{"B1", "descriptors", "no descriptor is open but 0, 1 and 2", onlyStdio},
		{"B2", "reopen-stdio", "no standard stream is a file of the host that could be opened anew with other rights", reopenStdio},
		{"B3", "workdir", "the working directory is a path inside", workdir},
		{"B4", "environment", "the environment holds only what the sandbox sets and what was passed on purpose", environment},
		{"B7", "keyring", "the caller's session keyring is out of reach", keyring},
		{"B8", "session", "session and process group are the sandbox's own", session},
		{"B8", "signals", "no signal is blocked or ignored at the start", signals},
		{"B9", "core-limit", "a core dump handler of the host is never started and cannot be re-enabled", coreLimit},
		{"B9", "priority-limits", "no real-time or raised priority can be had", priorityLimits},
		{"B9", "leftover-state", "umask, nice value and personality are ordinary", leftoverState},
	}
}

func onlyStdio(*Facts) outcome {
	fds, err := listFds()
	if err != nil {
		return broken("list /proc/self/fd: %v", err)
	}
	slices.Sort(fds)
	if !slices.Equal(fds, []string{"0", "1", "2"}) {
		var list []string
		for _, fd := range fds {
			list = append(list, fd+"="+linkOf("/proc/self/fd/"+fd))
		}
		return broken("%s", strings.Join(list, " "))
	}
	return held("0 1 2")
}

func reopenStdio(*Facts) outcome {
	var seen []string
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return broken("fd %d: %v", fd, err)
		}
		path := fmt.Sprintf("/proc/self/fd/%d", fd)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			read, write := opens(path, unix.O_RDONLY), opens(path, unix.O_WRONLY)
			// The right that the descriptor has may be had again.
			flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			mode := flags & unix.O_ACCMODE
			if mode == unix.O_RDONLY && write == 0 || mode == unix.O_WRONLY && read == 0 {
				return broken("fd %d, a regular file: read %s, write %s", fd, errnoName(read), errnoName(write))
			}
			seen = append(seen, fmt.Sprintf("%d file, refused", fd))
		case unix.S_IFDIR, unix.S_IFBLK:
			return broken("fd %d is a directory or a device: mode %o", fd, st.Mode)
		default:
			seen = append(seen, fmt.Sprintf("%d mode %o", fd, st.Mode&unix.S_IFMT))
		}
	}
	return held("%s", strings.Join(seen, ", "))
}

func workdir(*Facts) outcome {
	dir, err := unix.Getcwd(make([]byte, 4096))
	if err != nil || dir == 0 {
		return broken("getcwd: %v", err)
	}
	link, err := os.Readlink("/proc/self/cwd")
	if err != nil || !filepath.IsAbs(link) || strings.Contains(link, "(unreachable)") {
		return broken("/proc/self/cwd is %q, %v", link, err)
	}
	return held("%s", link)
}

// allowedEnv are the variables that a sandbox may set by itself.
var allowedEnv = []string{
	"HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "TMPDIR", "TERM", "COLORTERM",
	"LANG", "LANGUAGE", "TZ", "COLUMNS", "LINES", "NO_COLOR", "container", "HOSTNAME",
}

func environment(facts *Facts) outcome {
	var names []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(allowedEnv, name) || slices.Contains(facts.Env, name) || strings.HasPrefix(name, "LC_") {
			continue
		}
		names = append(names, name)
	}
	if len(names) > 0 {
		return broken("also set: %s", strings.Join(names, " "))
	}
	home := os.Getenv("HOME")
	if facts.names(home) || home == "" {
		return broken("HOME is %q", home)
	}
	return held("%d variables, HOME is %s", len(os.Environ()), home)
}

func keyring(facts *Facts) outcome {
	if facts.Key != "" {
		if id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", facts.Key, 0); err == nil {
			return broken("found the host's key %q as %d", facts.Key, id)
		}
	}
	return refused(
		attempt{"add_key", []unix.Errno{unix.ENOSYS}, func() unix.Errno { return call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0) }},
		attempt{"request_key", []unix.Errno{unix.ENOSYS}, func() unix.Errno { return call(unix.SYS_REQUEST_KEY, 0, 0, 0, 0) }},
		attempt{"keyctl", []unix.Errno{unix.ENOSYS}, func() unix.Errno { return call(unix.SYS_KEYCTL, 0, 0, 0, 0, 0) }},
	)
}

func session(*Facts) outcome {
	sid, err := unix.Getsid(0)
	group := unix.Getpgrp()
	// A leader outside of the pid namespace shows as 0.
	if err != nil || sid <= 0 || group <= 0 {
		return broken("session %d, group %d: the leader is outside", sid, group)
	}
	return held("session %d, group %d", sid, group)
}

// signals cannot see everything: the Go runtime installs handlers of its own
// before main. HUP and INT it leaves ignored when they were, and the mask of a
// new thread is inherited. The shell tests look at the rest.
func signals(*Facts) outcome {
	fields, err := statusFields()
	if err != nil {
		return broken("%v", err)
	}
	for _, name := range []string{"SigIgn", "SigBlk"} {
		if strings.Trim(fields[name], "0") != "" {
			return broken("%s %s", name, fields[name])
		}
	}
	return held("SigIgn and SigBlk are empty")
}

// coreLimit: with a limit of exactly 1 the kernel starts no pipe handler
// (core(5)); a program that lowers it to 0 would get the handler back, so the
// call pretends to work and changes nothing.
func coreLimit(*Facts) outcome {
	var before, after unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		return broken("getrlimit: %v", err)
	}
	if before.Cur != 1 || before.Max != 1 {
		return broken("RLIMIT_CORE is %d:%d, not 1:1", before.Cur, before.Max)
	}
	// unix.Prlimit with no old value is the call that programs make.
	zero := unix.Rlimit{}
	err := unix.Prlimit(0, unix.RLIMIT_CORE, &zero, nil)
	if getErr := unix.Getrlimit(unix.RLIMIT_CORE, &after); getErr != nil || after != before {
		return broken("after setting 0 (%v) the limit is %d:%d, %v", err, after.Cur, after.Max, getErr)
	}
	if err != nil {
		return broken("setting 0 must pretend to work, got %v", err)
	}
	filter, err := os.ReadFile("/proc/self/coredump_filter")
	if err == nil && strings.Trim(strings.TrimSpace(string(filter)), "0") != "" {
		return broken("coredump_filter is %s", filter)
	}
	return held("RLIMIT_CORE 1:1, setting 0 changes nothing")
}

func priorityLimits(*Facts) outcome {
	for name, resource := range map[string]int{"RTPRIO": unix.RLIMIT_RTPRIO, "NICE": unix.RLIMIT_NICE} {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil || limit.Max != 0 {
			return broken("RLIMIT_%s is %d:%d, %v", name, limit.Cur, limit.Max, err)
		}
	}
	return held("RLIMIT_RTPRIO and RLIMIT_NICE are 0")
}

func leftoverState(*Facts) outcome {
	mask := unix.Umask(0o022)
	unix.Umask(mask)
	persona, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	if mask != 0o022 || errno != 0 || persona != 0 {
		return broken("umask %03o, personality %#x (%v)", mask, persona, errno)
	}
	return held("umask 022, personality 0")
}
