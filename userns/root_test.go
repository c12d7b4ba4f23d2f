package userns

import (
	"errors"
	"testing"
)

func TestNewRootLayout(t *testing.T) {
	for _, test := range []struct {
		name    string
		mode    Mode
		payload Identity
		sub     Subordinate
		u1, u2  string
		root    Identity
		want    error
	}{
		{name: "without a range", mode: NoMap, payload: Identity{1000, 1000}, u1: "0 0 1, 1 2100000000 65536", u2: "0 1 65536", root: Identity{1, 1}},
		{name: "with a range", mode: NoMap, payload: Identity{}, sub: same(Range{500000, 10}), u1: "0 0 1, 1 500000 10", u2: "0 1 10", root: Identity{1, 1}},
		{name: "single", mode: Single, payload: Identity{1000, 1000}, u1: "0 0 1, 1 2100000000 1", u2: "1000 1 1", root: Identity{1, 1}},
		{name: "keep-id", mode: KeepID, want: ErrHostRoot},
		{name: "range with 0", mode: NoMap, sub: same(Range{0, 65536}), want: ErrBadRange},
		{name: "single, range with 0", mode: Single, sub: same(Range{0, 65536}), want: ErrBadRange},
		{name: "no such mode", mode: "", want: ErrMode},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := NewRootLayout(test.mode, test.payload, test.sub)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			checkLayout(t, l)
			if oneLine(l.SetupUID) != test.u1 || oneLine(l.PayloadUID) != test.u2 || l.Root() != test.root {
				t.Errorf("U1 %q U2 %q root %v", l.SetupUID, l.PayloadUID, l.Root())
			}
			if l.DenySetgroups() {
				t.Error("root need not deny setgroups")
			}
		})
	}
}

func TestNewNestedLayout(t *testing.T) {
	l, err := NewNestedLayout(Map{{0, 1001, 1}}, Identity{0, 0}, Identity{1000, 1000})
	if err != nil || oneLine(l.SetupUID) != "0 0 1" || oneLine(l.PayloadUID) != "1000 0 1" || !l.DenySetgroups() {
		t.Errorf("unshare -r by a user: %+v, %v", l, err)
	}
	for _, real := range []Map{{{0, 0, 4294967295}}, {{0, 0, 1}}, nil} {
		if l, err := NewNestedLayout(real, Identity{0, 0}, Identity{1000, 1000}); !errors.Is(err, ErrHostRoot) {
			t.Errorf("own map %q: %+v, %v", real, l, err)
		}
	}
}

func TestRootSubordinate(t *testing.T) {
	initial := Map{{0, 0, 4294967295}}
	granted := same(Range{500000, 65536})
	for _, test := range []struct {
		name string
		sub  Subordinate
		own  Map
		want Range
		err  error
	}{
		{"granted", granted, initial, Range{500000, 65536}, nil},
		{"not granted", Subordinate{}, initial, HighRange(), nil},
		{"rootless container", granted, Map{{0, 1001, 1}, {1, 100000, 65536}}, Range{32769, 32768}, nil},
		{"remapped container", Subordinate{}, Map{{0, 165536, 65536}}, Range{32768, 32768}, nil},
		{"large container", Subordinate{}, Map{{0, 524288, 1000000}}, Range{934464, 65536}, nil},
		{"unshare -r", granted, Map{{0, 1001, 1}}, Range{}, ErrNoRange},
	} {
		sub, err := RootSubordinate(test.sub, test.own, test.own)
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err != nil {
			continue
		}
		if len(sub.UID) != 1 || sub.UID[0] != test.want || sub.GID[0] != test.want || !sub.Within(test.own, test.own) {
			t.Errorf("%s: got %+v, want %v", test.name, sub, test.want)
		}
		if l, err := NewRootLayout(NoMap, Identity{1000, 1000}, sub); err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else {
			checkLayout(t, l)
		}
	}
}
