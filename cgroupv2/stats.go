package cgroupv2

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stats is what the kernel counted for a leaf, with everything below it. Values of
// controllers that do not reach it are zero.
type Stats struct {
	Memory MemoryStats `json:"memory"`
	Pids   PidsStats   `json:"pids"`
	CPU    CPUStats    `json:"cpu"`
	IO     IOStats     `json:"io"`
}

// MemoryStats are bytes, and counts of memory.events.
type MemoryStats struct {
	Current uint64 `json:"current"`
	Peak    uint64 `json:"peak"`
	// Sampled says that Peak is the highest of the values seen by [Leaf.Sample]:
	// the kernel has no memory.peak (before Linux 5.19).
	Sampled     bool   `json:"sampled,omitempty"`
	SwapCurrent uint64 `json:"swap_current"`
	// Max counts how often memory.max was about to be crossed, OOM how often nothing
	// could be reclaimed then.
	Max uint64 `json:"max"`
	OOM uint64 `json:"oom"`
	// OOMKill counts processes killed by any out-of-memory killer, also for a limit
	// above the leaf or for the whole host. OOMGroupKill (Linux 5.17) counts how
	// often the whole leaf was.
	OOMKill      uint64 `json:"oom_kill"`
	OOMGroupKill uint64 `json:"oom_group_kill"`
}

// PidsStats are counts of processes and threads.
type PidsStats struct {
	Current uint64 `json:"current"`
	Peak    uint64 `json:"peak"`
	// Sampled is as in [MemoryStats]: pids.peak is there from Linux 6.1 on.
	Sampled bool `json:"sampled,omitempty"`
	// Refused counts the forks that pids.max refused.
	Refused uint64 `json:"refused"`
}

// CPUStats are times, and counts of periods of cpu.max.
type CPUStats struct {
	Usage     time.Duration `json:"usage"`
	User      time.Duration `json:"user"`
	System    time.Duration `json:"system"`
	Periods   uint64        `json:"periods"`
	Throttled uint64        `json:"throttled"`
	// ThrottledTime is summed over CPUs and may exceed the wall time.
	ThrottledTime time.Duration `json:"throttled_time"`
}

// IOStats are bytes and operations of all block devices together.
type IOStats struct {
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
	Reads      uint64 `json:"reads"`
	Writes     uint64 `json:"writes"`
}

// peaks are the highest values seen, for kernels that keep none.
type peaks struct {
	mu           sync.Mutex
	memory, pids uint64
}

// Sample looks at the current usage once and remembers the highest. It matters only
// where the kernel keeps no peak; call it some times a second then.
func (l *Leaf) Sample() {
	memory, _ := l.number("memory.current")
	pids, _ := l.number("pids.current")
	l.peak.mu.Lock()
	defer l.peak.mu.Unlock()
	l.peak.memory = max(l.peak.memory, memory)
	l.peak.pids = max(l.peak.pids, pids)
}

// KeepsPeaks says that the kernel keeps both peaks, so that nobody needs to sample.
func (l *Leaf) KeepsPeaks() bool {
	_, memory := l.number("memory.peak")
	_, pids := l.number("pids.peak")
	return memory && pids
}

func (l *Leaf) number(file string) (uint64, bool) {
	text, err := readFile(filepath.Join(l.Dir, file))
	if err != nil {
		return 0, false
	}
	return number(text)
}

func (l *Leaf) keyed(file string) (map[string]uint64, error) {
	text, err := readFile(filepath.Join(l.Dir, file))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // of a controller that is not there
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(l.Dir, file), err)
	}
	return flatKeyed(text), nil
}

// Stats reads everything that is counted. It fails when the leaf is gone.
func (l *Leaf) Stats() (Stats, error) {
	var s Stats
	if !isDir(l.Dir) {
		return s, fmt.Errorf("read the statistics of %s: %w", l.Dir, unix.ENOENT)
	}
	l.Sample()
	memory, err1 := l.keyed("memory.events")
	pids, err2 := l.keyed("pids.events")
	cpu, err3 := l.keyed("cpu.stat")
	if err := errors.Join(err1, err2, err3); err != nil {
		return s, err
	}
	s.Memory = MemoryStats{
		Max: memory["max"], OOM: memory["oom"],
		OOMKill: memory["oom_kill"], OOMGroupKill: memory["oom_group_kill"],
	}
	s.Memory.Current, _ = l.number("memory.current")
	s.Memory.SwapCurrent, _ = l.number("memory.swap.current")
	s.Pids.Refused = pids["max"]
	s.Pids.Current, _ = l.number("pids.current")
	s.CPU = cpuStats(cpu)
	if text, err := readFile(filepath.Join(l.Dir, "io.stat")); err == nil {
		s.IO = ioStats(text)
	}
	l.addPeaks(&s)
	return s, nil
}

func (l *Leaf) addPeaks(s *Stats) {
	l.peak.mu.Lock()
	defer l.peak.mu.Unlock()
	var kept bool
	if s.Memory.Peak, kept = l.number("memory.peak"); !kept {
		s.Memory.Peak, s.Memory.Sampled = l.peak.memory, true
	}
	if s.Pids.Peak, kept = l.number("pids.peak"); !kept {
		s.Pids.Peak, s.Pids.Sampled = l.peak.pids, true
	}
}

func cpuStats(values map[string]uint64) CPUStats {
	micros := func(key string) time.Duration {
		return time.Duration(min(values[key], math.MaxInt64/1000)) * time.Microsecond
	}
	return CPUStats{
		Usage: micros("usage_usec"), User: micros("user_usec"), System: micros("system_usec"),
		Periods: values["nr_periods"], Throttled: values["nr_throttled"], ThrottledTime: micros("throttled_usec"),
	}
}

// ioStats adds up io.stat, nested keyed: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func ioStats(text string) IOStats {
	var s IOStats
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			continue
		}
		switch key {
		case "rbytes":
			s.ReadBytes += n
		case "wbytes":
			s.WriteBytes += n
		case "rios":
			s.Reads += n
		case "wios":
			s.Writes += n
		}
	}
	return s
}
