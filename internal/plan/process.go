package plan

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/seccomp"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// fakeRootCapabilities are what package managers and the like need, as uid 0 of
// a user namespace in which nothing but the sandbox's own files and processes
// is mapped. What is absent from docker's default set is absent on purpose:
// NET_RAW (packet sockets, ping sockets do without), MKNOD (refused by the
// kernel anyway), AUDIT_WRITE, SETPCAP.
func fakeRootCapabilities() []capability {
	return []capability{
		{unix.CAP_CHOWN, "CAP_CHOWN"},
		{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
		{unix.CAP_FOWNER, "CAP_FOWNER"},
		{unix.CAP_FSETID, "CAP_FSETID"},
		{unix.CAP_SETUID, "CAP_SETUID"},
		{unix.CAP_SETGID, "CAP_SETGID"},
		{unix.CAP_SETFCAP, "CAP_SETFCAP"},
		{unix.CAP_KILL, "CAP_KILL"},
		{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
		{unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"},
	}
}

// capability has the name for profiles in the OCI format.
type capability struct {
	number int
	name   string
}

// isFile tells a profile's path from the names of the built-in ones.
func isFile(profile string) bool {
	return profile != "default" && profile != "strict" && profile != "off"
}

// processSlack is how much higher RLIMIT_NPROC is than the cgroup's limit.
const processSlack = 32

// process says how the payload is executed.
func process(s Spec, f Facts, p *Plan) (Process, error) {
	pids := s.Limits.Pids
	if p.Cgroup.Use {
		// sbx's own count against RLIMIT_NPROC as well, in the namespace above,
		// and the kernel looks at it first. Before Linux 5.14 so do the user's
		// other processes.
		pids = p.Cgroup.Limits.Pids + processSlack
	}
	limits, err := rlimits(s.Ulimits, pids, f.HardLimits)
	if err != nil {
		return Process{}, err
	}
	argv, _, err := command(s, f.Config)
	if err != nil {
		return Process{}, err
	}
	tty := wantsTTY(s, f)
	proc := Process{
		Args: argv, Env: environment(f, s, p.User, tty),
		Dir: workdir(s, f), Rlimits: limits, NprocPerID: !f.Kernel.NprocPerUserns, Timeout: s.Timeout,
		TTY: tty, ErrorsApart: tty && errorsApart(f.Stdio), RawTTY: s.RawTTY,
		Stdin:   wantsStdin(s, f, tty),
		Seccomp: Seccomp{Profile: s.Seccomp, OCI: f.SeccompFile},
	}
	if proc.Seccomp.Profile == "" {
		proc.Seccomp.Profile = "default"
	}
	if isFile(proc.Seccomp.Profile) {
		if _, err := seccomp.ParseOCI(bytes.NewReader(f.SeccompFile)); err != nil {
			return Process{}, misuse("--seccomp %s: %v", s.Seccomp, err)
		}
	}
	if !f.Kernel.Seccomp {
		proc.Seccomp = Seccomp{Profile: "off"} // refused, unless --allow-degraded says so
	}
	if p.User.UID == 0 {
		// Only where the fake root is nobody outside: with a directory shared
		// read-write its set-user-ID files would be the caller's (SECURITY J3).
		proc.Seccomp.Fakeroot = p.Identity.Mode == userns.NoMap
		for _, c := range fakeRootCapabilities() {
			proc.Capabilities = append(proc.Capabilities, c.number)
			proc.Seccomp.Capabilities = append(proc.Seccomp.Capabilities, c.name)
		}
	}
	if f.Kernel.LandlockABI >= minLandlockABI {
		proc.LandlockABI = f.Kernel.LandlockABI
		proc.Landlock = landlockRules(p)
	}
	return proc, nil
}

// wantsTTY: -t, or standard input and output both a terminal.
func wantsTTY(s Spec, f Facts) bool {
	return s.TTY || f.Stdio[0].Kind == StreamTTY && f.Stdio[1].Kind == StreamTTY
}

// errorsApart: on a terminal, `2>log` is a file's, as it would be without sbx. What
// goes to one place with standard output (`>log 2>&1`, with -t) stays together.
func errorsApart(stdio [3]Stream) bool {
	kind := stdio[2].Kind
	return kind == StreamClosed || kind != StreamTTY && stdio[1] != stdio[2]
}

// wantsStdin: what the caller redirected is passed on. A terminal that is not
// relayed as one is only read with -i: another program of the pipeline (`sbx
// run x | less`) may be reading it.
func wantsStdin(s Spec, f Facts, tty bool) bool {
	kind := f.Stdio[0].Kind
	return tty || kind != StreamDir && (s.Interactive || kind != StreamTTY && kind != StreamClosed)
}

// landlockRules repeat the mount table in Landlock's terms: what is not
// writable by mount is not writable by rule either. With a writable root the
// rule for / allows everything beneath it, and what remains of the layer are
// its scopes: no signal and no abstract socket leads out of the sandbox.
func landlockRules(p *Plan) []Access {
	rules := []Access{{Path: "/", Access: "read"}}
	if !p.Root.ReadOnly {
		rules[0].Access = "write"
	}
	for _, m := range p.Mounts {
		switch {
		case m.Kind == mounts.Device || m.Target == "/dev/pts":
			continue // covered by /dev
		case m.Target == "/dev":
			rules = append(rules, Access{Path: m.Target, Access: "device"})
		case m.Target == "/proc":
			rules = append(rules, Access{Path: m.Target, Access: "write"})
		case !m.ReadOnly && (m.Kind == mounts.Bind || m.Kind == mounts.Shared || m.Kind == mounts.Tmpfs || m.Kind == mounts.Mqueue):
			rules = append(rules, Access{Path: m.Target, Access: "write"})
		}
	}
	return rules
}
