package trial

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// Try names one thing that is tried.
type Try string

// What is tried, in the order in which it is done.
const (
	CloneUser   Try = "clone-user"
	ClonePid    Try = "clone-pid"
	CloneMnt    Try = "clone-mnt"
	CloneUts    Try = "clone-uts"
	CloneIpc    Try = "clone-ipc"
	CloneNet    Try = "clone-net"
	CloneCgroup Try = "clone-cgroup"

	CloneAll Try = "clone-all" // all at once, as a run does
	Maps     Try = "id-maps"
	Groups   Try = "setgroups"
	Limit    Try = "limit-namespaces"
	Tmpfs    Try = "tmpfs" // with a procfs of the own pid namespace
	Proc     Try = "proc"
	Hostname Try = "hostname"
	Loopback Try = "loopback"

	Nested   Try = "nested" // the program's own user namespace
	Third    Try = "third"  // one more, which must be refused
	Keyring  Try = "keyring"
	Rlimits  Try = "rlimits"
	Nproc    Try = "nproc"
	Caps     Try = "caps"
	NNP      Try = "nnp"
	Landlock Try = "landlock"
	Seccomp  Try = "seccomp"

	Overlay Try = "overlay"
	Reflink Try = "reflink"
	Full    Try = "full"
	Devices Try = "devices"
	DevPts  Try = "devpts"
	Root    Try = "root" // everything mounted, entered and verified
)

// Result is how one try went.
type Result struct {
	Try Try  `json:"try"`
	OK  bool `json:"ok"`
	// Text is what was done and seen, or the error.
	Text string `json:"text"`
	// Errno is the system call's where one failed, 0 otherwise.
	Errno unix.Errno `json:"errno,omitempty"`
	// Hint is the cause on this host and the next step, where they are known.
	Hint string `json:"hint,omitempty"`
}

// Results are those of all tries of one question, in the order of the doing.
type Results []Result

// Get returns the result of a try; false when it was never reached, because
// something before it failed.
func (rs Results) Get(t Try) (Result, bool) {
	i := slices.IndexFunc(rs, func(r Result) bool { return r.Try == t })
	if i < 0 {
		return Result{Try: t}, false
	}
	return rs[i], true
}

// OK says whether a try was made and went well.
func (rs Results) OK(t Try) bool {
	r, made := rs.Get(t)
	return made && r.OK
}

// Failed returns the first result that is not OK; false when there is none.
func (rs Results) Failed() (Result, bool) {
	i := slices.IndexFunc(rs, func(r Result) bool { return !r.OK })
	if i < 0 {
		return Result{}, false
	}
	return rs[i], true
}

// Request is what a set-up is tried for.
type Request struct {
	// Identity is one that [plan.StoreIdentity] made.
	Identity plan.Identity
	CgroupNS bool
	// LandlockABI is the kernel's.
	LandlockABI int
	// Dir is a directory on the file system of the store that the copies are
	// tried in, see [NewDir]. Empty leaves them and all that needs a root out.
	Dir string
}

// namespace is one that a sandbox has of its own.
type namespace struct {
	try  Try
	name string // in /proc/PID/ns
	flag uintptr
}

func namespaces() []namespace {
	return []namespace{
		{CloneUser, "user", unix.CLONE_NEWUSER},
		{ClonePid, "pid", unix.CLONE_NEWPID},
		{CloneMnt, "mnt", unix.CLONE_NEWNS},
		{CloneUts, "uts", unix.CLONE_NEWUTS},
		{CloneIpc, "ipc", unix.CLONE_NEWIPC},
		{CloneNet, "net", unix.CLONE_NEWNET},
		{CloneCgroup, "cgroup", unix.CLONE_NEWCGROUP},
	}
}

// Namespaces starts a process in each kind of namespace, one after the other,
// together with a user namespace, which the others need.
func Namespaces(ctx context.Context) Results {
	var results Results
	for _, ns := range namespaces() {
		results = append(results, run(ctx, start{job: job{Kind: jobNamespace, Namespace: ns.name}, flags: unix.CLONE_NEWUSER | ns.flag, try: ns.try})...)
	}
	return results
}

// Setup does what the first process of a sandbox does, with the identity of
// the request, and in a process of a further user namespace what stands before
// the program.
func Setup(ctx context.Context, r Request) Results {
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET)
	if r.CgroupNS {
		flags |= unix.CLONE_NEWCGROUP
	}
	var unfilled Results
	if r.Dir != "" {
		if err := fillDir(r.Dir); err != nil {
			unfilled = Results{failure(Root, fmt.Errorf("fill the directory for the trial: %w", err))}
			r.Dir = ""
		}
	}
	s := start{
		job:   job{Kind: jobSetup, Identity: r.Identity, LandlockABI: r.LandlockABI, Dir: r.Dir},
		flags: flags, identity: &r.Identity, try: CloneAll,
	}
	return append(run(ctx, s), unfilled...)
}

// Locks tries what needs no namespace: for a host on which none can be had.
func Locks(ctx context.Context, landlockABI int) Results {
	return run(ctx, start{job: job{Kind: jobLocks, LandlockABI: landlockABI}, try: Caps})
}

// NewDir makes the directory for the copies in parent, and returns how to
// remove it, with a worker under the identity if need be.
func NewDir(parent string, identity plan.Identity) (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(parent, ".sbx-doctor-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() error { return removeDir(dir, identity) }, nil
}

// removeDir removes the directory of a trial. Files of subordinate ids are in
// it only when the process that made them was killed half-way.
func removeDir(dir string, identity plan.Identity) error {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := rootfs.RemoveTree(parent, filepath.Base(dir)); err == nil {
		return nil
	}
	// The user may have pressed Ctrl-C: what is left must go all the same.
	s := start{job: job{Kind: jobClean, Dir: dir}, flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, identity: &identity, try: Root}
	if r, failed := run(context.Background(), s).Failed(); failed {
		return fmt.Errorf("empty %s: %s", dir, r.Text)
	}
	return rootfs.RemoveTree(parent, filepath.Base(dir))
}

// fillDir makes an image of one file in the directory, as plain as can be.
func fillDir(dir string) error {
	for _, name := range []string{"lower", "lower/etc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	// Other ids have to get through; what is above is the store's and 0700.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "lower", programName), []byte("#!/bin/sh\n"), 0o755)
}

// payload is who the program would be.
func payload(id plan.Identity) userns.Identity {
	l := id.Layout
	if id.Mode == userns.NoMap {
		want := userns.Identity{UID: 1000, GID: 1000}
		if _, err := l.SetupID(want); err == nil {
			return want
		}
		return userns.Identity{} // a range too small for 1000 still has a root
	}
	return userns.Identity{UID: ownID(l.PayloadUID), GID: ownID(l.PayloadGID)}
}

// ownID is the id inside that the caller himself is, else the first.
func ownID(m userns.Map) uint32 {
	if id, ok := m.Inside(0); ok {
		return id
	}
	return m[0].Inside
}
