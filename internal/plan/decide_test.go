package plan

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// alice is an ordinary user on a host that has everything.
func alice() Facts {
	ids := []userns.Range{{Start: 100000, Count: 65536}}
	return Facts{
		Caller:      Caller{UID: 1001, GID: 1001, Name: "alice", Home: "/home/alice"},
		Subordinate: userns.Subordinate{UID: ids, GID: ids, Source: "/etc/subuid"},
		Helpers:     userns.Helpers{NewUIDMap: "/usr/bin/newuidmap", NewGIDMap: "/usr/bin/newgidmap"},
		Kernel: Kernel{
			Release: "6.12.0", MaxUserNamespaces: 1000, UsernsClone: -1, AppArmorUserns: -1,
			Seccomp: true, LandlockABI: 6, NprocPerUserns: true, CgroupNS: true,
		},
		Store: "/home/alice/.local/share/sbx", Memory: 8 << 30,
		Image:   Image{Name: "base", Key: "k", Tree: "/store/tree", Shell: "/bin/bash"},
		Program: Program{Inside: "true"},
		Passwd:  []byte("root:x:0:0::/root:/bin/sh\nsbx:x:1000:1000::/home/sbx:/bin/sh\n"),
		Group:   []byte("root:x:0:\nwheel:x:10:\n"),
		Cgroup:  cgroupv2.Prospect{Text: "no cgroup here"},
	}
}

func TestDecideRefusals(t *testing.T) {
	share := func(source, target string, write bool) Shared {
		return Shared{Share: Share{PathPair{source, target}, write}, Resolved: source, Ino: 1, Directory: true}
	}
	for _, c := range []struct {
		name  string
		spec  Spec
		facts func(f *Facts)
		want  string // in the message
	}{
		{"an empty name", Spec{}, nil, "name a program"},
		{"a NUL in an argument", Spec{Program: "x", Args: []string{"a\x00b"}}, nil, "NUL"},
		{"a network that is none", Spec{Program: "x", Network: "bridge"}, nil, "none, host"},
		{"a way of copying that is none", Spec{Program: "x", Copy: "hardlink"}, nil, "overlay"},
		{"a host name with a blank", Spec{Program: "x", Hostname: "a b"}, nil, "hostname"},
		{"a relative working directory", Spec{Program: "x", Workdir: "sub"}, nil, "absolute"},
		{"a working directory that is a door", Spec{Program: "x", Workdir: "/proc/self/cwd"}, nil, "/proc"},
		{"the same, with dots", Spec{Program: "x", Workdir: "/box/../proc/1/root"}, nil, "/proc"},
		{"a time that is none", Spec{Program: "x", Timeout: time.Microsecond}, nil, "1ms"},
		{"read-only and a copy", Spec{Program: "x", ReadOnly: true, Copy: "full"}, nil, "give one"},
		{"read-only and kept", Spec{Program: "x", ReadOnly: true, Keep: true}, nil, "give one"},
		{"everything writable", Spec{Program: "x"}, func(f *Facts) { f.Shares = []Shared{share("/", "/h", true)} }, "whole host"},
		{"the whole home writable", Spec{Program: "x"}, func(f *Facts) { f.Shares = []Shared{share("/home/alice", "/h", true)} }, "whole home"},
		{"what contains the home", Spec{Program: "x"}, func(f *Facts) { f.Shares = []Shared{share("/home", "/h", true)} }, "whole home"},
		{"a place in /proc", Spec{Program: "x"}, func(f *Facts) { f.Shares = []Shared{share("/a", "/proc/x", false)} }, "makes itself"},
		{"the root as a place", Spec{Program: "x", Tmpfs: []TmpfsSpec{{Target: "/"}}}, nil, "/ itself"},
		{"two for one place", Spec{Program: "x"}, func(f *Facts) {
			f.Shares = []Shared{share("/a", "/x", false), share("/b", "/x", false)}
		}, "/x"},
		{"a copy into a share", Spec{Program: "x"}, func(f *Facts) {
			f.Shares = []Shared{share("/a", "/x", true)}
			f.CopyIn = []CopyFact{{PathPair: PathPair{"/b", "/x/b"}}}
		}, "shared with the host"},
		{"core dumps", Spec{Program: "x", Ulimits: []string{"core=100"}}, nil, "always off"},
		{"more than the caller's own", Spec{Program: "x", Ulimits: []string{"nofile=5000"}}, func(f *Facts) {
			f.HardLimits = map[int]uint64{rlimitNofile: 4096}
		}, "4096"},
		{"an unknown layer", Spec{Program: "x", Require: []string{"magic"}}, nil, "magic"},
		{"a CPU limit without a cgroup", Spec{Program: "x", Limits: LimitSpec{CPUs: "1"}}, nil, "no cgroup here"},
		{"swap without memory", Spec{Program: "x", Limits: LimitSpec{MemorySwap: 1 << 30}}, nil, "--memory"},
		{"no namespaces at all", Spec{Program: "x"}, func(f *Facts) { f.Kernel.MaxUserNamespaces = 0 }, "max_user_namespaces is 0"},
		{"one namespace, and no second", Spec{Program: "x"}, func(f *Facts) { f.Kernel.MaxUserNamespaces = 1 }, "max_user_namespaces is 1"},
		{"Debian's switch", Spec{Program: "x"}, func(f *Facts) { f.Kernel.UsernsClone = 0 }, "unprivileged_userns_clone"},
		{"no filter in the kernel", Spec{Program: "x"}, func(f *Facts) { f.Kernel.Seccomp = false }, "--allow-degraded=seccomp"},
		{"a layer that is required", Spec{Program: "x", Require: []string{"memory"}}, nil, "memory"},
		{"a mode that needs a range", Spec{Program: "x", Userns: userns.NoMap}, func(f *Facts) { f.NoHelpers = "not installed" }, "not installed"},
		{"an id outside the range", Spec{Program: "x", User: "70000"}, nil, "70000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := alice()
			if c.facts != nil {
				c.facts(&f)
			}
			_, err := Build(c.spec, f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one that says %q", err, c.want)
			}
			var layer *MissingLayer
			if !IsMisuse(err) && !errors.As(err, &layer) {
				t.Errorf("error %v of type %T is neither misuse nor a missing layer", err, err)
			}
		})
	}
}

func TestDecideIdentity(t *testing.T) {
	none := func(f *Facts) { f.Subordinate = userns.Subordinate{} }
	shared := Spec{Program: "x", Shares: []Share{{PathPair{"/a", "/a"}, false}}}
	for _, c := range []struct {
		name   string
		spec   Spec
		facts  func(f *Facts)
		mode   userns.Mode
		uid    uint32
		direct bool
	}{
		{"the default is a stranger", Spec{Program: "x"}, nil, userns.NoMap, 1000, false},
		{"a share is read as oneself", shared, nil, userns.KeepID, 1001, false},
		{"no range is one id", Spec{Program: "x"}, none, userns.Single, 1000, true},
		{"no helper is one id", Spec{Program: "x"}, func(f *Facts) { f.NoHelpers = "not installed" }, userns.Single, 1000, true},
		{"a share without a range", shared, none, userns.Single, 1000, true},
		{"asked for", Spec{Program: "x", Userns: userns.Single}, nil, userns.Single, 1000, true},
		{"a fake root", Spec{Program: "x", User: "0"}, nil, userns.NoMap, 0, false},
		{"root is a stranger, too", Spec{Program: "x"}, func(f *Facts) { f.Caller.UID, f.Caller.GID = 0, 0 }, userns.NoMap, 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := alice()
			if c.facts != nil {
				c.facts(&f)
			}
			p, err := Build(c.spec, f)
			if err != nil {
				t.Fatal(err)
			}
			if p.Identity.Mode != c.mode || p.User.UID != c.uid || p.Identity.Direct != c.direct {
				t.Errorf("mode %s, uid %d, direct %t; want %s, %d, %t",
					p.Identity.Mode, p.User.UID, p.Identity.Direct, c.mode, c.uid, c.direct)
			}
			if out := outsideID(p); out == "0" {
				t.Error("the program is root outside")
			}
		})
	}
}

func TestDecideUser(t *testing.T) {
	passwd := []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n#x:x:7:7::/:\nbad:x:abc:1::/:\nrel:x:5:5::home:\n")
	group := []byte("staff:x:50:\n")
	for _, c := range []struct {
		arg      string
		uid, gid uint32
		err      bool
	}{
		{"1", 1, 1, false},
		{"001", 1, 1, false},
		{"0", 0, 0, false},
		{"33", 33, 33, false},
		{"web", 33, 33, false},
		{"web:staff", 33, 50, false},
		{"1:2", 1, 2, false},
		{"4294967294", 4294967294, 4294967294, false},
		{"4294967295", 0, 0, true},
		{"4294967296", 0, 0, true},
		{"99999999999999999999", 0, 0, true},
		{"-1", 0, 0, true},
		{"+1", 0, 0, true},
		{"0x0", 0, 0, true},
		{"1:", 0, 0, true},
		{":1", 0, 0, true},
		{"", 0, 0, true},
		{"nosuch", 0, 0, true},
		{"web:nosuch", 0, 0, true},
		{"bad", 0, 0, true},
		{"#x", 0, 0, true},
		{"1e3", 0, 0, true},
	} {
		u, err := parseUser(c.arg, passwd, group)
		if (err != nil) != c.err {
			t.Errorf("%q: error %v", c.arg, err)
		} else if err == nil && (u.UID != c.uid || u.GID != c.gid) {
			t.Errorf("%q is %d:%d, want %d:%d", c.arg, u.UID, u.GID, c.uid, c.gid)
		}
	}
	if u, _ := parseUser("rel", passwd, group); u.Home != "/" {
		t.Errorf("a relative home became %q", u.Home)
	}
}

// Nothing of the caller's comes along but how terminal and language are.
func TestDecideEnvironment(t *testing.T) {
	f := alice()
	f.Environ = PassedOn([]string{
		"TERM=xterm", "LANG=de_DE.UTF-8", "TZ=Europe/Berlin", "LC_ALL=de_DE@euro", "AWS_SECRET_ACCESS_KEY=x", "SSH_AUTH_SOCK=/x",
		"GITHUB_TOKEN=x", "DBUS_SESSION_BUS_ADDRESS=x", "XDG_RUNTIME_DIR=/run/user/1", "LD_PRELOAD=x", "DISPLAY=:0",
		"HTTPS_PROXY=http://u:p@h", "BASH_FUNC_x%%=() { :; }", "PATH=/evil", "HOME=/home/alice", "KRB5CCNAME=x",
	})
	f.AskedEnv = []string{"A=1", "PATH=/mine"}
	p, err := Build(Spec{Program: "x"}, f)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"A=1", "HOME=/home/sbx", "HOSTNAME=sbx", "LANG=C.UTF-8", "LOGNAME=sbx", "PATH=/mine", "SHELL=/bin/bash",
		"TERM=xterm", "TZ=Europe/Berlin", "USER=sbx",
	}
	if !slices.Equal(p.Process.Env, want) {
		t.Errorf("environment\n%q\nwant\n%q", p.Process.Env, want)
	}
}

// The order of flags does not matter, and a parent comes before what lies in it.
func TestDecideTableOrder(t *testing.T) {
	targets := func(shares ...string) []string {
		f := alice()
		for _, target := range shares {
			f.Shares = append(f.Shares, Shared{
				Share: Share{PathPair{target, target}, false}, Resolved: target, Ino: 1, Directory: true,
			})
		}
		p, err := Build(Spec{Program: "x"}, f)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, m := range p.Mounts {
			if slices.Contains(shares, m.Target) {
				list = append(list, m.Target)
			}
		}
		return list
	}
	want := []string{"/d", "/d/e", "/d/e/f"}
	for _, order := range [][]string{want, {"/d/e/f", "/d", "/d/e"}, {"/d/e", "/d/e/f", "/d"}} {
		if got := targets(order...); !slices.Equal(got, want) {
			t.Errorf("%q are mounted as %q", order, got)
		}
	}
}

// A share takes the place of one of sbx's own directories.
func TestDecideShareOverBox(t *testing.T) {
	f := alice()
	f.Shares = []Shared{{Share: Share{PathPair{"/a", "/box"}, true}, Resolved: "/a", Ino: 1, Directory: true}}
	p, err := Build(Spec{Program: "x"}, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Mounts {
		if m.Target == "/box" && m.Kind != mounts.Bind {
			t.Errorf("/box is %s", m)
		}
	}
}

func TestDecideIsPure(t *testing.T) {
	s := Spec{Program: "x", Args: []string{"y"}, Ulimits: []string{"nofile=100:200"}, Env: []string{"A=b"}}
	first, err := Build(s, alice())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(s, alice())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) || !reflect.DeepEqual(first.Stages(), second.Stages()) {
		t.Error("the same question got two answers")
	}
}

func FuzzParseUser(f *testing.F) {
	for _, s := range []string{"0", "web:staff", "-1", "4294967296", ":", "a:b:c"} {
		f.Add(s, "web:x:33:33::/w:/bin/sh\n")
	}
	f.Fuzz(func(t *testing.T, arg, passwd string) {
		u, err := parseUser(arg, []byte(passwd), []byte("g:x:1:\n"))
		if err == nil && (u.UID > maxID || u.GID > maxID) {
			t.Errorf("%q with %q became %d:%d", arg, passwd, u.UID, u.GID)
		}
	})
}

func FuzzParseTmpfs(f *testing.F) {
	f.Add("/x:size=64m")
	f.Add("/x:")
	f.Fuzz(func(t *testing.T, s string) {
		if spec, err := ParseTmpfs(s); err == nil && spec.Size < 0 {
			t.Errorf("%q has size %d", s, spec.Size)
		}
	})
}

func TestReleases(t *testing.T) {
	for release, want := range map[string]bool{
		"5.14.0": true, "5.14": true, "5.14-rc1": true, "6.1.0-18-amd64": true, "10.0+": true,
		"5.13.19": false, "4.19.0": false, "5": false, "": false, "x.y": false, "5.x": false,
	} {
		if got := atLeast(release, 5, 14); got != want {
			t.Errorf("%q: %t", release, got)
		}
	}
}
