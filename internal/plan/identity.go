package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// identity chooses the mode, lays out both user namespaces and finds the user
// inside.
func identity(s Spec, f Facts) (Identity, User, error) {
	id, err := chooseMode(s, f)
	if err != nil {
		return id, User{}, err
	}
	u, err := payloadUser(s, f, id.Mode)
	if err != nil {
		return id, u, err
	}
	if id.Layout, err = layout(f, id.Mode, userns.Identity{UID: u.UID, GID: u.GID}); err != nil {
		return id, u, &Misuse{Reason: err.Error()}
	}
	return id, u, nil
}

func layout(f Facts, mode userns.Mode, inside userns.Identity) (userns.Layout, error) {
	if f.Caller.UID == 0 {
		return userns.NewRootLayout(mode, inside, f.Subordinate)
	}
	return userns.NewLayout(mode, userns.Identity{UID: f.Caller.UID, GID: f.Caller.GID}, inside, f.Subordinate)
}

// tellMaps tells U1's maps, which do not depend on who the program is to be.
func (l *look) tellMaps() error {
	if l.opt.Maps == nil || l.spec.In != "" {
		return nil
	}
	id, err := chooseMode(l.spec, l.facts)
	if err != nil {
		return nil //nolint:nilerr // Build comes to the same, when everything else has been looked at
	}
	known, err := layout(l.facts, id.Mode, userns.Identity{})
	if err != nil {
		return nil //nolint:nilerr // the same
	}
	id.Layout = userns.Layout{Mode: known.Mode, SetupUID: known.SetupUID, SetupGID: known.SetupGID}
	l.opt.Maps(id)
	return nil
}

// chooseMode is the part of identity that does not depend on the image.
func chooseMode(s Spec, f Facts) (Identity, error) {
	id := Identity{Mode: s.Userns, Helpers: f.Helpers, SetGroups: true}
	reason := noRange(f)
	if f.Kept != nil && f.Kept.Owner.Single && f.Caller.UID != 0 && (s.Userns == "" || s.Userns == "auto") {
		id.Mode, id.Why = userns.Single, "the sandbox was made so"
	} else if s.Userns == "" || s.Userns == "auto" {
		id.Mode, id.Why = bestMode(s, f, reason)
	} else if reason != "" && s.Userns != userns.Single {
		return id, misuse("--userns=%s: %s; `sbx doctor --admin` prints what to ask the administrator for", s.Userns, reason)
	}
	isRoot := f.Caller.UID == 0
	id.Direct = isRoot || id.Mode == userns.Single
	id.SetGroups = id.Mode != userns.Single || isRoot
	return id, nil
}

// bestMode is --userns=auto.
func bestMode(s Spec, f Facts, noRange string) (userns.Mode, string) {
	switch {
	case f.Caller.UID == 0:
		return userns.NoMap, ""
	case noRange != "":
		return userns.Single, noRange
	case len(s.Shares) > 0:
		return userns.KeepID, "host paths are shared"
	default:
		return userns.NoMap, ""
	}
}

// noRange is why newuidmap cannot map a range for the caller, or empty.
func noRange(f Facts) string {
	switch {
	case f.Caller.UID == 0:
		return ""
	case f.NoHelpers != "":
		return f.NoHelpers
	case len(f.Subordinate.UID) == 0:
		return fmt.Sprintf("no subordinate uids for %s in /etc/subuid", f.Caller.Name)
	case len(f.Subordinate.GID) == 0:
		return fmt.Sprintf("no subordinate gids for %s in /etc/subgid", f.Caller.Name)
	default:
		return ""
	}
}

// Ownership says which ids own the files of an image or sandbox under this
// identity, in the words of the store.
func (id Identity) Ownership() rootfs.Ownership {
	root := id.Layout.Root()
	owner := rootfs.Ownership{
		Single: root.UID == 0, UID: int(root.UID), GID: int(root.GID),
		UIDMap: ranges(id.Layout.SetupUID), GIDMap: ranges(id.Layout.SetupGID),
	}
	owner.HostUID, _ = id.Layout.SetupUID.Outside(root.UID)
	owner.HostGID, _ = id.Layout.SetupGID.Outside(root.GID)
	return owner
}

func ranges(m userns.Map) []rootfs.IDRange {
	list := make([]rootfs.IDRange, len(m))
	for i, e := range m {
		list[i] = rootfs.IDRange(e)
	}
	return list
}

// IdentityOf is the identity under which files of an owner can be removed: what
// a killed run left is found in the store with its id map.
func IdentityOf(owner rootfs.Ownership, helpers userns.Helpers, isRoot bool) Identity {
	id := Identity{Mode: userns.NoMap, Helpers: helpers, Direct: isRoot || owner.Single}
	if owner.Single {
		id.Mode = userns.Single
	}
	for _, r := range owner.UIDMap {
		id.Layout.SetupUID = append(id.Layout.SetupUID, userns.Extent(r))
	}
	for _, r := range owner.GIDMap {
		id.Layout.SetupGID = append(id.Layout.SetupGID, userns.Extent(r))
	}
	id.Layout.Mode = id.Mode
	return id
}

// payloadUser is -u, else what an imported image says, else the caller's own
// number where that is the point of the mode, else root for an image that has a
// configuration, as in docker, and sbx (1000) for all others.
func payloadUser(s Spec, f Facts, mode userns.Mode) (User, error) {
	fromImage := ""
	if f.Config != nil {
		fromImage = f.Config.User
	}
	switch {
	case s.User != "":
		u, err := parseUser(s.User, f.Passwd, f.Group)
		return u, f.explainHidden(err)
	case fromImage != "":
		return imageUser(fromImage, f)
	case mode == userns.KeepID && f.Caller.UID != 0:
		u := User{Name: defaultUser, UID: f.Caller.UID, GID: f.Caller.GID, Home: defaultHome}
		u.Listed = u.UID == defaultUID && u.GID == defaultUID && !f.Image.Foreign
		return u, nil
	case f.Config != nil:
		// docker's default, which the files of an image are made for.
		return userFrom("the image's root", "0", f.Passwd, f.Group)
	default:
		u := User{Name: defaultUser, UID: defaultUID, GID: defaultUID, Home: defaultHome}
		u.Listed = !f.Image.Foreign || entry(f.Passwd, 2, "1000") != nil
		if fields := entry(f.Passwd, 2, "1000"); len(fields) >= 6 && strings.HasPrefix(fields[5], "/") {
			u.Name, u.Home = fields[0], fields[5]
		}
		return u, nil
	}
}

// identityWarnings are the lines before the start that say what is weaker than
// it could be.
func identityWarnings(f Facts, p *Plan) []string {
	var list []string
	switch {
	case f.Caller.UID == 0:
		list = append(list, "running as root: the program is mapped to ids that are not root outside, but every mistake of sbx would be root's; run it as an ordinary user where you can")
	case p.Identity.Mode == userns.Single:
		line := "weaker isolation, one id only"
		if p.Identity.Why != "" {
			line += " (" + p.Identity.Why + ")"
		}
		line += ": the program acts as you on the host's files it can reach"
		if names := groupNames(f.Caller.Groups, false); names != "" {
			line += " and keeps your groups " + names
		}
		list = append(list, line)
	}
	return list
}

// groupNames joins the names, or only those of groups that grant power over the
// host (docker, disk, …).
func groupNames(groups []userns.Group, power bool) string {
	var names []string
	for _, g := range groups {
		if g.Power || !power {
			names = append(names, g.String())
		}
	}
	return strings.Join(names, ", ")
}

// IsMisuse tells whether err is the user's to mend on the command line.
func IsMisuse(err error) bool {
	var m *Misuse
	return errors.As(err, &m)
}
