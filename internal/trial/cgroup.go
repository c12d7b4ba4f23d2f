package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sbx-run/sbx/cgroupv2"
)

// The controllers of a cgroup, each a try of its own.
const (
	CgroupMemory Try = "cgroup-memory"
	CgroupPids   Try = "cgroup-pids"
	CgroupCPU    Try = "cgroup-cpu"
)

// controller is one that limits are set with.
type controller struct {
	name string
	try  Try
}

func controllers() []controller {
	return []controller{{"memory", CgroupMemory}, {"pids", CgroupPids}, {"cpu", CgroupCPU}}
}

// cgroupTimeout is how long the service manager may take, less than timeout.
const cgroupTimeout = 15 * time.Second

// Cgroup sets limits in a cgroup of the caller's own, in a process that is moved
// there and ends with it. On a host that has none of the controllers in its v2
// tree nothing is tried: the tree would not be changed for a known answer.
func Cgroup(ctx context.Context) (cgroupv2.Host, Results) {
	host, err := cgroupv2.Look("memory", "pids", "cpu")
	if err != nil {
		return host, everyController(func(string) Result { return failure("", err) })
	}
	offered := slices.ContainsFunc(controllers(), func(c controller) bool { return slices.Contains(host.Available, c.name) })
	if !offered {
		return host, everyController(func(name string) Result {
			r := Result{Text: "no limit can be set: " + host.Prospect.Text, Hint: host.Prospect.Fix}
			if lack := host.Lack(host.Own, name); lack != nil {
				r.Text, r.Hint = lack.Error(), lack.Fix
			}
			return r
		})
	}
	return host, run(ctx, start{job: job{Kind: jobCgroup}, try: CgroupMemory})
}

func everyController(result func(name string) Result) Results {
	var results Results
	for _, c := range controllers() {
		r := result(c.name)
		r.Try = c.try
		results = append(results, r)
	}
	return results
}

// cgroup finds a place as a run does, makes the cgroup of a sandbox there with
// limits that are read back, and takes it away again.
func (t *tester) cgroup() {
	ctx, cancel := context.WithTimeout(context.Background(), cgroupTimeout)
	defer cancel()
	parent, err := cgroupv2.Find(ctx, "memory", "pids", "cpu")
	if err != nil {
		t.noCgroup(err)
		return
	}
	defer func() { _ = parent.Close(ctx) }()
	limits := cgroupv2.Limits{Memory: 64 << 20, Pids: 64, CPU: cgroupv2.Quota{Quota: 50_000, Period: 100_000}}
	if parent.Lack("memory") != nil {
		limits.Memory = 0
	}
	if parent.Lack("pids") != nil {
		limits.Pids = 0
	}
	if parent.Lack("cpu") != nil {
		limits.CPU = cgroupv2.Quota{}
	}
	leaf, err := parent.NewLeaf(ctx, "doctor"+strconv.FormatInt(time.Now().UnixNano(), 36), limits)
	if err != nil {
		t.noCgroup(err)
		return
	}
	for _, r := range everyController(func(name string) Result { return limit(parent, leaf, name) }) {
		t.send(r)
	}
	_ = leaf.Remove(ctx)
}

// noCgroup says for each controller that there is no cgroup, and what would
// bring one.
func (t *tester) noCgroup(err error) {
	var none *cgroupv2.NotDelegated
	hint := ""
	if errors.As(err, &none) {
		hint = none.Fix()
	}
	for _, r := range everyController(func(string) Result {
		r := failure("", err)
		r.Hint = hint
		return r
	}) {
		t.send(r)
	}
}

// limit is what came of one controller.
func limit(parent *cgroupv2.Parent, leaf *cgroupv2.Leaf, name string) Result {
	if lack := parent.Lack(name); lack != nil {
		return Result{Text: lack.Error(), Hint: lack.Fix}
	}
	for _, s := range leaf.Applied {
		if s.File == name+".max" {
			return Result{OK: true, Text: fmt.Sprintf("%s set to %s and read back (%s)", s.File, s.Value, parent.Rung)}
		}
	}
	return Result{Text: "the controller " + name + " is there and no limit was taken"}
}
