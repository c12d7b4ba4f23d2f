package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// imported are alice's facts for an image with this configuration.
func imported(c *rootfs.ImageConfig) Facts {
	f := alice()
	f.Image = Image{Name: "tool:1", Key: "k", Tree: "/store/images/imported/k/tree", Imported: true, Foreign: true, Owned: true, OwnerUID: f.Subordinate.UID[0].Start}
	f.Config = c
	f.Passwd = []byte("root:x:0:0:root:/root:/bin/sh\napp:x:33:44::/srv/app:/bin/sh\n")
	f.Group = []byte("root:x:0:\nstaff:x:50:\n")
	return f
}

func TestCommandAsInDocker(t *testing.T) {
	t.Parallel()
	both := &rootfs.ImageConfig{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"a", "b"}}
	cmd := &rootfs.ImageConfig{Cmd: []string{"sh"}}
	for _, c := range []struct {
		name   string
		spec   Spec
		config *rootfs.ImageConfig
		want   string
		own    bool
	}{
		{"entrypoint and cmd", Spec{}, both, "/entry -x a b", false},
		{"arguments instead of cmd", Spec{Program: "c", Args: []string{"d"}}, both, "/entry -x c d", false},
		{"cmd", Spec{}, cmd, "sh", false},
		{"a program instead of cmd", Spec{Program: "./tool"}, cmd, "./tool", true},
		{"another entrypoint takes cmd away", Spec{HasEntrypoint: true, Entrypoint: []string{"e"}}, both, "e", false},
		{"another entrypoint with arguments", Spec{HasEntrypoint: true, Entrypoint: []string{"e"}, Program: "c"}, both, "e c", false},
		{"no entrypoint", Spec{HasEntrypoint: true, Program: "./tool"}, both, "./tool", true},
		{"no entrypoint and nothing else", Spec{HasEntrypoint: true}, both, "", false},
		{"nothing at all", Spec{}, &rootfs.ImageConfig{}, "", false},
		{"no configuration", Spec{Program: "x", Args: []string{"y"}}, nil, "x y", true},
		{"no configuration and no program", Spec{}, nil, "", false},
		{"an empty word", Spec{}, &rootfs.ImageConfig{Cmd: []string{""}}, "", false},
		{"a NUL byte", Spec{}, &rootfs.ImageConfig{Cmd: []string{"a\x00b"}}, "", false},
	} {
		argv, own, err := command(c.spec, c.config)
		if got := strings.Join(argv, " "); got != c.want || own != c.own || (err != nil) != (c.want == "") || err != nil && !IsMisuse(err) {
			t.Errorf("%s: %q, own %v, %v; want %q, %v", c.name, got, own, err, c.want, c.own)
		}
	}
}

func TestParseEntrypoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{"": nil, "/a b": {"/a b"}, `["a","b c"]`: {"a", "b c"}, "[]": {}} {
		if got, err := ParseEntrypoint(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := ParseEntrypoint(`["a`); !IsMisuse(err) {
		t.Errorf("half a list: %v", err)
	}
}

// What an image asks for is honoured as docker does, and the user's flags win.
func TestConfigIsHonoured(t *testing.T) {
	t.Parallel()
	config := &rootfs.ImageConfig{
		Env: []string{"A=image", "B=image", "PATH=/opt/bin", "HOME=/elsewhere"}, Cmd: []string{"run"}, WorkingDir: "srv/app/", User: "app:staff",
	}
	f := imported(config)
	p := build(t, Spec{Image: "tool:1"}, f)
	if p.User != (User{Name: "app", UID: 33, GID: 50, Home: "/srv/app", Listed: true}) || p.Process.Dir != "/srv/app" {
		t.Errorf("user %+v in %q", p.User, p.Process.Dir)
	}
	for _, want := range []string{"A=image", "B=image", "PATH=/opt/bin", "HOME=/elsewhere", "USER=app"} {
		if !slices.Contains(p.Process.Env, want) {
			t.Errorf("environment %q lacks %s", p.Process.Env, want)
		}
	}
	if !p.Root.InMemory {
		t.Error("an ordinary user in an image of the store has his changes on the disk")
	}
	f.AskedEnv = []string{"B=mine"}
	p = build(t, Spec{Image: "tool:1", User: "0", Workdir: "/"}, f)
	if p.User.UID != 0 || p.Process.Dir != "/" || !slices.Contains(p.Process.Env, "B=mine") || p.Root.InMemory {
		t.Errorf("user %+v in %q, environment %q", p.User, p.Process.Dir, p.Process.Env)
	}
}

// The forms of a user that docker takes. The group 0 for a number that passwd
// does not know is what images are made for that any number can run.
func TestImageUser(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]User{
		"app":      {Name: "app", UID: 33, GID: 44, Home: "/srv/app", Listed: true},
		"app:":     {Name: "app", UID: 33, GID: 44, Home: "/srv/app", Listed: true},
		"33":       {Name: "app", UID: 33, GID: 44, Home: "/srv/app", Listed: true},
		":staff":   {Name: "root", UID: 0, GID: 50, Home: "/root", Listed: true},
		":7":       {Name: "root", UID: 0, GID: 7, Home: "/root", Listed: true},
		"1234":     {Name: "sbx", UID: 1234, GID: 0, Home: "/home/sbx"},
		"1234:":    {Name: "sbx", UID: 1234, GID: 0, Home: "/home/sbx"},
		"1234:7":   {Name: "sbx", UID: 1234, GID: 7, Home: "/home/sbx"},
		"app:1234": {Name: "app", UID: 33, GID: 1234, Home: "/srv/app", Listed: true},
	} {
		p := build(t, Spec{}, imported(&rootfs.ImageConfig{Cmd: []string{"x"}, User: text}))
		if p.User != want {
			t.Errorf("%q is %+v, want %+v", text, p.User, want)
		}
	}
	if p := build(t, Spec{User: "1234"}, imported(&rootfs.ImageConfig{Cmd: []string{"x"}})); p.User.GID != 1234 {
		t.Errorf("--user 1234 has the group %d", p.User.GID)
	}
}

// A passwd that the caller may not read is not replaced by another one, and an
// error about a name does not claim to know what is in it.
func TestHiddenUsers(t *testing.T) {
	t.Parallel()
	f := imported(&rootfs.ImageConfig{Cmd: []string{"x"}, User: "1234"})
	f.Passwd, f.Group, f.UsersHidden = nil, nil, true
	for _, m := range build(t, Spec{}, f).Mounts {
		if m.Target == "/etc/passwd" || m.Target == "/etc/group" {
			t.Errorf("something is put over %s", m.Target)
		}
	}
	if _, err := Build(Spec{Image: "tool:1", Program: "x", User: "app"}, f); !IsMisuse(err) || !strings.Contains(err.Error(), "its mode keeps /etc/passwd from you") {
		t.Errorf("%v", err)
	}
}

// An image with a configuration that names no user is run by root, in /, as in
// docker; one without by sbx, in /box; with shares by the caller's own number.
func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	f := imported(&rootfs.ImageConfig{Cmd: []string{"x"}})
	if p := build(t, Spec{}, f); p.User.UID != 0 || p.Process.Dir != "/" {
		t.Errorf("user %+v in %q", p.User, p.Process.Dir)
	}
	if p := build(t, Spec{Userns: userns.KeepID}, f); p.User.UID != f.Caller.UID {
		t.Errorf("keep-id: user %+v", p.User)
	}
	f.Config = nil
	if p := build(t, Spec{Program: "x"}, f); p.User.UID != 1000 || p.Process.Dir != "/box" {
		t.Errorf("user %+v in %q", p.User, p.Process.Dir)
	}
}

// SECURITY D13, A6, B3: none of the image's words reaches the host.
func TestConfigIsUntrusted(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]*rootfs.ImageConfig{
		"a user that is no number":  {Cmd: []string{"x"}, User: "-1"},
		"a number out of range":     {Cmd: []string{"x"}, User: "4294967295"},
		"a user that is not there":  {Cmd: []string{"x"}, User: "nobody-such"},
		"a group that is not there": {Cmd: []string{"x"}, User: "app:nobody-such"},
		"an id beyond the range":    {Cmd: []string{"x"}, User: "70000"},
		"a directory of a process":  {Cmd: []string{"x"}, WorkingDir: "/proc/self/fd/7"},
		"the same by a way round":   {Cmd: []string{"x"}, WorkingDir: "/a/../proc/1/cwd"},
		"a directory with a NUL":    {Cmd: []string{"x"}, WorkingDir: "/a\x00b"},
	} {
		if _, err := Build(Spec{Image: "tool:1"}, imported(config)); !IsMisuse(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := imported(&rootfs.ImageConfig{Cmd: []string{"x"}, Env: []string{"SECRET", "=x", "", "N\x00L=1", "OK=$SECRET"}})
	p := build(t, Spec{}, f)
	for _, kv := range p.Process.Env {
		if strings.HasPrefix(kv, "SECRET") || strings.HasPrefix(kv, "=") || strings.Contains(kv, "\x00") {
			t.Errorf("variable %q", kv)
		}
	}
	if !slices.Contains(p.Process.Env, "OK=$SECRET") {
		t.Errorf("a value was expanded: %q", p.Process.Env)
	}
}

// What the image has in its directories is not hidden, a working directory that
// is missing is made, and a user that passwd lacks gets a line.
func TestImportedTable(t *testing.T) {
	t.Parallel()
	f := imported(&rootfs.ImageConfig{Cmd: []string{"x"}, WorkingDir: "/new", User: "1234"})
	f.Filled, f.NoWorkdir = []string{"/run", "/home/sbx"}, true
	p := build(t, Spec{}, f)
	has := func(target string) *mounts.Mount {
		for i, m := range p.Mounts {
			if m.Target == target {
				return &p.Mounts[i]
			}
		}
		return nil
	}
	for _, target := range []string{"/run", "/home/sbx"} {
		if has(target) != nil {
			t.Errorf("something is put over %s", target)
		}
	}
	for _, target := range []string{"/tmp", "/var/tmp", "/box", "/etc/hosts", "/etc/hostname"} {
		if has(target) == nil {
			t.Errorf("nothing on %s", target)
		}
	}
	if m := has("/new"); m == nil || m.Kind != mounts.Dir {
		t.Errorf("the working directory: %v", m)
	}
	m := has("/etc/passwd")
	if m == nil || !strings.HasPrefix(string(m.Content), string(f.Passwd)) || !strings.HasSuffix(string(m.Content), "\nsbx:x:1234:0:sbx:/home/sbx:/bin/sh\n") {
		t.Errorf("passwd: %+v", m)
	}
	f.Filled, f.Closed = nil, []string{"/box", "/tmp"}
	p = build(t, Spec{}, f)
	for target, kind := range map[string]mounts.Kind{"/box": mounts.Dir, "/tmp": mounts.Dir, "/run": mounts.Shared} {
		if m := has(target); m == nil || m.Kind != kind {
			t.Errorf("%s, of which the first two may be there: %+v", target, m)
		}
	}
	f.Passwd = nil
	p = build(t, Spec{}, f)
	if m := has("/etc/passwd"); m == nil || !strings.HasPrefix(string(m.Content), "root:") {
		t.Errorf("passwd of an image without one: %+v", m)
	}
}

func build(t *testing.T, s Spec, f Facts) *Plan {
	t.Helper()
	if s.Image == "" {
		s.Image = "tool:1"
	}
	p, err := Build(s, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
