package unpack

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Options are the same for all layers of an image.
type Options struct {
	// UIDOffset and GIDOffset are what ids 0 of the archive become; id n becomes
	// offset+n. UIDCount and GIDCount, at least 1, say how many ids there are.
	// An id beyond becomes 65534 of the archive's numbers, or the last one there
	// is, loses its set-id bits, and is noted.
	UIDOffset uint32 `json:"uid_offset"`
	GIDOffset uint32 `json:"gid_offset"`
	UIDCount  uint32 `json:"uid_count"`
	GIDCount  uint32 `json:"gid_count"`
	// Single leaves every file to the caller (rootfs.Ownership.Single). Set-id
	// bits are dropped and noted: they would lend the caller's rights to others
	// (SECURITY D8). Offsets and counts have no meaning then.
	Single bool `json:"single,omitempty"`
	// AnyName takes names that begin with ".wh." as names of files: the archive
	// is no layer of an image.
	AnyName bool `json:"any_name,omitempty"`
	// Summed says that the caller compares the stream's digest with a known one. Then
	// the archive may stop at the end of its last file, without the padding and the
	// blocks that end an archive, as those of `umoci insert` do.
	Summed bool `json:"summed,omitempty"`
	// Limits; fields that are 0 have the value of DefaultLimits.
	Limits Limits `json:"limits"`
	// Compressed tells how many bytes have been read so far of what this layer
	// is decompressed from, for Limits.Ratio. It is called from the goroutine
	// of Layer. nil: there is no such bound.
	Compressed func() int64 `json:"-"`
	// Progress, when not nil, is called about ten times a second, and at the
	// end of a layer, with State's Entries and Stream.
	Progress func(entries, bytes int64) `json:"-"`
}

// Limits bound what an archive can make of the disk (SECURITY D11). They hold
// for all layers of an image together. What has no field here: a component of a
// name has at most 255 bytes and a path 4095, as in the kernel, an extended
// header 1 MiB, and time is the context's.
type Limits struct {
	// Entries bounds the headers of the archive and the directories that are
	// made for them.
	Entries int64 `json:"entries,omitempty"`
	// Bytes bounds the sizes of all files together, holes included, and, by
	// itself, the length of the uncompressed stream.
	Bytes int64 `json:"bytes,omitempty"`
	// FileBytes bounds the size of one file, holes included.
	FileBytes int64 `json:"file_bytes,omitempty"`
	// Ratio bounds the stream's length divided by that of what it was
	// decompressed from, once the stream is longer than 64 MiB.
	Ratio int64 `json:"ratio,omitempty"`
	// Compressed bounds what is read of compressed data, in bytes. Package unpack
	// sees none of it; who decompresses keeps to this.
	Compressed int64 `json:"compressed,omitempty"`
	// Depth bounds the components of a name.
	Depth int64 `json:"depth,omitempty"`
	// MinFree is how many bytes stay free on the file system of the tree.
	MinFree int64 `json:"min_free,omitempty"`
}

// ratioFrom is the stream's length in bytes from which on Limits.Ratio counts:
// a small archive may be nothing but zeros.
const ratioFrom = 64 << 20

// The longest component and path that the kernel takes (NAME_MAX, and PATH_MAX
// without the final NUL).
const (
	maxName = 255
	maxPath = 4095
)

// DefaultLimits are far above ordinary images and far below an ordinary disk.
func DefaultLimits() Limits {
	return Limits{
		Entries: 2_000_000, Bytes: 32 << 30, FileBytes: 16 << 30,
		Ratio: 200, Compressed: 16 << 30, Depth: 256, MinFree: 256 << 20,
	}
}

// WithDefaults fills the fields that are 0.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ have, def *int64 }{
		{&l.Entries, &d.Entries},
		{&l.Bytes, &d.Bytes},
		{&l.FileBytes, &d.FileBytes},
		{&l.Ratio, &d.Ratio},
		{&l.Compressed, &d.Compressed},
		{&l.Depth, &d.Depth},
		{&l.MinFree, &d.MinFree},
	} {
		if *f.have == 0 {
			*f.have = *f.def
		}
	}
	return l
}

// The names of the limits, as a user gives them.
const (
	LimitEntries    = "entries"
	LimitBytes      = "bytes"
	LimitFileBytes  = "file-bytes"
	LimitRatio      = "ratio"
	LimitCompressed = "compressed"
	LimitDepth      = "depth"
	LimitMinFree    = "min-free"
	// LimitTime is in seconds; it is that of the process which waits for the end.
	LimitTime = "time"
)

// Set changes the limit of that name; an unknown name is false.
func (l *Limits) Set(name string, value int64) bool {
	field := map[string]*int64{
		LimitEntries: &l.Entries, LimitBytes: &l.Bytes, LimitFileBytes: &l.FileBytes,
		LimitRatio: &l.Ratio, LimitCompressed: &l.Compressed, LimitDepth: &l.Depth, LimitMinFree: &l.MinFree,
	}[name]
	if field == nil {
		return false
	}
	*field = value
	return true
}

// LimitError says that an archive is beyond one of the limits. It is EFBIG,
// ENOSPC for min-free, and ETIMEDOUT for time.
type LimitError struct {
	Limit string // its name
	Max   int64  // its value
}

// Error names the limit and the flag that changes it.
func (e *LimitError) Error() string {
	what := map[string]string{
		LimitEntries:    "more than %d files",
		LimitBytes:      "more than %d bytes in all",
		LimitFileBytes:  "a file of more than %d bytes",
		LimitRatio:      "more than %d times the size of the compressed data",
		LimitCompressed: "more than %d bytes of compressed data",
		LimitDepth:      "more than %d directories below each other",
		LimitMinFree:    "less than %d bytes would stay free on the disk",
		LimitTime:       "not done after %d seconds",
	}[e.Limit]
	return fmt.Sprintf(what+"; %s changes this limit", e.Max, e.Flag())
}

// Flag is the flag of sbx that changes the limit.
func (e *LimitError) Flag() string { return "--limit " + e.Limit + "=NUMBER" }

// Unwrap gives the errno.
func (e *LimitError) Unwrap() error {
	switch e.Limit {
	case LimitMinFree:
		return unix.ENOSPC
	case LimitTime:
		return unix.ETIMEDOUT
	}
	return unix.EFBIG
}

// check refuses options that no archive could be unpacked with.
func (o *Options) check() error {
	if o.Single {
		return nil
	}
	for _, r := range [][2]uint32{{o.UIDOffset, o.UIDCount}, {o.GIDOffset, o.GIDCount}} {
		if r[1] == 0 || r[0] > math.MaxUint32-r[1] {
			return fmt.Errorf("unpack to %d ids from %d on: %w", r[1], r[0], unix.EINVAL)
		}
	}
	return nil
}
