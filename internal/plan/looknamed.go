package plan

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// isPath tells a directory from the name of an image, which never begins so.
func isPath(image string) bool {
	return image == "." || image == ".." || strings.HasPrefix(image, "/") ||
		strings.HasPrefix(image, "./") || strings.HasPrefix(image, "../")
}

// isOwnImage is true for the images that sbx makes itself.
func isOwnImage(image string) bool {
	return image == "" || image == ImageBase || image == ImageHost || image == ImageScratch
}

// namedImage is --image NAME: an image of the store, or, where it has none of
// that name and the word has a slash, a directory.
func (l *look) namedImage(ref string) error {
	info, err := l.findNamed(ref)
	if errors.Is(err, unix.ENOENT) {
		if strings.Contains(ref, "/") && l.isDirectory(ref) {
			return l.dirImage(ref)
		}
		return misuse("--image %s: no such image; there are %s, %s, %s and what `sbx image ls` lists; for a directory write a path, as in ./%s",
			ref, ImageBase, ImageHost, ImageScratch, ref)
	}
	if err != nil {
		return misuse("--image %s: %v", ref, err)
	}
	owned, err := l.checkOwner(ref, info)
	if err != nil {
		return err
	}
	img := Image{
		Name: ref, Key: info.Key, Digest: info.Digest, Imported: true, Foreign: true, Owned: owned, OwnerUID: info.Owner.HostUID,
		Tree: path.Join(l.facts.Store, "images", "imported", info.Key, "tree"),
	}
	if l.tree, err = rootfs.OpenRoot(img.Tree); err != nil {
		return err
	}
	img.Shell = l.shell()
	l.facts.Image, l.facts.Config = img, info.Config
	return nil
}

// findNamed holds the image if things are to be held.
func (l *look) findNamed(ref string) (rootfs.ImageInfo, error) {
	if !l.opt.Hold {
		return rootfs.InspectNamed(l.facts.Store, ref)
	}
	if l.held.Store == nil {
		return rootfs.ImageInfo{}, unix.ENOENT
	}
	img, err := l.held.Store.FindNamed(ref)
	if err != nil {
		return rootfs.ImageInfo{}, err
	}
	l.held.Image = img
	return img.ImageInfo, nil
}

func (l *look) isDirectory(name string) bool {
	var st unix.Stat_t
	return unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// checkOwner compares the ids that the image was unpacked under with those of
// this run. owned is true when they are the same; one that belongs to the caller
// alone is copied, so that its files get an owner inside.
func (l *look) checkOwner(ref string, info rootfs.ImageInfo) (owned bool, err error) {
	id, err := StoreIdentity(l.spec, l.facts)
	if err != nil {
		return false, err
	}
	owner := id.Ownership()
	switch {
	case info.Owner.Within(owner):
		return true, nil
	case info.Owner.Single && info.Owner.HostUID == l.facts.Caller.UID:
		return false, nil
	case owner.Single:
		why := "with one id only its files cannot be used"
		if id.Why != "" {
			why = id.Why
		}
		return false, misuse("--image %s: it was imported under your subordinate ids (%d on), and %s; import it again with --userns=single", ref, info.Owner.HostUID, why)
	case info.Owner.HostUID == owner.HostUID:
		return false, misuse("--image %s: it was imported with more ids than the mode %s has here; import it again with --userns=%s", ref, id.Mode, id.Mode)
	default:
		return false, misuse("--image %s: it belongs to the ids %d on, and yours are %d on; remove it and import it again", ref, info.Owner.HostUID, owner.HostUID)
	}
}

func (l *look) shell() string {
	for _, shell := range []string{"/bin/bash", "/bin/sh"} {
		if _, err := l.tree.Stat(shell); err == nil {
			return shell
		}
	}
	return ""
}

// filled finds out which of the directories that sbx would put an empty one over
// have something in them, or are one with another of them, or cannot be seen, and whether the image's working directory is there.
// docker shows what an image has in /run or in a home, and programs need it.
func (l *look) filled() error {
	f := &l.facts
	if !f.Image.Imported || l.tree == nil {
		return nil
	}
	dirs := []string{"/tmp", "/var/tmp", "/run", boxDir}
	if _, user, err := identity(l.spec, *f); err == nil { // an error is Build's to report
		dirs = append(dirs, path.Clean(user.Home))
	}
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	for _, dir := range dirs {
		st, err := l.tree.Stat(dir)
		if errors.Is(err, unix.EACCES) {
			f.Closed = append(f.Closed, dir)
			continue
		}
		if err != nil {
			continue // it is made
		}
		// Two of them may be one place: /var/tmp is a link to /tmp, say.
		id := inode{st.Dev, st.Ino}
		if empty, err := l.tree.Empty(dir); seen[id] || err == nil && !empty || errors.Is(err, unix.EACCES) {
			f.Filled = append(f.Filled, dir)
		}
		seen[id] = true
	}
	slices.Sort(f.Filled)
	f.Filled = slices.Compact(f.Filled)
	_, err := l.tree.Stat(workdir(l.spec, *f))
	f.NoWorkdir = errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES)
	return nil
}

// userFile reads passwd or group of the image; it leaves out what a stranger's mode keeps from the caller: the program
// may read it all the same, so nothing is to be put over it.
func (l *look) userFile(name string) ([]byte, error) {
	data, err := l.tree.ReadFile(name, maxIdentityFile)
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return nil, nil
	case errors.Is(err, unix.EACCES) && (l.facts.Image.Imported || l.kept != nil):
		l.facts.UsersHidden = l.facts.UsersHidden || name == "/etc/passwd"
		return nil, nil
	}
	return nil, misuse("read %s of the image: %v", name, err)
}
