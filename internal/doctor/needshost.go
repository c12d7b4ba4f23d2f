package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/trial"
)

// needContainer is for whoever started the container that sbx runs in.
func needContainer(f Findings) (Need, bool) {
	if f.anyWorks() {
		return Need{}, false
	}
	masked := slices.ContainsFunc(f.Modes, func(m ModeFinding) bool {
		r, made := m.Results.Get(trial.Proc)
		return made && !r.OK && strings.Contains(r.Text, "unmask")
	})
	if !masked {
		return Need{}, false
	}
	return Need{
		Name:  "container",
		Title: "sbx runs in a container that hides parts of /proc, and the kernel then refuses a new one",
		Do: []string{
			"podman run --security-opt unmask=ALL …",
			"docker run --security-opt systempaths=unconfined …",
		},
		Safe: "this shows the container's own root what the mask hid (kernel addresses, keys in use), and nothing to the programs that sbx runs: each sandbox has masks of its own. Where the container is not trusted with that, start sbx outside of it",
	}, true
}

func needUnified(f Findings) (Need, bool) {
	h := f.Cgroup
	if h.Hierarchy != cgroupv2.Legacy && h.Hierarchy != cgroupv2.Hybrid || !f.lacksLimits() {
		return Need{}, false
	}
	n := Need{
		Name:  "cgroup-v2",
		Title: fmt.Sprintf("the controllers for memory, processes and processor time are bound to cgroup v1 (the host boots %s)", h.Hierarchy),
		Do: []string{
			"# add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, and restart:",
			"# Debian, Ubuntu: GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub",
			"# Fedora, RHEL:   grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1",
		},
		Safe: "it is how all large distributions have booted since 2021; only software that knows cgroup v1 alone (docker before 20.10, some old Java) has to be updated first",
	}
	if !f.Admin.Systemd {
		n.Do = []string{
			"# have the init system mount cgroup v2 alone on /sys/fs/cgroup, and restart",
			"# OpenRC: rc_cgroup_mode=\"unified\" in /etc/rc.conf",
		}
	}
	return n, true
}

func (f Findings) lacksLimits() bool {
	_, failed := f.Limits.Failed()
	return failed
}

// needLinger: without a user manager nobody divides the user's cgroup.
func needLinger(f Findings) (Need, bool) {
	h := f.Cgroup
	if h.Hierarchy != cgroupv2.Unified || !f.lacksLimits() || h.Manager != "" || h.Job != nil || !f.Admin.Systemd || f.Facts.Caller.UID == 0 {
		return Need{}, false
	}
	name := f.Facts.Caller.Name
	return Need{
		Name:  "linger",
		Title: fmt.Sprintf("no service manager runs for %s (a session by su, sudo or cron starts none)", name),
		Do:    []string{"loginctl enable-linger " + shellWord(name)},
		Safe:  fmt.Sprintf("the manager runs as %s with no further rights, from the start of the host on instead of from the first login; it divides among %s's own programs what the host gives them", name, name),
	}, true
}

// needDelegation: the manager is there and some controllers do not reach it.
func needDelegation(f Findings) (Need, bool) {
	h := f.Cgroup
	if h.Hierarchy != cgroupv2.Unified || h.Manager == "" || h.Job != nil || !f.Admin.Systemd || f.Facts.Caller.UID == 0 {
		return Need{}, false
	}
	var lacking []string
	for name, try := range map[string]trial.Try{"memory": trial.CgroupMemory, "pids": trial.CgroupPids, "cpu": trial.CgroupCPU} {
		if r, made := f.Limits.Get(try); made && !r.OK && slices.Contains(h.Available, name) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) == 0 {
		return Need{}, false
	}
	slices.Sort(lacking)
	return Need{
		Name:  "delegation",
		Title: fmt.Sprintf("the service manager of %s is not given control over %s", f.Facts.Caller.Name, strings.Join(lacking, ", ")),
		Do: []string{
			"mkdir -p /etc/systemd/system/user@.service.d",
			"cat > /etc/systemd/system/user@.service.d/delegate.conf <<'EOF'",
			"[Service]",
			"Delegate=cpu cpuset io memory pids",
			"EOF",
			"systemctl daemon-reload",
			fmt.Sprintf("systemctl restart user@%d.service   # ends %s's services; or wait for the next login", f.Facts.Caller.UID, f.Facts.Caller.Name),
		},
		Safe: "users can divide only what they have: limits that are set on a user from above hold for everything below",
	}, true
}

// needLandlock: newer kernels have it, and some are started without it.
func needLandlock(f Findings) (Need, bool) {
	var major, minor int
	if n, _ := fmt.Sscanf(f.Uname[0], "%d.%d", &major, &minor); n != 2 || major < 5 || major == 5 && minor < 19 {
		return Need{}, false
	}
	if f.Facts.Kernel.LandlockABI > 0 || f.Admin.LSM == "" || strings.Contains(f.Admin.LSM, "landlock") {
		return Need{}, false
	}
	return Need{
		Name:  "landlock",
		Title: "the kernel is started without Landlock",
		Do: []string{
			"# add lsm=landlock," + f.Admin.LSM + " to the kernel's command line, and restart",
			"# (this has an effect only if the kernel was built with CONFIG_SECURITY_LANDLOCK)",
		},
		Safe: "Landlock restricts only programs that ask for it, and gives no rights to any",
	}, true
}
