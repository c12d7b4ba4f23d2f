package rootfs

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// shownLevels is how many directories of a path a message names.
const shownLevels = 12

// fail records that name in level l stays; "" is the level itself.
func (r *remover) fail(l *level, name string, err error) {
	l.stays(name)
	reason := obstacle(l.fd, name, err)
	if reason == nil && l.foreign && isPermission(err) {
		reason = fmt.Errorf("%w: %w", ErrNeedsMap, err)
	}
	r.note(name, reason, err)
}

// refuse records that name in the directory dirfd, which need not be a level,
// stays.
func (r *remover) refuse(dirfd int, name string, err error) {
	reason := obstacle(dirfd, name, err)
	if reason == nil && isPermission(err) && r.othersAt(dirfd, name) {
		reason = fmt.Errorf("%w: %w", ErrNeedsMap, err)
	}
	r.note(name, reason, err)
}

// othersAt tells whether name or the directory that it is in belongs to someone
// else.
func (r *remover) othersAt(dirfd int, name string) bool {
	var file, dir unix.Stat_t
	return fstatat(dirfd, name, &file) == nil && int(file.Uid) != r.euid ||
		unix.Fstat(dirfd, &dir) == nil && int(dir.Uid) != r.euid
}

// note keeps the first error, or the one that ends the removal.
func (r *remover) note(name string, reason, err error) {
	if reason == nil {
		reason = err
	}
	needsMap := errors.Is(reason, ErrNeedsMap)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == nil || needsMap && !errors.Is(r.first, ErrNeedsMap) {
		r.first = fmt.Errorf("remove %s: %w", r.label(name), reason)
	}
	if needsMap {
		r.stop.Store(true)
	}
}

// obstacle explains what no id map helps against; nil when it is something else.
func obstacle(dirfd int, name string, err error) error {
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EBUSY):
		return explain(err, "something is mounted on it; unmount it first")
	case !isPermission(err):
		return nil
	}
	switch flag := attribute(dirfd, name); {
	case flag != "":
		return explain(err, fmt.Sprintf("%v: it has the attribute %q; an administrator has to take it away with chattr -%c", err, flag, flag[0]))
	case attribute(dirfd, "") != "":
		flag = attribute(dirfd, "")
		return explain(err, fmt.Sprintf("%v: its directory has the attribute %q; an administrator has to take it away with chattr -%c", err, flag, flag[0]))
	}
	return nil
}

// attribute names what keeps even root from removing a file (statx(2)); the
// letters of chattr(1) are their first ones. name "" is the directory.
func attribute(dirfd int, name string) string {
	var st unix.Statx_t
	if unix.Statx(dirfd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, 0, &st) != nil {
		return ""
	}
	switch {
	case st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0:
		return "immutable"
	case st.Attributes&unix.STATX_ATTR_APPEND != 0:
		return "append only"
	}
	return ""
}

// label shows a path that a payload chose: quoted, and short at any depth.
func (r *remover) label(name string) string {
	depth := r.depth + len(r.levels)
	if depth <= shownLevels {
		return shown(r.pathOf(name))
	}
	return fmt.Sprintf("%s, %d levels below %s", shown(name), depth-r.depth, shown(r.path))
}

// pathOf is the path of an entry of the innermost level, or of the tree itself
// when there is none.
func (r *remover) pathOf(name string) string {
	if len(r.levels) == 0 {
		return r.path
	}
	parts := []string{r.path}
	for _, l := range r.levels[1:] {
		parts = append(parts, l.name)
	}
	if name != "" {
		parts = append(parts, name)
	}
	return strings.Join(parts, "/")
}

func isPermission(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}
