package userns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	subuidFile   = "/etc/subuid"
	subgidFile   = "/etc/subgid"
	nsswitchFile = "/etc/nsswitch.conf"

	// maxSubidBytes bounds a range file; 16 MiB are half a million users.
	maxSubidBytes = 16 << 20
	// maxConfigBytes bounds the other files of /etc that are read here.
	maxConfigBytes = 1 << 20
	// maxWarnings bounds what a file full of nonsense can put into a report.
	maxWarnings = 8
)

// ErrNoRange is wrapped by every error that says a user has no subordinate ids. A
// caller may fall back to [Single] on it, with the error as the reason.
var ErrNoRange = errors.New("no subordinate range")

// Range is Count ids of the host from Start on.
type Range struct {
	Start uint32 `json:"start"`
	Count uint32 `json:"count"`
}

// String is the range as "first-last".
func (r Range) String() string {
	return fmt.Sprintf("%d-%d", r.Start, uint64(r.Start)+uint64(r.Count)-1)
}

// Subordinate is what a host grants a user beside his own ids, in the host's order
// and as yet unchecked; a layout is where ranges are checked. No range is no error:
// hosts without subordinate ids are common.
type Subordinate struct {
	UID []Range `json:"uid"`
	GID []Range `json:"gid"`
	// Source names where the ranges came from, or would have: "/etc/subuid" or
	// "getsubids".
	Source string `json:"source"`
	// Warnings has a sentence for each line of the user that was skipped and for a
	// getsubids that failed, at most 8.
	Warnings []string `json:"warnings,omitempty"`
}

// LookupSubordinate finds the subordinate ids of a user, by name and, as shadow
// does too, by number.
//
// /etc/subuid and /etc/subgid are read first, since that costs microseconds and
// starting getsubids 1-2 ms on every start of every sandbox. getsubids is asked
// only when it can say something else than the files:
//
//   - /etc/nsswitch.conf has a "subid:" line with another source (LDAP, SSSD). Such
//     a source replaces the files, newuidmap(1) then ignores them, so its answer
//     counts even where the files name a range.
//   - the files name no range of one of the kinds. A shadow built with other paths
//     may still know some.
//
// An unreadable file is an error; a missing one is an empty one.
func LookupSubordinate(user string, uid uint32) (Subordinate, error) {
	sub := Subordinate{Source: subuidFile}
	var err error
	if sub.UID, err = readSubid(subuidFile, user, uid, &sub.Warnings); err != nil {
		return Subordinate{}, err
	}
	if sub.GID, err = readSubid(subgidFile, user, uid, &sub.Warnings); err != nil {
		return Subordinate{}, err
	}
	nsswitch, err := readCapped(nsswitchFile, maxConfigBytes)
	if err != nil {
		return Subordinate{}, err
	}
	other := otherSubidSource(nsswitch)
	if !other && len(sub.UID) > 0 && len(sub.GID) > 0 {
		return sub, nil
	}
	asked, err := askGetsubids(user)
	switch {
	case errors.Is(err, ErrNotInstalled) && !other:
		return sub, nil
	case err != nil && other:
		// The files do not count on such a host, so neither do their ranges.
		return Subordinate{Source: getsubidsName, Warnings: []string{err.Error()}}, nil
	case err != nil || len(asked.UID) == 0 || len(asked.GID) == 0:
		return sub, nil
	}
	return asked, nil
}

// readSubid returns the ranges that the file at path gives to user or to uid.
func readSubid(path, user string, uid uint32, warnings *[]string) ([]Range, error) {
	text, err := readCapped(path, maxSubidBytes)
	if err != nil {
		return nil, err
	}
	ranges, bad := parseSubid(text, user, uid)
	for _, b := range bad {
		if len(*warnings) < maxWarnings {
			*warnings = append(*warnings, path+": "+b)
		}
	}
	return ranges, nil
}

// parseSubid reads lines of subuid(5), "owner:start:count". Lines of other owners
// are passed over unread: their mistakes are not this user's. A line of his that
// does not parse is skipped and described in bad. A range that is given twice, by
// name and by number, is returned once.
func parseSubid(text []byte, user string, uid uint32) (ranges []Range, bad []string) {
	number := strconv.FormatUint(uint64(uid), 10)
	for line := range bytes.Lines(text) {
		owner, rest, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		if !ok || owner == "" || (owner != user && owner != number) {
			continue
		}
		start, count, _ := strings.Cut(rest, ":")
		r, err := parseRange(start, count)
		if err != nil {
			if len(bad) < maxWarnings {
				bad = append(bad, fmt.Sprintf("skipped %.80q: %v", line, err))
			}
			continue
		}
		if !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	return ranges, bad
}

func parseRange(start, count string) (Range, error) {
	first, err := parseID(start)
	if err != nil {
		return Range{}, err
	}
	n, err := parseID(count)
	if err != nil {
		return Range{}, err
	}
	if n == 0 {
		return Range{}, errors.New("range of no ids")
	}
	return Range{Start: first, Count: n}, nil
}

// otherSubidSource reports whether nsswitch.conf(5) sends subid lookups anywhere
// else than to the files.
func otherSubidSource(nsswitch []byte) bool {
	for line := range bytes.Lines(nsswitch) {
		text, _, _ := strings.Cut(string(line), "#")
		database, sources, ok := strings.Cut(text, ":")
		if ok && strings.TrimSpace(database) == "subid" {
			source := strings.Fields(sources)
			return len(source) > 0 && source[0] != "files"
		}
	}
	return false
}

// readCapped reads a whole file of the host, none if it does not exist, and refuses
// one longer than limit bytes rather than cutting it in the middle of a number.
func readCapped(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, limit)
	}
	return text, nil
}
