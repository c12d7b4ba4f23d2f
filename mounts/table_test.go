package mounts

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func targets(ms []Mount) string {
	var list []string
	for _, m := range ms {
		list = append(list, m.Target)
	}
	return strings.Join(list, " ")
}

func TestSort(t *testing.T) {
	dir := func(target string) Mount { return Mount{Kind: Shared, Target: target, Mode: 0o755} }
	file := func(target string) Mount { return Mount{Kind: File, Target: target, Mode: 0o644} }
	bound := func(target string) Mount {
		return Mount{Kind: Bind, Source: "/src", Ino: 1, Target: target, Directory: true}
	}
	for name, c := range map[string]struct {
		in   []Mount
		want string
		err  error
		says []string
	}{
		"parents come first, otherwise as given": {
			in:   []Mount{dir("/b/c/d"), dir("/b"), dir("/a/x"), dir("/a"), dir("/b/a")},
			want: "/b /a /a/x /b/a /b/c/d",
		},
		"nothing": {},
		"two for one target": {
			in:  []Mount{dir("/a"), bound("/b"), file("/b")},
			err: unix.EEXIST, says: []string{"bind /src on /b", "file /b"},
		},
		"below a directory that is bound": {in: []Mount{bound("/a"), file("/a/b")}, want: "/a /a/b"},
		"below a file":                    {in: []Mount{file("/a/b"), file("/a")}, err: unix.ENOTDIR, says: []string{"file /a/b", "file /a"}},
		"deep below a link":               {in: []Mount{{Kind: Symlink, Source: "x", Target: "/a"}, dir("/a/b/c")}, err: unix.ENOTDIR},
		"below a mask":                    {in: []Mount{{Kind: Mask, Target: "/a", Directory: true}, dir("/a/b")}, err: unix.ENOTDIR},
		"a name that only begins alike":   {in: []Mount{file("/a"), file("/ab/c")}, want: "/a /ab/c"},
		"relative target":                 {in: []Mount{dir("a")}, err: unix.EINVAL},
		"target with ..":                  {in: []Mount{dir("/a/../b")}, err: unix.EINVAL},
		"target with a slash at the end":  {in: []Mount{dir("/a/")}, err: unix.EINVAL},
		"target is /":                     {in: []Mount{dir("/")}, err: unix.EINVAL},
		"target with NUL":                 {in: []Mount{dir("/a\x00b")}, err: unix.EINVAL},
		"target in /proc":                 {in: []Mount{dir("/proc/self/x")}, err: unix.EINVAL},
		"something else on /proc":         {in: []Mount{bound("/proc")}, err: unix.EINVAL},
		"no kind":                         {in: []Mount{{Target: "/a"}}, err: unix.EINVAL},
		"bind that was never looked at":   {in: []Mount{{Kind: Bind, Source: "/a", Target: "/a"}}, err: unix.EINVAL},
		"bind of a relative source":       {in: []Mount{{Kind: Bind, Source: "a", Ino: 1, Target: "/a"}}, err: unix.EINVAL},
		"link without a text":             {in: []Mount{{Kind: Symlink, Target: "/a"}}, err: unix.EINVAL},
		"setuid mode":                     {in: []Mount{{Kind: Dir, Target: "/a", Mode: 0o4755}}, err: unix.EINVAL},
		"no mode":                         {in: []Mount{{Kind: Dir, Target: "/a"}}, err: unix.EINVAL},
		"negative size":                   {in: []Mount{{Kind: Tmpfs, Target: "/a", Mode: 0o755, Size: -1}}, err: unix.EINVAL},
		"large content":                   {in: []Mount{{Kind: File, Target: "/a", Mode: 0o644, Content: make([]byte, MaxContent+1)}}, err: unix.EINVAL},
	} {
		got, err := Sort(c.in)
		if targets(got) != c.want || !errors.Is(err, c.err) || (err != nil) != (c.err != nil) {
			t.Errorf("%s: %q, %v, want %q, %v", name, targets(got), err, c.want, c.err)
		}
		for _, text := range c.says {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", name, err, text)
			}
		}
	}
}

func TestString(t *testing.T) {
	for want, m := range map[string]interface{ String() string }{
		"bind /usr on /usr (read-only)":              Mount{Kind: Bind, Source: "/usr", Target: "/usr", ReadOnly: true},
		`bind "/a b" on "/x\ny" (read-only, noexec)`: Mount{Kind: Bind, Source: "/a b", Target: "/x\ny", ReadOnly: true, NoExec: true},
		`bind "/\u202egnp" on /x`:                    Mount{Kind: Bind, Source: "/\u202egnp", Target: "/x"},
		"bind /naïve on /x":                          Mount{Kind: Bind, Source: "/naïve", Target: "/x"},
		"tmpfs on /t (size=4096)":                    Mount{Kind: Tmpfs, Target: "/t", Size: 4096},
		"scratch on /tmp":                            Mount{Kind: Shared, Target: "/tmp"},
		"symlink /dev/fd to /proc/self/fd":           Mount{Kind: Symlink, Source: "/proc/self/fd", Target: "/dev/fd"},
		"device /dev/null":                           Mount{Kind: Device, Source: "/dev/null", Target: "/dev/null"},
		"mask /proc/kcore":                           Mount{Kind: Mask, Target: "/proc/kcore"},
		"root: overlay of /s/u over /a, /b":          Root{Method: MethodOverlay, Lower: []string{"/a", "/b"}, Upper: "/s/u"},
		"root: overlay of a private tmpfs over /a (read-only)": Root{
			Method: MethodOverlay, Lower: []string{"/a"}, ReadOnly: true,
		},
		"root: tree /a (read-only)": Root{Method: MethodTree, Tree: "/a", Frozen: true},
	} {
		if got := m.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A table is data: it comes back from JSON as it was.
func TestJSON(t *testing.T) {
	table := append(Dev(true, 1, 2), ProcMasks()...)
	table = append(table,
		Mount{Kind: Bind, Source: "/a", Dev: 1 << 40, Ino: 1<<64 - 1, Target: "/b", ReadOnly: true, Directory: true},
		Mount{Kind: File, Target: "/f", Content: []byte{0, 255, 10}, Mode: 0o644, UID: 1<<32 - 2})
	data, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	var back []Mount
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(table, back) {
		t.Errorf("got %v, want %v", back, table)
	}
}

// The tables that come with the package are in order themselves.
func TestTables(t *testing.T) {
	table := append(Dev(true, 0, 0), Mount{Kind: Proc, Target: "/proc"})
	sorted, err := Sort(append(ProcMasks(), table...))
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sys", "/dev/null", "/dev/pts", "/dev/tty"} {
		if !strings.Contains(targets(sorted)+" ", must+" ") {
			t.Errorf("%s is missing", must)
		}
	}
	if strings.Contains(targets(Dev(false, 0, 0)), "tty") {
		t.Error("/dev/tty without a terminal")
	}
	for _, g := range ProcGroups() {
		if g.Reason == "" || len(g.Files)+len(g.Dirs) == 0 {
			t.Errorf("a group without reason or names: %+v", g)
		}
	}
	for _, r := range GuardRules() {
		if r.Reason == "" || len(r.Names) == 0 {
			t.Errorf("a rule without reason or names: %+v", r)
		}
	}
}

func TestMountinfo(t *testing.T) {
	const text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n" +
		"36 35 98:0 /mnt1 /a\\040b\\134c rw,nosuid,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\n"
	got, err := parseMountinfo([]byte(text))
	want := []mountLine{
		{22, 27, "/proc", "rw,relatime"},
		{36, 35, `/a b\c`, "rw,nosuid,noatime"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"1\n", "1 2 3 4 5 6\n", "x 2 0:0 / / rw - a b c\n", "1 -2 0:0 / / rw - a b c\n", "1 2 0:0 /  rw - a b c\n", "\n"} {
		if _, err := parseMountinfo([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Which mounts no path leads to.
func TestCovered(t *testing.T) {
	line := func(id, parent uint64, point string) mountLine { return mountLine{id, parent, point, "rw"} }
	for name, c := range map[string]struct {
		table  []mountLine
		hidden []uint64
	}{
		"plain":                       {[]mountLine{line(1, 0, "/"), line(2, 1, "/a"), line(3, 2, "/a/b")}, nil},
		"stacked":                     {[]mountLine{line(1, 0, "/"), line(2, 1, "/a"), line(3, 2, "/a")}, []uint64{2}},
		"below a stacked one":         {[]mountLine{line(1, 0, "/"), line(2, 1, "/a"), line(3, 2, "/a/b"), line(4, 2, "/a")}, []uint64{2, 3}},
		"on top of a stack":           {[]mountLine{line(1, 0, "/"), line(2, 1, "/a"), line(4, 2, "/a"), line(5, 4, "/a/b")}, []uint64{2}},
		"behind a directory":          {[]mountLine{line(1, 0, "/"), line(2, 1, "/a/b/c"), line(3, 1, "/a"), line(4, 3, "/a/b")}, []uint64{2}},
		"a line that is its own root": {[]mountLine{line(1, 1, "/"), line(2, 2, "/a")}, []uint64{1, 2}},
	} {
		got := covered(c.table)
		want := map[uint64]bool{}
		for _, id := range c.hidden {
			want[id] = true
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add([]byte("36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root rw\n"))
	f.Add([]byte("1 1 0:1 / /\\999\\ rw - a b c\n1 2 3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parseMountinfo(data)
		if err == nil {
			covered(lines)
		}
	})
}
