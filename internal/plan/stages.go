package plan

import (
	"fmt"
	"strings"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/mounts"
)

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
	OpNoMoreUserns Op = "limit-namespaces"
	OpBegin        Op = "private-tmpfs"
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

// Stage is one step of a run: its text is what the dry run prints, what the log
// says, and what stands in front of an errno when it fails.
type Stage struct {
	Where Where  `json:"where"`
	Op    Op     `json:"op"`
	Text  string `json:"text"`
	// Index is the element of Plan.Mounts or Plan.CopyIn that the stage is about.
	Index int `json:"index,omitempty"`
}

// Stages is the plan as an ordered list. pid 1 walks through it, so an index
// that it reports means the same on both sides.
func (p *Plan) Stages() []Stage {
	var list []Stage
	add := func(w Where, op Op, index int, format string, args ...any) {
		list = append(list, Stage{Where: w, Op: op, Index: index, Text: fmt.Sprintf(format, args...)})
	}
	p.hostStages(add)
	p.initStages(add)
	add(InTarget, OpPayload, 0, "run %s as uid %d in %s", p.Program.Inside, p.User.UID, p.Process.Dir)
	return list
}

type addStage func(w Where, op Op, index int, format string, args ...any)

func (p *Plan) hostStages(add addStage) {
	if p.Image.Build {
		add(OnHost, OpBuildImage, 0, "make the image %s from this host's files (first use, or the host has changed)", p.Image.Name)
	}
	if p.Root.Again {
		add(OnHost, OpSandbox, 0, "take hold of the kept sandbox %s", p.Root.Sandbox)
	} else if !p.Root.InMemory {
		add(OnHost, OpSandbox, 0, "make the sandbox's directory %s", p.Root.Sandbox)
	}
	for i, ph := range p.Placeholders {
		add(OnHost, OpPlace, i, "hold the place of %s, which the host would execute if the program made it", ph.Path)
	}
	if p.Cgroup.Use {
		add(OnHost, OpCgroup, 0, "make a cgroup with limits: %s", limitText(p.Cgroup.Limits))
	}
	add(OnHost, OpClone, 0, "start pid 1 in new namespaces: %s", strings.Join(p.namespaces(), " "))
	if p.Identity.Direct {
		add(OnHost, OpMaps, 0, "write the id maps: %s", p.mapText())
	} else {
		add(OnHost, OpMaps, 0, "write the id maps with newuidmap and newgidmap: %s", p.mapText())
	}
}

func limitText(l cgroupv2.Limits) string {
	var words []string
	for _, s := range l.Settings() {
		words = append(words, s.File+" "+s.Value)
	}
	return strings.Join(words, ", ")
}

func (p *Plan) initStages(add addStage) {
	if p.CgroupNS {
		add(InInit, OpCgroupNS, 0, "see no cgroup above its own")
	}
	add(InInit, OpNoMoreUserns, 0, "allow one further user namespace, the program's own")
	add(InInit, OpBegin, 0, "make the private tmpfs (%d MiB, %d files)", p.Private.Size>>20, p.Private.Inodes)
	for i, m := range p.Mounts {
		if m.Kind == mounts.Bind || m.Kind == mounts.Device {
			add(InInit, OpTake, i, "take hold of %s", m.Source)
		}
	}
	for i, c := range p.CopyIn {
		add(InInit, OpTake, -1-i, "take hold of %s", c.Source)
	}
	add(InInit, OpRoot, 0, "%s", p.rootText())
	if p.Identity.SetGroups {
		add(InInit, OpGroups, 0, "clear the supplementary groups")
	}
	add(InInit, OpHostname, 0, "name the host %s", p.Hostname)
	if !p.HostNetwork {
		add(InInit, OpLoopback, 0, "bring the loopback interface up")
	}
	add(InInit, OpInherited, 0, "set what processes inherit: limits, core dumps off, first to go when memory runs out")
	add(InInit, OpPivot, 0, "leave the host's root behind")
	for i, m := range p.Mounts {
		add(InInit, OpAttach, i, "%s", m)
	}
	if p.Program.Host != "" {
		add(InInit, OpProgram, 0, "copy %s to %s%s", p.Program.Host, p.Program.Inside, p.libraryText())
	}
	for i, c := range p.CopyIn {
		add(InInit, OpCopyIn, i, "copy %s to %s", c.Source, c.Target)
	}
	if p.Process.TTY {
		add(InInit, OpConsole, 0, "open a terminal of its own")
	}
	add(InInit, OpFinish, 0, "enter the new root")
}

func (p *Plan) namespaces() []string {
	list := []string{"user", "pid", "mnt", "uts", "ipc"}
	if !p.HostNetwork {
		list = append(list, "net")
	}
	return list
}

func (p *Plan) mapText() string {
	return strings.ReplaceAll(strings.TrimSpace(p.Identity.Layout.SetupUID.String()), "\n", ", ")
}

func (p *Plan) libraryText() string {
	if n := len(p.Program.Libraries); n > 0 {
		return fmt.Sprintf(", with %d libraries that the image lacks", n)
	}
	return ""
}

func (p *Plan) rootText() string {
	lower := p.Root.Lower
	switch {
	case p.Image.Imported:
		lower = fmt.Sprintf("the image %s (%s)", p.Image.Name, p.Image.Digest)
	case lower == "":
		lower = "the image " + p.Image.Name
	}
	if p.Root.Again {
		return "use the sandbox's copy as the root once more (" + strings.Join(p.Root.Methods, ", else ") + ")"
	}
	if p.Root.ReadOnly {
		return "use " + lower + " itself as the root, read-only"
	}
	if p.Root.InMemory {
		return "copy " + lower + " as the root (overlay, changes in memory)"
	}
	return "copy " + lower + " as the root (" + strings.Join(p.Root.Methods, ", else ") + ")"
}
