package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// User is who the program runs as inside.
type User struct {
	Name string `json:"name"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Home string `json:"home"`
	// Listed is false when the image's /etc/passwd does not know the number; a
	// line for it is then added in the sandbox.
	Listed bool `json:"listed"`
}

// The user of every sandbox unless -u or keep-id says otherwise.
const (
	defaultUser = "sbx"
	defaultUID  = 1000
	defaultHome = "/home/sbx"
)

// maxID is the highest id a process can have; 2^32-1 means "unchanged" to the
// kernel.
const maxID = 1<<32 - 2

// parseUser judges -u against the image's own passwd and group files. A number
// is a number only when every character is a digit (CVE-2026-46680,
// CVE-2024-9676 took other things for one); a name that the image does not know
// is an error, never root.
func parseUser(arg string, passwd, group []byte) (User, error) {
	return userFrom(fmt.Sprintf("--user %q", arg), arg, passwd, group)
}

// userFrom is parseUser for whoever asks; from begins the messages.
func userFrom(from, arg string, passwd, group []byte) (User, error) {
	name, groupName, hasGroup := strings.Cut(arg, ":")
	if name == "" || hasGroup && groupName == "" {
		return User{}, misuse("%s: write NAME or UID, optionally followed by :GROUP or :GID", from)
	}
	u, err := lookupUser(from, name, passwd)
	if err != nil {
		return User{}, err
	}
	if hasGroup {
		gid, isNumber, err := number(from, groupName)
		if err != nil {
			return User{}, err
		}
		if !isNumber {
			fields := entry(group, 0, groupName)
			if len(fields) < 3 {
				return User{}, misuse("%s: the image has no group %q", from, groupName)
			}
			if gid, err = listed(from, fields[2]); err != nil {
				return User{}, err
			}
		}
		u.GID = gid
	}
	return u, nil
}

// imageUser reads the User of an image as docker does: without a name it is
// root, without a group that of passwd, and the group 0 where passwd does not
// know the number. Images for any number make their files writable for group 0.
func imageUser(text string, f Facts) (User, error) {
	name, group, _ := strings.Cut(text, ":")
	arg := cmp.Or(name, "0")
	if group != "" {
		arg += ":" + group
	}
	u, err := userFrom(fmt.Sprintf("the image's User %q", text), arg, f.Passwd, f.Group)
	if err != nil {
		return User{}, f.explainHidden(err)
	}
	if !u.Listed && group == "" {
		u.GID = 0
	}
	return u, nil
}

// explainHidden adds to an error about a user why the image seems not to know him.
func (f Facts) explainHidden(err error) error {
	if err == nil || !f.UsersHidden {
		return err
	}
	return misuse("%v, as far as you can see: its mode keeps /etc/passwd from you; give a number, as in --user 1000", err)
}

func lookupUser(from, name string, passwd []byte) (User, error) {
	uid, isNumber, err := number(from, name)
	if err != nil {
		return User{}, err
	}
	fields := entry(passwd, 0, name)
	if isNumber {
		fields = entry(passwd, 2, strconv.FormatUint(uint64(uid), 10))
		if len(fields) < 6 {
			// Unknown to the image: the group gets the same number, as the
			// generated passwd line does.
			if uid == 0 {
				return User{Name: "root", Home: "/root"}, nil
			}
			return User{Name: defaultUser, UID: uid, GID: uid, Home: defaultHome}, nil
		}
	}
	if len(fields) < 6 {
		return User{}, misuse("%s: the image has no user %q", from, name)
	}
	u := User{Name: fields[0], Home: fields[5], Listed: true}
	if u.UID, err = listed(from, fields[2]); err != nil {
		return User{}, err
	}
	if u.GID, err = listed(from, fields[3]); err != nil {
		return User{}, err
	}
	if !strings.HasPrefix(u.Home, "/") {
		u.Home = "/"
	}
	return u, nil
}

// listed reads an id that the image's own file gives. Whatever else stands there
// is an error, and not 0.
func listed(from, s string) (uint32, error) {
	id, ok, err := number(from, s)
	if err == nil && !ok {
		err = misuse("%s: the image lists it with the number %q, which is none", from, s)
	}
	return id, err
}

// number reads an id: digits only, in range. Anything else is not a number,
// unless it looks like one that went wrong.
func number(from, s string) (id uint32, ok bool, err error) {
	if s == "" {
		return 0, false, nil
	}
	if strings.Trim(s, "0123456789") != "" {
		if c := s[0]; c == '-' || c == '+' || '0' <= c && c <= '9' {
			return 0, false, misuse("%s: %q is neither a number nor a name", from, s)
		}
		return 0, false, nil
	}
	n, perr := strconv.ParseUint(s, 10, 64)
	if perr != nil || n > maxID {
		return 0, false, misuse("%s: %s is out of range, ids go from 0 to %d", from, s, uint32(maxID))
	}
	return uint32(n), true, nil
}

// entry returns the first line of a passwd or group file whose field equals
// value, split at colons, or nil.
func entry(file []byte, field int, value string) []string {
	for line := range bytes.Lines(file) {
		fields := strings.Split(strings.TrimRight(string(line), "\r\n"), ":")
		if len(fields) > field && fields[field] == value && !strings.HasPrefix(fields[0], "#") {
			return fields
		}
	}
	return nil
}
