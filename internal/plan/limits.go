package plan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"
)

// Rlimit is one resource limit of the payload, see setrlimit(2).
type Rlimit struct {
	Name     string `json:"name"`
	Resource int    `json:"resource"`
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

// Unlimited is RLIM_INFINITY.
const Unlimited = ^uint64(0)

// Resource numbers of asm-generic/resource.h, which x86-64 and arm64 share.
const (
	rlimitCPU = iota
	rlimitFSize
	rlimitData
	rlimitStack
	rlimitCore
	rlimitRSS
	rlimitNproc
	rlimitNofile
	rlimitMemlock
	rlimitAS
	rlimitLocks
	rlimitSigpending
	rlimitMsgqueue
	rlimitNice
	rlimitRtprio
	rlimitRttime
)

// DefaultProcesses is how many processes and threads a sandbox may have when
// neither a flag nor the caller's own limit says less.
const DefaultProcesses = 512

// leastProcesses are pid 1 and the program.
const leastProcesses = 2

// defaultRlimits are the limits of every payload. Real-time priorities and
// negative nice values stay out of reach, and the kernel's per-user pools
// (SECURITY.md, I8) are shared with the user's desktop, hence the low shares.
//
// RLIMIT_CORE is 1, not 0: a core_pattern that begins with a pipe starts a
// handler as root in the initial namespaces whatever the limit is, except for
// the value 1, at which the kernel gives up (core(5), fs/coredump.c). The
// system call filter keeps the program from setting it back to 0.
func defaultRlimits() []Rlimit {
	return []Rlimit{
		{"core", rlimitCore, 1, 1},
		{"nproc", rlimitNproc, DefaultProcesses, DefaultProcesses},
		{"nofile", rlimitNofile, 1024, 65536},
		{"memlock", rlimitMemlock, 8 << 20, 8 << 20},
		{"msgqueue", rlimitMsgqueue, 819200, 819200},
		{"sigpending", rlimitSigpending, 4096, 4096},
		{"nice", rlimitNice, 0, 0},
		{"rtprio", rlimitRtprio, 0, 0},
	}
}

// resources are the names docker's --ulimit takes.
func resources() map[string]int {
	return map[string]int{
		"core": rlimitCore, "cpu": rlimitCPU, "data": rlimitData, "fsize": rlimitFSize,
		"locks": rlimitLocks, "memlock": rlimitMemlock, "msgqueue": rlimitMsgqueue, "nice": rlimitNice,
		"nofile": rlimitNofile, "nproc": rlimitNproc, "rss": rlimitRSS, "rtprio": rlimitRtprio,
		"rttime": rlimitRttime, "sigpending": rlimitSigpending, "stack": rlimitStack,
	}
}

// ownHard is what each limit of the caller may be raised to, by resource.
type ownHard map[int]uint64

// rlimits joins the defaults, the flags and what the caller himself may have:
// a hard limit can only be lowered without CAP_SYS_RESOURCE in the initial
// user namespace, so a default above the caller's own is cut to it, and a flag
// above it is refused.
//
// pids is --pids-limit, or 0: RLIMIT_NPROC carries it as well, and alone where
// there is no cgroup.
func rlimits(flags []string, pids int64, own ownHard) ([]Rlimit, error) {
	list := defaultRlimits()
	if pids > 0 {
		for i := range list {
			if list[i].Resource == rlimitNproc {
				list[i].Soft, list[i].Hard = uint64(pids), uint64(pids)
			}
		}
	}
	for _, f := range flags {
		r, err := parseUlimit(f)
		if err != nil {
			return nil, err
		}
		if r.Resource == rlimitCore {
			return nil, misuse("--ulimit %s: core dumps of the program are always off: a dump handler would run as root outside", f)
		}
		if r.Resource == rlimitNproc && r.Hard < leastProcesses {
			return nil, misuse("--ulimit %s: at least %d processes are needed to start the program", f, leastProcesses)
		}
		if hard, ok := own[r.Resource]; ok && r.Hard > hard {
			return nil, misuse("--ulimit %s: your own hard limit is %d; see `ulimit -H`", f, hard)
		}
		replaced := false
		for i := range list {
			if list[i].Resource == r.Resource {
				list[i], replaced = r, true
			}
		}
		if !replaced {
			list = append(list, r)
		}
	}
	for i := range list {
		if hard, ok := own[list[i].Resource]; ok {
			list[i].Hard = min(list[i].Hard, hard)
			list[i].Soft = min(list[i].Soft, list[i].Hard)
		}
	}
	return list, nil
}

// parseUlimit reads docker's NAME=SOFT[:HARD]; -1 is unlimited.
func parseUlimit(s string) (Rlimit, error) {
	u, err := units.ParseUlimit(s)
	if number := (*strconv.NumError)(nil); errors.As(err, &number) {
		err = fmt.Errorf("%q is not a whole number", number.Num)
	}
	if err != nil {
		return Rlimit{}, misuse("--ulimit %q: %v; write NAME=SOFT[:HARD], as in nofile=1024:4096", s, err)
	}
	resource, ok := resources()[strings.ToLower(u.Name)]
	if !ok {
		return Rlimit{}, misuse("--ulimit %q: no limit is called %q", s, u.Name)
	}
	r := Rlimit{strings.ToLower(u.Name), resource, rlim(u.Soft), rlim(u.Hard)}
	// The library compares the numbers as written, and -1 is the highest.
	if u.Soft < -1 || u.Hard < -1 || r.Soft > r.Hard {
		return Rlimit{}, misuse("--ulimit %q: the soft limit must not be above the hard one, and -1 is no limit", s)
	}
	return r, nil
}

func rlim(v int64) uint64 {
	if v < 0 {
		return Unlimited
	}
	return uint64(v)
}

// ParseSize reads a size as docker writes it: 64m, 1.5g, 1024.
func ParseSize(flag, s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, misuse("%s %q: not a size; write a number with an optional unit, as in 512m or 4g", flag, s)
	}
	return n, nil
}

// ParseTimeout reads a time as time.ParseDuration does.
func ParseTimeout(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond {
		return 0, misuse("--timeout %q: write a number with a unit, from 1ms to 2562047h, as in 30s or 5m; without the flag there is no limit", s)
	}
	return d, nil
}

// ParseTmpfs reads DST[:size=SIZE].
func ParseTmpfs(s string) (TmpfsSpec, error) {
	target, option, found := strings.Cut(s, ":")
	t := TmpfsSpec{Target: target}
	if !found {
		return t, nil
	}
	size, ok := strings.CutPrefix(option, "size=")
	if !ok {
		return t, misuse("--tmpfs %q: write DST or DST:size=SIZE, as in /cache:size=64m", s)
	}
	var err error
	t.Size, err = ParseSize("--tmpfs "+target+":size", size)
	return t, err
}
