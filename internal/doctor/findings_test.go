package doctor

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/trial"
	"github.com/sbx-run/sbx/userns"
)

// goodHost is a host on which everything works: the tests take things away from
// it. The plan has every layer.
func goodHost() Findings {
	f := Findings{
		Facts: plan.Facts{
			Caller:      plan.Caller{UID: 1001, GID: 1001, Name: "alice"},
			Subordinate: userns.Subordinate{UID: []userns.Range{{Start: 100000, Count: 65536}}, GID: []userns.Range{{Start: 100000, Count: 65536}}, Source: "/etc/subuid"},
			Kernel:      plan.Kernel{LandlockABI: 7},
		},
		Mode:   userns.NoMap,
		Values: Values{"user.max_user_namespaces": "95000"},
		Uname:  [2]string{"6.18.44", "#1 SMP PREEMPT_DYNAMIC"},
		Store:  StoreFinding{Path: "/home/alice/.local/share/sbx", Exists: true, Type: unix.EXT4_SUPER_MAGIC, Free: 50 << 30, Inodes: 1 << 20},
		Cgroup: cgroupv2.Host{Hierarchy: cgroupv2.Unified, Manager: "/sys/fs/cgroup/user.slice", Available: []string{"cpu", "memory", "pids"}},
		Limits: works(trial.CgroupMemory, trial.CgroupPids, trial.CgroupCPU),
		Admin: AdminFinding{
			Hostname: "server", Distribution: []string{"debian"}, Binary: "/home/alice/bin/sbx", Systemd: true,
			Subuid: []byte("bob:100000:65536\n"), Subgid: []byte("bob:100000:65536\n"),
			Passwd: []byte("root:x:0:0:root:/root:/bin/bash\nalice:x:1001:1001::/home/alice:/bin/bash\n"),
			LSM:    "capability,landlock,yama",
		},
	}
	for _, name := range plan.LayerNames() {
		f.Plan = append(f.Plan, plan.Layer{Name: name, State: plan.Enforced})
	}
	f.Namespaces = works(trial.CloneUser, trial.ClonePid, trial.CloneMnt, trial.CloneUts, trial.CloneIpc, trial.CloneNet, trial.CloneCgroup)
	for _, m := range []userns.Mode{userns.NoMap, userns.KeepID, userns.Single} {
		f.Modes = append(f.Modes, ModeFinding{Mode: m, Results: setup(m)})
	}
	return f
}

// setup is a set-up that went well.
func setup(m userns.Mode) trial.Results {
	tries := []trial.Try{trial.Maps, trial.CloneAll}
	if m != userns.Single {
		tries = append(tries, trial.Groups)
	}
	return works(append(tries, trial.Tmpfs, trial.Proc, trial.Hostname, trial.Loopback, trial.Limit,
		trial.Nested, trial.Keyring, trial.Rlimits, trial.Third, trial.Caps, trial.Nproc, trial.NNP, trial.Landlock,
		trial.Seccomp, trial.Reflink, trial.Overlay, trial.Devices, trial.DevPts, trial.Root)...)
}

// locks are the results of the trial that needs no namespace.
func locks() trial.Results {
	return works(trial.Keyring, trial.Rlimits, trial.Caps, trial.NNP, trial.Landlock, trial.Seccomp)
}

func works(tries ...trial.Try) trial.Results {
	var rs trial.Results
	for _, t := range tries {
		rs = append(rs, trial.Result{Try: t, OK: true, Text: string(t) + " went well"})
	}
	return rs
}

// fails makes a try fail, in a copy; cut ends the results there.
func fails(rs trial.Results, t trial.Try, errno unix.Errno, hint string) trial.Results {
	rs = slices.Clone(rs)
	for i := range rs {
		if rs[i].Try == t {
			rs[i] = trial.Result{Try: t, Text: string(t) + ": " + errno.Error(), Errno: errno, Hint: hint}
		}
	}
	return rs
}

func cut(rs trial.Results, after trial.Try) trial.Results {
	at := slices.IndexFunc(rs, func(r trial.Result) bool { return r.Try == after })
	return rs[:at+1]
}

// everyMode changes the results of all set-ups.
func (f *Findings) everyMode(change func(trial.Results) trial.Results) {
	for i := range f.Modes {
		f.Modes[i].Results = change(f.Modes[i].Results)
	}
}

// setPlan gives a layer of the plan another state.
func (f *Findings) setPlan(name string, state plan.State, detail string) {
	for i := range f.Plan {
		if f.Plan[i].Name == name {
			f.Plan[i].State, f.Plan[i].Detail = state, detail
		}
	}
}

// The hosts of the tables below, each as it was seen or as its documentation
// tells it.

func noSubids() Findings {
	f := goodHost()
	f.Facts.Subordinate = userns.Subordinate{Source: "/etc/subuid"}
	f.Mode, f.Why = userns.Single, "no subordinate uids for alice in /etc/subuid"
	for i := range f.Modes[:2] {
		f.Modes[i].Results, f.Modes[i].Refused = nil, f.Why
	}
	f.setPlan("nomap", plan.Weaker, "single: the program acts as alice")
	return f
}

func noHelpers() Findings {
	f := noSubids()
	f.Facts.Subordinate = goodHost().Facts.Subordinate
	f.Admin.Helpers = HelpersMissing
	return f
}

// Ubuntu 23.10 and later: a user namespace is made, and mount(2) in it refused.
func appArmor() Findings {
	f := goodHost()
	f.Values["kernel.apparmor_restrict_unprivileged_userns"] = "1"
	f.everyMode(func(rs trial.Results) trial.Results {
		return fails(cut(rs, trial.Tmpfs), trial.Tmpfs, unix.EACCES, "an AppArmor profile with `userns` is needed")
	})
	f.Locks = locks()
	return f
}

func usernsOff() Findings {
	f := goodHost()
	f.Values["user.max_user_namespaces"] = "0"
	f.Build = "a run does not start"
	f.Plan, f.Mode = nil, ""
	for i := range f.Namespaces {
		f.Namespaces[i] = trial.Result{Try: f.Namespaces[i].Try, Text: "clone: no space left on device", Errno: unix.ENOSPC, Hint: "see user.max_user_namespaces"}
	}
	f.everyMode(func(trial.Results) trial.Results {
		return trial.Results{{Try: trial.CloneAll, Text: "clone: no space left on device", Errno: unix.ENOSPC}}
	})
	f.Locks = locks()
	return f
}

func maskedProc() Findings {
	f := goodHost()
	f.everyMode(func(rs trial.Results) trial.Results {
		rs = fails(cut(rs, trial.Proc), trial.Proc, unix.EPERM, "start sbx outside of the container")
		rs[len(rs)-1].Text = "mount a procfs: start that container with --security-opt unmask=ALL"
		return rs
	})
	f.Locks = locks()
	return f
}

// A session by su or cron has no service manager to ask for a cgroup.
func noManager() Findings {
	f := goodHost()
	f.Cgroup.Manager = ""
	f.Limits = trial.Results{{Try: trial.CgroupMemory, Text: "no manager"}, {Try: trial.CgroupPids, Text: "no manager"}, {Try: trial.CgroupCPU, Text: "no manager"}}
	f.setPlan("memory", plan.Missing, "no manager")
	f.setPlan("cpu", plan.Missing, "no manager")
	return f
}

// Debian 11 delegates memory and pids only.
func noCPU() Findings {
	f := goodHost()
	f.Limits = fails(f.Limits, trial.CgroupCPU, unix.ENOENT, "")
	f.setPlan("cpu", plan.Missing, "the controller cpu is missing")
	return f
}

func hybrid() Findings {
	f := noManager()
	f.Cgroup = cgroupv2.Host{Hierarchy: cgroupv2.Hybrid, Available: []string{"hugetlb"}, Legacy: []string{"cpu", "memory", "pids"}}
	return f
}

// A home on NFS: no overlay, and no files of other ids.
func onNFS() Findings {
	f := goodHost()
	f.Store.Type = unix.NFS_SUPER_MAGIC
	f.everyMode(func(rs trial.Results) trial.Results {
		rs = fails(cut(rs, trial.Overlay), trial.Overlay, unix.EINVAL, "")
		return append(rs, trial.Result{Try: trial.Full, Text: "chown: operation not permitted", Errno: unix.EPERM})
	})
	return f
}

// Linux 5.10: no overlay in a user namespace, no Landlock.
func oldKernel() Findings {
	f := goodHost()
	f.Uname = [2]string{"5.10.0-28-amd64", "#1 SMP Debian 5.10.209-2 (2024-01-31)"}
	f.Facts.Kernel.LandlockABI = 0
	f.setPlan("landlock", plan.Missing, "the kernel has none")
	f.everyMode(func(rs trial.Results) trial.Results {
		rs = slices.DeleteFunc(fails(rs, trial.Overlay, unix.EPERM, ""), func(r trial.Result) bool { return r.Try == trial.Landlock })
		rs = fails(rs, trial.Reflink, unix.EOPNOTSUPP, "")
		return append(rs, works(trial.Full)...)
	})
	return f
}

func readOnlyHome() Findings {
	f := goodHost()
	f.Store.Problem, f.Store.Remedy = "nothing can be written in /home/alice: read-only file system", "set XDG_DATA_HOME"
	f.Store.TriedIn = "/tmp"
	return f
}

func asRoot() Findings {
	f := noHelpers()
	f.Facts.Caller = plan.Caller{Name: "root"}
	f.Facts.Subordinate = userns.Subordinate{UID: []userns.Range{userns.HighRange()}, GID: []userns.Range{userns.HighRange()}}
	f.Mode = userns.NoMap
	f.Modes = []ModeFinding{{Mode: userns.NoMap, Results: setup(userns.NoMap)}, {Mode: userns.Single, Results: setup(userns.NoMap)}}
	f.setPlan("nomap", plan.Enforced, "")
	return f
}
