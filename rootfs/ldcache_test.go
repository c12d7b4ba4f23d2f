package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Names in descending order, as the loader's search wants them.
var sortedNames = []string{
	"libz.so.1", "libstdc++.so.6", "libfoo2.so.1", "libfoo.so.10", "libfoo.so.2",
	"libfoo.so.1.2", "libfoo.so.1", "libfoo.so", "libfoo-2.so", "libc.so.6", "ld-linux.so.2",
}

func TestLibNamesAreOrderedAsTheLoaderDoes(t *testing.T) {
	for i, a := range sortedNames {
		for j, b := range sortedNames {
			got := compareLibNames([]byte(a), []byte(b))
			if want := j - i; got < 0 != (want < 0) || got > 0 != (want > 0) {
				t.Errorf("compareLibNames(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestLdCacheRoundTrip(t *testing.T) {
	var entries []CacheEntry
	for i := range sortedNames { // from the wrong end
		name := sortedNames[len(sortedNames)-1-i]
		entries = append(entries, CacheEntry{Name: name, Path: "/usr/lib/" + name})
	}
	entries = append(
		entries,
		CacheEntry{Name: "libz.so.1", Path: "/opt/lib/libz.so.1"},
		CacheEntry{Name: "libz.so.1", Path: "/usr/lib32/libz.so.1", Flags: 3},
		CacheEntry{Name: "libz.so.1", Path: "/usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1", HWCap: 1 << 62},
	)
	cache := writeCache(t, entries)
	if cache.Len() != len(entries) {
		t.Errorf("Len() = %d, want %d", cache.Len(), len(entries))
	}
	for _, name := range sortedNames {
		want := []string{"/usr/lib/" + name}
		if name == "libz.so.1" { // the first of the list first; other kinds after; variants not at all
			want = append(want, "/opt/lib/libz.so.1", "/usr/lib32/libz.so.1")
		}
		if got := cache.Lookup(name); !reflect.DeepEqual(got, want) {
			t.Errorf("Lookup(%q) = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"", "liba.so", "libfoo.so.3", "libfoo.so.01", "libzz.so"} {
		if got := cache.Lookup(name); got != nil {
			t.Errorf("Lookup(%q) = %q, want nothing", name, got)
		}
	}
}

func writeCache(t *testing.T, entries []CacheEntry) *LdCache {
	t.Helper()
	var buf bytes.Buffer
	must(t, WriteLdCache(&buf, entries))
	cache, err := ParseLdCache(buf.Bytes())
	must(t, err)
	return cache
}

func TestLdCacheEmptyList(t *testing.T) {
	if got := writeCache(t, nil).Lookup("libc.so.6"); got != nil {
		t.Errorf("Lookup in an empty cache = %q", got)
	}
}

func TestWriteLdCacheRefusesWhatTheLoaderCannotUse(t *testing.T) {
	for _, e := range []CacheEntry{
		{Name: "", Path: "/lib/x"},
		{Name: "a/b", Path: "/lib/x"},
		{Name: "a\x00b", Path: "/lib/x"},
		{Name: "a", Path: "lib/x"},
		{Name: "a", Path: ""},
		{Name: "a", Path: "/lib/\x00"},
	} {
		var buf bytes.Buffer
		if err := WriteLdCache(&buf, []CacheEntry{e}); err == nil || buf.Len() != 0 {
			t.Errorf("WriteLdCache(%+v) = %v and %d bytes, want an error and nothing", e, err, buf.Len())
		}
	}
}

// oldCache is the format before glibc 2.2, optionally with the new one behind,
// as ldconfig wrote it until glibc 2.31.
func oldCache(entries []CacheEntry, behind []byte) []byte {
	b := append([]byte(cacheMagicOld), 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(entries)))
	var text []byte
	for _, e := range entries {
		b = binary.NativeEndian.AppendUint32(b, e.Flags)
		for _, s := range []string{e.Name, e.Path} {
			b = binary.NativeEndian.AppendUint32(b, uint32(len(text)))
			text = append(append(text, s...), 0)
		}
	}
	if behind == nil {
		return append(b, text...)
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return append(b, behind...)
}

func TestLdCacheOldFormats(t *testing.T) {
	old := []CacheEntry{{Name: "libz.so.1", Path: "/old/libz.so.1"}, {Name: "libc.so.6", Path: "/old/libc.so.6"}}
	cache, err := ParseLdCache(oldCache(old, nil))
	must(t, err)
	if got := cache.Lookup("libc.so.6"); !reflect.DeepEqual(got, []string{"/old/libc.so.6"}) {
		t.Errorf("old format: %q", got)
	}

	var behind bytes.Buffer
	must(t, WriteLdCache(&behind, []CacheEntry{{Name: "libz.so.1", Path: "/new/libz.so.1"}}))
	cache, err = ParseLdCache(oldCache(old[:1], behind.Bytes()))
	must(t, err)
	if got := cache.Lookup("libz.so.1"); !reflect.DeepEqual(got, []string{"/new/libz.so.1"}) {
		t.Errorf("old and new in one file: %q", got)
	}
}

func TestLdCacheOtherByteOrder(t *testing.T) {
	b := make([]byte, cacheHeaderSize+cacheEntrySize)
	copy(b, cacheMagicNew)
	binary.BigEndian.PutUint32(b[20:], 1)
	b[28] = cacheBigEndian
	binary.BigEndian.PutUint32(b[cacheHeaderSize+4:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[cacheHeaderSize+8:], uint32(len(b)+5))
	b = append(b, "liba\x00/a\x00"...)
	cache, err := ParseLdCache(b)
	must(t, err)
	if got := cache.Lookup("liba"); !reflect.DeepEqual(got, []string{"/a"}) {
		t.Errorf("Lookup = %q", got)
	}
}

func TestDamagedLdCache(t *testing.T) {
	var buf bytes.Buffer
	must(t, WriteLdCache(&buf, []CacheEntry{{Name: "libc.so.6", Path: "/lib/libc.so.6"}}))
	whole := buf.Bytes()
	change := func(at int, to byte) []byte {
		b := bytes.Clone(whole)
		b[at] = to
		return b
	}
	for what, data := range map[string][]byte{
		"nothing":                   nil,
		"other text":                []byte("hello"),
		"half a header":             whole[:30],
		"more entries than bytes":   change(23, 0xff),
		"an unknown byte order":     change(28, 1),
		"old magic only":            []byte(cacheMagicOld),
		"old with too many entries": append([]byte(cacheMagicOld+"\x00"), 0xff, 0xff, 0xff, 0xff),
	} {
		if _, err := ParseLdCache(data); !errors.Is(err, ErrNotLdCache) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A damaged entry is only not found.
	for what, data := range map[string][]byte{
		"text outside of the file": change(cacheHeaderSize+7, 0xff),
		"text without an end":      whole[:len(whole)-1],
	} {
		cache, err := ParseLdCache(data)
		must(t, err)
		if got := cache.Lookup("libc.so.6"); got != nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}

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

func FuzzLdCache(f *testing.F) {
	var buf bytes.Buffer
	if err := WriteLdCache(&buf, []CacheEntry{{Name: "libz.so.1", Path: "/lib/libz.so.1"}, {Name: "libc.so.6", Path: "/lib/libc.so.6"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes(), "libc.so.6")
	f.Add(oldCache([]CacheEntry{{Name: "liba.so", Path: "/liba.so"}}, nil), "liba.so")
	f.Add(oldCache([]CacheEntry{{Name: "liba.so", Path: "/liba.so"}}, buf.Bytes()), "libz.so.1")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		cache, err := ParseLdCache(data)
		if err != nil {
			return
		}
		cache.Lookup(name)
		for i := range cache.Len() {
			cache.Entry(i)
		}
	})
}

// What is written is found again, in any order of writing.
func FuzzWriteLdCache(f *testing.F) {
	f.Add("libc.so.6\nlibz.so.1\nliba.so\nlib10.so\nlib9.so")
	f.Add("a\na1\na01\na1a\n1\n0")
	f.Fuzz(func(t *testing.T, text string) {
		var entries []CacheEntry
		for _, name := range strings.Split(text, "\n") {
			if e := (CacheEntry{Name: name, Path: "/" + name}); checkCacheEntry(e) == nil {
				entries = append(entries, e)
			}
		}
		cache := writeCache(t, entries)
		for _, e := range entries {
			if got := cache.Lookup(e.Name); len(got) == 0 || got[0] != e.Path {
				t.Errorf("Lookup(%q) = %q", e.Name, got)
			}
		}
	})
}
