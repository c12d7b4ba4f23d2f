package archive

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// choose picks the one candidate that is meant.
func (l *layout) choose() (candidate, error) {
	if len(l.found) == 0 {
		return candidate{}, fault(unix.EINVAL, "its index lists no image")
	}
	list := l.found
	if ref := l.im.opt.Ref; ref != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(c candidate) bool {
			return !refFits(ref, c.tag) && c.Digest != ref && !slices.ContainsFunc(c.refs, func(have string) bool { return refFits(ref, have) })
		})
		for i := range list {
			list[i].only(ref)
		}
		if len(list) == 0 {
			return candidate{}, fault(unix.ENOENT, "it has no image %s; it has %s", shown(ref), listed(l.found, (*candidate).called))
		}
	}
	if names := distinct(list, (*candidate).called); len(names) > 1 {
		return candidate{}, fault(unix.EINVAL, "it has several images; --ref takes one of them: %s", listed(list, (*candidate).called))
	}
	return l.choosePlatform(list)
}

// choosePlatform picks the candidate for the platform: the first that fits best
// of one index. Two of different indexes are two images.
func (l *layout) choosePlatform(list []candidate) (candidate, error) {
	if len(list) == 1 && list[0].Platform == nil {
		return list[0], nil // its configuration tells, and is read anyway
	}
	for i := range list {
		if list[i].Platform == nil {
			if i >= maxConfigs {
				return candidate{}, fault(unix.EFBIG, "its index lists more than %d images without saying for which platform", maxConfigs)
			}
			p, err := l.platformOf(list[i])
			if err != nil {
				return candidate{}, err
			}
			list[i].Platform = &p
		}
	}
	want := l.im.platform
	best := slices.MaxFunc(list, func(a, b candidate) int { return cmp.Compare(want.fit(*a.Platform), want.fit(*b.Platform)) })
	if want.fit(*best.Platform) == 0 {
		return candidate{}, fault(unix.ENOEXEC, "it has no image for %s; it has %s", want,
			listed(list, func(c *candidate) string { return shownPlatform(c.Platform.normal()) }))
	}
	for _, c := range list {
		if c.in != "" && c.in == best.in {
			continue // image-index.md: the first that fits; podman lists one with gzip and one with zstd
		}
		if c.Digest != best.Digest && want.fit(*c.Platform) == want.fit(*best.Platform) {
			return candidate{}, fault(unix.EINVAL, "it has several images for %s; --ref takes one of them: %s", want,
				listed(list, func(c *candidate) string { return c.Digest }))
		}
	}
	return best, nil
}

// refFits compares a name that was asked for with one that is there.
func refFits(asked, have string) bool {
	return asked == have || strings.HasSuffix(have, "/"+asked) || strings.HasSuffix(have, ":"+asked) ||
		have == asked+":latest" || strings.HasSuffix(have, "/"+asked+":latest")
}

// maxListed bounds a list in a message.
const maxListed = 16

func distinct(list []candidate, of func(*candidate) string) []string {
	var all []string
	for i := range list {
		all = append(all, of(&list[i]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// listed is what the candidates are, for a message.
func listed(list []candidate, of func(*candidate) string) string {
	all := distinct(list, of)
	for i := range all {
		switch {
		case all[i] == "":
			all[i] = "one without a name"
		case strings.ContainsFunc(all[i], func(r rune) bool { return r <= ' ' || r > '~' }) || len(all[i]) > maxShown:
			all[i] = shown(all[i])
		}
	}
	if more := len(all) - maxListed; more > 0 {
		all = append(all[:maxListed], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}
