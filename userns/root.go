package userns

import (
	"fmt"
	"math"
)

// HighRange is where root's payloads live on a host that grants root no subordinate
// range: ids that nothing is known to give to anybody. It lies below 2^31, above
// which some programs read ids as negative, above what SSSD computes for directory
// users (200000-2000200000 as shipped) and what systemd keeps for containers
// (524288-1879048191), and below systemd's range of foreign ids (2147352576 on).
func HighRange() Range { return Range{Start: 2_100_000_000, Count: 65536} }

// NewRootLayout computes the layout for a caller who is uid 0. U1 maps 0 to him, so
// that pid 1 can read what he can, and further ids to root's subordinate range or,
// if sub is empty, to [HighRange]. The maps are to be written by [WriteDirect]: the
// helpers have no exception for root.
//
// Whatever the mode, the payload is not uid 0 of the host:
//
//   - [NoMap] is as for a user.
//   - [KeepID] is refused with [ErrHostRoot]: root's own number is 0, and keeping it
//     is what must not be.
//   - [Single] maps the payload's number to one high id, which is U1's id 1, and not
//     to the caller. It exists for hosts on which more ids cannot be mapped.
func NewRootLayout(mode Mode, payload Identity, sub Subordinate) (Layout, error) {
	if len(sub.UID) == 0 || len(sub.GID) == 0 {
		sub = Subordinate{UID: []Range{HighRange()}, GID: []Range{HighRange()}, Source: "the built-in range"}
	}
	switch mode {
	case KeepID:
		return Layout{}, fmt.Errorf("lay out ids for root with --userns=%s: %w", mode, ErrHostRoot)
	case Single:
		return rootSingle(payload, sub)
	}
	return newLayout(mode, Identity{}, payload, sub)
}

// rootSingle is the nomap layout of a range of one id, with the payload's number
// inside instead of 0.
func rootSingle(payload Identity, sub Subordinate) (Layout, error) {
	sub.UID = []Range{{Start: sub.UID[0].Start, Count: 1}}
	sub.GID = []Range{{Start: sub.GID[0].Start, Count: 1}}
	l, err := newLayout(NoMap, Identity{}, Identity{}, sub)
	if err != nil {
		return Layout{}, err
	}
	l.Mode = Single
	l.PayloadUID[0].Inside = payload.UID
	l.PayloadGID[0].Inside = payload.GID
	if payload.UID > maxID {
		return Layout{}, unmapped("user", Single, payload.UID, l.SetupUID)
	}
	if payload.GID > maxID {
		return Layout{}, unmapped("group", Single, payload.GID, l.SetupGID)
	}
	return l, nil
}

// NewNestedLayout is for a caller who is uid 0 only of a user namespace that maps
// nothing else, as in "unshare -r": no id but his own exists there, and on the host
// that is an ordinary user's. own is his uid map, see [OwnMaps]; host are his ids as
// he sees them. The mode is [Single]. [ErrHostRoot] is wrapped if own leads to uid 0
// again.
func NewNestedLayout(own Map, host, payload Identity) (Layout, error) {
	if outside, ok := own.Outside(host.UID); !ok || outside == 0 {
		return Layout{}, fmt.Errorf("lay out ids in a nested user namespace: %w", ErrHostRoot)
	}
	return newLayout(Single, host, payload, Subordinate{})
}

// Within reports whether the maps of the caller's own namespace, see [OwnMaps], have
// all the ids of sub. In a container they often do not, although its /etc/subuid
// came with the image and grants them, and writing a map would end in EPERM.
func (s Subordinate) Within(uid, gid Map) bool {
	return allWithin(s.UID, uid) && allWithin(s.GID, gid)
}

// allWithin wants each range in one extent, since the kernel does.
func allWithin(ranges []Range, m Map) bool {
	for _, r := range ranges {
		if !anyHolds(m, r) {
			return false
		}
	}
	return true
}

func anyHolds(m Map, r Range) bool {
	for _, e := range m {
		if r.Start >= e.Inside && uint64(r.Start)+uint64(r.Count) <= uint64(e.Inside)+uint64(e.Count) {
			return true
		}
	}
	return false
}

// RootSubordinate returns ranges that root of this namespace can map: sub if it has
// any and they exist here, else [HighRange] if that does, else, as in a rootless
// container with 65536 ids, the upper half of the longest run of ids there are, where
// an image has the fewest users. uid and gid are the caller's own maps, see [OwnMaps].
// [ErrNoRange] is wrapped if there is nothing but id 0: then [NewNestedLayout] is
// what remains.
func RootSubordinate(sub Subordinate, uid, gid Map) (Subordinate, error) {
	if len(sub.UID) > 0 && len(sub.GID) > 0 && sub.Within(uid, gid) {
		return sub, nil
	}
	high := Subordinate{UID: []Range{HighRange()}, GID: []Range{HighRange()}, Source: "the built-in range", Warnings: sub.Warnings}
	if high.Within(uid, gid) {
		return high, nil
	}
	users, groups := upperHalf(uid), upperHalf(gid)
	if users.Count == 0 || groups.Count == 0 {
		return Subordinate{}, fmt.Errorf("%w: this user namespace has one id only", ErrNoRange)
	}
	return Subordinate{UID: []Range{users}, GID: []Range{groups}, Source: "the upper half of this user namespace", Warnings: sub.Warnings}, nil
}

// upperHalf returns at most 65536 ids from the end of the longest extent, none if that
// has one id.
func upperHalf(m Map) Range {
	var longest Extent
	for _, e := range m {
		if e.Count > longest.Count {
			longest = e
		}
	}
	n := min(longest.Count/2, math.MaxUint16+1)
	return Range{Start: longest.Inside + longest.Count - n, Count: n}
}
