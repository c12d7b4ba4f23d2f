package mounts

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// follow protects what a link leads to, as far as it lies in the tree. The link
// itself is bound on itself, so it can be followed as before and not be replaced.
// Out of the tree there is nothing that the payload could change.
func (g *guard) follow(rel, reason string) {
	text, err := os.Readlink(path.Join(g.source, rel))
	if err != nil {
		g.unprotected(rel, "cannot be read: "+err.Error())
		return
	}
	leads := path.Clean(text)
	if !path.IsAbs(leads) {
		leads = path.Join(g.source, parent(rel), text)
	}
	inside, ok := strings.CutPrefix(leads, g.source+"/")
	if !ok {
		return
	}
	// A further link on the way could be replaced.
	fd, err := retryOpenat2(g.top, inside, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	switch {
	case err == nil:
		unix.Close(fd)
	case errors.Is(err, unix.ENOENT) && g.isDirectory(parent(inside)):
		g.pin(parent(inside))
		g.reserve(inside, gitRule{directory: true, reason: reason})
		return
	case errors.Is(err, unix.ENOENT):
		g.unprotected(rel, "is a symbolic link to what does not exist ("+reason+")")
		return
	default:
		g.unprotected(rel, "is a symbolic link by way of others, which can be replaced ("+reason+")")
		return
	}
	if names, err := g.list(inside); err == nil && isRepository(names) {
		g.pin(inside)
		g.repository(inside)
		return
	}
	g.protect(inside, reason)
}

func (g *guard) isDirectory(rel string) bool {
	_, err := g.list(rel)
	return err == nil
}
