package plan

import (
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// inode tells a directory whatever name it is reached by: links and bind mounts
// give one several.
type inode struct{ dev, ino uint64 }

func inodeOf(path string) (inode, bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return inode{}, false
	}
	return inode{st.Dev, st.Ino}, true
}

// contains tells whether a directory is path or one above it, by whatever name.
func (dir inode) contains(path string) bool {
	plain, err := filepath.EvalSymlinks(path)
	if err != nil {
		plain = path // as far as it exists
	}
	for at := plain; ; at = filepath.Dir(at) {
		if id, ok := inodeOf(at); ok && id == dir {
			return true
		}
		if at == "/" || at == "." {
			return false
		}
	}
}

// homes are what may be the caller's home: $HOME can be set to anything, and the
// entry in /etc/passwd is what his logins use. Who is listed elsewhere (LDAP)
// has only the first: no program of the host is run to ask.
func homes(c Caller) []string {
	list := []string{c.Home}
	if u, err := user.LookupId(strconv.FormatUint(uint64(c.UID), 10)); err == nil {
		list = append(list, u.HomeDir)
	}
	return list
}

// precious says what of the caller's a share would give away as a whole, empty
// for nothing: his home, or the store.
func (l *look) precious(sh Shared) (home, store bool) {
	dir := inode{sh.Dev, sh.Ino}
	for _, path := range homes(l.facts.Caller) {
		// A home of / is what users without one have.
		home = home || filepath.IsAbs(path) && filepath.Clean(path) != "/" && dir.contains(path)
	}
	if l.facts.Store == "" {
		return home, false
	}
	id, exists := inodeOf(l.facts.Store)
	return home, dir.contains(l.facts.Store) || exists && id.contains(sh.Resolved)
}
