package plan

import (
	"reflect"
	"testing"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// The maps that are told early are those of the plan, whoever the program is to be.
func TestMapsAreKnownEarly(t *testing.T) {
	odd := []userns.Range{{Start: 700000, Count: 2000}, {Start: 300000, Count: 10}}
	for _, c := range []struct {
		name  string
		spec  Spec
		facts func(f *Facts)
	}{
		{name: "an ordinary run"},
		{name: "a fake root", spec: Spec{User: "0"}},
		{name: "a high id", spec: Spec{User: "65535:65535"}},
		{name: "his own number", spec: Spec{Userns: userns.KeepID}},
		{
			name: "shared paths", facts: func(f *Facts) {
				f.Shares = []Shared{{Resolved: "/data", Share: Share{PathPair{"/data", "/data"}, true}}}
			},
			spec: Spec{Shares: []Share{{PathPair{"/data", "/data"}, true}}},
		},
		{name: "one id", spec: Spec{Userns: userns.Single}},
		{name: "no helper", facts: func(f *Facts) { f.NoHelpers = "newuidmap is not installed" }},
		{name: "ranges of several sizes", facts: func(f *Facts) { f.Subordinate.UID, f.Subordinate.GID = odd, odd[:1] }},
		{name: "real root", facts: func(f *Facts) { f.Caller.UID, f.Caller.GID = 0, 0 }},
		{name: "an image with a user", facts: func(f *Facts) { f.Config = &rootfs.ImageConfig{User: "10"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := alice()
			if c.facts != nil {
				c.facts(&f)
			}
			var told *Identity
			l := &look{spec: c.spec, facts: f, opt: LookOptions{Maps: func(id Identity) { told = &id }}}
			if err := l.tellMaps(); err != nil || told == nil {
				t.Fatalf("nothing was told: %v", err)
			}
			want, _, err := identity(c.spec, f)
			if err != nil {
				t.Fatal(err)
			}
			want.Layout.PayloadUID, want.Layout.PayloadGID = nil, nil
			if !reflect.DeepEqual(*told, want) {
				t.Errorf("told %+v\nwant %+v", *told, want)
			}
		})
	}
}

// Nothing is told where it could be wrong, or where the run is going to be refused.
func TestMapsAreNotTold(t *testing.T) {
	for name, l := range map[string]*look{
		"a kept sandbox, which says so itself": {spec: Spec{In: "x"}, facts: alice()},
		"a mode that cannot be had": {
			spec:  Spec{Userns: userns.NoMap},
			facts: Facts{Caller: Caller{UID: 1001, GID: 1001}, NoHelpers: "newuidmap is not installed"},
		},
	} {
		l.opt.Maps = func(id Identity) { t.Errorf("%s: told %+v", name, id) }
		if err := l.tellMaps(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
