package cgroupv2

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Unlimited as a value of [Limits.Swap] sets no limit; elsewhere 0 does.
const Unlimited = -1

// Ranges of values, as the kernel has them.
const (
	MinWeight = 1     // of cpu.weight and io.weight
	MaxWeight = 10000 // the default of both is 100
	// MinQuota is the least CPU time for one period, MinPeriod and MaxPeriod bound
	// the period; microseconds.
	MinQuota  = 1000
	MinPeriod = 1000
	MaxPeriod = 1000000
)

// Limits is what a sandbox may use at most. The zero value of a field sets nothing,
// except that a sandbox with a limit on memory gets no swap unless Swap says so.
type Limits struct {
	// Memory is memory.max in bytes: anonymous memory, page cache, tmpfs, shared
	// memory, memfd, pipe buffers and kernel objects. At least one page; the kernel
	// rounds down to whole pages. Above it everything in the sandbox is killed.
	Memory int64 `json:"memory,omitempty"`
	// MemoryHigh is memory.high in bytes: above it programs are slowed and made to
	// give memory back, not killed.
	MemoryHigh int64 `json:"memory_high,omitempty"`
	// Swap is memory.swap.max in bytes, in addition to Memory; or [Unlimited].
	Swap int64 `json:"swap,omitempty"`
	// Pids is pids.max: processes and threads together.
	Pids int64 `json:"pids,omitempty"`
	// CPU is cpu.max.
	CPU Quota `json:"cpu,omitzero"`
	// CPUWeight is cpu.weight, the share among siblings when CPUs are short.
	CPUWeight int `json:"cpu_weight,omitempty"`
	// CPUs is cpuset.cpus, in the form of [ParseCPUSet].
	CPUs string `json:"cpus,omitempty"`
	// IOWeight is io.weight, the share of a busy disk.
	IOWeight int `json:"io_weight,omitempty"`
}

// Quota is CPU time for each period, in microseconds; the zero value is no limit.
type Quota struct {
	Quota  int64 `json:"quota,omitempty"`
	Period int64 `json:"period,omitempty"`
}

// CPUs returns how many CPUs' worth of time the quota is.
func (q Quota) CPUs() float64 {
	if q.Period == 0 {
		return 0
	}
	return float64(q.Quota) / float64(q.Period)
}

// ErrRange is wrapped by errors about a limit out of its range.
var ErrRange = errors.New("out of range")

// Check returns what is wrong with the limits, wrapping [ErrRange] or [ErrForm].
func (l Limits) Check() error {
	page := int64(os.Getpagesize())
	for _, c := range []struct {
		name     string
		value    int64
		min, max int64
		set      bool
	}{
		{"memory limit", l.Memory, page, 1 << 62, l.Memory != 0},
		{"high memory mark", l.MemoryHigh, page, 1 << 62, l.MemoryHigh != 0},
		{"swap limit", l.Swap, 0, 1 << 62, l.Swap != Unlimited},
		// 2 to let pid 1 of the sandbox start one program; the upper end is the
		// kernel's PID_MAX_LIMIT.
		{"process limit", l.Pids, 2, 1 << 22, l.Pids != 0},
		{"cpu weight", int64(l.CPUWeight), MinWeight, MaxWeight, l.CPUWeight != 0},
		{"io weight", int64(l.IOWeight), MinWeight, MaxWeight, l.IOWeight != 0},
		{"cpu period", l.CPU.Period, MinPeriod, MaxPeriod, l.CPU != Quota{}},
		{"cpu quota", l.CPU.Quota, MinQuota, maxCPUs * MaxPeriod, l.CPU != Quota{}},
	} {
		if c.set && (c.value < c.min || c.value > c.max) {
			return fmt.Errorf("%s %d: %w: %d to %d", c.name, c.value, ErrRange, c.min, c.max)
		}
	}
	if l.CPUs != "" {
		if _, err := ParseCPUSet(l.CPUs); err != nil {
			return err
		}
	}
	return nil
}

// Setting is one value for one file of a cgroup.
type Setting struct {
	File       string `json:"file"`
	Value      string `json:"value"`
	Controller string `json:"controller"`
	// Optional settings are left out where the controller or the file is missing.
	Optional bool `json:"optional,omitempty"`
}

// Settings returns what is written to a leaf for the limits, in order. It is pure.
func (l Limits) Settings() []Setting {
	var list []Setting
	must := func(controller, file, value string) {
		list = append(list, Setting{File: file, Value: value, Controller: controller})
	}
	may := func(controller, file, value string) {
		list = append(list, Setting{File: file, Value: value, Controller: controller, Optional: true})
	}
	// One process of a sandbox killed alone would leave the others in a state that
	// nobody has tested.
	may("memory", "memory.oom.group", "1")
	if l.MemoryHigh != 0 {
		must("memory", "memory.high", decimal(l.MemoryHigh))
	}
	switch {
	case l.Swap == Unlimited:
		may("memory", "memory.swap.max", "max")
	case l.Swap != 0:
		must("memory", "memory.swap.max", decimal(l.Swap))
	case l.Memory != 0:
		// Without the file there is no swap, or none that is counted.
		may("memory", "memory.swap.max", "0")
	}
	if l.Memory != 0 {
		must("memory", "memory.max", decimal(l.Memory))
	}
	if l.Pids != 0 {
		must("pids", "pids.max", decimal(l.Pids))
	}
	if l.CPU != (Quota{}) {
		must("cpu", "cpu.max", decimal(l.CPU.Quota)+" "+decimal(l.CPU.Period))
	}
	if l.CPUWeight != 0 {
		must("cpu", "cpu.weight", strconv.Itoa(l.CPUWeight))
	}
	if l.CPUs != "" {
		must("cpuset", "cpuset.cpus", l.CPUs)
	}
	if l.IOWeight != 0 {
		must("io", "io.weight", "default "+strconv.Itoa(l.IOWeight))
	}
	return list
}

// Controllers returns what the limits need to reach a leaf, sorted.
func (l Limits) Controllers() []string {
	var need []string
	for _, s := range l.Settings() {
		if !s.Optional {
			need = append(need, s.Controller)
		}
	}
	return usable(need)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
