package mounts

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// check refuses an entry that no kernel has to be asked about. Every error
// wraps EINVAL.
func (m Mount) check() error {
	for _, rule := range []func(Mount) string{checkKind, checkTarget, checkSource, checkNumbers, checkPlace} {
		if wrong := rule(m); wrong != "" {
			return fmt.Errorf("%s: %s: %w", m, wrong, unix.EINVAL)
		}
	}
	return nil
}

func checkKind(m Mount) string {
	switch m.Kind {
	case Bind, Tmpfs, Shared, Proc, DevPts, Mqueue, Device, Mask, ReadOnly, File, Symlink, Dir:
		return ""
	}
	return "unknown kind"
}

func checkTarget(m Mount) string {
	switch {
	case !strings.HasPrefix(m.Target, "/") || path.Clean(m.Target) != m.Target:
		return "target is no absolute, clean path"
	case m.Target == "/":
		return "target is the root itself"
	case strings.ContainsRune(m.Target, 0) || len(m.Target) >= unix.PathMax:
		return "target cannot be a path"
	}
	return ""
}

func checkSource(m Mount) string {
	switch m.Kind {
	case Bind, Device:
		if !strings.HasPrefix(m.Source, "/") || path.Clean(m.Source) != m.Source || strings.ContainsRune(m.Source, 0) {
			return "source is no absolute, clean path"
		}
	case Symlink:
		if m.Source == "" || strings.ContainsRune(m.Source, 0) || len(m.Source) >= unix.PathMax {
			return "source cannot be the text of a link"
		}
	}
	if m.Link && (m.Kind != Bind || m.Directory || !m.ReadOnly) {
		return "only a read-only bind can be of a link"
	}
	if m.Kind == Bind && m.Ino == 0 {
		return "source was never looked at (no inode)"
	}
	return ""
}

func checkNumbers(m Mount) string {
	switch m.Kind {
	case Tmpfs, Shared, File, Dir:
		if m.Mode == 0 {
			return "mode is missing"
		}
	}
	switch {
	case m.Mode&^0o1777 != 0:
		return "mode has more than permission bits and sticky"
	case m.Size < 0 || m.Inodes < 0:
		return "negative size"
	case len(m.Content) > MaxContent:
		return "content is too large"
	}
	return ""
}

// checkPlace keeps /proc the kernel's: a file of anyone else in it would be
// believed by every program that reads /proc.
func checkPlace(m Mount) string {
	if m.Target == "/proc" && m.Kind != Proc {
		return "only a procfs can be on /proc"
	}
	if strings.HasPrefix(m.Target, "/proc/") && m.Kind != Mask && m.Kind != ReadOnly {
		return "nothing can be mounted in /proc"
	}
	return ""
}

// Sort returns the entries in the order in which they have to be attached:
// parents before what lies in them, otherwise as given, so that the order of
// flags on a command line does not matter. Errors wrap EINVAL (an entry that
// is wrong in itself), EEXIST (two entries for one target, both named) or
// ENOTDIR (an entry below a file, device, mask or link of the table).
func Sort(ms []Mount) ([]Mount, error) {
	sorted := slices.Clone(ms)
	slices.SortStableFunc(sorted, func(a, b Mount) int {
		return cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/"))
	})
	at := make(map[string]Mount, len(sorted))
	for _, m := range sorted {
		if err := m.check(); err != nil {
			return nil, err
		}
		if other, taken := at[m.Target]; taken {
			return nil, fmt.Errorf("%s: there is also %q for the same target: %w", m, other, unix.EEXIST)
		}
		for dir := path.Dir(m.Target); dir != "/"; dir = path.Dir(dir) {
			if above, ok := at[dir]; ok && !above.holds() {
				return nil, fmt.Errorf("%s: %q leaves no place below it: %w", m, above, unix.ENOTDIR)
			}
		}
		at[m.Target] = m
	}
	return sorted, nil
}

// holds says whether other entries may have their targets below m.
func (m Mount) holds() bool {
	switch m.Kind {
	case Bind:
		return m.Directory
	case File, Device, Mask, Symlink:
		return false
	}
	return true
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT)
}
