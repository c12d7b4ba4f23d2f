package userns

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

var alice = Identity{UID: 1001, GID: 1001}

// same gives users and groups the same ranges.
func same(ranges ...Range) Subordinate {
	return Subordinate{UID: ranges, GID: ranges, Source: "/etc/subuid"}
}

// checkLayout holds what every layout must: maps the kernel takes, each extent of U2
// within one of U1, and host uid 0 nowhere in the payload.
func checkLayout(t *testing.T, l Layout) {
	t.Helper()
	for _, pair := range [][2]Map{{l.SetupUID, l.PayloadUID}, {l.SetupGID, l.PayloadGID}} {
		setup, inner := pair[0], pair[1]
		if err := errors.Join(setup.Validate(), inner.Validate()); err != nil {
			t.Errorf("%v\nU1 %q\nU2 %q", err, setup, inner)
		}
		for _, e := range inner {
			if !anyHolds(setup, Range{e.Outside, e.Count}) {
				t.Errorf("extent %v of U2 is not within one extent of U1 %q", e, setup)
			}
		}
	}
	if outside, ok := l.SetupUID.Inside(0); ok {
		if inside, ok := l.PayloadUID.Inside(outside); ok {
			t.Errorf("payload id %d is uid 0 of the host: %+v", inside, l)
		}
	}
}

func TestNewLayout(t *testing.T) {
	for _, test := range []struct {
		name    string
		mode    Mode
		host    Identity
		payload Identity
		sub     Subordinate
		u1, u2  string // of users
	}{
		{
			name: "nomap", mode: NoMap, host: alice, payload: Identity{1000, 1000}, sub: same(Range{100000, 65536}),
			u1: "0 1001 1, 1 100000 65536", u2: "0 1 65536",
		},
		{
			name: "nomap, a range of one", mode: NoMap, host: alice, sub: same(Range{100000, 1}),
			u1: "0 1001 1, 1 100000 1", u2: "0 1 1",
		},
		{
			name: "keep-id", mode: KeepID, host: alice, payload: alice, sub: same(Range{100000, 65536}),
			u1: "0 1001 1, 1 100000 65536", u2: "0 1 1001, 1001 0 1, 1002 1003 64534",
		},
		{
			name: "keep-id, own number past the range", mode: KeepID, host: alice, payload: alice, sub: same(Range{100000, 10}),
			u1: "0 1001 1, 1 100000 10", u2: "0 1 10, 1001 0 1",
		},
		{
			name: "keep-id, own number the last of the range", mode: KeepID, host: Identity{9, 9}, payload: Identity{9, 9}, sub: same(Range{100000, 10}),
			u1: "0 9 1, 1 100000 10", u2: "0 1 9, 9 0 1",
		},
		{
			name: "keep-id, another number than the caller's", mode: KeepID, host: alice, payload: Identity{}, sub: same(Range{100000, 65536}),
			u1: "0 1001 1, 1 100000 65536", u2: "0 1 1001, 1001 0 1, 1002 1003 64534",
		},
		{
			name: "single", mode: Single, host: alice, payload: Identity{1000, 1000},
			u1: "0 1001 1", u2: "1000 0 1",
		},
		{
			name: "single, fake root", mode: Single, host: alice,
			u1: "0 1001 1", u2: "0 0 1",
		},
		{
			name: "single, the largest id", mode: Single, host: Identity{maxID, maxID}, payload: Identity{maxID, maxID},
			u1: "0 4294967294 1", u2: "4294967294 0 1",
		},
		{
			name: "above 2^31", mode: KeepID, host: Identity{4000000000, 4000000000}, payload: Identity{4000000000, 4000000000}, sub: same(Range{4100000000, 65536}),
			u1: "0 4000000000 1, 1 4100000000 65536", u2: "0 1 65536, 4000000000 0 1",
		},
		{
			name: "two lines that touch, in the wrong order", mode: NoMap, host: alice, sub: same(Range{165536, 10}, Range{100000, 65536}),
			u1: "0 1001 1, 1 100000 65546", u2: "0 1 65546",
		},
		{
			name: "U2 is cut where U1 is", mode: NoMap, host: alice, sub: same(Range{100000, 10}, Range{200000, 20}),
			u1: "0 1001 1, 1 100000 10, 11 200000 20", u2: "0 1 10, 10 11 20",
		},
		{
			name: "the three largest of five", mode: NoMap, host: alice,
			sub: same(Range{100000, 10}, Range{200000, 30}, Range{300000, 5}, Range{400000, 40}, Range{500000, 6}),
			u1:  "0 1001 1, 1 100000 10, 11 200000 30, 41 400000 40", u2: "0 1 10, 10 11 30, 40 41 40",
		},
		{
			name: "keep-id with three ranges fills five extents", mode: KeepID, host: Identity{15, 15},
			sub: same(Range{100000, 10}, Range{200000, 30}, Range{300000, 5}, Range{400000, 40}),
			u1:  "0 15 1, 1 100000 10, 11 200000 30, 41 400000 40", u2: "0 1 10, 10 11 5, 15 0 1, 16 17 24, 40 41 40",
		},
		{
			name: "every id there is", mode: NoMap, host: alice, sub: same(Range{1, 1000}, Range{1002, maxID - 1001}),
			u1: "0 1001 1, 1 1 1000, 1001 1002 4294966293", u2: "0 1 1000, 1000 1001 4294966293",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := NewLayout(test.mode, test.host, test.payload, test.sub)
			if err != nil {
				t.Fatal(err)
			}
			checkLayout(t, l)
			if got := oneLine(l.SetupUID); got != test.u1 {
				t.Errorf("U1 is %s, want %s", got, test.u1)
			}
			if got := oneLine(l.PayloadUID); got != test.u2 {
				t.Errorf("U2 is %s, want %s", got, test.u2)
			}
			if !reflect.DeepEqual(l.SetupUID, l.SetupGID) || !reflect.DeepEqual(l.PayloadUID, l.PayloadGID) {
				t.Errorf("groups differ from users: %+v", l)
			}
			if l.DenySetgroups() != (test.mode == Single) {
				t.Errorf("DenySetgroups is %v", l.DenySetgroups())
			}
			if _, err := l.SetupID(test.payload); err != nil {
				t.Errorf("payload: %v", err)
			}
			var back Layout
			text, err := json.Marshal(l)
			if err == nil {
				err = json.Unmarshal(text, &back)
			}
			if err != nil || !reflect.DeepEqual(l, back) {
				t.Errorf("JSON: %v, %+v", err, back)
			}
		})
	}
}

func oneLine(m Map) string {
	return strings.ReplaceAll(strings.TrimSuffix(m.String(), "\n"), "\n", ", ")
}

func TestNewLayoutRefuses(t *testing.T) {
	tiny := Range{100000, 10}
	for _, test := range []struct {
		name    string
		mode    Mode
		host    Identity
		payload Identity
		sub     Subordinate
		want    error
		text    string
	}{
		{name: "no range", mode: NoMap, host: alice, sub: Subordinate{Source: "/etc/subuid"}, want: ErrNoRange, text: "user ids in /etc/subuid"},
		{name: "no group range", mode: KeepID, host: alice, sub: Subordinate{UID: []Range{tiny}}, want: ErrNoRange, text: "group ids"},
		{name: "overlap", mode: NoMap, host: alice, sub: same(Range{100005, 10}, tiny), want: ErrBadRange, text: "100005-100014"},
		{name: "twice", mode: NoMap, host: alice, sub: same(tiny, tiny), want: ErrBadRange},
		{name: "own id", mode: NoMap, host: alice, sub: same(Range{1000, 10}), want: ErrBadRange, text: "1001"},
		{name: "own group", mode: NoMap, host: Identity{1001, 100009}, sub: same(tiny), want: ErrBadRange, text: "group ids"},
		{name: "id 0", mode: KeepID, host: alice, sub: same(Range{0, 10}), want: ErrBadRange},
		{name: "wrap-around", mode: NoMap, host: alice, sub: same(Range{4294967000, 1000}), want: ErrBadRange},
		{name: "past the last id by one", mode: NoMap, host: alice, sub: same(Range{4294967290, 6}), want: ErrBadRange},
		{name: "empty range", mode: NoMap, host: alice, sub: same(Range{100000, 0}), want: ErrBadRange},
		{name: "host root", mode: NoMap, host: Identity{0, 0}, sub: same(tiny), want: ErrHostRoot},
		{name: "host root, single", mode: Single, host: Identity{0, 1001}, want: ErrHostRoot},
		{name: "no such mode", mode: "auto", host: alice, sub: same(tiny), want: ErrMode},
		{name: "payload not in a small range", mode: NoMap, host: alice, payload: Identity{1000, 0}, sub: same(tiny), text: "user id 1000 does not exist inside: the subordinate range has 10 ids, 0 to 9; use --user N"},
		{name: "payload not in a range of one", mode: NoMap, host: alice, payload: Identity{1000, 0}, sub: same(Range{100000, 1}), text: "the subordinate range has one id only, 0; use --user 0, ask"},
		{name: "its group neither", mode: NoMap, host: alice, payload: Identity{9, 10}, sub: same(tiny), text: "group id 10"},
		{name: "no id", mode: Single, host: alice, payload: Identity{math.MaxUint32, 0}, text: "user id 4294967295"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := NewLayout(test.mode, test.host, test.payload, test.sub)
			if err == nil {
				t.Fatalf("got %+v", l)
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v is not %v", err, test.want)
			}
			var unmapped *UnmappedError
			if test.want == nil && !errors.As(err, &unmapped) {
				t.Errorf("%v is no UnmappedError", err)
			}
			if !strings.Contains(err.Error(), test.text) {
				t.Errorf("%q does not say %q", err, test.text)
			}
		})
	}
}

// Users and groups may have ranges of different sizes.
func TestNewLayoutUnequalRanges(t *testing.T) {
	sub := Subordinate{UID: []Range{{100000, 65536}}, GID: []Range{{700000, 10}}}
	l, err := NewLayout(NoMap, Identity{1001, 100}, Identity{1000, 9}, sub)
	if err != nil {
		t.Fatal(err)
	}
	if oneLine(l.SetupGID) != "0 100 1, 1 700000 10" || oneLine(l.PayloadGID) != "0 1 10" {
		t.Errorf("groups: %+v", l)
	}
	if _, err := l.SetupID(Identity{1000, 10}); err == nil || !strings.Contains(err.Error(), "group id 10") {
		t.Errorf("group outside: %v", err)
	}
}

// An image is owned by ids of U1: what is root's must be root's in nomap and keep-id.
func TestSetupIDSameInBothModes(t *testing.T) {
	sub := same(Range{100000, 65536})
	nomap, err := NewLayout(NoMap, alice, Identity{}, sub)
	if err != nil {
		t.Fatal(err)
	}
	keepid, err := NewLayout(KeepID, alice, alice, sub)
	if err != nil {
		t.Fatal(err)
	}
	if nomap.Root() != keepid.Root() || nomap.Root() != (Identity{1, 1}) {
		t.Errorf("root is %v and %v", nomap.Root(), keepid.Root())
	}
	for _, id := range []uint32{0, 1, 1000, 1002, 65534, 65535} {
		a, err := nomap.SetupID(Identity{id, id})
		b, err2 := keepid.SetupID(Identity{id, id})
		if err != nil || err2 != nil || a != b || a.UID != id+1 {
			t.Errorf("id %d is %v and %v (%v, %v)", id, a, b, err, err2)
		}
	}
	if own, err := keepid.SetupID(alice); err != nil || own != (Identity{0, 0}) {
		t.Errorf("alice is %v, %v", own, err)
	}
	if inside, ok := keepid.PayloadUID.Inside(alice.UID + 1); ok {
		t.Errorf("U1 id %d is %d inside, want nobody", alice.UID+1, inside)
	}
}

// A caller whose own group is 0, as in OpenShift.
func TestKeepIDWithGroupZero(t *testing.T) {
	l, err := NewLayout(KeepID, Identity{1000700000, 0}, Identity{1000700000, 0}, same(Range{100000, 65536}))
	if err != nil {
		t.Fatal(err)
	}
	checkLayout(t, l)
	if oneLine(l.PayloadGID) != "0 0 1, 1 2 65535" || l.Root() != (Identity{1, 1}) {
		t.Errorf("%+v", l)
	}
}
