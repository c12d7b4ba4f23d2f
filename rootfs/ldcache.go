package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
)

// The layout of /etc/ld.so.cache, from the public description in glibc's
// dl-cache.h. New format:
//
//	 0  "glibc-ld.so.cache" "1.1"        20 bytes
//	20  number of entries                uint32
//	24  bytes of strings                 uint32
//	28  byte order: 0 unknown, 2 little, 3 big; three bytes unused
//	32  offset of extensions, or 0       uint32; three words unused
//	48  entries of 24 bytes: flags, name, path (offsets from the start of this header), osversion: uint32; hwcap: uint64
//
// Old format, which glibc wrote in front of the new one until 2.31 and alone
// before 2.2:
//
//	 0  "ld.so-1.7.0"                    11 bytes, one of padding
//	12  number of entries                uint32
//	16  entries of 12 bytes: flags, name, path (offsets from the end of the entries)
const (
	cacheMagicNew   = "glibc-ld.so.cache1.1"
	cacheHeaderSize = 48
	cacheEntrySize  = 24

	cacheMagicOld      = "ld.so-1.7.0"
	cacheHeaderSizeOld = 16
	cacheEntrySizeOld  = 12

	cacheLittleEndian = 2
	cacheBigEndian    = 3
)

// maxLdCache is the size in bytes above which an ld.so.cache is not read; the
// largest seen on real hosts stay below 1 MiB.
const maxLdCache = 32 << 20

// ErrNotLdCache says that data is not an ld.so.cache of a format that glibc
// reads on this machine.
var ErrNotLdCache = errors.New("not an ld.so.cache")

// LdCache is a parsed /etc/ld.so.cache. It keeps the bytes it was made from and
// reads entries out of them when asked, as the loader does.
type LdCache struct {
	base      []byte // offsets of names and paths count from here
	entries   []byte
	entrySize int
	order     binary.ByteOrder
}

// ParseLdCache reads the head of an ld.so.cache in the new format, the old one,
// or both in one file. Names and paths are checked only when an entry is used,
// so a damaged entry hides itself and no other. It keeps data, which must not
// change. The error is [ErrNotLdCache].
func ParseLdCache(data []byte) (*LdCache, error) {
	if bytes.HasPrefix(data, []byte(cacheMagicNew)) {
		return parseNewCache(data)
	}
	if !bytes.HasPrefix(data, []byte(cacheMagicOld)) || len(data) < cacheHeaderSizeOld {
		return nil, ErrNotLdCache
	}
	// The old format has no mark of its byte order; it only ever meets the
	// machine that wrote it.
	count := uint64(binary.NativeEndian.Uint32(data[12:]))
	end := cacheHeaderSizeOld + count*cacheEntrySizeOld
	if end > uint64(len(data)) {
		return nil, ErrNotLdCache
	}
	// The new part follows at the next multiple of 8, the alignment of its
	// 64-bit field.
	if at := (end + 7) &^ 7; at < uint64(len(data)) && bytes.HasPrefix(data[at:], []byte(cacheMagicNew)) {
		return parseNewCache(data[at:])
	}
	return &LdCache{
		base:      data[end:],
		entries:   data[cacheHeaderSizeOld:end],
		entrySize: cacheEntrySizeOld,
		order:     binary.NativeEndian,
	}, nil
}

func parseNewCache(data []byte) (*LdCache, error) {
	if len(data) < cacheHeaderSize {
		return nil, ErrNotLdCache
	}
	var order binary.ByteOrder = binary.NativeEndian
	switch data[28] & 3 {
	case 0: // written before glibc 2.32, in the byte order of its machine
	case cacheLittleEndian:
		order = binary.LittleEndian
	case cacheBigEndian:
		order = binary.BigEndian
	default:
		return nil, ErrNotLdCache
	}
	end := cacheHeaderSize + uint64(order.Uint32(data[20:]))*cacheEntrySize
	if end > uint64(len(data)) {
		return nil, ErrNotLdCache
	}
	return &LdCache{base: data, entries: data[cacheHeaderSize:end], entrySize: cacheEntrySize, order: order}, nil
}

// Len returns the number of entries.
func (c *LdCache) Len() int { return len(c.entries) / c.entrySize }

// Entry returns the entry with the number i, which must be below Len. It is
// false for an entry whose text lies outside the file.
func (c *LdCache) Entry(i int) (CacheEntry, bool) {
	e := c.entries[i*c.entrySize : (i+1)*c.entrySize]
	name, nameOK := c.text(c.order.Uint32(e[4:]))
	path, pathOK := c.text(c.order.Uint32(e[8:]))
	return CacheEntry{Name: string(name), Path: string(path), Flags: c.order.Uint32(e), HWCap: c.hwcap(e)}, nameOK && pathOK
}

// Lookup returns the paths that the cache has for a library name, in the order
// of the file, found by halving as the loader does it. Entries for particular
// processors (glibc-hwcaps) are left out: the plain one always stands beside
// them.
func (c *LdCache) Lookup(name string) []string {
	key := []byte(name)
	low, high := 0, c.Len()
	for low < high { // the first entry that does not sort before name; the order is descending
		middle := low + (high-low)/2
		at, ok := c.name(middle)
		if !ok {
			return nil
		}
		if compareLibNames(key, at) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	var paths []string
	for ; low < c.Len(); low++ {
		at, ok := c.name(low)
		if !ok || compareLibNames(key, at) != 0 {
			break
		}
		e, ok := c.Entry(low)
		// Names that only compare equal ("lib.so.1", "lib.so.01") are different
		// names.
		if ok && e.HWCap == 0 && e.Name == name {
			paths = append(paths, e.Path)
		}
	}
	return paths
}

func (c *LdCache) name(i int) ([]byte, bool) {
	return c.text(c.order.Uint32(c.entries[i*c.entrySize+4:]))
}

func (c *LdCache) hwcap(entry []byte) uint64 {
	if c.entrySize == cacheEntrySizeOld {
		return 0
	}
	return c.order.Uint64(entry[16:])
}

// text returns the NUL-terminated string at an offset from base.
func (c *LdCache) text(at uint32) ([]byte, bool) {
	if uint64(at) >= uint64(len(c.base)) {
		return nil, false
	}
	text := c.base[at:]
	end := bytes.IndexByte(text, 0)
	if end < 0 {
		return nil, false
	}
	return text[:end], true
}

// compareLibNames orders library names as the loader's search expects: byte by
// byte, a digit above everything else, and two runs of digits by their value.
// Values wrap at 32 bits, as in the loader, which adds them up in an int.
func compareLibNames(a, b []byte) int {
	i, j := 0, 0
	for i < len(a) {
		aDigit, bDigit := isDigit(a[i]), j < len(b) && isDigit(b[j])
		switch {
		case aDigit && bDigit:
			var x, y int32
			for ; i < len(a) && isDigit(a[i]); i++ {
				x = x*10 + int32(a[i]-'0')
			}
			for ; j < len(b) && isDigit(b[j]); j++ {
				y = y*10 + int32(b[j]-'0')
			}
			if x != y {
				return int(x) - int(y)
			}
		case aDigit:
			return 1
		case bDigit:
			return -1
		case j == len(b):
			return charValue(a[i])
		case a[i] != b[j]:
			return charValue(a[i]) - charValue(b[j])
		default:
			i++
			j++
		}
	}
	if j < len(b) {
		return -charValue(b[j])
	}
	return 0
}

// charValue is a byte as C's char, in which the loader compares: below zero
// from 0x80 on where char has a sign.
func charValue(c byte) int {
	switch runtime.GOARCH {
	case "amd64", "loong64", "mips64", "mips64le":
		return int(int8(c))
	}
	return int(c)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
