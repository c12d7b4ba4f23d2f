package userns

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Mode says which ids of the host a payload's ids are, in podman's words.
type Mode string

const (
	// NoMap maps subordinate ids only: who escapes is a stranger on the host.
	NoMap Mode = "nomap"
	// KeepID maps the caller's own number to himself and every other number to
	// subordinate ids, so that files shared with him have the right owner.
	KeepID Mode = "keep-id"
	// Single maps one number, the payload's, to the caller himself. It is weaker: who
	// escapes is the caller, and his groups stay in force. It needs no helper.
	Single Mode = "single"
)

// maxRanges is how many subordinate ranges a layout uses. U1 could hold four beside
// the caller's own id. But the kernel wants each extent of U2 to lie within one extent
// of U1, and keep-id needs one more for the caller's number and cuts the range around
// it in two: 3+1+1 is MaxExtents. It is three in nomap as well, since an image is
// owned by ids of U1 and serves both modes.
const maxRanges = 3

var (
	// ErrHostRoot is wrapped when a layout would make the payload uid 0 of the host.
	ErrHostRoot = errors.New("the program would be uid 0 of the host")
	// ErrBadRange is wrapped when subordinate ranges cannot be meant as they stand:
	// they overlap, hold the caller's own id or 0, or run past id 2^32-2. Using
	// them would make one id two, or the payload someone else.
	ErrBadRange = errors.New("bad subordinate range")
	// ErrMode is wrapped when a mode is none of the three.
	ErrMode = errors.New("unknown identity mode")
)

// UnmappedError says that an id is not among those a layout has.
type UnmappedError struct {
	Kind  string // "user" or "group"
	ID    uint32 // the id inside that was asked for
	Limit uint64 // how many ids there are inside, numbered from 0
	Mode  Mode
}

// Error names the remedies as well, for each of the three is the user's own choice.
func (e *UnmappedError) Error() string {
	if e.Mode == Single {
		return fmt.Sprintf("%s id %d does not exist inside: --userns=single has one id only", e.Kind, e.ID)
	}
	has, next := fmt.Sprintf("%d ids, 0 to %d", e.Limit, e.Limit-1), "--user N with such an N"
	if e.Limit == 1 {
		has, next = "one id only, 0", "--user 0"
	}
	return fmt.Sprintf("%s id %d does not exist inside: the subordinate range has %s; "+
		"use %s, ask the administrator for a larger range, or use --userns=single", e.Kind, e.ID, has, next)
}

// Layout is the maps of the two namespaces of a sandbox.
//
//	nomap     U1  0 → caller   1..N → subordinate      U2  i → U1 i+1
//	keep-id   the same                                 U2  own number u → U1 0, other i → U1 i+1
//	single    U1  0 → caller                           U2  payload's number → U1 0
//
// Users and groups are laid out alike, each with its own numbers. In keep-id the id
// u+1 of U1 is nobody's in U2, so that every other id is the same in both modes.
type Layout struct {
	Mode Mode `json:"mode"`
	// SetupUID and SetupGID are U1's maps; Outside is an id of the host.
	SetupUID Map `json:"setup_uid"`
	SetupGID Map `json:"setup_gid"`
	// PayloadUID and PayloadGID are U2's maps; Outside is an id of U1.
	PayloadUID Map `json:"payload_uid"`
	PayloadGID Map `json:"payload_gid"`
}

// NewLayout computes the layout for an ordinary user: host are his ids, payload those
// the program is to have inside. sub is not looked at in [Single].
//
// Ranges are put in the order of their numbers, those that touch are joined, and of
// more than three the largest are kept; their order in a file has no influence on who
// owns what. Errors wrap [ErrNoRange], [ErrBadRange], [ErrHostRoot] or [ErrMode], or
// are an [UnmappedError].
func NewLayout(mode Mode, host, payload Identity, sub Subordinate) (Layout, error) {
	if host.UID == 0 {
		return Layout{}, fmt.Errorf("lay out ids for uid 0 as for a user: %w", ErrHostRoot)
	}
	return newLayout(mode, host, payload, sub)
}

func newLayout(mode Mode, host, payload Identity, sub Subordinate) (Layout, error) {
	users := side{kind: "user", mode: mode, own: host.UID, payload: payload.UID, ranges: sub.UID}
	groups := side{kind: "group", mode: mode, own: host.GID, payload: payload.GID, ranges: sub.GID}
	l := Layout{Mode: mode}
	var err error
	if l.SetupUID, l.PayloadUID, err = users.maps(sub.Source); err != nil {
		return Layout{}, err
	}
	if l.SetupGID, l.PayloadGID, err = groups.maps(sub.Source); err != nil {
		return Layout{}, err
	}
	return l, nil
}

// SetupID returns the ids in U1 of ids inside, by which pid 1 gives files to them, or
// an [UnmappedError].
func (l Layout) SetupID(inside Identity) (Identity, error) {
	uid, ok := l.PayloadUID.Outside(inside.UID)
	if !ok {
		return Identity{}, unmapped("user", l.Mode, inside.UID, l.SetupUID)
	}
	gid, ok := l.PayloadGID.Outside(inside.GID)
	if !ok {
		return Identity{}, unmapped("group", l.Mode, inside.GID, l.SetupGID)
	}
	return Identity{UID: uid, GID: gid}, nil
}

// Root returns the ids in U1 that own what root owns in an image: 1 and 1, in keep-id
// also for a caller whose own group is 0. In [Single], where there is no such id, it
// is the payload itself.
func (l Layout) Root() Identity {
	if l.Mode == Single && len(l.PayloadUID) > 0 && len(l.PayloadGID) > 0 {
		return Identity{UID: l.PayloadUID[0].Outside, GID: l.PayloadGID[0].Outside}
	}
	return Identity{UID: 1, GID: 1}
}

// DenySetgroups reports whether U1's group map can only be written with setgroups(2)
// denied: an ordinary user in [Single].
func (l Layout) DenySetgroups() bool {
	return l.Mode == Single && len(l.SetupGID) == 1
}

// side is one half of a layout, users or groups.
type side struct {
	kind    string
	mode    Mode
	own     uint32 // of the host
	payload uint32 // inside
	ranges  []Range
}

// maps returns U1's and U2's map.
func (s side) maps(source string) (setup, inner Map, err error) {
	setup = Map{{Inside: 0, Outside: s.own, Count: 1}}
	switch s.mode {
	case Single:
		if s.payload <= maxID {
			inner = Map{{Inside: s.payload, Outside: 0, Count: 1}}
		}
	case NoMap, KeepID:
		if len(s.ranges) == 0 {
			return nil, nil, fmt.Errorf("%w of %s ids in %s", ErrNoRange, s.kind, cmp.Or(source, "any source"))
		}
		ranges, err := usable(s.ranges, s.own)
		if err != nil {
			return nil, nil, fmt.Errorf("%s ids in %s: %w", s.kind, cmp.Or(source, "the list given"), err)
		}
		setup = appendRanges(setup, ranges)
		for _, e := range setup[1:] {
			inner = append(inner, Extent{Inside: e.Inside - 1, Outside: e.Inside, Count: e.Count})
		}
		if s.mode == KeepID {
			inner = keep(inner, s.own)
		}
	default:
		return nil, nil, fmt.Errorf("%w %q", ErrMode, string(s.mode))
	}
	if _, ok := inner.Outside(s.payload); !ok {
		return nil, nil, unmapped(s.kind, s.mode, s.payload, setup)
	}
	return setup, inner, nil
}

// unmapped describes an id that U2 lacks; setup is U1's map, the caller's own id
// first.
func unmapped(kind string, mode Mode, id uint32, setup Map) error {
	e := &UnmappedError{Kind: kind, ID: id, Mode: mode}
	for _, extent := range setup[min(1, len(setup)):] {
		e.Limit += uint64(extent.Count)
	}
	return e
}

// appendRanges gives the ranges the ids after those that m has, in order.
func appendRanges(m Map, ranges []Range) Map {
	for _, r := range ranges {
		last := m[len(m)-1]
		m = append(m, Extent{Inside: last.Inside + last.Count, Outside: r.Start, Count: r.Count})
	}
	return m
}

// keep takes the number own out of the extent that has it, if one has, and maps it to
// id 0 instead.
func keep(m Map, own uint32) Map {
	kept := Map{{Inside: own, Outside: 0, Count: 1}}
	for _, e := range m {
		if own < e.Inside || own-e.Inside >= e.Count {
			kept = append(kept, e)
			continue
		}
		before := own - e.Inside
		if before > 0 {
			kept = append(kept, Extent{Inside: e.Inside, Outside: e.Outside, Count: before})
		}
		if after := e.Count - before - 1; after > 0 {
			kept = append(kept, Extent{Inside: own + 1, Outside: e.Outside + before + 1, Count: after})
		}
	}
	slices.SortFunc(kept, func(a, b Extent) int { return cmp.Compare(a.Inside, b.Inside) })
	return kept
}

// usable returns at most maxRanges ranges, checked, in order, those that touch joined.
func usable(ranges []Range, own uint32) ([]Range, error) {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int {
		return cmp.Compare(a.Start, b.Start)
	})
	var joined []Range
	for _, r := range sorted {
		switch {
		case !idsExist(r.Start, r.Count):
			return nil, fmt.Errorf("%w: %d ids from %d on: empty or past id %d", ErrBadRange, r.Count, r.Start, uint32(maxID))
		case r.Start == 0:
			return nil, fmt.Errorf("%w %v: it holds id 0", ErrBadRange, r)
		case overlap(r.Start, r.Count, own, 1):
			return nil, fmt.Errorf("%w %v: it holds the caller's own id %d", ErrBadRange, r, own)
		}
		if n := len(joined); n > 0 {
			last := &joined[n-1]
			if overlap(last.Start, last.Count, r.Start, r.Count) {
				return nil, fmt.Errorf("%w %v: it overlaps another", ErrBadRange, r)
			}
			if last.Start+last.Count == r.Start {
				last.Count += r.Count
				continue
			}
		}
		joined = append(joined, r)
	}
	if len(joined) > maxRanges {
		slices.SortStableFunc(joined, func(a, b Range) int { return cmp.Compare(b.Count, a.Count) })
		joined = joined[:maxRanges]
		slices.SortFunc(joined, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	}
	return joined, nil
}
