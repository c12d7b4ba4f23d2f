package userns

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MaxExtents is the longest map this package writes. Linux takes 340 lines since
// 4.15; five was the limit before, and CVE-2018-18955, a whole-host escape in the
// code for long maps, cannot be reached with five or fewer.
const MaxExtents = 5

// maxID is the largest id that exists: 2^32-1 means "no id" (setresuid(2)).
const maxID = math.MaxUint32 - 1

// maxMapBytes bounds what ParseMap reads: 340 lines of 33 bytes fit.
const maxMapBytes = 16 << 10

// ErrBadMap is wrapped by every error about a map that the kernel would refuse
// or that has more than [MaxExtents] lines.
var ErrBadMap = errors.New("bad id map")

// Identity is a user id and a group id, 0 to 2^32-2, in the user namespace that
// the context names.
type Identity struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Extent is one line of a map: Count ids from Inside on, in the namespace the map
// belongs to, are the ids from Outside on in its parent. See user_namespaces(7).
type Extent struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Count   uint32 `json:"count"`
}

// Map is the id map of a user namespace, for users or for groups. The order of its
// extents has no meaning.
type Map []Extent

// String is the text to write to /proc/PID/uid_map: one line an extent.
func (m Map) String() string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%d %d %d\n", e.Inside, e.Outside, e.Count)
	}
	return b.String()
}

// Outside says which id of the parent namespace the id inside is, and whether the
// map has it at all.
func (m Map) Outside(inside uint32) (uint32, bool) {
	for _, e := range m {
		if inside >= e.Inside && inside-e.Inside < e.Count {
			return e.Outside + (inside - e.Inside), true
		}
	}
	return 0, false
}

// Inside says as which id the parent's id outside appears, and whether it does;
// files of an id that does not appear show the overflow id, 65534.
func (m Map) Inside(outside uint32) (uint32, bool) {
	for _, e := range m {
		if outside >= e.Outside && outside-e.Outside < e.Count {
			return e.Inside + (outside - e.Outside), true
		}
	}
	return 0, false
}

// Equal reports whether both maps map the same ids to the same ids, however the
// lines are ordered or cut.
func (m Map) Equal(o Map) bool {
	return slices.Equal(m.canonical(), o.canonical())
}

// canonical returns the map sorted by Inside, with lines that continue each other
// joined.
func (m Map) canonical() Map {
	sorted := slices.SortedFunc(slices.Values(m), func(a, b Extent) int {
		return cmp.Compare(a.Inside, b.Inside)
	})
	var out Map
	for _, e := range sorted {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if last.Inside+last.Count == e.Inside && last.Outside+last.Count == e.Outside {
				last.Count += e.Count
				continue
			}
		}
		out = append(out, e)
	}
	return out
}

// Validate reports, as an [ErrBadMap], what the kernel would refuse with a bare
// EINVAL: no extent or more than [MaxExtents], an empty one, one that runs past
// 2^32-2, or two that overlap on either side.
func (m Map) Validate() error {
	if len(m) == 0 || len(m) > MaxExtents {
		return fmt.Errorf("%w: %d extents, not 1 to %d", ErrBadMap, len(m), MaxExtents)
	}
	for i, e := range m {
		if !idsExist(e.Inside, e.Count) || !idsExist(e.Outside, e.Count) {
			return fmt.Errorf("%w: extent %v is empty or runs past id %d", ErrBadMap, e, uint32(maxID))
		}
		for _, f := range m[:i] {
			if overlap(e.Inside, e.Count, f.Inside, f.Count) || overlap(e.Outside, e.Count, f.Outside, f.Count) {
				return fmt.Errorf("%w: extents %v and %v overlap", ErrBadMap, f, e)
			}
		}
	}
	return nil
}

// idsExist reports whether count ids from start on are at least one id and none of
// them is past maxID.
func idsExist(start, count uint32) bool {
	return count > 0 && uint64(start)+uint64(count)-1 <= maxID
}

// overlap reports whether the ids from a on and those from b on share one.
func overlap(a, aCount, b, bCount uint32) bool {
	return uint64(a) < uint64(b)+uint64(bCount) && uint64(b) < uint64(a)+uint64(aCount)
}

// ParseMap reads a map as the kernel prints it: at most 16 KiB of lines with three
// decimal numbers. The kernel shows the middle column in terms of the namespace of
// whoever opened the file, or of its parent where that is the map's own.
//
// An empty text, a namespace whose map nobody has written yet, is an empty Map and
// not an error.
func ParseMap(r io.Reader) (Map, error) {
	limited := &io.LimitedReader{R: r, N: maxMapBytes + 1}
	lines := bufio.NewScanner(limited)
	var m Map
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return nil, fmt.Errorf("%w: line %q", ErrBadMap, lines.Text())
		}
		var n [3]uint32
		for i, field := range fields {
			id, err := parseID(field)
			if err != nil {
				return nil, fmt.Errorf("%w: line %q: %w", ErrBadMap, lines.Text(), err)
			}
			n[i] = id
		}
		m = append(m, Extent{Inside: n[0], Outside: n[1], Count: n[2]})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read id map: %w", err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrBadMap, maxMapBytes)
	}
	return m, nil
}

// parseID accepts plain decimal numbers only: no sign, no blank, no leading zero,
// since shadow reads 0100 as octal (strtoul(3) with base 0) and other readers do
// not, and a number that two programs read differently must not become an id.
func parseID(s string) (uint32, error) {
	if len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("number %q has a leading zero", s)
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
