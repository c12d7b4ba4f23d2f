package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sbx-run/sbx/userns"
)

// Build turns what was asked and what this host is into what will be done. It
// is pure: the same two values give the same plan, and nothing is touched. Its
// errors are [*Misuse] and [*MissingLayer].
func Build(s Spec, f Facts) (*Plan, error) {
	if err := checkSpec(s); err != nil {
		return nil, err
	}
	if err := checkKernel(f.Kernel, f.Caller); err != nil {
		return nil, err
	}
	p := &Plan{
		Name: s.Name, Store: f.Store, Image: f.Image, Hostname: hostname(s),
		HostNetwork: s.Network == NetworkHost, CgroupNS: f.Kernel.CgroupNS,
		Program: f.Program, Stdio: f.Stdio,
	}
	p.Program.Hash = s.Hash && f.Program.Host != ""
	var err error
	if p.Identity, p.User, err = identity(s, f); err != nil {
		return nil, err
	}
	for _, check := range []func() error{
		func() error { return checkConfig(s, f) },
		func() error { return checkKeptOwner(f, p.Identity) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	p.Root = root(s, f, p.Identity, p.User)
	if p.Cgroup, err = cgroup(s, f); err != nil {
		return nil, err
	}
	p.Private = private(f.Memory, s.Limits.Disk, p.Cgroup.Watch)
	if p.CopyIn, err = copyIns(f); err != nil {
		return nil, err
	}
	if p.Mounts, err = table(s, f, p); err != nil {
		return nil, err
	}
	for _, sh := range f.Shares {
		p.Placeholders = append(p.Placeholders, sh.Placeholders...)
		p.Warnings = append(p.Warnings, sh.Notes...)
		if sh.Write {
			p.Writable = append(p.Writable, sh.Resolved)
		} else {
			p.Shown = append(p.Shown, sh.Target)
		}
	}
	if p.Process, err = process(s, f, p); err != nil {
		return nil, err
	}
	if f.Stdio[0].Kind == StreamDir {
		p.Warnings = append(p.Warnings, "standard input is a directory, which nobody can read: the program gets an empty one")
	}
	p.Layers = layers(s, f, p)
	if err := checkLayers(p.Layers, s); err != nil {
		return nil, err
	}
	p.Warnings = append(append(p.Warnings, imageWarnings(f)...), identityWarnings(f, p)...)
	return p, nil
}

// checkSpec holds the rules that concern the command line alone.
func checkSpec(s Spec) error {
	checks := []func(Spec) error{checkProgram, checkWords, checkKept, checkHostname, checkWorkdir, checkTimeout}
	for _, check := range checks {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkProgram(s Spec) error {
	if s.Program == "" && !s.HasEntrypoint && (isOwnImage(s.Image) || isPath(s.Image)) {
		return misuse("name a program to run; see sbx run --help")
	}
	for _, arg := range append([]string{s.Program}, s.Args...) {
		if strings.ContainsRune(arg, 0) {
			return misuse("argument %q holds a NUL byte", arg)
		}
	}
	return nil
}

func checkWords(s Spec) error {
	for _, w := range []struct {
		flag, value string
		allowed     []string
	}{
		{"--network", s.Network, []string{"", NetworkNone, NetworkHost}},
		{"--copy", s.Copy, []string{"", CopyAuto, CopyOverlay, CopyReflink, CopyFull}},
		{"--userns", string(s.Userns), []string{"", "auto", "nomap", "keep-id", "single"}},
	} {
		if !slices.Contains(w.allowed, w.value) {
			return misuse("%s %q: the choices are %s", w.flag, w.value, strings.Join(w.allowed[1:], ", "))
		}
	}
	if s.ReadOnly && s.Copy != "" && s.Copy != CopyAuto {
		return misuse("--read-only uses the image itself and --copy=%s asks for a copy of it: give one of the two", s.Copy)
	}
	if s.Limits.Disk > 0 && s.Keep {
		return misuse("--disk bounds what is written by keeping it in memory, and %s keeps it on the disk: give one of the two", keepFlag(s))
	}
	if s.Limits.Disk > 0 && s.Copy != "" && s.Copy != CopyAuto && s.Copy != CopyOverlay {
		return misuse("--disk needs an overlay, so it does not go with --copy=%s", s.Copy)
	}
	if s.ReadOnly && s.Keep {
		return misuse("%s keeps the sandbox's copy and --read-only makes none: give one of the two", keepFlag(s))
	}
	return nil
}

// keepFlag is the flag by which a sandbox is kept.
func keepFlag(s Spec) string {
	if s.In != "" {
		return "--in"
	}
	return "--keep"
}

// checkHostname follows sethostname(2)'s limit and RFC 1123's alphabet.
func checkHostname(s Spec) error {
	if s.Hostname == "" {
		return nil
	}
	ok := len(s.Hostname) <= 63 && !strings.HasPrefix(s.Hostname, "-") && !strings.HasPrefix(s.Hostname, ".")
	for _, c := range s.Hostname {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}
	if !ok {
		return misuse("--hostname %q: at most 63 letters, digits, dashes and dots, and none of the last two in front", s.Hostname)
	}
	return nil
}

// checkWorkdir refuses directories that are a door rather than a place: a
// working directory below /proc may be a descriptor of someone else's
// (CVE-2024-21626).
func checkWorkdir(s Spec) error {
	if s.Workdir == "" {
		return nil
	}
	if !path.IsAbs(s.Workdir) || strings.ContainsRune(s.Workdir, 0) {
		return misuse("--workdir %q: give an absolute path inside the sandbox", s.Workdir)
	}
	if under(path.Clean(s.Workdir), "/proc") {
		return misuse("--workdir %q: a directory below /proc cannot be the working directory", s.Workdir)
	}
	return nil
}

func checkTimeout(s Spec) error {
	if s.Timeout < 0 || s.Timeout != 0 && s.Timeout < time.Millisecond {
		return misuse("--timeout %s: give a time of at least 1ms, as in 30s or 5m", s.Timeout)
	}
	return nil
}

// checkKernel refuses a host on which no user namespace can be made, with the
// switch that says so. What has no switch to read is explained when clone(2)
// itself is refused.
func checkKernel(k Kernel, c Caller) error {
	if n := k.MaxUserNamespaces; n == 0 || n == 1 {
		detail := fmt.Sprintf("user.max_user_namespaces is %d", n)
		if n == 1 {
			detail += ", and a sandbox takes two, one in the other"
		}
		return &MissingLayer{Layer: Layer{
			Name: "userns", State: Missing, Detail: detail,
			Fix: "ask the administrator for `sysctl user.max_user_namespaces=10000`",
		}, Asked: true}
	}
	if k.UsernsClone == 0 && c.UID != 0 {
		return &MissingLayer{Layer: Layer{
			Name: "userns", State: Missing, Detail: "kernel.unprivileged_userns_clone is 0",
			Fix: "ask the administrator for `sysctl kernel.unprivileged_userns_clone=1`",
		}, Asked: true}
	}
	return nil
}

func hostname(s Spec) string {
	if s.Hostname == "" {
		return "sbx"
	}
	return s.Hostname
}

// root decides how the sandbox gets its copy. What works is found by doing it,
// in this order, when the time has come: a kernel version says little about the
// file system that the store lies on.
func root(s Spec, f Facts, id Identity, payload User) Root {
	if f.Kept != nil {
		return Root{
			Methods: []string{f.Kept.Copy}, Lower: f.Image.Tree, Sandbox: f.Kept.Path,
			Keep: true, Again: true, Floor: freeFloor,
		}
	}
	r := Root{
		Lower: f.Image.Tree, Sandbox: path.Join(f.Store, "sandboxes", "ID"),
		ReadOnly: s.ReadOnly, Keep: s.Keep, Bounded: s.Limits.Disk > 0,
	}
	auto := s.Copy == "" || s.Copy == CopyAuto
	ours := !f.Image.Foreign || f.Image.Owned
	r.InMemory = r.ReadOnly || r.Bounded || auto && ours && !s.Keep && payload.UID != 0
	if !r.InMemory {
		r.Floor = freeFloor
	}
	switch {
	case r.Bounded:
		r.Methods = []string{CopyOverlay}
	case s.Copy != "" && s.Copy != CopyAuto:
		r.Methods = []string{s.Copy}
	case f.Image.Foreign && !ownedInside(f.Image.OwnerUID, id.Layout):
		// An overlay shows the files' owners as they are: nobody's, or the
		// user's where root is meant. A copy gives them to root inside.
		r.Methods = []string{CopyReflink, CopyFull}
	default:
		r.Methods = []string{CopyOverlay, CopyReflink, CopyFull}
	}
	return r
}

// ownedInside tells whether a host uid is one that the payload's namespace has,
// other than through keep-id.
func ownedInside(uid uint32, l userns.Layout) bool {
	setup, ok := l.SetupUID.Inside(uid)
	if !ok {
		return false
	}
	_, ok = l.PayloadUID.Inside(setup)
	return ok && (setup != 0 || l.Mode == userns.Single)
}

// Place gives the plan the sandbox that was made for it: until then its paths
// say ID.
func (p *Plan) Place(id, dir string) {
	p.ID, p.Root.Sandbox = id, dir
}

// minInodes is enough for sbx's own directories and a small program's files.
const minInodes = 4 << 10

// freeFloor is what a sandbox leaves free on the disk of the store: it is the
// user's, and others' who share the file system. A plain user can set no quota.
const freeFloor = 256 << 20

// inodes is how many files a tmpfs of that size may hold, least at the least:
// one for every 16 KiB, since empty files cost memory that the size does not
// count.
func inodes(size, least int64) int64 {
	return min(max(size/(16<<10), least), 1<<20)
}

// private sizes the tmpfs of /tmp, /run, /box and home: half of the memory, as
// the kernel's own default is.
//
// --disk sets the size instead. Where a limit of memory is only watched, what lies
// in files cannot exceed it either.
func private(memory, disk, watch int64) Private {
	size := max(memory/2, 64<<20)
	if disk > 0 {
		size = disk
	}
	if watch > 0 {
		size = min(size, watch)
	}
	return Private{Size: size, Inodes: inodes(size, minInodes)}
}

// under tells whether p is dir or lies below it; both are clean and absolute.
func under(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}
