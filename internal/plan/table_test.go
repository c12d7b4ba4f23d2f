package plan

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

func share(source, target string, write bool) Shared {
	return Shared{Share: Share{PathPair{source, target}, write}, Resolved: source, Ino: 1, Directory: true}
}

func mustBuild(t *testing.T, s Spec, facts func(*Facts)) *Plan {
	t.Helper()
	f := alice()
	if facts != nil {
		facts(&f)
	}
	s.Program = "x"
	p, err := Build(s, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mountAt(t *testing.T, p *Plan, target string) mounts.Mount {
	t.Helper()
	i := slices.IndexFunc(p.Mounts, func(m mounts.Mount) bool { return m.Target == target })
	if i < 0 {
		t.Fatalf("nothing is mounted on %s", target)
	}
	return p.Mounts[i]
}

func TestTargets(t *testing.T) {
	for _, c := range []struct{ target, want string }{
		{"/data", ""},
		{"/box", ""},
		{"/home/sbx/x", ""},
		{"/etc/x", ""},
		{"/tmp", ""},
		{"/dev/shm", ""},
		{"/procx", ""},
		{"/a/../b", ""},
		{"data", "absolute"},
		{"", "absolute"},
		{"./x", "absolute"},
		{"/", "/ itself"},
		{"/..", "/ itself"},
		{"//", "/ itself"},
		{"/proc", "makes itself"},
		{"/proc/1", "makes itself"},
		{"/x/../proc/self", "makes itself"},
		{"/dev", "makes itself"},
		{"/dev/null", "makes itself"},
		{"/dev/pts", "makes itself"},
		{"/dev/shm/x", "makes itself"},
		{"/sys", "makes itself"},
		{"/sys/fs/cgroup", "makes itself"},
	} {
		err := checkTarget("--ro", c.target)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.target, err)
		case c.want != "" && (!IsMisuse(err) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: error %v, want %q", c.target, err, c.want)
		}
	}
}

func TestSharesThatGiveTooMuch(t *testing.T) {
	caller := Caller{Home: "/home/alice/"}
	const store = "/home/alice/.local/share/sbx"
	for path, refused := range map[string]bool{
		"/": true, "/home": true, "/home/alice": true, store: true, "/home/alice/.local": true, store + "/images/base": true,
		"/home/alice/src": false, "/home/alicex": false, "/home/al": false, "/tmp": false, store + "x": false,
	} {
		if err := checkShare(share(path, "/x", true), caller, store); refused != IsMisuse(err) {
			t.Errorf("--rw %s: %v", path, err)
		}
		if err := checkShare(share(path, "/x", false), caller, store); err != nil {
			t.Errorf("--ro %s: %v", path, err)
		}
	}
}

// The home and the store are known by whatever name they are shared.
func TestPrecious(t *testing.T) {
	top := t.TempDir()
	there := top + "/export/home/alice"
	if err := os.MkdirAll(there+"/data/sbx/images", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{"export/home": "/home", there: "/me", "export": "/e"} {
		if err := os.Symlink(name, top+link); err != nil {
			t.Fatal(err)
		}
	}
	l := &look{facts: Facts{Caller: Caller{UID: 4294967294, Home: top + "/home/alice"}, Store: top + "/home/alice/data/sbx"}}
	for path, want := range map[string][2]bool{
		"": {true, true}, "/export": {true, true}, "/e/home": {true, true}, "/me": {true, true}, "/home/alice/": {true, true},
		"/me/data": {false, true}, "/me/data/sbx": {false, true}, "/home/alice/data/sbx/images": {false, true},
	} {
		src, err := mounts.Resolve(top + path)
		if err != nil {
			t.Fatal(err)
		}
		home, store := l.precious(Shared{Resolved: src.Path, Dev: src.Dev, Ino: src.Ino})
		if [2]bool{home, store} != want {
			t.Errorf("%q: home %t, store %t, want %v", path, home, store, want)
		}
		sh := share("/elsewhere", "/x", true)
		sh.Home, sh.Store = home, store
		if err := checkShare(sh, Caller{}, ""); !IsMisuse(err) {
			t.Errorf("%q: %v", path, err)
		}
	}
	other := t.TempDir()
	src, err := mounts.Resolve(other)
	if err != nil {
		t.Fatal(err)
	}
	if home, store := l.precious(Shared{Resolved: src.Path, Dev: src.Dev, Ino: src.Ino}); home || store {
		t.Errorf("%s: home %t, store %t", other, home, store)
	}
}

// $HOME can be set to anything.
func TestHomes(t *testing.T) {
	list := homes(Caller{UID: 0, Home: "/tmp/x"})
	if !slices.Equal(list, []string{"/tmp/x", "/root"}) {
		t.Errorf("got %q", list)
	}
}

func TestSharesInTheTable(t *testing.T) {
	p := mustBuild(t, Spec{}, func(f *Facts) {
		rw := share("/src", "/home/sbx/src", true)
		rw.Guard = []mounts.Mount{{Kind: mounts.ReadOnly, Target: "/home/sbx/src/.git/hooks", Directory: true}}
		rw.Placeholders = []mounts.Placeholder{{Path: "/src/.envrc"}}
		rw.Notes = []string{"a note"}
		f.Shares = []Shared{rw, share("/data", "/data", false)}
	})
	if m := mountAt(t, p, "/home/sbx/src"); m.Kind != mounts.Bind || m.ReadOnly || m.Source != "/src" || m.Ino != 1 {
		t.Errorf("--rw became %+v", m)
	}
	if m := mountAt(t, p, "/data"); m.Kind != mounts.Bind || !m.ReadOnly {
		t.Errorf("--ro became %+v", m)
	}
	// What the host executes stays read-only within (SECURITY J4), and comes after.
	order := func(target string) int {
		return slices.IndexFunc(p.Mounts, func(m mounts.Mount) bool { return m.Target == target })
	}
	if g, s := order("/home/sbx/src/.git/hooks"), order("/home/sbx/src"); g < s {
		t.Errorf("the guard (%d) is hidden by the share (%d)", g, s)
	}
	if len(p.Placeholders) != 1 || !slices.Contains(p.Warnings, "a note") || !slices.Equal(p.Writable, []string{"/src"}) {
		t.Errorf("placeholders %v, warnings %q, writable %q", p.Placeholders, p.Warnings, p.Writable)
	}
}

func TestTmpfsInTheTable(t *testing.T) {
	p := mustBuild(t, Spec{Tmpfs: []TmpfsSpec{{Target: "/cache/", Size: 64 << 20}, {Target: "/big"}, {Target: "/tiny", Size: 1}}}, nil)
	m := mountAt(t, p, "/cache")
	if m.Kind != mounts.Tmpfs || m.Size != 64<<20 || m.Inodes != 4096 || m.UID != 1001 || m.GID != 1001 {
		t.Errorf("/cache is %+v, not the user's own of 64 MiB", m)
	}
	if m := mountAt(t, p, "/big"); m.Size != p.Private.Size || m.Inodes == 0 {
		t.Errorf("/big has no bound: %+v", m)
	}
	if m := mountAt(t, p, "/tiny"); m.Inodes != 1024 {
		t.Errorf("/tiny has %d inodes", m.Inodes)
	}
}

// A --tmpfs on a directory that sbx makes anyway takes its place.
func TestTmpfsOverOwnDirectory(t *testing.T) {
	p := mustBuild(t, Spec{Tmpfs: []TmpfsSpec{{Target: "/tmp", Size: 1 << 20}}}, nil)
	if m := mountAt(t, p, "/tmp"); m.Kind != mounts.Tmpfs || m.Size != 1<<20 {
		t.Errorf("/tmp is %+v", m)
	}
}

func TestTwoForOnePlace(t *testing.T) {
	for name, c := range map[string]struct {
		spec  Spec
		facts func(*Facts)
	}{
		"share and tmpfs":        {Spec{Tmpfs: []TmpfsSpec{{Target: "/a"}}}, func(f *Facts) { f.Shares = []Shared{share("/x", "/a", false)} }},
		"two tmpfs, one written": {Spec{Tmpfs: []TmpfsSpec{{Target: "/a"}, {Target: "/b/../a/"}}}, nil},
		"two copies": {Spec{}, func(f *Facts) {
			f.CopyIn = []CopyFact{{PathPair: PathPair{Source: "/x/in"}}, {PathPair: PathPair{Source: "/y/in"}}}
		}},
		"a copy that is named as another": {Spec{}, func(f *Facts) {
			f.CopyIn = []CopyFact{{PathPair: PathPair{Source: "/x/in"}}, {PathPair: PathPair{Source: "/y", Target: "/box/./in"}}}
		}},
	} {
		f := alice()
		if c.facts != nil {
			c.facts(&f)
		}
		c.spec.Program = "x"
		if _, err := Build(c.spec, f); !IsMisuse(err) {
			t.Errorf("%s: error %v, want misuse", name, err)
		}
	}
}

func TestCopyIns(t *testing.T) {
	for _, c := range []struct{ source, target, want string }{
		{"/a/in", "", "/box/in"},
		{"/a/in/", "", "/box/in"},
		{"/a/in", "/etc/in", "/etc/in"},
		{"/a/in", "/etc//in/", "/etc/in"},
	} {
		p := mustBuild(t, Spec{}, func(f *Facts) { f.CopyIn = []CopyFact{{PathPair: PathPair{c.source, c.target}, Directory: true}} })
		if got := p.CopyIn[0]; got.Target != c.want || !got.Directory || got.Source != c.source {
			t.Errorf("%s:%s became %+v, want %s", c.source, c.target, got, c.want)
		}
	}
}

func TestPrivateDirectories(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   Spec
		facts  func(*Facts)
		target string
		kind   mounts.Kind
		uid    uint32 // in U1
		mode   uint32
	}{
		{"/tmp is root's", Spec{}, nil, "/tmp", mounts.Shared, 1, 0o1777},
		{"/box is the user's", Spec{}, nil, "/box", mounts.Shared, 1001, 0o755},
		{"home is his alone", Spec{}, nil, "/home/sbx", mounts.Shared, 1001, 0o700},
		{"kept, it is part of the copy", Spec{Keep: true}, nil, "/box", mounts.Dir, 1001, 0o755},
		{"/tmp is never kept", Spec{Keep: true}, nil, "/tmp", mounts.Shared, 1, 0o1777},
		{"one id has all", Spec{Userns: userns.Single}, nil, "/tmp", mounts.Shared, 0, 0o1777},
		{"keep-id: the user is the caller", Spec{Userns: userns.KeepID}, nil, "/box", mounts.Shared, 0, 0o755},
		{"a fake root's home", Spec{User: "0"}, nil, "/root", mounts.Shared, 1, 0o700},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mountAt(t, mustBuild(t, c.spec, c.facts), c.target)
			if m.Kind != c.kind || m.UID != c.uid || m.Mode != c.mode {
				t.Errorf("%+v, want %v of %d, mode %o", m, c.kind, c.uid, c.mode)
			}
		})
	}
}

// The home directory that a hostile image's passwd names is not a place to mount.
func TestHomeOfAHostileImage(t *testing.T) {
	for _, home := range []string{"/", "/etc", "/home", "/home/..", "/home/../etc", "/proc/self", "/root/../usr", "relative", ""} {
		p := mustBuild(t, Spec{User: "web"}, func(f *Facts) {
			f.Image.Foreign = true
			f.Passwd = []byte("web:x:33:33::" + home + ":/bin/sh\n")
		})
		for _, m := range p.Mounts {
			if m.Mode == 0o700 && m.Directory {
				t.Errorf("home %q is mounted on %s", home, m.Target)
			}
		}
	}
}

func TestGeneratedFiles(t *testing.T) {
	targets := func(p *Plan) []string {
		var list []string
		for _, m := range p.Mounts {
			if m.Kind == mounts.File && strings.HasPrefix(m.Target, "/etc/") {
				list = append(list, strings.TrimPrefix(m.Target, "/etc/"))
			}
		}
		slices.Sort(list)
		return list
	}
	for _, c := range []struct {
		name  string
		spec  Spec
		facts func(*Facts)
		want  []string
	}{
		{"the image has them", Spec{}, nil, nil},
		{"another host name", Spec{Hostname: "h"}, nil, []string{"hostname", "hosts"}},
		{"another user", Spec{User: "5"}, nil, []string{"group", "passwd"}},
		{"another's image keeps its users", Spec{User: "5"}, func(f *Facts) { f.Image.Foreign = true }, []string{"hostname", "hosts"}},
		{"the host's network", Spec{Network: NetworkHost}, func(f *Facts) { f.ResolvConf = []byte("nameserver 1.1.1.1\n") }, []string{"resolv.conf"}},
		{"no network", Spec{}, func(f *Facts) { f.ResolvConf = []byte("nameserver 1.1.1.1\n") }, nil},
	} {
		if got := targets(mustBuild(t, c.spec, c.facts)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
