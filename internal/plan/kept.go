package plan

import (
	"fmt"
	"slices"

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
	if !slices.Equal(o.UIDMap, now.UIDMap) || !slices.Equal(o.GIDMap, now.GIDMap) {
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
