package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// owned is the ownership that a run of these facts gives.
func ownedBy(t *testing.T, f Facts, mode userns.Mode) (Identity, Facts) {
	t.Helper()
	id, err := StoreIdentity(Spec{Program: "x", Userns: mode}, f)
	if err != nil {
		t.Fatal(err)
	}
	return id, f
}

// A kept sandbox is used under the id map that it was made under, and not at all
// when that can no longer be had.
func TestIdentityForAKeptSandbox(t *testing.T) {
	mapped, _ := ownedBy(t, alice(), userns.NoMap)
	single, _ := ownedBy(t, alice(), userns.Single)
	moved, none, root := alice(), alice(), alice()
	moved.Subordinate.UID = []userns.Range{{Start: 300000, Count: 65536}}
	none.NoHelpers = "newuidmap is not installed"
	root.Caller = Caller{Name: "root"}
	for _, c := range []struct {
		name  string
		facts Facts
		made  Identity
		want  string // in the error, empty for none
	}{
		{"the same", alice(), mapped, ""},
		{"one id only", alice(), single, ""},
		{"one id only, no helpers", none, single, ""},
		{"another range", moved, mapped, "other subordinate ids (uids 100000-165535 and gids 100000-165535) than you have now (uids 300000-365535 and gids 100000-165535)"},
		{"no helpers", none, mapped, "its files belong to subordinate ids: newuidmap is not installed"},
		{"root", root, mapped, ""},
	} {
		id, err := c.facts.IdentityFor(c.made.Ownership())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err == nil && !slices.Equal(id.Layout.SetupUID, c.made.Layout.SetupUID) {
			t.Errorf("%s: map %v, want %v", c.name, id.Layout.SetupUID, c.made.Layout.SetupUID)
		}
	}
}

func TestRunInAKeptSandbox(t *testing.T) {
	mapped, f := ownedBy(t, alice(), userns.NoMap)
	single, _ := ownedBy(t, alice(), userns.Single)
	kept := func(id Identity) Facts {
		f := f
		f.Kept = &KeptFact{ID: "0123456789ab", Path: "/store/sandboxes/0123456789ab", Copy: CopyOverlay, Owner: id.Ownership()}
		return f
	}
	spec := Spec{Program: "true", In: "0123456789ab", Keep: true}
	p, err := Build(spec, kept(mapped))
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Root; !r.Again || !r.Keep || r.InMemory || r.Sandbox != "/store/sandboxes/0123456789ab" || !slices.Equal(r.Methods, []string{CopyOverlay}) {
		t.Errorf("root %+v", r)
	}
	box := slices.IndexFunc(p.Mounts, func(m mounts.Mount) bool { return m.Target == boxDir })
	if box < 0 || p.Mounts[box].Kind != mounts.Dir {
		t.Errorf("/box is not the sandbox's own: %v", p.Mounts)
	}
	if p, err = Build(spec, kept(single)); err != nil || p.Identity.Mode != userns.Single {
		t.Errorf("one id only: %v %v", p, err)
	}
	spec.Userns = userns.NoMap
	if _, err := Build(spec, kept(single)); err == nil || !strings.Contains(err.Error(), "its files belong to you alone") {
		t.Errorf("another mode: %v", err)
	}
	spec.Userns = userns.Single
	if _, err := Build(spec, kept(mapped)); err == nil || !strings.Contains(err.Error(), "its files belong to your subordinate ids") {
		t.Errorf("another mode: %v", err)
	}
	other := kept(mapped)
	other.Subordinate.GID = []userns.Range{{Start: 300000, Count: 65536}}
	spec.Userns = ""
	if _, err := Build(spec, other); err == nil || !strings.Contains(err.Error(), "other subordinate ids") {
		t.Errorf("another range: %v", err)
	}
}

func TestKeptTreeRoot(t *testing.T) {
	k := KeptTree{Sandbox: "/s", Overlay: true, Image: "/i/tree"}
	if r := k.Root(true); r.Method != mounts.MethodOverlay || r.Upper != "/s/upper" || r.Work != "/s/work" || !r.ReadOnly || !slices.Equal(r.Lower, []string{"/i/tree"}) {
		t.Errorf("%+v", r)
	}
	k.Overlay = false
	if r := k.Root(false); r.Method != mounts.MethodTree || r.Tree != "/s/tree" || r.ReadOnly {
		t.Errorf("%+v", r)
	}
}
