package rootfs

import "slices"

// Within reports whether files that were given to the ids of o belong to the
// same ids under the map of now: o is the same, or now has more ranges behind
// those that o had.
func (o Ownership) Within(now Ownership) bool {
	if o.Single != now.Single || o.HostUID != now.HostUID || o.HostGID != now.HostGID {
		return false
	}
	return within(o.UIDMap, now.UIDMap) && within(o.GIDMap, now.GIDMap)
}

// within holds for each line that the other map has the same ids, maybe more.
func within(lines, now []IDRange) bool {
	return !slices.ContainsFunc(lines, func(r IDRange) bool {
		return !slices.ContainsFunc(now, func(n IDRange) bool {
			return r.Inside >= n.Inside && r.Inside-n.Inside == r.Outside-n.Outside && r.Outside >= n.Outside &&
				uint64(r.Inside)+uint64(r.Count) <= uint64(n.Inside)+uint64(n.Count)
		})
	})
}

// IDs are how many user and group ids an image has inside, from 0 on; 1 and 1
// in single mode.
func (o Ownership) IDs() (uids, gids uint32) {
	if o.Single {
		return 1, 1
	}
	return idsFrom(o.UIDMap, uint32(o.UID)), idsFrom(o.GIDMap, uint32(o.GID))
}

func idsFrom(lines []IDRange, first uint32) uint32 {
	var n uint32
	for _, r := range lines {
		if r.Inside >= first {
			n += r.Count
		}
	}
	return n
}
