package userns

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	getsubidsName = "getsubids"

	// getsubidsTimeout bounds a directory service that does not answer; a cold
	// SSSD takes about a second.
	getsubidsTimeout = 5 * time.Second
)

// askGetsubids runs getsubids(1) for users and groups at the same time.
func askGetsubids(user string) (Subordinate, error) {
	// The program has no "--": a name with a leading dash would be read as a flag.
	if user == "" || user[0] == '-' {
		return Subordinate{}, fmt.Errorf("run %s: cannot ask for user %q", getsubidsName, user)
	}
	path, err := findTrusted(helperDirs(), getsubidsName)
	if err != nil {
		return Subordinate{}, err
	}
	uid := startHelper(getsubidsTimeout, path, user)
	gid := startHelper(getsubidsTimeout, path, "-g", user)
	err = errors.Join(uid.wait(), gid.wait())
	if err != nil {
		return Subordinate{}, err
	}
	sub := Subordinate{Source: getsubidsName}
	if sub.UID, err = parseGetsubids(uid.stdout.kept.Bytes()); err != nil {
		return Subordinate{}, err
	}
	if sub.GID, err = parseGetsubids(gid.stdout.kept.Bytes()); err != nil {
		return Subordinate{}, err
	}
	return sub, nil
}

// parseGetsubids reads lines "0: alice 100000 65536". Only the last two words are
// looked at, since a name from a directory service may hold blanks. A line that
// does not parse is an error, unlike in a file: nobody edits a program's answer by
// hand. So is an answer as long as what is kept of it, since its last number may be
// cut.
func parseGetsubids(text []byte) ([]Range, error) {
	if len(text) >= maxHelperOutput {
		return nil, fmt.Errorf("read %s output: %d bytes or more", getsubidsName, maxHelperOutput)
	}
	var ranges []Range
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 4 {
			return nil, fmt.Errorf("read %s output: line %.80q", getsubidsName, line)
		}
		n := len(fields)
		r, err := parseRange(fields[n-2], fields[n-1])
		if err != nil {
			return nil, fmt.Errorf("read %s output: line %.80q: %w", getsubidsName, line, err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}
