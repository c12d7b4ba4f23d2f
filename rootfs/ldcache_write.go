package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
)

// CacheEntry is one line of /etc/ld.so.cache: a library name and the file that
// the loader opens for it.
type CacheEntry struct {
	// Name is the soname that programs ask for, such as "libz.so.1".
	Name string
	// Path is the absolute path of the library.
	Path string
	// Flags is the kind of library, as `ldconfig -p` prints it in words. Zero
	// asks [WriteLdCache] for the kind of this machine.
	Flags uint32
	// HWCap is not zero for a variant that only some processors may load; such
	// an entry is passed over by [LdCache.Lookup].
	HWCap uint64
}

// NativeCacheFlags returns the flags that the dynamic loader of this machine
// demands of a cache entry (FLAG_ELF_LIBC6 and the ABI bits of glibc's
// ldconfig.h). On an architecture that is not in the table it is the plain
// FLAG_ELF_LIBC6.
func NativeCacheFlags() uint32 {
	const libc6 = 0x0003
	switch runtime.GOARCH {
	case "amd64":
		return libc6 | 0x0300
	case "arm64":
		return libc6 | 0x0a00
	case "ppc64le", "ppc64":
		return libc6 | 0x0500
	case "s390x":
		return libc6 | 0x0400
	case "riscv64":
		return libc6 | 0x1000
	case "loong64":
		return libc6 | 0x1200
	default:
		return libc6
	}
}

// WriteLdCache writes entries to w in the format of /etc/ld.so.cache that glibc
// reads since 2.2 ("glibc-ld.so.cache1.1", without the old part in front), in
// the byte order of this machine. The entries may come in any order; of several
// with one name the earlier stands first and wins. A name with a slash or NUL,
// a path that is not absolute, and more than 4 GiB of text are errors, before
// anything is written.
//
// The loader searches the file by halving, so the order is part of the format:
// descending, with runs of digits compared as numbers.
func WriteLdCache(w io.Writer, entries []CacheEntry) error {
	sorted := slices.Clone(entries)
	for i, e := range sorted {
		if err := checkCacheEntry(e); err != nil {
			return fmt.Errorf("write ld.so.cache: entry %q: %w", e.Name, err)
		}
		if e.Flags == 0 {
			sorted[i].Flags = NativeCacheFlags()
		}
	}
	slices.SortStableFunc(sorted, func(a, b CacheEntry) int {
		if c := compareLibNames([]byte(b.Name), []byte(a.Name)); c != 0 {
			return c
		}
		// Larger flags first, as ldconfig does: the 64-bit library stands
		// before the 32-bit one.
		return int(int64(b.Flags) - int64(a.Flags))
	})

	table := newStringTable(cacheHeaderSize + cacheEntrySize*len(sorted))
	body := make([]byte, 0, cacheEntrySize*len(sorted))
	for _, e := range sorted {
		body = binary.NativeEndian.AppendUint32(body, e.Flags)
		body = binary.NativeEndian.AppendUint32(body, table.add(e.Name))
		body = binary.NativeEndian.AppendUint32(body, table.add(e.Path))
		body = binary.NativeEndian.AppendUint32(body, 0) // osversion, unused since glibc 2.32
		body = binary.NativeEndian.AppendUint64(body, e.HWCap)
	}
	if int64(table.start)+int64(table.text.Len()) > math.MaxUint32 {
		return errors.New("write ld.so.cache: more than 4 GiB of names")
	}

	head := make([]byte, 0, cacheHeaderSize)
	head = append(head, cacheMagicNew...)
	head = binary.NativeEndian.AppendUint32(head, uint32(len(sorted)))
	head = binary.NativeEndian.AppendUint32(head, uint32(table.text.Len()))
	head = append(head, nativeCacheEndian(), 0, 0, 0)
	head = append(head, make([]byte, cacheHeaderSize-len(head))...) // no extensions, three unused words
	for _, part := range [][]byte{head, body, table.text.Bytes()} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("write ld.so.cache: %w", err)
		}
	}
	return nil
}

func checkCacheEntry(e CacheEntry) error {
	switch {
	case e.Name == "" || strings.ContainsAny(e.Name, "/\x00"):
		return errors.New("not a library name")
	case !strings.HasPrefix(e.Path, "/") || strings.Contains(e.Path, "\x00"):
		return fmt.Errorf("path %q is not absolute", e.Path)
	}
	return nil
}

func nativeCacheEndian() byte {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return cacheLittleEndian
	}
	return cacheBigEndian
}

// stringTable collects NUL-terminated strings; equal ones are stored once.
// Offsets count from the start of the file.
type stringTable struct {
	start int
	text  bytes.Buffer
	known map[string]uint32
}

func newStringTable(start int) *stringTable {
	return &stringTable{start: start, known: make(map[string]uint32)}
}

func (t *stringTable) add(s string) uint32 {
	if at, ok := t.known[s]; ok {
		return at
	}
	at := uint32(t.start + t.text.Len())
	t.known[s] = at
	t.text.WriteString(s)
	t.text.WriteByte(0)
	return at
}
