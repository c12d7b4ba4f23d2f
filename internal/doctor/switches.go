package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Concern says how much a switch matters.
type Concern string

// The degrees of concern.
const (
	Fine Concern = "fine" // as it should be, or sbx does without
	Note Concern = "note" // worth knowing
	Bad  Concern = "bad"  // keeps a layer from working, or leaves a known hole
)

// Switch is a setting of the host and what it means for a sandbox.
type Switch struct {
	Name    string  `json:"name"`
	Value   string  `json:"value"`
	Concern Concern `json:"concern"`
	Means   string  `json:"means,omitempty"`
	Fix     string  `json:"fix,omitempty"`
}

// Values are what was read of a host's switches, by name; those that the host
// does not have are absent.
type Values map[string]string

// rule judges one switch. The name of a sysctl is its file with dots.
type rule struct {
	name  string
	judge func(value string) (Concern, string, string)
}

// sysctls are the names in /proc/sys, in the order of the report.
func rules() []rule {
	return []rule{
		{"user.max_user_namespaces", judgeMaxUserns},
		{"kernel.unprivileged_userns_clone", onValue("0", Bad, "ordinary users may not make user namespaces", "ask the administrator for `sysctl kernel.unprivileged_userns_clone=1`")},
		{"kernel.apparmor_restrict_unprivileged_userns", onValue("1", Note, "a program needs an AppArmor profile that allows `userns`, or its user namespaces give it no rights", "`sbx doctor --admin` prints the profile")},
		{"kernel.unprivileged_bpf_disabled", onValue("0", Note, "every user of this host may load eBPF programs, a part of the kernel with many holes; the filter refuses it inside a sandbox only", "")},
		{"kernel.io_uring_disabled", onValue("0", Fine, "io_uring is on; the filter refuses it inside a sandbox", "")},
		{"kernel.yama.ptrace_scope", onValue("0", Note, "your processes may trace each other: a program that breaks out of a sandbox with one id (single) could take over the others", "ask the administrator for `sysctl kernel.yama.ptrace_scope=1`")},
		{"dev.tty.legacy_tiocsti", onValue("1", Fine, "programs may type into the terminal that they run on; a sandboxed one has a terminal of its own", "")},
		{"kernel.core_pattern", judgeCorePattern},
		{"kernel.dmesg_restrict", onValue("0", Note, "every user of this host may read the kernel's log; the filter refuses it inside a sandbox", "")},
		{"fs.protected_symlinks", onValue("0", Note, "links of other users in /tmp are followed", "ask the administrator for `sysctl fs.protected_symlinks=1`")},
		{"fs.protected_hardlinks", onValue("0", Note, "users may make hard links to files of others", "ask the administrator for `sysctl fs.protected_hardlinks=1`")},
		{"fs.protected_fifos", onValue("0", Note, "pipes that other users put into /tmp may be opened by mistake", "ask the administrator for `sysctl fs.protected_fifos=1`")},
		{"fs.protected_regular", onValue("0", Note, "files that other users put into /tmp may be opened by mistake", "ask the administrator for `sysctl fs.protected_regular=1`")},
		{"fs.suid_dumpable", onValue("1", Bad, "set-user-ID programs leave core dumps that their user can read", "ask the administrator for `sysctl fs.suid_dumpable=0`")},
	}
}

// Sysctls are the names of the switches that lie in /proc/sys.
func sysctls() []string {
	var names []string
	for _, r := range rules() {
		names = append(names, r.name)
	}
	return names
}

// onValue judges a switch that matters at one value only.
func onValue(value string, c Concern, means, fix string) func(string) (Concern, string, string) {
	return func(v string) (Concern, string, string) {
		if v == value {
			return c, means, fix
		}
		return Fine, "", ""
	}
}

// fewNamespaces is below what a few sandboxes beside a browser use: each has two.
const fewNamespaces = 64

func judgeMaxUserns(v string) (Concern, string, string) {
	n, err := strconv.Atoi(v)
	switch {
	case err != nil:
		return Note, "not a number", ""
	case n == 0:
		return Bad, "no user namespace may be made", "ask the administrator for `sysctl user.max_user_namespaces=10000`"
	case n == 1:
		return Bad, "each sandbox takes two, one in the other", "ask the administrator for `sysctl user.max_user_namespaces=10000`"
	case n < fewNamespaces:
		return Note, "few: each sandbox takes two, browsers and containers take some too", "ask the administrator for `sysctl user.max_user_namespaces=10000`"
	default:
		return Fine, "", ""
	}
}

// judgeCorePattern: a handler is started as root in the initial namespaces, for
// crashes in containers too (core(5)).
func judgeCorePattern(v string) (Concern, string, string) {
	if strings.HasPrefix(v, "|") {
		return Fine, "a crash starts a handler of this host as root; for a sandboxed program it is never started (RLIMIT_CORE is 1)", ""
	}
	return Fine, "", ""
}

// judgeSwitches makes the rows for what was read.
func judgeSwitches(v Values) []Switch {
	var list []Switch
	for _, r := range rules() {
		value, there := v[r.name]
		if !there {
			continue
		}
		s := Switch{Name: r.name, Value: value}
		s.Concern, s.Means, s.Fix = r.judge(value)
		list = append(list, s)
	}
	return list
}

// fixed is, for a stable series of the kernel, the first release that has the
// fixes for the bugs of spring 2026 with which a reader of a file could write
// to its page cache: CVE-2026-31431 (Copy Fail), CVE-2026-43284 and the one of
// rxrpc. They passed through read-only mounts, so no sandbox stood before them.
type fixed struct{ major, minor, patch int }

func fixedReleases() []fixed {
	return []fixed{{6, 6, 138}, {6, 12, 87}, {6, 18, 29}, {7, 0, 6}}
}

// fixedSince is when all of them were out.
var fixedSince = date{2026, 6}

// date is a month of a year.
type date struct{ year, month int }

func (d date) before(o date) bool { return d.year < o.year || d.year == o.year && d.month < o.month }

// judgeKernel compares release and build date, uname's r and v. Distributions
// carry fixes into older releases, so a build date after the fixes is believed
// over an old number, and an old number alone is a note and not a verdict.
func judgeKernel(release, version string) Switch {
	s := Switch{Name: "kernel", Value: strings.TrimSpace(release + ", " + version), Concern: Fine}
	built, dated := buildDate(version)
	var major, minor, patch int
	n, _ := fmt.Sscanf(release, "%d.%d.%d", &major, &minor, &patch)
	i := slices.IndexFunc(fixedReleases(), func(f fixed) bool { return f.major == major && f.minor == minor })
	old := false
	switch {
	case dated && !built.before(fixedSince):
	case n == 3 && i >= 0:
		old = patch < fixedReleases()[i].patch
	case dated:
		old = true
	case n >= 2:
		// A series that ended before the fixes, or one that began after them.
		old = major < 7
	}
	if !old {
		return s
	}
	s.Concern = Bad
	s.Means = "it looks older than the fixes of spring 2026 for writing to files that can only be read (CVE-2026-31431, CVE-2026-43284); no sandbox can stand before a hole in the kernel"
	s.Fix = "have the kernel updated, and restart; a distribution may have carried the fixes into this release, its security tracker knows"
	return s
}

// months are as date(1) writes them in the C locale.
const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// buildDate finds the date in uname's version: either
// "#1 SMP PREEMPT_DYNAMIC Tue Jan  9 15:25:40 UTC 2024" or, as Debian writes
// it, "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)".
func buildDate(version string) (date, bool) {
	words := strings.Fields(version)
	for i, w := range words {
		var d date
		var day int
		if n, _ := fmt.Sscanf(w, "(%d-%d-%d)", &d.year, &d.month, &day); n == 3 {
			return d, plausible(d)
		}
		at := strings.Index(months, w)
		if len(w) != 3 || at < 0 || at%3 != 0 || i+1 >= len(words) {
			continue
		}
		year, err := strconv.Atoi(words[len(words)-1])
		if err != nil {
			return date{}, false
		}
		d = date{year: year, month: at/3 + 1}
		return d, plausible(d)
	}
	return date{}, false
}

func plausible(d date) bool {
	return d.year >= 2010 && d.year < 2100 && d.month >= 1 && d.month <= 12
}
