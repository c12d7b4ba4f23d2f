package rootfs

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lib is a library without needs, prog a program that needs the names.
func lib(needed ...string) elfSpec { return elfSpec{needed: needed} }

func prog(needed ...string) elfSpec {
	return elfSpec{interp: testLoader, needed: needed, flags1: df1Pie}
}

func (s elfSpec) withRPath(p string) elfSpec   { s.rpath = p; return s }
func (s elfSpec) withRunPath(p string) elfSpec { s.runpath = p; return s }
func (s elfSpec) withSoName(n string) elfSpec  { s.soname = n; return s }

func cacheOf(t *testing.T, entries ...CacheEntry) []byte {
	t.Helper()
	var b strings.Builder
	must(t, WriteLdCache(&b, entries))
	return []byte(b.String())
}

// Each case is a tree in which /bin/p is a program; want lists what it loads
// as "path via", and what is missing as "name missing".
func TestClosureSearchesAsTheLoader(t *testing.T) {
	foreign := elfSpec{machine: 183}
	if nativeELF() == 183 {
		foreign.machine = 62
	}
	narrow := elfSpec{class: elfClass32, machine: 3}

	for _, c := range []struct {
		name  string
		files map[string]any
		want  []string
	}{
		{
			"default directories, breadth first",
			map[string]any{
				"bin/p": prog("liba.so", "libb.so"), "lib/liba.so": lib("libc.so.6", "libb.so"),
				"usr/lib/libb.so": lib("libc.so.6"), "lib64/libc.so.6": lib("ld-linux-x86-64.so.2"),
			},
			[]string{"/lib/liba.so default", "/usr/lib/libb.so default", "/lib64/libc.so.6 default"},
		},
		{
			"the cache before the default directories",
			map[string]any{
				"bin/p": prog("liba.so"), "lib/liba.so": lib(), "odd/liba.so": lib(),
				"etc/ld.so.cache": cacheOf(t, CacheEntry{Name: "liba.so", Path: "/odd/liba.so"}),
			},
			[]string{"/odd/liba.so cache"},
		},
		{
			"a cache entry whose file is gone or foreign is passed over",
			map[string]any{
				"bin/p": prog("liba.so", "libb.so"), "lib/liba.so": lib(), "odd/libb.so": lib(), "arm/libb.so": foreign,
				"etc/ld.so.cache": cacheOf(
					t, CacheEntry{Name: "liba.so", Path: "/gone/liba.so"},
					CacheEntry{Name: "libb.so", Path: "/arm/libb.so"}, CacheEntry{Name: "libb.so", Path: "/odd/libb.so"},
				),
			},
			[]string{"/lib/liba.so default", "/odd/libb.so cache"},
		},
		{
			"other classes and machines on the way are skipped in silence",
			map[string]any{
				"bin/p":       prog("liba.so").withRunPath("/one:/two:/three"),
				"one/liba.so": narrow, "two/liba.so": foreign, "three/liba.so": lib(),
			},
			[]string{"/three/liba.so runpath"},
		},
		{
			"a file that is no library ends the search",
			map[string]any{
				"bin/p":       prog("liba.so", "libb.so").withRunPath("/one:/two"),
				"one/liba.so": "INPUT(libc.so)", "two/liba.so": lib(), "one/libb.so": prog(), "two/libb.so": lib(),
			},
			[]string{"liba.so missing", "libb.so missing"},
		},
		{
			"a directory and a dangling link are passed over",
			map[string]any{
				"bin/p": prog("liba.so").withRunPath("/one:/two:/three"), "one/liba.so/x": lib(), "two/liba.so": "-> nothing",
				"three/liba.so": "-> ../real/liba.so.1", "real/liba.so.1": lib(),
			},
			[]string{"/three/liba.so runpath"},
		},
		{
			"DT_RPATH serves the libraries below, too",
			map[string]any{"bin/p": prog("liba.so").withRPath("/x"), "x/liba.so": lib("libb.so"), "x/libb.so": lib()},
			[]string{"/x/liba.so rpath", "/x/libb.so rpath"},
		},
		{
			"DT_RUNPATH serves its own object only",
			map[string]any{"bin/p": prog("liba.so").withRunPath("/x"), "x/liba.so": lib("libb.so"), "x/libb.so": lib()},
			[]string{"/x/liba.so runpath", "libb.so missing"},
		},
		{
			"DT_RUNPATH switches off the DT_RPATH of its object and all above",
			map[string]any{
				"bin/p": prog("liba.so").withRPath("/x"), "x/liba.so": lib("libb.so").withRunPath("/y").withRPath("/x"),
				"x/libb.so": lib(),
			},
			[]string{"/x/liba.so rpath", "libb.so missing"},
		},
		{
			"DT_RPATH of a library before that of the program",
			map[string]any{
				"bin/p": prog("liba.so").withRPath("/x"), "x/liba.so": lib("libb.so").withRPath("/y"),
				"x/libb.so": lib(), "y/libb.so": lib(),
			},
			[]string{"/x/liba.so rpath", "/y/libb.so rpath"},
		},
		{
			"an object in between with DT_RUNPATH hands nothing down but what is above it",
			map[string]any{
				"bin/p": prog("liba.so").withRPath("/x"), "x/liba.so": lib("libb.so").withRunPath("/y"),
				"y/libb.so": lib("libc.so"), "y/libc.so": lib(), "x/libc.so": lib(),
			},
			[]string{"/x/liba.so rpath", "/y/libb.so runpath", "/x/libc.so rpath"},
		},
		{
			"$ORIGIN of a program is where it really is, of a library where it was found",
			map[string]any{
				"bin/p": "-> ../opt/app/bin/p", "opt/app/bin/p": prog("liba.so").withRunPath("$ORIGIN/../lib"),
				"opt/app/lib/liba.so": "-> /store/liba.so.1", "store/liba.so.1": lib("libb.so").withRunPath("${ORIGIN}/sub"),
				"opt/app/lib/sub/libb.so": lib(), "store/sub/libb.so": lib(),
			},
			[]string{"/opt/app/bin/../lib/liba.so runpath", "/opt/app/bin/../lib/sub/libb.so runpath"},
		},
		{
			"$LIB and $PLATFORM",
			map[string]any{
				"bin/p":             prog("liba.so", "libb.so").withRunPath("/opt/$LIB:/hw/${PLATFORM}/x"),
				"opt/lib64/liba.so": lib(), "hw/" + platform() + "/x/libb.so": lib(),
			},
			[]string{"/opt/lib64/liba.so runpath", "/hw/" + platform() + "/x/libb.so runpath"},
		},
		{
			"a name with a slash is opened as it stands",
			map[string]any{
				"bin/p": prog("/opt/liba.so", "$ORIGIN/libb.so", "rel/libc.so"), "opt/liba.so": lib(), "bin/libb.so": lib(),
			},
			[]string{"/opt/liba.so path", "/bin/libb.so path", "rel/libc.so missing"},
		},
		{
			"DF_1_NODEFLIB: no default directory, also none by way of the cache",
			map[string]any{
				"bin/p":       elfSpec{interp: testLoader, needed: []string{"liba.so", "libb.so", "libc.so"}, flags1: df1Pie | df1NoDefaultLibs},
				"lib/liba.so": lib(), "lib/libb.so": lib(), "odd/libc.so": lib(),
				"etc/ld.so.cache": cacheOf(
					t, CacheEntry{Name: "libb.so", Path: "/lib/libb.so"}, CacheEntry{Name: "libc.so", Path: "/odd/libc.so"},
				),
			},
			[]string{"liba.so missing", "libb.so missing", "/odd/libc.so cache"},
		},
		{
			"a library is known by its soname and by its inode",
			map[string]any{
				"bin/p": prog("liba.so", "libreal.so.1", "libalias.so"), "lib/liba.so": lib().withSoName("libreal.so.1"),
				"lib/libreal.so.1": lib(), "lib/libalias.so": "-> liba.so",
			},
			[]string{"/lib/liba.so default"},
		},
		{
			"libraries that need each other",
			map[string]any{"bin/p": prog("liba.so"), "lib/liba.so": lib("libb.so"), "lib/libb.so": lib("liba.so", "libb.so")},
			[]string{"/lib/liba.so default", "/lib/libb.so default"},
		},
		{
			"without a cache, the directories of ld.so.conf",
			map[string]any{
				"bin/p": prog("liba.so", "libb.so", "libc.so"), "etc/ld.so.conf": "include ld.so.conf.d/*.conf # more\n/c/\thwcap 1\n",
				"etc/ld.so.conf.d/b.conf": "/b, /bb\n", "etc/ld.so.conf.d/a.conf": "/a=libc6\n", "etc/ld.so.conf.d/no": "/no",
				"a/liba.so": lib(), "b/liba.so": lib(), "no/liba.so": lib(), "bb/libb.so": lib(), "c/libc.so": lib(),
			},
			[]string{"/a/liba.so default", "/bb/libb.so default", "/c/libc.so default"},
		},
		{
			"links that leave the tree stay inside",
			map[string]any{
				"bin/p": prog("liba.so", "libb.so"), "lib/liba.so": "-> ../../../../../../deep/liba.so.1",
				"deep/liba.so.1": lib(), "lib/libb.so": "-> /etc/passwd", "etc/passwd": lib(),
			},
			[]string{"/lib/liba.so default", "/lib/libb.so default"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.files["lib64/ld-linux-x86-64.so.2"] = lib().withSoName("ld-linux-x86-64.so.2")
			closure, err := NewResolver(plant(t, c.files)).Closure("/bin/p")
			must(t, err)
			checkClosure(t, closure, c.want)
			if len(closure.Interps) != 1 || closure.Interps[0].Path != testLoader {
				t.Errorf("loaders %+v", closure.Interps)
			}
		})
	}
}

func checkClosure(t *testing.T, c Closure, want []string) {
	t.Helper()
	var got []string
	for _, l := range c.Libs {
		got = append(got, l.Path+" "+string(l.Via))
	}
	for _, m := range c.Missing {
		got = append(got, m.Name+" missing")
	}
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestClosureOfMuslPrograms(t *testing.T) {
	const loader = "/lib/ld-musl-x86_64.so.1"
	musl := func(s elfSpec) elfSpec { s.interp = loader; return s }
	for _, c := range []struct {
		name  string
		files map[string]any
		want  []string
	}{
		{
			"its own three directories, no cache, the C library is the loader",
			map[string]any{
				"bin/p":                 musl(prog("liba.so", "libb.so", "libc.musl-x86_64.so.1", "libpthread.so.0", "libm.so.6")),
				"lib64/liba.so":         lib(),
				"odd/liba.so":           lib(),
				"usr/local/lib/libb.so": lib("libc.so"), "usr/lib/libb.so": lib(),
				"lib/libc.musl-x86_64.so.1": "-> ld-musl-x86_64.so.1",
				"etc/ld.so.cache":           cacheOf(t, CacheEntry{Name: "liba.so", Path: "/odd/liba.so"}),
			},
			[]string{"/usr/local/lib/libb.so default", "liba.so missing"},
		},
		{
			"the path file takes their place",
			map[string]any{
				"bin/p": musl(prog("liba.so", "libb.so", "libc2.so")), "etc/ld-musl-x86_64.path": "/one\n/two:/three\n",
				"two/liba.so": lib(), "three/libb.so": lib(), "lib/libc2.so": lib(),
			},
			[]string{"/two/liba.so default", "/three/libb.so default", "libc2.so missing"},
		},
		{
			"DT_RUNPATH is handed down; unknown tokens drop the path",
			map[string]any{
				"bin/p": musl(prog("liba.so")).withRunPath("$ORIGIN/x"), "bin/x/liba.so": lib("libb.so").withRunPath("/$LIB"),
				"bin/x/libb.so": lib(), "lib64/libb.so": lib(),
			},
			[]string{"/bin/x/liba.so rpath", "/bin/x/libb.so rpath"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.files[loader] = lib()
			closure, err := NewResolver(plant(t, c.files)).Closure("/bin/p")
			must(t, err)
			checkClosure(t, closure, c.want)
		})
	}
}

func TestClosureOfSeveralFiles(t *testing.T) {
	root := plant(t, map[string]any{
		"lib64/ld-linux-x86-64.so.2": lib(),
		"bin/a":                      prog("libx.so.1", "libgone.so"), "bin/b": prog("libx.so.1", "libgone.so"), "bin/static": elfSpec{kind: elfTypeExec},
		"bin/nix":        elfSpec{interp: "/nix/store/ld.so", needed: []string{"liby.so"}},
		"usr/lib/plugin": lib("liby.so"), "bin/script": "#!/bin/sh\n", "bin/cut": []byte("\x7fELF\x02"),
		"bin/old":           elfSpec{class: elfClass32, machine: 3},
		"usr/lib/libx.so.1": "-> libx.so.1.2", "usr/lib/libx.so.1.2": "-> ../../deep/libx", "deep/libx": lib(), "lib": "-> usr/lib",
		"usr/lib/liby.so": lib(),
	})
	c, err := NewResolver(root).Closure("/bin/a", "/bin/b", "/bin/static", "/bin/nix", "/usr/lib/plugin", "/bin/script", "/bin/cut", "/bin/old")
	must(t, err)
	checkClosure(t, c, []string{
		"/lib/libx.so.1 default", "/lib/liby.so default",
		"libgone.so missing", "libgone.so missing", "/nix/store/ld.so missing",
	})
	if !reflect.DeepEqual(c.NotELF, []string{"/bin/script"}) || len(c.Refused) != 2 || !errors.Is(c.Refused[1], unix.ENOEXEC) {
		t.Errorf("NotELF %q, Refused %v", c.NotELF, c.Refused)
	}
	x := c.Libs[0]
	wantLinks := []Link{{"/lib", "usr/lib"}, {"/usr/lib/libx.so.1", "libx.so.1.2"}, {"/usr/lib/libx.so.1.2", "../../deep/libx"}}
	if !reflect.DeepEqual(x.Links, wantLinks) || x.File != "/deep/libx" || x.NeededBy != "/bin/a" || x.Name != "libx.so.1" {
		t.Errorf("library %+v", x)
	}
	if m := c.Missing[len(c.Missing)-1]; !m.Interp || m.NeededBy != "/bin/nix" {
		t.Errorf("missing %+v", m)
	}
	if _, err := NewResolver(root).Closure("/bin/nothing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A header that asks for millions of files ends soon.
func TestClosureIsBounded(t *testing.T) {
	long := strings.Repeat("/xxxxxxxxxxxxxxxx:", 200)
	var names []string
	for i := range 4000 {
		names = append(names, strings.Repeat("n", i%50+1)+string(rune('a'+i%26)))
	}
	root := plant(t, map[string]any{
		"bin/p": prog(names...).withRPath(long), "lib64/ld-linux-x86-64.so.2": lib(),
	})
	c, err := NewResolver(root).Closure("/bin/p")
	must(t, err)
	if len(c.Missing) == 0 {
		t.Error("nothing is missing")
	}
}
