package plan

import (
	"fmt"
	"strings"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/quote"
)

// text says what a step does.
func (p *Plan) text(s Step) string {
	switch s.Op {
	case OpBuildImage:
		return fmt.Sprintf("make the image %s from this host's files (first use, or the host has changed)", p.Image.Name)
	case OpSandbox:
		if p.Root.Again {
			return "take hold of the kept sandbox " + p.Root.Sandbox
		}
		return "make the sandbox's directory " + p.Root.Sandbox
	case OpPlace:
		return fmt.Sprintf("hold the place of %s, which the host would execute if the program made it", p.Placeholders[s.Index].Path)
	case OpCgroup:
		return "make a cgroup with limits: " + limitText(p.Cgroup.Limits)
	case OpClone:
		return "start pid 1 in new namespaces: " + strings.Join(p.namespaces(), " ")
	case OpMaps:
		return p.mapsText()
	case OpPayload:
		return fmt.Sprintf("run %s as uid %d in %s", p.Program.Inside, p.User.UID, quote.Quote(p.Process.Dir))
	default:
		return p.initText(s)
	}
}

// initText is text for what pid 1 does.
func (p *Plan) initText(s Step) string {
	switch s.Op {
	case OpCgroupNS:
		return "see no cgroup above its own"
	case OpNoMoreUserns:
		return "allow one further user namespace, the program's own"
	case OpBegin:
		return fmt.Sprintf("make the private tmpfs (%d MiB, %d files)", p.Private.Size>>20, p.Private.Inodes)
	case OpTake:
		if s.Index < 0 {
			return "take hold of " + p.CopyIn[-1-s.Index].Source
		}
		return "take hold of " + p.Mounts[s.Index].Source
	case OpRoot:
		return p.rootText()
	case OpGroups:
		return "clear the supplementary groups"
	case OpHostname:
		return "name the host " + p.Hostname
	case OpLoopback:
		return "bring the loopback interface up"
	case OpInherited:
		return "set what processes inherit: limits, core dumps off, first to go when memory runs out"
	case OpPivot:
		return "leave the host's root behind"
	case OpAttach:
		return p.Mounts[s.Index].String()
	case OpProgram:
		return fmt.Sprintf("copy %s to %s%s", p.Program.Host, p.Program.Inside, p.libraryText())
	case OpCopyIn:
		return fmt.Sprintf("copy %s to %s", p.CopyIn[s.Index].Source, p.CopyIn[s.Index].Target)
	case OpConsole:
		return "open a terminal of its own"
	case OpFinish:
		return "enter the new root"
	default:
		return string(s.Op)
	}
}

func limitText(l cgroupv2.Limits) string {
	var words []string
	for _, s := range l.Settings() {
		words = append(words, s.File+" "+s.Value)
	}
	return strings.Join(words, ", ")
}

func (p *Plan) namespaces() []string {
	list := []string{"user", "pid", "mnt", "uts", "ipc"}
	if !p.HostNetwork {
		list = append(list, "net")
	}
	return list
}

func (p *Plan) mapsText() string {
	lines := strings.ReplaceAll(strings.TrimSpace(p.Identity.Layout.SetupUID.String()), "\n", ", ")
	if p.Identity.Direct {
		return "write the id maps: " + lines
	}
	return "write the id maps with newuidmap and newgidmap: " + lines
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
	if p.Root.InMemory && p.Root.Bounded {
		return "copy " + lower + " as the root (overlay, changes in memory)"
	}
	if p.Root.InMemory { // see launch.Run
		return "copy " + lower + " as the root (overlay, changes in memory; where the kernel refuses one, a copy in the store)"
	}
	return "copy " + lower + " as the root (" + strings.Join(p.Root.Methods, ", else ") + ")"
}
