package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// openIn opens a program of a test tree.
func openIn(t *testing.T, file string) *Program {
	t.Helper()
	p, err := OpenProgram(file)
	must(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Each case has the program at /home/p on the host and /box/p inside; want
// lists "path outside > path inside", with "!" behind when it replaces a file.
func TestLacking(t *testing.T) {
	glibc := func(files map[string]any) map[string]any {
		files["lib64/ld-linux-x86-64.so.2"] = "-> ../usr/lib/x86/ld.so"
		files["usr/lib/x86/ld.so"] = lib()
		return files
	}
	cached := func(paths ...string) []byte {
		var entries []CacheEntry
		for _, p := range paths {
			entries = append(entries, CacheEntry{Name: filepath.Base(p), Path: p})
		}
		return cacheOf(t, entries...)
	}
	const loaderCopy = testLoader + " > " + testLoader
	for _, c := range []struct {
		name        string
		host, image map[string]any
		binds       []Bind
		want        []string
	}{
		{
			name:  "nothing lacks: the image's files are used wherever they are",
			host:  glibc(map[string]any{"home/p": prog("liba.so"), "lib/liba.so": lib("libb.so"), "lib/libb.so": lib()}),
			image: glibc(map[string]any{"odd/liba.so": lib(), "etc/ld.so.cache": cached("/odd/liba.so")}),
		},
		{
			name: "an empty image gets the loader and everything",
			host: glibc(map[string]any{
				"home/p": prog("liba.so"), "lib/liba.so": lib("libb.so"), "usr/lib/x86/libb.so": lib(),
				"etc/ld.so.cache": cached("/lib/liba.so", "/usr/lib/x86/libb.so"),
			}),
			image: map[string]any{},
			want:  []string{loaderCopy, "/lib/liba.so > /usr/lib/x86/liba.so", "/usr/lib/x86/libb.so > /usr/lib/x86/libb.so"},
		},
		{
			name: "a library of /usr/local goes where the loader inside looks",
			host: glibc(map[string]any{
				"home/p": prog("liba.so", "libb.so"), "usr/local/lib/liba.so": lib(), "lib/x86/libb.so": lib(),
				"etc/ld.so.cache": cached("/usr/local/lib/liba.so", "/lib/x86/libb.so"),
			}),
			image: glibc(map[string]any{"etc/ld.so.cache": cached()}),
			want:  []string{"/usr/local/lib/liba.so > /usr/lib/x86/liba.so", "/lib/x86/libb.so > /lib/x86/libb.so"},
		},
		{
			name: "what the program brings along comes with it, the rest is the image's",
			host: glibc(map[string]any{
				"home/p": prog("liba.so", "libc.so").withRunPath("$ORIGIN/lib"), "home/lib/liba.so": lib("libc.so", "libd.so").withRunPath("$ORIGIN"),
				"home/lib/libd.so": lib(), "lib/libc.so": lib(),
			}),
			image: glibc(map[string]any{"lib/libc.so": lib(), "lib/liba.so": lib(), "lib/libd.so": lib()}),
			want:  []string{"/home/lib/liba.so > /box/lib/liba.so", "/home/lib/libd.so > /box/lib/libd.so"},
		},
		{
			name: "$ORIGIN/.. ends at the root of the image",
			host: glibc(map[string]any{
				"home/p": prog("liba.so").withRunPath("$ORIGIN/../../lib/app"), "lib/app/liba.so": lib(),
			}),
			image: glibc(map[string]any{}),
			want:  []string{"/home/../../lib/app/liba.so > /lib/app/liba.so"},
		},
		{
			name: "in the same place the image's file wins, unless the loader cannot use it",
			host: glibc(map[string]any{
				"home/p": prog("liba.so", "libb.so").withRPath("/opt/lib"), "opt/lib/liba.so": lib(), "opt/lib/libb.so": lib(),
			}),
			image: glibc(map[string]any{"opt/lib/liba.so": lib(), "opt/lib/libb.so": elfSpec{class: elfClass32, machine: 3}}),
			want:  []string{"/opt/lib/libb.so > /opt/lib/libb.so!"},
		},
		{
			name: "neither has it",
			host: glibc(map[string]any{"home/p": prog("liba.so")}), image: glibc(map[string]any{}),
			want: []string{"liba.so missing"},
		},
		{
			name: "no loader anywhere",
			host: map[string]any{"home/p": elfSpec{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"libc.so"}}}, image: map[string]any{},
			want: []string{"/lib/ld-musl-x86_64.so.1 missing"},
		},
		{
			name: "the image is of another C library: none of its libraries are used",
			host: map[string]any{
				"home/p":                  elfSpec{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"libz.so", "libc.so"}},
				"lib/ld-musl-x86_64.so.1": lib(), "usr/lib/libz.so": lib("libc.so"),
			},
			image: glibc(map[string]any{"usr/lib/libz.so": lib("libc.so.6"), "lib/libz.so": lib("libc.so.6")}),
			want:  []string{"/lib/ld-musl-x86_64.so.1 > /lib/ld-musl-x86_64.so.1", "/usr/lib/libz.so > /usr/lib/libz.so!"},
		},
		{
			name: "musl's directories are named by a file, and the image has its own",
			host: map[string]any{
				"home/p":                  elfSpec{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"libz.so", "libc.so"}},
				"lib/ld-musl-x86_64.so.1": "-> musl/libc.so", "lib/musl/libc.so": lib(), "lib/musl/libz.so": lib("libc.so"),
				"etc/ld-musl-x86_64.path": "/lib/musl\n",
			},
			image: map[string]any{},
			want:  []string{"/lib/ld-musl-x86_64.so.1 > /lib/ld-musl-x86_64.so.1", "/lib/musl/libz.so > /lib/libz.so"},
		},
		{
			name: "a host without /lib and /usr/lib",
			host: map[string]any{
				"home/p":            elfSpec{interp: "/nix/g/lib/ld.so.2", needed: []string{"liba.so", "libc.so.6"}, runpath: "/nix/a/lib"},
				"nix/g/lib/ld.so.2": lib(), "nix/g/lib/libc.so.6": lib(), "nix/a/lib/liba.so": lib("libc.so.6"),
			},
			image: glibc(map[string]any{"lib/libc.so.6": lib()}),
			want: []string{
				"/nix/g/lib/ld.so.2 > /nix/g/lib/ld.so.2", "/nix/a/lib/liba.so > /nix/a/lib/liba.so",
				"/nix/g/lib/libc.so.6 > /nix/g/lib/libc.so.6",
			},
		},
		{
			name:  "a library named by a relative path goes with the working directory",
			host:  glibc(map[string]any{"home/p": prog("./liba.so", "sub/libb.so"), "home/liba.so": lib(), "home/sub/libb.so": lib()}),
			image: glibc(map[string]any{}),
			want:  []string{"/home/./liba.so > /work/liba.so", "/home/sub/libb.so > /work/sub/libb.so"},
		},
		{
			name: "two files for one place: the first",
			host: glibc(map[string]any{
				"home/p": prog("./liba.so", "liba.so").withRunPath("/work"), "home/liba.so": lib(), "work/liba.so": lib(),
			}),
			image: glibc(map[string]any{}),
			want:  []string{"/home/./liba.so > /work/liba.so"},
		},
		{
			name: "mounts count as part of the image, and nothing can be put below them",
			host: glibc(map[string]any{
				"home/p": prog("liba.so", "libb.so", "libc.so").withRPath("/opt/lib:/mnt/lib"), "srv/lib/liba.so": lib(),
				"opt/lib/libb.so": lib(), "mnt/lib/libc.so": lib(),
			}),
			image: glibc(map[string]any{"opt/lib/liba.so": "hidden below the mount"}),
			binds: []Bind{{Inside: "/opt", Outside: "/srv"}},
			want:  []string{"libb.so missing", "/mnt/lib/libc.so > /mnt/lib/libc.so"},
		},
		{
			name: "a hostile program gets libraries only",
			host: glibc(map[string]any{
				"home/p": prog("/home/secret", "key", "/home/p2", "/home/dir").withRunPath("/home"), "home/secret": "s3cret",
				"home/key": "s3cret", "home/p2": prog(), "home/dir/x": "x",
			}),
			image: glibc(map[string]any{}),
			want:  []string{"/home/secret missing", "key missing", "/home/p2 missing", "/home/dir missing"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, image := plant(t, c.host), plant(t, c.image)
			// The program is opened in the real root, so its own directory is longer than in the tree.
			p := openIn(t, filepath.Join(host.Path(), "home/p"))
			at := Placement{Path: "/box/p", Dir: "/work", HostDir: "/home"}
			libs, missing, err := lackingIn(p, "/home", at, host, View{Root: image, Host: host, Binds: c.binds})
			must(t, err)
			var got []string
			for _, l := range libs {
				line := l.Path + " > " + l.Inside
				if l.Replaces {
					line += "!"
				}
				got = append(got, line)
				f, err := l.Open(host)
				must(t, err)
				must(t, f.Close())
			}
			for _, m := range missing {
				got = append(got, m.Name+" missing")
			}
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(c.want)); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %q\nwant %q\n%+v", got, want, missing)
			}
		})
	}
}

// What Lacking names is enough: the program runs in a tree that holds nothing
// else, found by the real loader.
func TestLackingIsEnoughForTheRealLoader(t *testing.T) {
	dir := t.TempDir()
	const callA, callB = "int a(void); int main(void) { return a() - 42; }", "int b(void); int a(void) { return b(); }"
	b := cc(t, filepath.Join(dir, "app/lib/private/libb.so"), "int b(void) { return 42; }", "-shared", "-fPIC")
	a := cc(t, filepath.Join(dir, "app/lib/liba.so"), callB, "-shared", "-fPIC", b, "-Wl,-rpath,$ORIGIN/private", "-Wl,-soname,liba.so")
	file := cc(t, filepath.Join(dir, "app/bin/prog"), callA, a, "-Wl,-rpath,$ORIGIN/../lib", "-Wl,-rpath-link,"+filepath.Dir(b), "-lm", "-Wl,--no-as-needed")

	for _, program := range []string{file, "/bin/true", "/bin/ls"} {
		host, image := openTestRoot(t, "/"), t.TempDir()
		p := openIn(t, program)
		at := Placement{Path: "/box/" + p.Base, Dir: "/box", HostDir: dir}
		libs, missing, err := Lacking(p, at, host, View{Root: openTestRoot(t, image)})
		must(t, err)
		if len(missing) > 0 {
			t.Errorf("%s: missing %+v", program, missing)
		}
		for _, l := range libs {
			copyLibrary(t, host, l, filepath.Join(image, l.Inside))
		}
		must(t, os.MkdirAll(filepath.Join(image, "box"), 0o755))
		out, err := os.OpenFile(filepath.Join(image, at.Path), os.O_CREATE|os.O_WRONLY, 0o755)
		must(t, err)
		_, err = p.CopyTo(out)
		must(t, err)
		must(t, out.Close())
		if text, err := runIn(t, image, "/box", at.Path); err != nil {
			t.Errorf("%s in the tree: %v\n%s", program, err, text)
		}
		// The second time nothing lacks.
		libs, missing, err = Lacking(p, at, host, View{Root: openTestRoot(t, image)})
		if len(libs)+len(missing) > 0 || err != nil {
			t.Errorf("%s still lacks %+v %+v %v", program, libs, missing, err)
		}
	}
}

func TestMissingLibraryIsShownSafely(t *testing.T) {
	m := MissingLibrary{Name: "lib\x1b[2J.so", NeededBy: "./tool"}
	if got, want := m.String(), `"lib\x1b[2J.so", needed by ./tool`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Links and names of an image lead nowhere outside of it.
func TestLackingInAHostileImage(t *testing.T) {
	host := plant(t, map[string]any{
		"home/p": prog("liba.so", "libb.so"), "lib64/ld-linux-x86-64.so.2": lib(), "lib/liba.so": lib(), "lib/libb.so": lib(),
	})
	image := plant(t, map[string]any{
		"lib64/ld-linux-x86-64.so.2": "-> /proc/self/exe", "lib/liba.so": "-> " + host.Path() + "/lib/liba.so",
		"lib/libb.so": "-> libb.so", "etc/ld.so.cache": "-> /dev/zero",
	})
	mkfifo(t, filepath.Join(image.Path(), "etc/ld.so.conf"))
	mkfifo(t, filepath.Join(image.Path(), "usr/lib/liba.so"))
	p := openIn(t, filepath.Join(host.Path(), "home/p"))
	done := make(chan []Library)
	go func() {
		libs, _, _ := Lacking(p, Placement{Path: "/box/p", Dir: "/box", HostDir: "/"}, host, View{Root: image})
		done <- libs
	}()
	select {
	case libs := <-done:
		if len(libs) != 3 || !strings.HasPrefix(libs[0].Inside, testLoader) {
			t.Errorf("%+v", libs)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
}

// The whole of it for a small program stays far below the cost of starting it.
func BenchmarkOpenAndLacking(b *testing.B) {
	host, err := OpenRoot("/")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := OpenProgram("/bin/true")
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := Lacking(p, Placement{Path: "/box/true", Dir: "/box", HostDir: "/"}, host, View{Root: host}); err != nil {
			b.Fatal(err)
		}
		_ = p.Close()
	}
}

const fuzzTree = "SBX_FUZZ_TREE"

// Whatever a header says, only libraries of the host tree come out, with clean
// absolute places for them.
func FuzzLackingHeader(f *testing.F) {
	f.Add("liba.so", "$ORIGIN/../lib:${LIB}", "", false)
	f.Add("/lib/liba.so", "", "/x:$PLATFORM/$LIB/..", false)
	f.Add("./../lib/liba.so", ":.:..", "$ORIGIN", true)
	// The workers of a fuzz run are killed at its end, so they share the tree
	// of the process that started them, which removes it.
	dir := os.Getenv(fuzzTree)
	if dir == "" {
		dir = f.TempDir()
		f.Setenv(fuzzTree, dir)
		for name, spec := range map[string]elfSpec{"lib64/ld.so": {}, "lib/ld-musl-x.so.1": {}, "lib/liba.so": {}, "home/lib/libb.so": {}} {
			file := filepath.Join(dir, "host", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, spec.bytes(), 0o755)); err != nil {
				f.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "image"), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	host, err := OpenRoot(filepath.Join(dir, "host"))
	if err != nil {
		f.Fatal(err)
	}
	image, err := OpenRoot(filepath.Join(dir, "image"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, needed, rpath, runpath string, musl bool) {
		e := &ELF{Bits: 64, Interp: "/lib64/ld.so", Needed: strings.Split(needed, "\n"), RPath: rpath, RunPath: runpath}
		if musl {
			e.Interp = "/lib/ld-musl-x.so.1"
		}
		p := &Program{Path: "p", ELF: e}
		libs, _, err := lackingIn(p, "/home", Placement{Path: "/box/p", Dir: "/box", HostDir: "/home"}, host, View{Root: image})
		must(t, err)
		for _, l := range libs {
			if l.Inside != filepath.Clean(l.Inside) || !filepath.IsAbs(l.Inside) {
				t.Errorf("place %q for %q", l.Inside, l.Path)
			}
			opened, err := l.Open(host)
			must(t, err)
			_ = opened.Close()
		}
	})
}
