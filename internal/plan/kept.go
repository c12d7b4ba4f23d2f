package plan

import (
	"context"
	"fmt"
	"os"

	"github.com/sbx-run/sbx/rootfs"
)

// checkKept holds the rules of --keep, --name and --in.
func checkKept(s Spec) error {
	for _, n := range []struct{ flag, name string }{{"--name", s.Name}, {"--in", s.In}} {
		if n.name != "" && !rootfs.ValidName(n.name) {
			return misuse("%s %q: at most 63 small letters, digits, dots, dashes and underscores, and none of the last three in front", n.flag, n.name)
		}
	}
	if s.In == "" {
		return nil
	}
	for _, other := range []struct {
		flag  string
		given bool
	}{
		{"--name", s.Name != ""},
		{"--image", s.Image != "" && s.Image != ImageBase},
		{"--copy", s.Copy != "" && s.Copy != CopyAuto},
		{"--read-only", s.ReadOnly},
		{"--disk", s.Limits.Disk > 0},
	} {
		if other.given {
			return misuse("--in %s runs in the copy that was kept, and %s is about making one: give one of the two", s.In, other.flag)
		}
	}
	return nil
}

// IdentityFor finds the id map under which files of an owner can be read and
// removed. What has lost its record of the owner is tried under the caller's
// own; what was made under ids that he no longer has is beyond him.
func (f Facts) IdentityFor(o rootfs.Ownership) (Identity, error) {
	current, err := StoreIdentity(Spec{Program: "gc"}, f)
	switch {
	case err != nil:
		return current, err
	case len(o.UIDMap) == 0:
		return current, nil
	case o.Single, f.Caller.UID == 0: // root can map whatever exists
		return IdentityOf(o, f.Helpers, f.Caller.UID == 0), nil
	case f.NoHelpers != "":
		return current, fmt.Errorf("its files belong to subordinate ids: %s", f.NoHelpers)
	}
	now := current.Ownership()
	if !o.Within(now) {
		return current, fmt.Errorf("its files belong to other subordinate ids (%s) than you have now (%s): the administrator can give them back, or remove the files",
			rangeText(o), rangeText(now))
	}
	return IdentityOf(o, f.Helpers, f.Caller.UID == 0), nil
}

// rangeText names the ids of the host below the caller's own, uids and gids.
func rangeText(o rootfs.Ownership) string {
	if o.Single {
		return "none"
	}
	text := ""
	for _, m := range []struct {
		what string
		list []rootfs.IDRange
	}{{"uids", o.UIDMap}, {" and gids", o.GIDMap}} {
		text += m.what
		for _, r := range m.list {
			if r.Inside > 0 {
				text += fmt.Sprintf(" %d-%d", r.Outside, uint64(r.Outside)+uint64(r.Count)-1)
			}
		}
	}
	return text
}

// KeptFact is a kept sandbox as the plan of a further run in it needs it.
type KeptFact struct {
	ID    string           `json:"id"`
	Path  string           `json:"path"` // its directory in the store
	Copy  string           `json:"copy"` // how the copy was made
	Owner rootfs.Ownership `json:"owner"`
}

// KeptRoot is a kept sandbox that the caller has hold of.
type KeptRoot struct {
	Sandbox *rootfs.Sandbox
	Image   *rootfs.Image // nil for a directory of the user's
	Tree    KeptTree
	// View is the root that the program will see. All of it may have been
	// replaced by the one before: paths are resolved inside, nothing is believed.
	View *os.File
}

// LookKept is Look for a run in a kept sandbox. What k holds is the Held's from
// then on, with an error too; all of it is held in any case.
func LookKept(ctx context.Context, s Spec, k KeptRoot, opt LookOptions) (Facts, *Held, error) {
	held := &Held{Sandbox: k.Sandbox, Image: k.Image}
	opt.Hold = true
	l := &look{ctx: ctx, spec: s, opt: opt, held: held, kept: &k, tree: rootfs.RootFromFile(k.View, "/")}
	return l.run()
}

// keptImage is what a kept sandbox was made from, in the place of the image.
func (l *look) keptImage() error {
	st, f := l.kept.Sandbox.State, &l.facts
	f.Kept = &KeptFact{ID: st.ID, Path: l.kept.Sandbox.Path, Copy: st.Copy, Owner: st.Owner}
	if l.kept.Tree.Overlay {
		f.Kept.Copy = CopyOverlay
	} else if f.Kept.Copy == "" || f.Kept.Copy == CopyOverlay {
		f.Kept.Copy = CopyFull
	}
	f.Image = Image{
		Name: st.Image, Key: st.Key, Tree: l.kept.Tree.Image, Foreign: st.Foreign, OwnerUID: st.Owner.HostUID,
	}
	img := l.kept.Image
	if img == nil {
		f.Image.Shell = l.shell()
		return nil
	}
	if img.Imported() {
		f.Image.Imported, f.Image.Owned, f.Image.Digest, f.Config = true, true, img.Digest, img.Config
	}
	f.Image.Shell = img.Shell
	if f.Image.Shell == "" {
		f.Image.Shell = l.shell()
	}
	var err error
	f.Image.Binds, err = imageBinds(st.Image, img.Binds)
	return err
}

// checkKeptOwner refuses a run under ids that the sandbox's files do not have.
func checkKeptOwner(f Facts, id Identity) error {
	if f.Kept == nil || f.Kept.Owner.Within(id.Ownership()) {
		return nil
	}
	if f.Kept.Owner.Single != id.Ownership().Single {
		return misuse("--in %s: its files belong to %s, and --userns=%s has %s: leave --userns away", f.Kept.ID,
			ownerText(f.Kept.Owner), id.Mode, ownerText(id.Ownership()))
	}
	return misuse("--in %s: its files belong to other subordinate ids (%s) than you have now (%s)", f.Kept.ID,
		rangeText(f.Kept.Owner), rangeText(id.Ownership()))
}

func ownerText(o rootfs.Ownership) string {
	if o.Single {
		return "you alone"
	}
	return "your subordinate ids"
}
