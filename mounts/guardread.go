package mounts

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// dirent is one name of a directory with its DT_ type, which is never
// DT_UNKNOWN.
type dirent struct {
	name string
	kind uint8
}

// list reads one directory of the tree. Another file system, which the host's
// programs reach through the tree as well, is not entered: it may be huge,
// remote or a service of another program.
func (g *guard) list(rel string) ([]dirent, error) {
	if rel == "" {
		rel = "."
	}
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	fd, err := retryOpenat2(g.top, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, resolve)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	entries, err := f.ReadDir(g.bounds.entries + 1)
	if err != nil && len(entries) == 0 {
		return nil, nil // io.EOF: an empty directory
	}
	names := make([]dirent, 0, len(entries))
	for _, e := range entries {
		kind := uint8(unix.DT_REG)
		switch {
		case e.IsDir():
			kind = unix.DT_DIR
		case e.Type()&os.ModeSymlink != 0:
			kind = unix.DT_LNK
		}
		names = append(names, dirent{e.Name(), kind})
	}
	return names, nil
}

// isRepository recognises a git directory in the way git does: HEAD, objects
// and refs. It may have any name, a bare one at the top included.
func isRepository(names []dirent) bool {
	found := 0
	for _, e := range names {
		if e.name == "HEAD" || ((e.name == "objects" || e.name == "refs") && e.kind == unix.DT_DIR) {
			found++
		}
	}
	return found == 3
}

// maxGitConfig bounds what is read of a repository's config, in bytes.
const maxGitConfig = 64 << 10

// configured returns the files and directories in the tree that a
// repository's config refers to: core.hooksPath, which is relative to the
// worktree, and include.path, relative to the config.
func (g *guard) configured(repository string) []string {
	fd, err := retryOpenat2(g.top, join(repository, "config"), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	data := make([]byte, maxGitConfig)
	n, err := unix.Read(fd, data)
	if err != nil {
		return nil
	}
	worktree := repository
	if path.Base(repository) == ".git" {
		worktree = parent(repository)
	}
	hooks, includes := scanGitConfig(string(data[:n]))
	var found []string
	for base, values := range map[string][]string{worktree: hooks, repository: includes} {
		for _, value := range values {
			if rel, ok := g.inTree(base, value); ok {
				found = append(found, rel)
			}
		}
	}
	return found
}

// inTree returns the path of a configured value relative to the top, when it
// is in the tree and exists.
func (g *guard) inTree(base, value string) (string, bool) {
	full := path.Join(g.source, base, value)
	if strings.HasPrefix(value, "/") {
		full = path.Clean(value)
	}
	if !within(full, g.source) || full == g.source || strings.HasPrefix(value, "~") {
		return "", false
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(full, g.source), "/")
	fd, err := retryOpenat2(g.top, rel, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH)
	if err != nil {
		return "", false
	}
	unix.Close(fd)
	return rel, true
}

// scanGitConfig finds the values of hooksPath, fsmonitor and path in the simple form in
// which git itself writes them. The file is the user's own at this time, so
// that a form which it does not know is a gap, not an attack.
func scanGitConfig(text string) (hooks, includes []string) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if value == "" || strings.ContainsRune(value, 0) {
			continue
		}
		key = strings.TrimSpace(key)
		if i := strings.LastIndexByte(key, ']'); i >= 0 {
			key = strings.TrimSpace(key[i+1:])
		}
		switch strings.ToLower(key) {
		case "hookspath":
			hooks = append(hooks, value)
		case "fsmonitor": // a command, run by git status; or true, false
			if words := strings.Fields(value); len(words) > 0 {
				hooks = append(hooks, words[0])
			}
		case "path":
			includes = append(includes, value)
		}
	}
	return hooks, includes
}
