package cgroupv2

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Hierarchy says how a host divides its controllers between the versions of cgroups.
type Hierarchy string

const (
	// Unified is cgroup v2 alone: every controller can be had there.
	Unified Hierarchy = "unified"
	// Hybrid is v2 beside v1; the controllers are usually all in v1.
	Hybrid Hierarchy = "hybrid"
	// Legacy is v1 alone.
	Legacy Hierarchy = "v1"
	// NoCgroup is what a container without a cgroup mount sees.
	NoCgroup Hierarchy = "none"
)

// Job names the batch job that the caller is in.
type Job struct {
	System   string `json:"system"` // "Slurm", "PBS", …
	ID       string `json:"id"`
	Variable string `json:"variable"` // of the environment, which tells of it
}

// Host is what can be seen of a host's cgroups without changing anything.
type Host struct {
	Hierarchy Hierarchy `json:"hierarchy"`
	// Mount is where the v2 tree is mounted, and Root which cgroup is there, as the
	// caller's cgroup namespace names it.
	Mount string `json:"mount,omitempty"`
	Root  string `json:"root,omitempty"`
	// NSDelegate says that the tree is mounted with nsdelegate: the kernel itself
	// keeps whoever is in a cgroup namespace from changing that one's own limits.
	NSDelegate bool `json:"nsdelegate,omitempty"`
	// Path is the caller's own cgroup as in /proc/self/cgroup, and Own the directory
	// it is; "" when it lies outside of what is mounted.
	Path string `json:"path,omitempty"`
	Own  string `json:"own,omitempty"`
	// Unit is the directory of the systemd unit that Own belongs to; "" for none.
	Unit string `json:"unit,omitempty"`
	// Manager is the directory that a reachable service manager divides: that of
	// user@UID.service, or for root the mount; "" for none.
	Manager string `json:"manager,omitempty"`
	// Available are the controllers at the mount, Legacy those bound to v1.
	Available []string `json:"available,omitempty"`
	Legacy    []string `json:"legacy,omitempty"`
	// Job is the batch job whose cgroup the caller must not leave; nil for none.
	Job *Job `json:"job,omitempty"`
	// Prospect is what can be expected of [Find].
	Prospect Prospect `json:"prospect"`
}

// Look reads what a host's cgroups are like for the calling process. It has no effect.
// need are controllers that the limits to come want, as for [Find]. An error means that
// proc(5) could not be read or understood.
func Look(need ...string) (Host, error) { return look(host(), need) }

func look(k kernel, need []string) (Host, error) {
	h := Host{Hierarchy: NoCgroup}
	mounts, err := k.cgroupMounts()
	if err != nil {
		return h, err
	}
	own, legacy, err := k.ownPaths()
	if err != nil {
		return h, err
	}
	h.Path, h.Legacy = own, legacy
	h.choose(k, mounts)
	if h.Mount == "" {
		h.Prospect = k.expect(h, need)
		return h, nil
	}
	h.Available = readWords(filepath.Join(h.Mount, "cgroup.controllers"))
	h.Unit = h.unitOf(h.Own)
	h.Manager = k.managerDir(h)
	h.Job = batchJob(k.env)
	h.Prospect = k.expect(h, need)
	return h, nil
}

func (k kernel) cgroupMounts() ([]*mountinfo.Info, error) {
	path := filepath.Join(k.proc, "self", "mountinfo")
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	mounts, err := mountinfo.GetMountsFromReader(bytes.NewReader([]byte(text)), func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "cgroup" && m.FSType != "cgroup2", false
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return mounts, nil
}

// choose tells the hierarchies apart and takes the mount that shows the caller's own
// cgroup; of several the last, which covers those before it.
func (h *Host) choose(k kernel, mounts []*mountinfo.Info) {
	v1, v2 := false, false
	for _, m := range mounts {
		if m.FSType == "cgroup" {
			// A named hierarchy, such as systemd's own, has no controller, but a
			// host that mounts it is booted for v1.
			v1 = true
			continue
		}
		if k.genuine && !isCgroup2(m.Mountpoint) {
			continue
		}
		v2 = true
		dir, visible := below(m, h.Path)
		if h.Own != "" && !visible {
			continue
		}
		h.Mount, h.Root, h.Own = m.Mountpoint, m.Root, dir
		h.NSDelegate = slices.Contains(strings.Split(m.VFSOptions, ","), "nsdelegate")
	}
	switch {
	case v1 && v2:
		h.Hierarchy = Hybrid
	case v1:
		h.Hierarchy = Legacy
	case v2:
		h.Hierarchy = Unified
	}
}

func isCgroup2(path string) bool {
	var fs unix.Statfs_t
	err := noEINTR(func() error { return unix.Statfs(path, &fs) })
	return err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// below returns the directory of a cgroup path under a mount. A mount shows only what
// lies below its root, and a path that begins with /.. is outside of the namespace.
func below(m *mountinfo.Info, path string) (string, bool) {
	if path == "" || strings.HasPrefix(path, "/..") || strings.HasPrefix(m.Root, "/..") {
		return "", false
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.Root, "/"))
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return filepath.Join(m.Mountpoint, rest), true
}

// ownPaths reads /proc/self/cgroup, see cgroups(7):
//
//	4:memory:/a        a v1 hierarchy and its controllers
//	1:name=systemd:/a  one without controllers
//	0::/a              the v2 tree
func (k kernel) ownPaths() (own string, legacy []string, err error) {
	path := filepath.Join(k.proc, "self", "cgroup")
	text, err := readFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", path, err)
	}
	own, legacy, err = parseOwn(text)
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", path, err)
	}
	return own, legacy, nil
}

var errForm = errors.New("not of the form NUMBER:CONTROLLERS:PATH")

func parseOwn(text string) (own string, legacy []string, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 || !strings.HasPrefix(fields[2], "/") {
			return "", nil, fmt.Errorf("line %q: %w", line, errForm)
		}
		switch {
		case fields[0] == "0" && fields[1] == "":
			own = fields[2]
		case !strings.HasPrefix(fields[1], "name=") && fields[1] != "":
			legacy = append(legacy, strings.Split(fields[1], ",")...)
		}
	}
	slices.Sort(legacy)
	return own, legacy, nil
}

// current returns the directory of the caller's cgroup after a move.
func (k kernel) current(h Host) (string, error) {
	own, _, err := k.ownPaths()
	if err != nil {
		return "", err
	}
	dir, ok := below(&mountinfo.Info{Root: h.Root, Mountpoint: h.Mount}, own)
	if !ok {
		return "", fmt.Errorf("the cgroup %s is not below %s", own, h.Mount)
	}
	return dir, nil
}

// unitOf returns the directory of the systemd unit, a service or scope, that a
// directory of the tree belongs to. Slices hold no processes of their own.
func (h Host) unitOf(dir string) string {
	for d := dir; d != h.Mount && strings.HasPrefix(d, h.Mount+"/"); d = filepath.Dir(d) {
		if ext := filepath.Ext(d); ext == ".service" || ext == ".scope" {
			return d
		}
	}
	return ""
}

// managerDir returns what the caller's service manager divides. Only a mount of the
// whole tree can show it.
func (k kernel) managerDir(h Host) string {
	if h.Root != "/" || !isDir(filepath.Join(h.Mount, "init.scope")) {
		return ""
	}
	if k.uid == 0 {
		return h.Mount
	}
	uid := strconv.Itoa(k.uid)
	dir := filepath.Join(h.Mount, "user.slice", "user-"+uid+".slice", "user@"+uid+".service")
	if !isDir(dir) {
		return ""
	}
	return dir
}

func isDir(path string) bool {
	var st unix.Stat_t
	err := noEINTR(func() error { return unix.Lstat(path, &st) })
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// userManager returns the number of the user whose manager a directory belongs to.
func userManager(dir string) (uid string, ok bool) {
	for part := range strings.SplitSeq(dir, "/") {
		if rest, found := strings.CutPrefix(part, "user@"); found {
			if rest, found = strings.CutSuffix(rest, ".service"); found {
				return rest, true
			}
		}
	}
	return "", false
}

// batchJob names the job that the environment tells of. The variables are also there in
// a shell that a job's owner has elsewhere, which costs that shell the service manager;
// taking them for stale would cost a job its limits.
func batchJob(env func(string) string) *Job {
	for _, system := range []struct{ name, variable string }{
		{"Slurm", "SLURM_JOB_ID"},
		{"PBS", "PBS_JOBID"},
		{"LSF", "LSB_JOBID"},
		{"Flux", "FLUX_JOB_ID"},
	} {
		if id := env(system.variable); id != "" {
			return &Job{System: system.name, ID: id, Variable: system.variable}
		}
	}
	return nil
}
