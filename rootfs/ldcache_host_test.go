package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The host's own cache, written by its ldconfig: each name that `ldconfig -p`
// lists is found under the path that it lists first.
func TestLdCacheOfThisHost(t *testing.T) {
	ldconfig := tool(t, "ldconfig")
	data, err := os.ReadFile("/etc/ld.so.cache")
	if err != nil {
		t.Skip("cannot: this host has no /etc/ld.so.cache")
	}
	cache, err := ParseLdCache(data)
	must(t, err)
	listed := listCache(t, ldconfig, "/etc/ld.so.cache")
	if len(listed) == 0 || cache.Len() < len(listed) {
		t.Fatalf("%d entries, ldconfig lists %d names", cache.Len(), len(listed))
	}
	for name, want := range listed {
		if got := cache.Lookup(name); !reflect.DeepEqual(got, want) {
			t.Errorf("Lookup(%q) = %q, ldconfig says %q", name, got, want)
		}
	}

	// Written again by our writer it still says the same to ldconfig.
	var entries []CacheEntry
	for i := range cache.Len() {
		if e, ok := cache.Entry(i); ok && e.HWCap == 0 {
			entries = append(entries, e)
		}
	}
	file := filepath.Join(t.TempDir(), "ld.so.cache")
	f, err := os.Create(file)
	must(t, err)
	must(t, WriteLdCache(f, entries))
	must(t, f.Close())
	if again := listCache(t, ldconfig, file); !reflect.DeepEqual(again, listed) {
		t.Errorf("ldconfig reads from our cache: %q\nwant %q", again, listed)
	}
}

// listCache parses lines such as "	libz.so.1 (libc6,x86-64) => /lib/libz.so.1".
func listCache(t *testing.T, ldconfig, file string) map[string][]string {
	t.Helper()
	out, err := exec.Command(ldconfig, "-p", "-C", file).Output()
	must(t, err)
	listed := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		left, path, ok := strings.Cut(strings.TrimSpace(line), " => ")
		name, kind, _ := strings.Cut(left, " ")
		if ok && !strings.Contains(kind, "hwcap") {
			listed[name] = append(listed[name], path)
		}
	}
	return listed
}

// The real loader finds each library of a large cache of ours, in a directory
// that it would not search by itself.
func TestRealLoaderReadsOurCache(t *testing.T) {
	dir := t.TempDir()
	names := []string{"libone.so.1", "libone.so.2", "libone.so.10", "libtwo+-x.so", "libz9.so.3", "lib0.so", "libé.so"}
	var args []string
	entries := []CacheEntry{}
	for _, name := range names {
		lib := cc(t, filepath.Join(dir, "odd", name), "int x;", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,"+name)
		args = append(args, lib)
		entries = append(entries, CacheEntry{Name: name, Path: "/odd/" + name})
	}
	prog := cc(t, filepath.Join(dir, "prog"), "int main(void) { return 42; }", append([]string{"-Wl,--no-as-needed"}, args...)...)
	bringLoader(t, dir, prog, func(name, path string) {
		entries = append(entries, CacheEntry{Name: name, Path: path})
	})
	for i := range 500 {
		name := strings.Repeat("x", i%7) + "lib" + string(rune('a'+i%26)) + ".so." + strings.Repeat("1", i%5+1)
		entries = append(entries, CacheEntry{Name: name, Path: "/nowhere/" + name}, CacheEntry{Name: "ü" + name, Path: "/nowhere/" + name})
	}

	if out, err := runIn(t, dir, "/", "/prog"); err == nil {
		t.Fatalf("it runs without a cache, so the test shows nothing: %s", out)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	f, err := os.Create(filepath.Join(dir, "etc/ld.so.cache"))
	must(t, err)
	must(t, WriteLdCache(f, entries))
	must(t, f.Close())
	out, err := runIn(t, dir, "/", "/prog")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("the loader with our cache: %v\n%s", err, out)
	}
}

// bringLoader copies the loader and the C library of prog below dir.
func bringLoader(t *testing.T, dir, prog string, each func(name, path string)) {
	t.Helper()
	host := openTestRoot(t, "/")
	f, err := os.Open(prog)
	must(t, err)
	defer func() { _ = f.Close() }()
	e, err := ReadELF(f)
	must(t, err)
	c, err := NewResolver(host).Closure("/bin/true")
	must(t, err)
	for _, lib := range append(c.Interps, c.Libs...) {
		to := lib.Path
		if lib.Via == ViaInterp {
			to = e.Interp
		}
		copyLibrary(t, host, lib, filepath.Join(dir, to))
		each(filepath.Base(lib.Name), to)
	}
}

func copyLibrary(t *testing.T, root *Root, lib Library, to string) {
	t.Helper()
	f, err := lib.Open(root)
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = out.ReadFrom(f)
	must(t, errors.Join(err, out.Close()))
}
