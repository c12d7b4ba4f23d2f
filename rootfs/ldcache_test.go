package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
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
