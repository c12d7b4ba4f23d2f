package plan

import (
	"fmt"

	"github.com/sbx-run/sbx/userns"
)

// layers says what stands between the program and the host in this run.
func layers(s Spec, f Facts, p *Plan) []Layer {
	list := []Layer{
		{Name: "userns", State: Enforced, Detail: "two nested, a third is refused"},
		{Name: "pid", State: Enforced},
		{Name: "mnt", State: Enforced},
		{Name: "uts", State: Enforced, Detail: "hostname " + p.Hostname},
		{Name: "ipc", State: Enforced},
		netLayer(p),
		cgroupNSLayer(f),
		nomapLayer(f, p),
		groupsLayer(f, p),
		capsLayer(p),
		{Name: "nnp", State: Enforced},
		seccompLayer(s, f),
		landlockLayer(f),
	}
	return append(list, limitLayers(f, p)...)
}

func netLayer(p *Plan) Layer {
	if p.HostNetwork {
		return Layer{
			Name: "net", State: Missing,
			Detail: "--network host: the host's network, its loopback and its abstract sockets are in reach",
		}
	}
	return Layer{Name: "net", State: Enforced, Detail: "loopback only"}
}

func cgroupNSLayer(f Facts) Layer {
	if !f.Kernel.CgroupNS {
		return Layer{Name: "cgroup-ns", State: Missing, Detail: "the kernel has no cgroup namespaces"}
	}
	return Layer{Name: "cgroup-ns", State: Enforced}
}

func nomapLayer(f Facts, p *Plan) Layer {
	l := Layer{Name: "nomap", State: Weaker}
	switch p.Identity.Mode {
	case userns.KeepID:
		l.Detail = "keep-id: the program acts as " + f.Caller.Name + " on shared paths"
		l.Fix = "--userns=nomap, if it need not read private files or write"
	case userns.Single:
		l.Detail = "single: the program acts as " + f.Caller.Name
		if p.Identity.Why != "" {
			l.Detail += "; " + p.Identity.Why
			l.Fix = "`sbx doctor --admin` prints what to ask the administrator for"
		}
	default:
		l.State = Enforced
		l.Detail = fmt.Sprintf("uid %d inside is %s outside", p.User.UID, outsideID(p))
	}
	return l
}

// outsideID follows the payload's uid through both namespaces.
func outsideID(p *Plan) string {
	setup, ok := p.Identity.Layout.PayloadUID.Outside(p.User.UID)
	if !ok {
		return "unmapped"
	}
	host, ok := p.Identity.Layout.SetupUID.Outside(setup)
	if !ok {
		return "unmapped"
	}
	return fmt.Sprint(host)
}

func groupsLayer(f Facts, p *Plan) Layer {
	if p.Identity.SetGroups || len(f.Caller.Groups) == 0 {
		return Layer{Name: "groups", State: Enforced, Detail: "none"}
	}
	l := Layer{
		Name: "groups", State: Weaker,
		Detail: "the kernel forbids setgroups in single mode, these stay in force: " + groupNames(f.Caller.Groups, false),
	}
	if power := groupNames(f.Caller.Groups, true); power != "" {
		l.Detail += " (with power over the host: " + power + ")"
	}
	return l
}

func capsLayer(p *Plan) Layer {
	if len(p.Process.Capabilities) == 0 {
		return Layer{Name: "caps", State: Enforced, Detail: "none"}
	}
	return Layer{
		Name: "caps", State: Enforced,
		Detail: fmt.Sprintf("%d for a fake root, valid over the sandbox's own files and processes only", len(p.Process.Capabilities)),
	}
}

func seccompLayer(s Spec, f Facts) Layer {
	switch {
	case !f.Kernel.Seccomp:
		return Layer{Name: "seccomp", State: Missing, Detail: "the kernel has no system call filter (CONFIG_SECCOMP_FILTER)"}
	case s.Seccomp == "off":
		return Layer{Name: "seccomp", State: Missing, Detail: "--seccomp off"}
	case s.Seccomp == "" || s.Seccomp == "default":
		return Layer{Name: "seccomp", State: Enforced, Detail: "default"}
	default:
		return Layer{Name: "seccomp", State: Enforced, Detail: s.Seccomp}
	}
}

// minLandlockABI is the first that lets a program move files between
// directories (LANDLOCK_ACCESS_FS_REFER, Linux 5.19). Under ABI 1 every such
// rename fails with EXDEV, which breaks more than the layer is worth.
const minLandlockABI = 2

func landlockLayer(f Facts) Layer {
	switch abi := f.Kernel.LandlockABI; {
	case abi >= minLandlockABI:
		return Layer{Name: "landlock", State: Enforced, Detail: fmt.Sprintf("ABI %d", abi)}
	case abi == 1:
		return Layer{Name: "landlock", State: Missing, Detail: "ABI 1 forbids every rename between directories, so it is not used", Fix: "Linux 5.19 or newer"}
	default:
		return Layer{Name: "landlock", State: Missing, Detail: "the kernel has none, or it is switched off", Fix: "Linux 5.19 or newer with landlock among its lsm="}
	}
}

func pidsLayer(f Facts, p *Plan) Layer {
	var limit uint64
	for _, r := range p.Process.Rlimits {
		if r.Resource == rlimitNproc {
			limit = r.Hard
		}
	}
	l := Layer{Name: "pids", State: Enforced, Detail: fmt.Sprintf("%d processes and threads (RLIMIT_NPROC in the user namespace)", limit)}
	if !f.Kernel.NprocPerUserns {
		l.State = Weaker
		l.Detail = fmt.Sprintf("RLIMIT_NPROC %d, which counts all processes of the same host uid before Linux 5.14", limit)
	}
	return l
}
