package seccomp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Target is what a profile from a file is fitted to.
type Target struct {
	// Arch is the architecture; zero means the one that this program runs on.
	Arch Arch
	// Caps are the capabilities that the payload may have (its bounding set), as in "CAP_CHOWN".
	Caps []string
	// Kernel is compared with minKernel; zero means the running kernel.
	Kernel Kernel
}

// Build returns the profile's program for the target, and the names of system calls in it that no architecture of Linux has, as far as this
// package knows: misspelt or very new. They are skipped. Names of other architectures only are skipped silently.
//
// Skipping is safe because the program lets no unknown call through: a number that this package's table has no name for gets ENOSYS,
// whatever the default action, and a process that uses another architecture's numbers is killed. So a profile whose default is to allow
// cannot allow what is newer than this package.
//
// Where several rules match a call the strictest action wins, in the kernel's order kill process, kill thread, trap, errno, log, allow; of
// several errnos the one that stands first in the file. Arguments are compared in all 64 bits, as libseccomp does. It fails when the
// architecture is not covered by the profile or by this package, and when the program has more than 4096 instructions.
func (p *Profile) Build(t Target) (program []unix.SockFilter, unknown []string, err error) {
	if t, err = p.fit(t); err != nil {
		return nil, nil, err
	}
	perCall, unknown := p.perCall(t)

	d := newDispatch(t.Arch, enosys)
	indexes := map[string]uint16{}
	for c := range call(callCount) {
		rules := perCall[c]
		key := fmt.Sprint(rules)
		index, ok := indexes[key]
		if !ok {
			index = d.index(p.answer(rules))
			indexes[key] = index
		}
		d.set(c, index)
	}
	program, err = d.build()
	return program, unknown, err
}

// Starts fails where the profile does not cover the target, and where the profile refuses a call, whatever its arguments,
// that a process needs once more when the filter is in force: no program is ever started then.
func (p *Profile) Starts(t Target, calls ...string) error {
	t, err := p.fit(t)
	if err != nil {
		return err
	}
	perCall, _ := p.perCall(t)
	for _, name := range calls {
		if c, ok := callNamed(name); ok && p.answer(perCall[c]).never() {
			return fmt.Errorf("the profile refuses %s, without which no program is started", name)
		}
	}
	return nil
}

// fit fills in what the target leaves out, and checks the architecture.
func (p *Profile) fit(t Target) (_ Target, err error) {
	if t.Arch == 0 {
		t.Arch = Native()
	}
	if err := t.Arch.check(); err != nil {
		return t, err
	}
	if len(p.architectures) > 0 && !slices.Contains(p.architectures, t.Arch.scmp()) {
		return t, fmt.Errorf("the profile does not cover %s, only %s", t.Arch.scmp(), strings.Join(p.architectures, " "))
	}
	if t.Kernel == (Kernel{}) {
		if t.Kernel, err = runningKernel(); err != nil {
			return t, err
		}
	}
	return t, nil
}

// perCall returns for each call the indexes of the rules that name it and are for the target.
func (p *Profile) perCall(t Target) (rules map[call][]int, unknown []string) {
	rules = map[call][]int{}
	for i, r := range p.rules {
		included := r.includes.empty() || r.includes.all(t)
		if !included || r.excludes.any(t) {
			continue
		}
		for _, name := range r.names {
			c, ok := callNamed(name)
			switch {
			case ok:
				rules[c] = append(rules[c], i)
			case !strings.Contains(foreignNames, " "+name+" ") || name == "":
				unknown = append(unknown, name)
			}
		}
	}
	slices.Sort(unknown)
	return rules, slices.Compact(unknown)
}

// answer puts the strictest rule first, so that the first to match is the strictest that does.
func (p *Profile) answer(indexes []int) answer {
	indexes = slices.Clone(indexes)
	slices.SortStableFunc(indexes, func(a, b int) int { return p.rules[a].then.rank() - p.rules[b].then.rank() })
	ans := answer{verdict: p.otherwise}
	for _, i := range indexes {
		for _, when := range p.rules[i].alternatives {
			if len(when) == 0 { // always matches: what follows is looser and never reached
				ans.verdict = p.rules[i].then
				return ans
			}
			ans.rules = append(ans.rules, rule{when: when, then: p.rules[i].then})
		}
	}
	return ans
}

// never tells that the call is refused, whatever its arguments.
func (a answer) never() bool {
	refuses := func(v verdict) bool { return v.rank() < verdict(unix.SECCOMP_RET_LOG).rank() }
	return refuses(a.verdict) && !slices.ContainsFunc(a.rules, func(r rule) bool { return !refuses(r.then) })
}

// rank orders verdicts from the strictest on, as the kernel does when it has several filters.
func (v verdict) rank() int {
	return slices.Index([]uint32{
		unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_ERRNO, unix.SECCOMP_RET_LOG,
		unix.SECCOMP_RET_ALLOW,
	}, uint32(v&unix.SECCOMP_RET_ACTION_FULL))
}

func (s scope) empty() bool {
	return len(s.arches) == 0 && len(s.caps) == 0 && s.minKernel == Kernel{}
}

// all is the meaning of "includes": every kind of condition that is given must hold, and every capability must be there.
func (s scope) all(t Target) bool {
	if len(s.arches) > 0 && !slices.Contains(s.arches, t.Arch.String()) {
		return false
	}
	for _, c := range s.caps {
		if !slices.Contains(t.Caps, c) {
			return false
		}
	}
	return !t.Kernel.before(s.minKernel)
}

// any is the meaning of "excludes": one condition that holds is enough.
func (s scope) any(t Target) bool {
	if slices.Contains(s.arches, t.Arch.String()) {
		return true
	}
	for _, c := range s.caps {
		if slices.Contains(t.Caps, c) {
			return true
		}
	}
	return s.minKernel != Kernel{} && !t.Kernel.before(s.minKernel)
}

func (k Kernel) before(other Kernel) bool {
	return k.Major < other.Major || k.Major == other.Major && k.Minor < other.Minor
}

// scmp is the architecture's name in OCI profiles, after libseccomp.
func (a Arch) scmp() string {
	if a == ARM64 {
		return "SCMP_ARCH_AARCH64"
	}
	return "SCMP_ARCH_X86_64"
}

func runningKernel() (Kernel, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Kernel{}, fmt.Errorf("asking for the kernel's version: %w", err)
	}
	return parseRelease(unix.ByteSliceToString(name.Release[:]))
}

// parseRelease reads the first two numbers of what uname(2) calls release: "6.12.43+deb13-amd64", "3.12-1-amd64".
func parseRelease(release string) (Kernel, error) {
	major, rest, _ := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	a, err := strconv.Atoi(major)
	b, err2 := strconv.Atoi(rest[:end])
	if err := errors.Join(err, err2); err != nil {
		return Kernel{}, fmt.Errorf("reading the kernel's version %q: %w", release, err)
	}
	return Kernel{a, b}, nil
}
