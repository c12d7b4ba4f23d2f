package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// runFlags are shared by run and plan.
type runFlags struct {
	Image    string   `help:"Root file system: base (small, copied from this host), host (this host's /usr, read-only), scratch (only the program), an imported image, or a directory." default:"base" placeholder:"IMAGE" group:"Files"`
	Ro       []string `help:"Share a host path, read-only. A colon in a name is written \\:." placeholder:"PATH[:DST]" sep:"none" group:"Files"`
	Rw       []string `help:"Share a host path, writable." placeholder:"PATH[:DST]" sep:"none" group:"Files"`
	CopyIn   []string `help:"Copy a host path into the sandbox, to /box unless DST is given." placeholder:"PATH[:DST]" sep:"none" group:"Files"`
	Tmpfs    []string `help:"An empty directory in memory." placeholder:"DST[:size=SIZE]" sep:"none" group:"Files"`
	ReadOnly bool     `help:"Do not let the program change its root file system." group:"Files"`
	Copy     string   `help:"How the sandbox gets its copy of the image: auto, overlay, reflink or full." default:"auto" placeholder:"METHOD" group:"Files"`
	Keep     bool     `help:"Keep the sandbox's copy when the program has ended: see ps, diff, cp, commit and rm." group:"Files"`
	Name     string   `help:"A name for the sandbox, beside its id." placeholder:"NAME" group:"Files"`
	In       string   `help:"Run in a sandbox that was kept, instead of a new one." placeholder:"ID|NAME" group:"Files"`

	Env        []string `short:"e" help:"Set a variable, or pass on your own." placeholder:"NAME[=VALUE]" sep:"none" group:"Process"`
	EnvFile    []string `help:"Read variables from a file." placeholder:"FILE" sep:"none" group:"Process"`
	Workdir    string   `short:"w" help:"Working directory inside (default /box)." placeholder:"DIR" group:"Process"`
	Entrypoint *string  `help:"Run this instead of the image's Entrypoint and Cmd; empty for neither." placeholder:"PROGRAM" group:"Process"`
	Tty        bool     `short:"t" help:"Give the program a terminal, even if yours is redirected." group:"Process"`
	Interact   bool     `short:"i" name:"interactive" help:"Pass on standard input even if it is a terminal and the output is not." group:"Process"`
	RawTty     bool     `help:"Let the program send any escape sequence to your terminal." group:"Process"`
	Memory     string   `short:"m" help:"Memory limit; everything is killed above it (default: half of the RAM, where a cgroup can be had)." placeholder:"SIZE" group:"Limits"`
	MemorySwap string   `help:"Limit of memory and swap together, -1 for no limit (default: no swap)." placeholder:"SIZE" group:"Limits"`
	Cpus       string   `help:"CPU time, in CPUs." placeholder:"N" group:"Limits"`
	CpuWeight  *int     `help:"Share of the CPUs when they are short, 1 to 10000." placeholder:"N" group:"Limits"`
	CpusetCpus string   `help:"CPUs that may be used, as in 0-2,4." placeholder:"LIST" group:"Limits"`
	PidsLimit  *int64   `help:"Limit of processes and threads (default 512)." placeholder:"N" group:"Limits"`
	Disk       string   `help:"Limit of everything the program writes into the sandbox, kept in memory." placeholder:"SIZE" group:"Limits"`
	IoWeight   *int     `help:"Share of a busy disk, 1 to 10000." placeholder:"N" group:"Limits"`
	Timeout    *string  `help:"Kill everything after this time." placeholder:"TIME" group:"Limits"`
	Ulimit     []string `help:"Resource limit." placeholder:"NAME=SOFT[:HARD]" sep:"none" group:"Limits"`

	User     string `short:"u" help:"User inside; 0 is a fake root." placeholder:"NAME|UID[:GROUP|GID]" group:"Identity and isolation"`
	Userns   string `help:"Who the program is outside: auto, nomap (a stranger), keep-id (you, on shared paths), single (you; needs no subordinate ids)." default:"auto" placeholder:"MODE" group:"Identity and isolation"`
	Hostname string `help:"Host name inside (default sbx)." placeholder:"NAME" group:"Identity and isolation"`
	Network  string `help:"none, or host: share the host's network." default:"none" placeholder:"NET" group:"Identity and isolation"`
	Seccomp  string `help:"System call filter: default, strict, off, or a file in the OCI format." default:"default" placeholder:"PROFILE" group:"Identity and isolation"`

	AllowDegraded []string `help:"Start although this layer cannot be had. Layers: ${layers}." placeholder:"LAYER" group:"Identity and isolation"`
	Require       []string `help:"Do not start unless this layer is enforced in full." placeholder:"LAYER" group:"Identity and isolation"`

	Json    bool `help:"With --dry-run: print data instead of text." group:"Output"`
	Quiet   bool `short:"q" help:"Print nothing but errors." group:"Output"`
	Verbose bool `help:"Print each step." group:"Output"`

	Command []string `arg:"" optional:"" name:"program" help:"Program and its arguments; may be left out where an image says what to run. Flags end here." passthrough:"partial"`
}

type runCommand struct {
	DryRun   bool   `help:"Show what would be done, and do nothing." group:"Output"`
	Report   string `help:"Write an account of the run, as JSON." placeholder:"FILE" group:"Output"`
	runFlags `embed:""`
}

// spec turns the flags into what was asked for.
func (f *runFlags) spec() (plan.Spec, error) {
	command := f.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	s := plan.Spec{
		Image: f.Image, Copy: f.Copy, ReadOnly: f.ReadOnly, Keep: f.Keep || f.In != "", Name: f.Name, In: f.In,
		Env: f.Env, EnvFile: f.EnvFile, Workdir: f.Workdir,
		User: f.User, Userns: userns.Mode(f.Userns), Hostname: f.Hostname, Network: f.Network, Seccomp: f.Seccomp,
		Ulimits:     f.Ulimit,
		Interactive: f.Interact, TTY: f.Tty, RawTTY: f.RawTty,
		AllowDegraded: f.AllowDegraded, Require: f.Require,
	}
	if len(command) > 0 {
		s.Program, s.Args = command[0], command[1:]
		if s.Program == "" {
			return s, &plan.Misuse{Reason: "the program's name is empty"}
		}
	}
	if f.Entrypoint != nil {
		s.HasEntrypoint = true
		var err error
		if s.Entrypoint, err = plan.ParseEntrypoint(*f.Entrypoint); err != nil {
			return s, err
		}
	}
	if f.Timeout != nil {
		var err error
		if s.Timeout, err = plan.ParseTimeout(*f.Timeout); err != nil {
			return s, err
		}
	}
	if err := f.limits(&s.Limits); err != nil {
		return s, err
	}
	return s, f.paths(&s)
}

// limits parses the sizes; what else is wrong with a limit is Build's to say.
func (f *runFlags) limits(l *plan.LimitSpec) error {
	l.CPUs, l.CPUSet = f.Cpus, f.CpusetCpus
	var err error
	if l.CPUWeight, err = given("--cpu-weight", f.CpuWeight); err != nil {
		return err
	}
	if l.IOWeight, err = given("--io-weight", f.IoWeight); err != nil {
		return err
	}
	if l.Pids, err = given("--pids-limit", f.PidsLimit); err != nil {
		return err
	}
	if f.Memory != "" {
		if l.Memory, err = plan.ParseSize("--memory", f.Memory); err != nil {
			return err
		}
	}
	if f.Disk != "" {
		if l.Disk, err = plan.ParseSize("--disk", f.Disk); err != nil {
			return err
		}
	}
	switch f.MemorySwap {
	case "":
	case "-1":
		l.MemorySwap = -1
	default:
		l.MemorySwap, err = plan.ParseSize("--memory-swap", f.MemorySwap)
	}
	return err
}

// given is the number that a flag has, 0 for one that was not given. A 0 that was is
// no limit that could be kept.
func given[N int | int64](flag string, value *N) (N, error) {
	switch {
	case value == nil:
		return 0, nil
	case *value == 0:
		return 0, &plan.Misuse{Reason: flag + " 0: no such limit; leave the flag out for the default"}
	default:
		return *value, nil
	}
}

// paths parses the flags that name a place outside and one inside.
func (f *runFlags) paths(s *plan.Spec) error {
	for _, list := range []struct {
		flag   string
		values []string
		add    func(plan.PathPair)
	}{
		{"--ro", f.Ro, func(p plan.PathPair) { s.Shares = append(s.Shares, plan.Share{PathPair: p}) }},
		{"--rw", f.Rw, func(p plan.PathPair) { s.Shares = append(s.Shares, plan.Share{PathPair: p, Write: true}) }},
		{"--copy-in", f.CopyIn, func(p plan.PathPair) { s.CopyIn = append(s.CopyIn, p) }},
	} {
		for _, v := range list.values {
			src, dst, err := mounts.ParseBind(v)
			if err != nil {
				return &plan.Misuse{Reason: fmt.Sprintf("%s %q: %v", list.flag, v, err)}
			}
			list.add(plan.PathPair{Source: src, Target: dst})
		}
	}
	for _, v := range f.Tmpfs {
		t, err := plan.ParseTmpfs(v)
		if err != nil {
			return err
		}
		s.Tmpfs = append(s.Tmpfs, t)
	}
	return nil
}

// Run is the command. begun is nil unless the run has begun already, without a
// network.
func (c *runCommand) Run(s streams, begun *launch.Beginning) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	if c.DryRun {
		return showPlan(spec, c.Json, s)
	}
	if c.Json {
		return &plan.Misuse{Reason: "--json goes with --dry-run; an account of the run itself is --report FILE"}
	}
	spec.Hash = c.Report != ""
	if begun == nil {
		begun = launch.Begin(spec.Network == plan.NetworkHost)
		defer begun.Abandon()
	}
	p, held, err := c.prepare(spec, begun, s)
	defer held.Close()
	if err != nil {
		return err
	}
	file, err := openReport(c.Report)
	if err != nil {
		return err
	}
	if !c.Quiet {
		c.before(p, s)
	}
	begin := time.Now()
	result, err := launch.Run(p, held, begun, file != nil)
	if err != nil {
		return explainRun(err, spec, p)
	}
	if file != nil {
		if err := writeReport(file, p, result, begin); err != nil {
			return err
		}
	}
	for _, text := range result.Degraded {
		s.say("%s", text)
	}
	line := closingLine(p, result)
	if kept := keptLine(p, result); kept != "" && !c.Quiet && c.In == "" {
		line = strings.TrimPrefix(line+"; "+kept, "; ")
	}
	if line != "" && (!c.Quiet || result.TimedOut) {
		s.say("%s", line)
	}
	return endOf(result, s)
}

// prepare looks, makes the image if it has to be made, and decides.
func (c *runCommand) prepare(spec plan.Spec, begun *launch.Beginning, s streams) (*plan.Plan, *plan.Held, error) {
	ctx := context.Background()
	if spec.In != "" {
		return prepareKept(spec, plan.LookOptions{})
	}
	facts, held, err := plan.Look(ctx, spec, plan.LookOptions{Hold: true, Maps: begun.Map})
	if err != nil {
		return nil, held, err
	}
	collect(held, facts)
	p, err := plan.Build(spec, facts)
	if err != nil {
		return nil, held, err
	}
	first := held.Store == nil
	if first {
		// Nothing was changed on the host until here.
		if held.Store, err = rootfs.OpenStore(facts.Store); err != nil {
			return nil, held, err
		}
	}
	if !p.Image.Build && !first {
		return p, held, nil
	}
	if p.Image.Build {
		if err := buildImage(spec, facts, c.Quiet, s); err != nil {
			return nil, held, err
		}
	}
	held.Close()
	facts, held, err = plan.Look(ctx, spec, plan.LookOptions{Hold: true})
	if err != nil {
		return nil, held, err
	}
	p, err = plan.Build(spec, facts)
	if err == nil && p.Image.Build {
		err = fmt.Errorf("make the image %s: this host's files change while they are copied; run it again", p.Image.Name)
	}
	return p, held, err
}

// before says what there is to say before the program starts: at most one line,
// and none when all is as it should be.
func (c *runCommand) before(p *plan.Plan, s streams) {
	if c.Verbose {
		for _, st := range p.Stages() {
			s.say("%s", st.Text)
		}
	}
	if len(p.Warnings) > 0 {
		s.say("%s", strings.Join(p.Warnings, "; "))
	}
}
