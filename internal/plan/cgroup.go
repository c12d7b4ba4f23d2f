package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-run/sbx/cgroupv2"
)

// LimitSpec are the limits asked for; zero values were not given.
type LimitSpec struct {
	Memory     int64  `json:"memory,omitempty"`     // -m, bytes
	MemorySwap int64  `json:"memorySwap,omitempty"` // --memory-swap as in docker: memory and swap together, -1 for no bound
	CPUs       string `json:"cpus,omitempty"`       // --cpus, 1.5
	CPUWeight  int    `json:"cpuWeight,omitempty"`
	CPUSet     string `json:"cpuSet,omitempty"`
	Pids       int64  `json:"pids,omitempty"` // --pids-limit
	IOWeight   int    `json:"ioWeight,omitempty"`
	Disk       int64  `json:"disk,omitempty"` // --disk, bytes
}

// Cgroup is how the limits are kept.
type Cgroup struct {
	// Use is true where a place in the tree can be expected; it is taken by
	// trying, when the run begins.
	Use    bool            `json:"use"`
	Limits cgroupv2.Limits `json:"limits"`
	Need   []string        `json:"need,omitempty"` // controllers that the limits want
	// Asked is true when a flag or --require depends on it: then there is no run
	// without.
	Asked bool `json:"asked,omitempty"`
	// Watch bounds the memory, in bytes, by sampling, where no cgroup can be had.
	Watch int64 `json:"watch,omitempty"`
}

// defaultControllers are those of the limits that every run has where it can.
func defaultControllers() []string { return []string{"memory", "pids"} }

// cgroup turns the flags into limits and decides how they are kept.
func cgroup(s Spec, f Facts) (Cgroup, error) {
	limits, err := limitsOf(s.Limits, f.Memory)
	if err != nil {
		return Cgroup{}, err
	}
	c := Cgroup{Limits: limits, Need: limits.Controllers(), Use: f.Cgroup.Rung != ""}
	for _, layer := range s.Require {
		c.Asked = c.Asked || layer == "memory" || layer == "pids" || layer == "cpu"
	}
	asked := askedControllers(s.Limits)
	c.Asked = c.Asked || len(asked) > 0
	if c.Use {
		return c, nil
	}
	// Without a cgroup pids has RLIMIT_NPROC and memory a watchdog; the rest
	// cannot even be watched.
	for _, controller := range asked {
		switch controller {
		case "memory":
			c.Watch = s.Limits.Memory
		case "pids":
		default:
			return c, noCgroupFor(controller, f.Cgroup)
		}
	}
	if s.Limits.MemorySwap != 0 {
		return c, noCgroupFor("memory", f.Cgroup)
	}
	c.Asked = false
	return c, nil
}

func noCgroupFor(controller string, p cgroupv2.Prospect) error {
	text := fmt.Sprintf("the limit that you ask for needs the cgroup controller %s, and no cgroup can be had here: %s", controller, p.Text)
	if p.Fix != "" {
		text += "; " + p.Fix
	}
	return &Misuse{Reason: text}
}

// askedControllers are those that the flags need.
func askedControllers(l LimitSpec) []string {
	var list []string
	for _, c := range []struct {
		name  string
		asked bool
	}{
		{"memory", l.Memory != 0 || l.MemorySwap != 0},
		{"pids", l.Pids != 0},
		{"cpu", l.CPUs != "" || l.CPUWeight != 0},
		{"cpuset", l.CPUSet != ""},
		{"io", l.IOWeight != 0},
	} {
		if c.asked {
			list = append(list, c.name)
		}
	}
	return list
}

// OwnThreads is added to the limit of processes for those of sbx's own that count
// in the cgroup like all others: pid 1, and where a tree has to be copied the
// threads of the process that does. RLIMIT_NPROC gets more, so that where there is
// a cgroup it is the cgroup that refuses: the kernel counts only that, and the
// closing line can tell.
func (p *Plan) OwnThreads() int64 {
	if p.CopiesTrees() {
		return 16
	}
	return 1
}

// CopiesTrees tells whether whole directories are copied before the program
// starts: the image, or a --copy-in.
func (p *Plan) CopiesTrees() bool {
	return !p.Root.InMemory && !p.Root.ReadOnly || slices.ContainsFunc(p.CopyIn, func(c CopyJob) bool { return c.Directory })
}

// limitsOf adds the defaults: half of the memory, no swap, 512 processes.
func limitsOf(l LimitSpec, memory int64) (cgroupv2.Limits, error) {
	limits := cgroupv2.Limits{Memory: memory / 2, Pids: DefaultProcesses, CPUWeight: l.CPUWeight, IOWeight: l.IOWeight}
	if l.Memory != 0 {
		limits.Memory = l.Memory
	}
	if l.Pids != 0 {
		limits.Pids = l.Pids
	}
	switch {
	case l.MemorySwap == 0:
	case l.Memory == 0:
		return limits, misuse("--memory-swap bounds memory and swap together, so it needs --memory as well")
	case l.MemorySwap == -1:
		limits.Swap = cgroupv2.Unlimited
	case l.MemorySwap < l.Memory:
		return limits, misuse("--memory-swap %d is less than --memory %d: it is the sum of memory and swap", l.MemorySwap, l.Memory)
	default:
		limits.Swap = l.MemorySwap - l.Memory
	}
	var err error
	if l.CPUs != "" {
		if limits.CPU, err = cgroupv2.ParseCPUs(l.CPUs); err != nil {
			return limits, misuse("--cpus %q: %v", l.CPUs, err)
		}
	}
	if l.CPUSet != "" {
		if limits.CPUs, err = cgroupv2.ParseCPUSet(l.CPUSet); err != nil {
			return limits, misuse("--cpuset-cpus %q: %v", l.CPUSet, err)
		}
	}
	if err := limits.Check(); err != nil {
		return limits, misuse("%s", inFlags(err.Error()))
	}
	return limits, nil
}

// inFlags puts the flag in the place of the limit's name.
func inFlags(text string) string {
	for name, flag := range map[string]string{
		"memory limit": "--memory", "process limit": "--pids-limit", "cpu weight": "--cpu-weight", "io weight": "--io-weight",
	} {
		if rest, ok := strings.CutPrefix(text, name+" "); ok {
			return flag + " " + rest
		}
	}
	return text
}

// limitLayers are memory, pids and cpu.
func limitLayers(f Facts, p *Plan) []Layer {
	memory := Layer{Name: "memory", State: Missing, Detail: f.Cgroup.Text, Fix: f.Cgroup.Fix}
	cpu := Layer{Name: "cpu", State: Missing, Detail: f.Cgroup.Text, Fix: f.Cgroup.Fix}
	pids := pidsLayer(f, p)
	has := func(controller string) bool {
		return p.Cgroup.Use && strings.Contains(" "+strings.Join(f.Cgroup.Controllers, " ")+" ", " "+controller+" ")
	}
	switch {
	case has("memory"):
		memory = Layer{Name: "memory", State: Enforced, Detail: cgroupv2.Size(uint64(p.Cgroup.Limits.Memory)) + " (" + string(f.Cgroup.Rung) + ")"}
	case p.Cgroup.Watch != 0:
		memory.State = Weaker
		memory.Detail = "watched, ten times a second: " + f.Cgroup.Text
	case p.Cgroup.Use:
		memory.Detail = "the controller memory is not delegated"
	}
	if has("pids") {
		pids = Layer{Name: "pids", State: Enforced, Detail: fmt.Sprintf("%d processes and threads (%s)", p.Cgroup.Limits.Pids, f.Cgroup.Rung)}
	}
	switch {
	case has("cpu") && p.Cgroup.Limits.CPU != (cgroupv2.Quota{}):
		cpu = Layer{Name: "cpu", State: Enforced, Detail: fmt.Sprintf("%g CPUs (%s)", p.Cgroup.Limits.CPU.CPUs(), f.Cgroup.Rung)}
	case has("cpu"):
		cpu = Layer{Name: "cpu", State: Enforced, Detail: "a fair share; no quota was asked for"}
	case p.Cgroup.Use:
		cpu.Detail = "the controller cpu is not delegated"
	}
	return []Layer{memory, pids, cpu}
}
