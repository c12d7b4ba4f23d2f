package cgroupv2

import (
	"fmt"
	"strconv"
)

// Cause names what a [Finding] is about.
type Cause string

const (
	// MemoryLimit is the leaf's own memory.max.
	MemoryLimit Cause = "memory"
	// MemoryOutside is a limit above the leaf, or the host's memory.
	MemoryOutside Cause = "memory-outside"
	// PidsLimit is pids.max: forks were refused, nothing was killed by the kernel.
	PidsLimit Cause = "pids"
	// CPULimit is cpu.max: the sandbox was held back.
	CPULimit Cause = "cpu"
)

// Finding is one thing that the kernel did to a sandbox for its limits.
type Finding struct {
	Cause Cause `json:"cause"`
	// Killed says that the kernel ended processes for it.
	Killed bool `json:"killed,omitempty"`
	// Limit and Peak are bytes or processes; for the CPU, microseconds for each period
	// and nothing. 0 is unknown.
	Limit uint64 `json:"limit,omitempty"`
	Peak  uint64 `json:"peak,omitempty"`
	// Count is of kills, refused forks or throttled periods.
	Count uint64 `json:"count"`
	// Text is one line for a person, without a remedy.
	Text string `json:"text"`
}

// throttledShare is the share of periods from which on a program is said to have been
// slowed by its quota; a few are met by anything with several threads.
const throttledShare = 0.1

// Verdict tells what limits did to a sandbox between two readings of its statistics,
// the gravest first; nothing when they did nothing. It is pure.
//
// A killed process alone does not tell why: it may be for the leaf's limit, for one
// above it or for the host. The event oom of memory.events counts at the cgroup whose
// limit it was.
func Verdict(before, after Stats, limits Limits) []Finding {
	var list []Finding
	if f, ok := memoryFinding(before.Memory, after.Memory, limits); ok {
		list = append(list, f)
	}
	if refused := grown(before.Pids.Refused, after.Pids.Refused); refused > 0 {
		f := Finding{Cause: PidsLimit, Limit: uint64(limits.Pids), Peak: after.Pids.Peak, Count: refused}
		// Before Linux 6.11 the leaf counts what a limit above it refused, too. At its own
		// limit the kernel's peak is the limit; one that was sampled may have missed that.
		if limits.Pids > 0 && (f.Peak >= f.Limit || after.Pids.Sampled) {
			f.Peak = max(f.Peak, f.Limit)
			f.Text = fmt.Sprintf("process limit %d reached, %s refused", limits.Pids, count(refused, "fork"))
		} else {
			f.Limit = 0
			f.Text = fmt.Sprintf("a process limit above the sandbox was reached, %s refused", count(refused, "fork"))
		}
		list = append(list, f)
	}
	if f, ok := cpuFinding(before.CPU, after.CPU, limits.CPU); ok {
		list = append(list, f)
	}
	return list
}

func memoryFinding(before, after MemoryStats, limits Limits) (Finding, bool) {
	kills := grown(before.OOMKill, after.OOMKill)
	if kills == 0 {
		return Finding{}, false
	}
	own := grown(before.OOM, after.OOM) > 0 && limits.Memory > 0
	f := Finding{Cause: MemoryOutside, Killed: true, Peak: after.Peak, Count: kills}
	if !own {
		f.Text = fmt.Sprintf("killed: memory ran out outside of the sandbox, which had used %s", Size(after.Peak))
		return f, true
	}
	f.Cause, f.Limit = MemoryLimit, uint64(limits.Memory)
	// What was sampled may have missed the moment; the limit was reached for certain.
	if after.Sampled {
		f.Peak = max(f.Peak, f.Limit)
	}
	f.Text = fmt.Sprintf("killed: memory limit %s reached, peak %s", Size(f.Limit), Size(f.Peak))
	return f, true
}

func cpuFinding(before, after CPUStats, quota Quota) (Finding, bool) {
	periods, throttled := grown(before.Periods, after.Periods), grown(before.Throttled, after.Throttled)
	if quota.Period == 0 || throttled == 0 || float64(throttled) < throttledShare*float64(periods) {
		return Finding{}, false
	}
	cpus := strconv.FormatFloat(quota.CPUs(), 'f', -1, 64)
	return Finding{
		Cause: CPULimit, Limit: uint64(quota.Quota), Count: throttled,
		Text: fmt.Sprintf("slowed: limit of %s CPUs used up in %d%% of the time", cpus, throttled*100/max(periods, 1)),
	}, true
}

// grown is the increase of a counter; a leaf that was made anew starts at zero.
func grown(before, after uint64) uint64 {
	if after < before {
		return after
	}
	return after - before
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Size writes bytes for a person, in powers of 1024 with at most one decimal.
func Size(bytes uint64) string {
	const units = "KMGTPE"
	if bytes < 1024 {
		return strconv.FormatUint(bytes, 10) + " B"
	}
	value, unit := float64(bytes)/1024, 0
	// 1023.95 would be written as 1024.0.
	for value >= 1023.95 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	text := strconv.FormatFloat(value, 'f', 1, 64)
	if text[len(text)-2:] == ".0" {
		text = text[:len(text)-2]
	}
	return text + " " + units[unit:unit+1] + "iB"
}
