package probe

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// privilegeChecks looks at capabilities and at what stands in for them.
func privilegeChecks() []check {
	return []check{
		{"H7", "capabilities", "all five capability sets are empty, or a fake root's short list", capabilities},
		{"H7", "no-new-privs", "no program gains rights by being executed", noNewPrivs},
		{"H7", "securebits", "the locks on root's special treatment are set", securebits},
		{"H7", "setid", "no other user or group id can be taken", setID},
		{"H2", "seccomp", "a system call filter is in force", seccompMode},
		{"H10", "cgroup", "the cgroup is shown as the root of a namespace of its own", cgroupPath},
	}
}

// fakeRootCaps are all that a fake root may have: CHOWN, DAC_OVERRIDE, FOWNER,
// FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const fakeRootCaps = uint64(1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE |
	1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SETFCAP)

func capabilities(facts *Facts) outcome {
	fields, err := statusFields()
	if err != nil {
		return broken("%v", err)
	}
	var seen, wrong []string
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		set, err := strconv.ParseUint(fields[name], 16, 64)
		if err != nil {
			return broken("%s is %q", name, fields[name])
		}
		allowed := uint64(0)
		if facts.FakeRoot && name != "CapInh" && name != "CapAmb" {
			allowed = fakeRootCaps
		}
		text := fmt.Sprintf("%s %d", name, bits.OnesCount64(set))
		if extra := set &^ allowed; extra != 0 {
			wrong = append(wrong, fmt.Sprintf("%s has %#x too many", name, extra))
		}
		seen = append(seen, text)
	}
	if len(wrong) > 0 {
		return broken("%s", strings.Join(wrong, ", "))
	}
	return held("%s", strings.Join(seen, ", "))
}

func noNewPrivs(*Facts) outcome {
	value, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || value != 1 {
		return broken("%d, %v", value, err)
	}
	return held("set")
}

// The bits of prctl(PR_GET_SECUREBITS); see capabilities(7).
const (
	secNoRoot       = 1 << 0
	secNoRootLocked = 1 << 1
	secNoFixup      = 1 << 2
	secFixupLocked  = 1 << 3
	secNoAmbient    = 1 << 6
	secAmbientLock  = 1 << 7
)

func securebits(facts *Facts) outcome {
	value, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return unknown("%v", err)
	}
	if facts.FakeRoot {
		// NOROOT would take a fake root's capabilities away at exec.
		return held("%#x, a fake root", value)
	}
	const want = secNoRoot | secNoRootLocked | secNoFixup | secFixupLocked | secNoAmbient | secAmbientLock
	if value&want != want {
		return broken("%#x, wanted %#x", value, want)
	}
	return held("%#x", value)
}

func setID(facts *Facts) outcome {
	if facts.FakeRoot {
		return held("a fake root may take any id of his namespace")
	}
	other := uintptr(os.Getuid() + 1)
	errno := func(number uintptr, args ...uintptr) func() unix.Errno {
		return func() unix.Errno { return call(number, args...) }
	}
	return refused(
		attempt{"setuid 0", nil, errno(unix.SYS_SETUID, 0)},
		attempt{"setresuid", nil, errno(unix.SYS_SETRESUID, other, other, other)},
		attempt{"setresgid", nil, errno(unix.SYS_SETRESGID, other, other, other)},
		attempt{"setgroups", nil, errno(unix.SYS_SETGROUPS, 0, 0)},
	)
}

func seccompMode(*Facts) outcome {
	fields, err := statusFields()
	if err != nil {
		return broken("%v", err)
	}
	if fields["Seccomp"] != "2" {
		return broken("Seccomp: %s", fields["Seccomp"])
	}
	return held("filters: %s", fields["Seccomp_filters"])
}

func cgroupPath(*Facts) outcome {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return unknown("%v", err)
	}
	for line := range strings.Lines(string(data)) {
		// "hierarchy:controllers:path"
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && parts[2] != "/" {
			return broken("%s", strings.TrimSpace(line))
		}
	}
	return held("/")
}
