package plan

import "github.com/sbx-run/sbx/mounts"

// Op names the action of a stage. Each is carried out in one place: those of
// Host in internal/launch, the others in internal/initproc.
type Op string

// The operations in the order in which a run meets them.
const (
	OpBuildImage Op = "build-image" // host
	OpSandbox    Op = "sandbox"
	OpPlace      Op = "placeholder"
	OpCgroup     Op = "cgroup"
	OpClone      Op = "clone"
	OpMaps       Op = "id-maps"

	OpCgroupNS     Op = "cgroup-namespace" // pid 1
	OpBegin        Op = "private-tmpfs"
	OpNoMoreUserns Op = "limit-namespaces"
	OpTake         Op = "take"
	OpRoot         Op = "root"
	OpGroups       Op = "groups"
	OpHostname     Op = "hostname"
	OpLoopback     Op = "loopback"
	OpInherited    Op = "inherited"
	OpPivot        Op = "pivot"
	OpAttach       Op = "attach"
	OpProgram      Op = "program"
	OpCopyIn       Op = "copy-in"
	OpConsole      Op = "console"
	OpFinish       Op = "finish"
	OpPayload      Op = "payload"
)

// Where says which process acts.
type Where string

// The three processes of a run.
const (
	OnHost   Where = "host"    // the supervisor, outside
	InInit   Where = "init"    // pid 1, in U1
	InTarget Where = "payload" // between clone and execve, in U2
)

// Step is one step of a run, as far as whoever carries it out has to know it.
type Step struct {
	Where Where `json:"where"`
	Op    Op    `json:"op"`
	// Index is the element of Plan.Mounts or Plan.CopyIn that the step is about.
	Index int `json:"index,omitempty"`
}

// Stage is a step and its text: what the dry run prints, what the log says, and
// what stands in front of an errno when it fails.
type Stage struct {
	Step
	Text string `json:"text"`
}

// Stages is [Plan.Steps] with the texts. They take several times as long to put
// together as a step takes, so a run asks for them only when somebody reads them.
func (p *Plan) Stages() []Stage {
	steps := p.Steps()
	list := make([]Stage, len(steps))
	for i, s := range steps {
		list[i] = Stage{s, p.text(s)}
	}
	return list
}

// Steps is the plan as an ordered list. pid 1 walks through it, so an index that
// it reports means the same on both sides.
func (p *Plan) Steps() []Step {
	list := make([]Step, 0, 2*len(p.Mounts)+24)
	list = p.hostSteps(list)
	list = p.initSteps(list)
	return append(list, Step{InTarget, OpPayload, 0})
}

func (p *Plan) hostSteps(list []Step) []Step {
	add := func(op Op, index int) { list = append(list, Step{OnHost, op, index}) }
	if p.Image.Build {
		add(OpBuildImage, 0)
	}
	if p.Root.Again || !p.Root.InMemory {
		add(OpSandbox, 0)
	}
	for i := range p.Placeholders {
		add(OpPlace, i)
	}
	if p.Cgroup.Use {
		add(OpCgroup, 0)
	}
	add(OpClone, 0)
	add(OpMaps, 0)
	return list
}

func (p *Plan) initSteps(list []Step) []Step {
	add := func(op Op, index int) { list = append(list, Step{InInit, op, index}) }
	if p.CgroupNS {
		add(OpCgroupNS, 0)
	}
	add(OpBegin, 0)
	add(OpNoMoreUserns, 0)
	for i, m := range p.Mounts {
		if m.Kind == mounts.Bind || m.Kind == mounts.Device {
			add(OpTake, i)
		}
	}
	for i := range p.CopyIn {
		add(OpTake, -1-i)
	}
	add(OpRoot, 0)
	if p.Identity.SetGroups {
		add(OpGroups, 0)
	}
	add(OpHostname, 0)
	if !p.HostNetwork {
		add(OpLoopback, 0)
	}
	add(OpInherited, 0)
	add(OpPivot, 0)
	for i := range p.Mounts {
		add(OpAttach, i)
	}
	if p.Program.Host != "" {
		add(OpProgram, 0)
	}
	for i := range p.CopyIn {
		add(OpCopyIn, i)
	}
	if p.Process.TTY {
		add(OpConsole, 0)
	}
	add(OpFinish, 0)
	return list
}
