package plan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/landlock"
)

func (l *look) kernel() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel's release: %w", err)
	}
	k := Kernel{
		Release:           unix.ByteSliceToString(name.Release[:]),
		MaxUserNamespaces: sysctl("/proc/sys/user/max_user_namespaces"),
		UsernsClone:       sysctl("/proc/sys/kernel/unprivileged_userns_clone"),
		AppArmorUserns:    sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
		LandlockABI:       landlock.ABI(),
	}
	// A filter at a null pointer: EFAULT where filters exist, EINVAL where not.
	k.Seccomp = errors.Is(unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0), unix.EFAULT)
	k.CgroupNS = unix.Access("/proc/self/ns/cgroup", unix.F_OK) == nil
	k.NprocPerUserns = atLeast(k.Release, 5, 14)
	l.facts.Kernel = k

	groups, err := cgroupv2.Look(append(defaultControllers(), askedControllers(l.spec.Limits)...)...)
	if err != nil {
		return err
	}
	l.facts.Cgroup = groups.Prospect

	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("ask for the size of memory: %w", err)
	}
	l.facts.Memory = int64(info.Totalram) * int64(info.Unit)
	l.facts.HardLimits = map[int]uint64{}
	for resource := rlimitCPU; resource <= rlimitRttime; resource++ {
		var r unix.Rlimit
		if unix.Getrlimit(resource, &r) == nil {
			l.facts.HardLimits[resource] = r.Max
		}
	}
	return nil
}

// sysctl reads a number, -1 when there is none. Not with os.ReadFile, which asks the
// runtime's poller about the file first: three calls of its own for a file of some
// bytes.
func sysctl(file string) int {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	defer unix.Close(fd)
	var data [32]byte
	n, err := unix.Read(fd, data[:])
	if err != nil {
		return -1
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(data[:n])))
	if err != nil {
		return -1
	}
	return number
}

// atLeast compares a release such as 6.1.0-18-amd64.
func atLeast(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	a, err := strconv.Atoi(first)
	if err != nil {
		return false
	}
	end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(rest)
	}
	b, err := strconv.Atoi(rest[:end])
	return err == nil && (a > major || a == major && b >= minor)
}
