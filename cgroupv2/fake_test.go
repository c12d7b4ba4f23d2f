package cgroupv2

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fake is a cgroup file system in a plain directory. It knows the rules that this
// package meets: which files a new cgroup has, who may pass controllers on, where
// processes may be, what cannot be removed. The directory is the truth; a test changes
// files in it to make a host.
type fake struct {
	t    *testing.T
	tree string // the mount
	proc string
	run  string
	vars map[string]string
	// absent are files that this kernel does not have.
	absent []string
	// errors are given for a write, by the end of its path.
	errors map[string]error
	uid    int
	brings map[string]map[string]string
}

const fakePid = 4242

// newFake makes a host on which everything is delegated to the caller, whose process is
// alone in a cgroup.
func newFake(t *testing.T, own string, controllers ...string) *fake {
	t.Helper()
	dir := t.TempDir()
	f := &fake{
		t: t, tree: filepath.Join(dir, "cgroup"), proc: filepath.Join(dir, "proc"), run: filepath.Join(dir, "run"),
		vars: map[string]string{}, errors: map[string]error{}, uid: os.Getuid(),
	}
	if f.uid == 0 {
		f.uid = 1000 // whose rules are the interesting ones; mkdir gives him the cgroups
	}
	f.put(filepath.Join(f.proc, "self/mountinfo"), "30 1 0:28 / "+f.tree+" rw - cgroup2 cgroup2 rw,nsdelegate\n")
	if err := os.MkdirAll(f.tree, 0o755); err != nil {
		t.Fatal(err)
	}
	f.populate(f.tree, controllers)
	_ = os.Remove(filepath.Join(f.tree, "cgroup.type")) // the root has none
	f.add(own)
	f.place(own, fakePid)
	return f
}

func (f *fake) kernel() kernel {
	return kernel{
		proc: f.proc, run: f.run, pid: fakePid, uid: f.uid,
		env:   func(name string) string { return f.vars[name] },
		mkdir: f.mkdir, rmdir: f.rmdir, write: f.write,
	}
}

func (f *fake) put(path, text string) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) get(path string) string {
	text, _ := readFile(path)
	return text
}

// dir is the directory of a cgroup path.
func (f *fake) dir(path string) string { return filepath.Join(f.tree, path) }

// add makes a cgroup, and its parents with every controller passed on.
func (f *fake) add(path string) {
	f.t.Helper()
	at := f.tree
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if part == "" {
			continue
		}
		f.put(filepath.Join(at, "cgroup.subtree_control"), f.get(filepath.Join(at, "cgroup.controllers"))+"\n")
		at = filepath.Join(at, part)
		if !isDir(at) {
			if err := f.mkdir(at, 0o755); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// place puts a process into a cgroup without asking the rules.
func (f *fake) place(path string, pid int) {
	f.t.Helper()
	if err := f.moveTo(f.dir(path), pid); err != nil {
		f.t.Fatal(err)
	}
}

// files are those that a controller brings to a cgroup; a test may change them.
func (f *fake) files(controller string) map[string]string {
	if f.brings == nil {
		f.brings = filesOf()
	}
	return f.brings[controller]
}

func filesOf() map[string]map[string]string {
	return map[string]map[string]string{
		"cgroup": {
			"cgroup.procs": "", "cgroup.type": "domain", "cgroup.events": "populated 0\nfrozen 0",
			"cgroup.subtree_control": "", "cgroup.freeze": "0", "cgroup.kill": "", "cpu.stat": "usage_usec 0",
		},
		"cpu":    {"cpu.max": "max 100000", "cpu.weight": "100"},
		"cpuset": {"cpuset.cpus": "", "cpuset.cpus.effective": "0-1"},
		"io":     {"io.weight": "default 100", "io.stat": ""},
		"memory": {
			"memory.max": "max", "memory.high": "max", "memory.swap.max": "max", "memory.oom.group": "0",
			"memory.current": "0", "memory.peak": "0", "memory.swap.current": "0",
			"memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0",
		},
		"pids": {"pids.max": "max", "pids.current": "0", "pids.peak": "0", "pids.events": "max 0"},
	}
}

func (f *fake) populate(dir string, controllers []string) {
	f.put(filepath.Join(dir, "cgroup.controllers"), strings.Join(controllers, " ")+"\n")
	for _, c := range append([]string{"cgroup"}, controllers...) {
		for file, text := range f.files(c) {
			path := filepath.Join(dir, file)
			if _, err := os.Lstat(path); err != nil && !slices.Contains(f.absent, file) {
				f.put(path, text+"\n")
			}
		}
	}
}

func (f *fake) mkdir(path string, mode uint32) error {
	parent := filepath.Dir(path)
	if err := f.errors["mkdir "+strings.TrimPrefix(parent, f.tree)]; err != nil {
		return err
	}
	if err := unix.Mkdir(path, mode); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := os.Lchown(path, 1000, -1); err != nil {
			return err
		}
	}
	f.populate(path, strings.Fields(f.get(filepath.Join(parent, "cgroup.subtree_control"))))
	return nil
}

func (f *fake) rmdir(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if f.get(filepath.Join(path, "cgroup.procs")) != "" {
		return unix.EBUSY
	}
	for _, entry := range entries {
		if entry.IsDir() {
			return unix.EBUSY
		}
	}
	return os.RemoveAll(path)
}

func (f *fake) write(path, value string) error {
	for end, err := range f.errors {
		if strings.HasSuffix(path, end) {
			return err
		}
	}
	if _, err := os.Lstat(path); err != nil {
		return unix.ENOENT
	}
	dir, file := filepath.Split(path)
	dir = filepath.Clean(dir)
	switch file {
	case "cgroup.procs":
		pid, err := strconv.Atoi(value)
		if err != nil {
			return unix.EINVAL
		}
		if f.get(filepath.Join(dir, "cgroup.subtree_control")) != "" && dir != f.tree {
			return unix.EBUSY
		}
		return f.moveTo(dir, pid)
	case "cgroup.subtree_control":
		return f.control(dir, value)
	case "cgroup.kill":
		return f.empty(dir)
	case "cgroup.freeze":
		f.put(filepath.Join(dir, "cgroup.events"), "populated 1\nfrozen "+value+"\n")
	case "memory.max", "memory.high", "memory.swap.max":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			value = strconv.FormatInt(n/4096*4096, 10)
		}
	}
	f.put(path, value+"\n")
	if file == "cpuset.cpus" {
		f.put(path+".effective", f.online(value)+"\n")
	}
	return nil
}

// online leaves of a set the CPUs that this host has; all of them when none is left.
func (f *fake) online(text string) string {
	set, _ := parseSet(text)
	set[0] &= 0b11
	clear(set[1:])
	if set[0] == 0 {
		set[0] = 0b11
	}
	return set.String()
}

// control follows cgroups(7): all of a write or nothing, only what arrives, and not
// where processes are.
func (f *fake) control(dir, value string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	on := strings.Fields(f.get(file))
	for _, word := range strings.Fields(value) {
		c := word[1:]
		switch {
		case f.errors["+"+c] != nil:
			return f.errors["+"+c]
		case word[0] == '-':
			on = slices.DeleteFunc(on, func(have string) bool { return have == c })
		case !slices.Contains(strings.Fields(f.get(filepath.Join(dir, "cgroup.controllers"))), c):
			return unix.ENOENT
		case f.get(filepath.Join(dir, "cgroup.procs")) != "" && dir != f.tree:
			return unix.EBUSY
		case !slices.Contains(on, c):
			on = append(on, c)
		}
	}
	f.put(file, strings.Join(on, " ")+"\n")
	for _, child := range children(dir) {
		f.populate(child, on)
	}
	return nil
}

// moveTo takes a process out of wherever it is.
func (f *fake) moveTo(dir string, pid int) error {
	for _, d := range subtree(f.tree) {
		pids, _ := pidsOf(d)
		if slices.Contains(pids, pid) {
			f.setProcs(d, slices.DeleteFunc(pids, func(p int) bool { return p == pid }))
		}
	}
	pids, err := pidsOf(dir)
	if err != nil {
		return err
	}
	f.setProcs(dir, append(pids, pid))
	if pid == fakePid {
		path := strings.TrimPrefix(dir, f.tree)
		f.put(filepath.Join(f.proc, "self/cgroup"), "0::"+filepath.Join("/", path)+"\n")
	}
	return nil
}

func (f *fake) setProcs(dir string, pids []int) {
	var text strings.Builder
	for _, pid := range pids {
		text.WriteString(strconv.Itoa(pid) + "\n")
	}
	f.put(filepath.Join(dir, "cgroup.procs"), text.String())
	for d := dir; strings.HasPrefix(d, f.tree); d = filepath.Dir(d) {
		populated := "0"
		for _, below := range subtree(d) {
			if f.get(filepath.Join(below, "cgroup.procs")) != "" {
				populated = "1"
			}
		}
		f.put(filepath.Join(d, "cgroup.events"), "populated "+populated+"\nfrozen 0\n")
	}
}

// empty ends every process of a subtree.
func (f *fake) empty(dir string) error {
	for _, d := range subtree(dir) {
		f.setProcs(d, nil)
	}
	return nil
}
