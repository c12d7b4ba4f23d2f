package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// Who gets a terminal, and whose standard input is passed on.
func TestTerminalAndInput(t *testing.T) {
	for _, c := range []struct {
		in, out string
		spec    Spec
		tty     bool
		stdin   bool
	}{
		{StreamTTY, StreamTTY, Spec{}, true, true},
		{StreamTTY, StreamPipe, Spec{}, false, false}, // sbx run x | less: less reads the keys
		{StreamTTY, StreamPipe, Spec{Interactive: true}, false, true},
		{StreamPipe, StreamTTY, Spec{}, false, true},
		{StreamPipe, StreamPipe, Spec{}, false, true},
		{StreamPipe, StreamPipe, Spec{TTY: true}, true, true},
		{StreamFile, StreamFile, Spec{}, false, true},
		{StreamNull, StreamPipe, Spec{}, false, true},
		{StreamClosed, StreamPipe, Spec{}, false, false},
		{StreamClosed, StreamClosed, Spec{}, false, false},
	} {
		p := mustBuild(t, c.spec, func(f *Facts) { f.Stdio = [3]Stream{{Kind: c.in}, {Kind: c.out}, {Kind: StreamPipe}} })
		if p.Process.TTY != c.tty || p.Process.Stdin != c.stdin {
			t.Errorf("%s, %s: terminal %t, input %t; want %t, %t", c.in, c.out, p.Process.TTY, p.Process.Stdin, c.tty, c.stdin)
		}
	}
}

// On a terminal a redirected standard error goes where it was sent to.
func TestErrorsApart(t *testing.T) {
	tty, file, pipe := Stream{Kind: StreamTTY, Ino: 1}, Stream{Kind: StreamFile, Ino: 2}, Stream{Kind: StreamPipe, Ino: 3}
	for _, c := range []struct {
		stdio [3]Stream
		flag  bool
		apart bool
	}{
		{[3]Stream{tty, tty, tty}, false, false},
		{[3]Stream{tty, tty, file}, false, true},
		{[3]Stream{tty, tty, {Kind: StreamNull}}, false, true},
		{[3]Stream{tty, tty, {Kind: StreamClosed}}, false, true},
		{[3]Stream{file, pipe, file}, true, true},
		{[3]Stream{file, pipe, pipe}, true, false}, // 2>&1
		{[3]Stream{file, pipe, tty}, true, false},
		{[3]Stream{file, pipe, file}, false, false}, // no terminal
	} {
		p := mustBuild(t, Spec{TTY: c.flag}, func(f *Facts) { f.Stdio = c.stdio })
		if p.Process.ErrorsApart != c.apart {
			t.Errorf("%+v, -t %t: apart %t", c.stdio, c.flag, p.Process.ErrorsApart)
		}
	}
}

func TestProcess(t *testing.T) {
	p := mustBuild(t, Spec{Args: []string{"a", ""}, Workdir: "/a/../b/", Timeout: time.Second, RawTTY: true}, nil)
	if got := p.Process; !slices.Equal(got.Args, []string{"x", "a", ""}) || got.Dir != "/b" || got.Timeout != time.Second || !got.RawTTY {
		t.Errorf("%+v", got)
	}
	if got := mustBuild(t, Spec{}, nil).Process; got.Dir != "/box" || got.Seccomp.Profile != "default" || len(got.Capabilities) != 0 || got.Seccomp.Fakeroot {
		t.Errorf("%+v", got)
	}
}

// What a fake root may, and what would undo the sandbox in its hands (SECURITY 6).
func TestFakeRoot(t *testing.T) {
	p := mustBuild(t, Spec{User: "0"}, nil)
	for _, c := range []int{
		unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_PTRACE, unix.CAP_MKNOD, unix.CAP_SETPCAP,
		unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_RESOURCE, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG, unix.CAP_SYS_MODULE,
		unix.CAP_CHECKPOINT_RESTORE, unix.CAP_SYS_TIME, unix.CAP_AUDIT_WRITE, unix.CAP_SYS_NICE, unix.CAP_IPC_LOCK,
	} {
		if slices.Contains(p.Process.Capabilities, c) {
			t.Errorf("a fake root has capability %d", c)
		}
	}
	if !slices.Contains(p.Process.Capabilities, unix.CAP_CHOWN) || len(p.Process.Capabilities) != len(p.Process.Seccomp.Capabilities) {
		t.Errorf("capabilities %v, by name %q", p.Process.Capabilities, p.Process.Seccomp.Capabilities)
	}
	for _, mode := range []userns.Mode{userns.NoMap, userns.KeepID, userns.Single} {
		p := mustBuild(t, Spec{User: "0", Userns: mode}, nil)
		// set-user-ID files of one that is the caller outside would be his (J3).
		if p.Process.Seccomp.Fakeroot != (mode == userns.NoMap) {
			t.Errorf("%s: set-user-ID files allowed: %t", mode, p.Process.Seccomp.Fakeroot)
		}
	}
}

func TestSeccompProfiles(t *testing.T) {
	const profile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}`
	p := mustBuild(t, Spec{Seccomp: "./mine.json"}, func(f *Facts) { f.SeccompFile = []byte(profile) })
	if string(p.Process.Seccomp.OCI) != profile || p.Process.Seccomp.Profile != "./mine.json" {
		t.Errorf("%+v", p.Process.Seccomp)
	}
	for _, bad := range []string{"", "{", `{"defaultAction":"SCMP_ACT_NONE"}`, "\x00", "null"} {
		f := alice()
		f.SeccompFile = []byte(bad)
		if _, err := Build(Spec{Program: "x", Seccomp: "./mine.json"}, f); !IsMisuse(err) || !strings.Contains(err.Error(), "./mine.json") {
			t.Errorf("%q: error %v, want misuse that names the file", bad, err)
		}
	}
}

// Landlock repeats the mount table: writable by rule is only what is writable by mount.
func TestLandlockRules(t *testing.T) {
	rules := func(p *Plan) map[string]string {
		m := map[string]string{}
		for _, r := range p.Process.Landlock {
			if _, twice := m[r.Path]; twice {
				t.Errorf("two rules for %s", r.Path)
			}
			m[r.Path] = r.Access
		}
		return m
	}
	shares := func(f *Facts) { f.Shares = []Shared{share("/rw", "/rw", true), share("/ro", "/ro", false)} }

	got := rules(mustBuild(t, Spec{ReadOnly: true}, shares))
	for path, want := range map[string]string{
		"/": "read", "/rw": "write", "/ro": "", "/tmp": "write", "/box": "write", "/dev": "device", "/dev/null": "", "/proc": "write", "/dev/shm": "write",
	} {
		if got[path] != want {
			t.Errorf("read-only root: %s is %q, want %q", path, got[path], want)
		}
	}
	if got := rules(mustBuild(t, Spec{}, shares)); got["/"] != "write" || got["/ro"] != "" {
		t.Errorf("writable root: %v", got)
	}
	for _, abi := range []int{0, 1} {
		p := mustBuild(t, Spec{}, func(f *Facts) { f.Kernel.LandlockABI = abi })
		if p.Process.LandlockABI != 0 || len(p.Process.Landlock) != 0 {
			t.Errorf("ABI %d: rules for %d are made", abi, p.Process.LandlockABI)
		}
	}
}

func TestRootMethods(t *testing.T) {
	foreign := func(owner uint32) func(*Facts) {
		return func(f *Facts) { f.Image = Image{Name: "/img", Tree: "/img", Foreign: true, OwnerUID: owner} }
	}
	every := []string{CopyOverlay, CopyReflink, CopyFull}
	for _, c := range []struct {
		name     string
		spec     Spec
		facts    func(*Facts)
		methods  []string
		inMemory bool
	}{
		{"an ordinary user writes next to nothing", Spec{}, nil, every, true},
		{"a fake root installs packages", Spec{User: "0"}, nil, every, false},
		{"what is kept is on the disk", Spec{Keep: true}, nil, every, false},
		{"asked for", Spec{Copy: CopyReflink}, nil, []string{CopyReflink}, false},
		{"asked for by the word", Spec{Copy: CopyAuto}, nil, every, true},
		{"bounded", Spec{Limits: LimitSpec{Disk: 1 << 30}}, nil, []string{CopyOverlay}, true},
		{"a tree of the caller's: an overlay would show his files as nobody's", Spec{}, foreign(1001), []string{CopyReflink, CopyFull}, false},
		{"a tree of subordinate ids", Spec{}, foreign(100000), every, false},
		{"a tree of the caller's with one id", Spec{Userns: userns.Single}, foreign(1001), every, false},
		{"read-only", Spec{ReadOnly: true}, nil, every, true},
	} {
		p := mustBuild(t, c.spec, c.facts)
		if !slices.Equal(p.Root.Methods, c.methods) || p.Root.InMemory != c.inMemory {
			t.Errorf("%s: %q, in memory %t; want %q, %t", c.name, p.Root.Methods, p.Root.InMemory, c.methods, c.inMemory)
		}
		if (p.Root.Floor == 0) != p.Root.InMemory {
			t.Errorf("%s: in memory %t, and %d bytes stay free on the disk", c.name, p.Root.InMemory, p.Root.Floor)
		}
	}
}

func TestPrivateTmpfs(t *testing.T) {
	for _, c := range []struct{ memory, disk, watch, size, inodes int64 }{
		{8 << 30, 0, 0, 4 << 30, 262144},
		{0, 0, 0, 64 << 20, 4096},
		{64 << 30, 0, 0, 32 << 30, 1 << 20},
		{8 << 30, 1 << 30, 0, 1 << 30, 65536},
		{8 << 30, 1 << 20, 0, 1 << 20, 4096},
		{8 << 30, 0, 1 << 30, 1 << 30, 65536},
		{8 << 30, 1 << 20, 1 << 30, 1 << 20, 4096},
		{8 << 30, 0, 16 << 30, 4 << 30, 262144},
	} {
		if got := private(c.memory, c.disk, c.watch); got != (Private{c.size, c.inodes}) {
			t.Errorf("memory %d, --disk %d, -m %d without a cgroup: %+v, want %d, %d", c.memory, c.disk, c.watch, got, c.size, c.inodes)
		}
	}
}

// The lines before the start: nobody runs weaker than he could without being told.
func TestWarnings(t *testing.T) {
	groups := []userns.Group{{GID: 4, Name: "adm", Power: true}, {GID: 5000}}
	for _, c := range []struct {
		name  string
		spec  Spec
		facts func(*Facts)
		want  []string // in the one warning; nil for none
	}{
		{"nothing to say", Spec{}, nil, nil},
		{"keep-id is what shares are for", Spec{Userns: userns.KeepID}, nil, nil},
		{"one id", Spec{}, func(f *Facts) { f.NoHelpers = "no newuidmap"; f.Caller.Groups = groups }, []string{"weaker", "no newuidmap", "adm", "5000"}},
		{"one id, asked for", Spec{Userns: userns.Single}, nil, []string{"weaker"}},
		{"root", Spec{}, func(f *Facts) { f.Caller.UID, f.Caller.GID = 0, 0 }, []string{"as root"}},
	} {
		got := mustBuild(t, c.spec, c.facts).Warnings
		if c.want == nil {
			if len(got) != 0 {
				t.Errorf("%s: %q", c.name, got)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for _, word := range c.want {
			if !strings.Contains(got[0], word) {
				t.Errorf("%s: %q does not say %q", c.name, got[0], word)
			}
		}
	}
}

// What a killed run left is removed under the id map that it had.
func TestOwnershipGivesTheIdentityBack(t *testing.T) {
	for _, mode := range []userns.Mode{userns.NoMap, userns.KeepID, userns.Single} {
		p := mustBuild(t, Spec{Userns: mode}, nil)
		owner := p.Identity.Ownership()
		back := IdentityOf(owner, p.Identity.Helpers, false)
		if !back.Layout.SetupUID.Equal(p.Identity.Layout.SetupUID) || !back.Layout.SetupGID.Equal(p.Identity.Layout.SetupGID) ||
			back.Direct != p.Identity.Direct || owner.Single != (mode == userns.Single) {
			t.Errorf("%s: %+v became %+v", mode, p.Identity, back)
		}
		if mode != userns.Single && owner.HostUID != 100000 {
			t.Errorf("%s: root's files are of %d outside", mode, owner.HostUID)
		}
	}
}

func TestMountKindsAreKnown(t *testing.T) {
	// A table that mounts.Sort refuses would show at the first run only.
	p := mustBuild(t, Spec{Tmpfs: []TmpfsSpec{{Target: "/t"}}}, func(f *Facts) {
		f.Stdio = [3]Stream{{Kind: StreamTTY}, {Kind: StreamTTY}, {Kind: StreamTTY}}
	})
	if sorted, err := mounts.Sort(p.Mounts); err != nil || len(sorted) != len(p.Mounts) {
		t.Error(err)
	}
}

// Before Linux 5.14 pid 1 cannot have the limit of the program's processes: it would
// count those of the caller.
func TestWhoCountsProcesses(t *testing.T) {
	for _, perUserns := range []bool{true, false} {
		p := mustBuild(t, Spec{}, func(f *Facts) { f.Kernel.NprocPerUserns = perUserns })
		if p.Process.NprocPerID == perUserns {
			t.Errorf("counted per namespace %t: per id %t", perUserns, p.Process.NprocPerID)
		}
	}
}
