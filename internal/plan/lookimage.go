package plan

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// store finds the store, and opens it if it is there: making it is a change on
// the host, for which the plan has to be sound first.
func (l *look) store() error {
	var err error
	if l.facts.Store, err = rootfs.StorePath(os.Getenv); err != nil {
		return err
	}
	exists, err := rootfs.InspectStore(l.facts.Store)
	if err != nil || !exists {
		return err
	}
	// pid 1 follows no link on the way to the store; a home may lie behind one.
	if l.facts.Store, err = filepath.EvalSymlinks(l.facts.Store); err != nil {
		return fmt.Errorf("find the store: %w", err)
	}
	if l.opt.Hold {
		l.held.Store, err = rootfs.OpenStore(l.facts.Store)
	}
	return err
}

// image finds the image, and reads from it what the rest depends on.
func (l *look) image() error {
	var err error
	if l.host, err = rootfs.OpenRoot("/"); err != nil {
		return err
	}
	name := l.spec.Image
	if name == "" {
		name = ImageBase
	}
	switch {
	case l.kept != nil:
		err = l.keptImage()
	case isOwnImage(name):
		err = l.ownImage(name)
	case isPath(name):
		err = l.dirImage(name)
	default:
		err = l.namedImage(name)
	}
	if err != nil {
		return err
	}
	return l.imageUsers()
}

// ownImage finds one of the images that sbx makes, for the owner that the
// identity asks for.
func (l *look) ownImage(name string) error {
	req, err := ImageRequest(l.spec, l.facts, name)
	if err != nil {
		return err
	}
	var info rootfs.ImageInfo
	if l.opt.Hold && l.held.Store == nil {
		err = rootfs.ErrNoImage
	} else if l.opt.Hold {
		var img *rootfs.Image
		img, err = l.held.Store.FindImage(l.ctx, req)
		if err == nil {
			l.held.Image = img
			info = img.ImageInfo
		}
	} else {
		info, err = rootfs.InspectImage(l.ctx, req)
	}
	if errors.Is(err, rootfs.ErrNoImage) {
		l.facts.Image = Image{Name: name, Build: true}
		return nil
	}
	if err != nil {
		return err
	}
	img := Image{Name: name, Key: info.Key, Tree: path.Join(l.facts.Store, "images", name, info.Key, "tree"), Shell: info.Shell}
	if img.Binds, err = imageBinds(name, info.Binds); err != nil {
		return err
	}
	l.facts.Image = img
	l.tree, err = rootfs.OpenRoot(img.Tree)
	return err
}

// imageBinds are the host's directories that an image shows.
func imageBinds(name string, dirs []string) ([]mounts.Mount, error) {
	var binds []mounts.Mount
	for _, dir := range dirs {
		src, err := mounts.Resolve(dir)
		if err != nil {
			return nil, fmt.Errorf("look at %s for the image %s: %w", dir, name, err)
		}
		binds = append(binds, src.Bind(dir, true))
	}
	return binds, nil
}

// ImageRequest is what has to be asked of the store for an image of sbx's own.
func ImageRequest(s Spec, f Facts, name string) (rootfs.ImageRequest, error) {
	id, err := StoreIdentity(s, f)
	if err != nil {
		return rootfs.ImageRequest{}, err
	}
	return rootfs.ImageRequest{Store: f.Store, Name: name, Owner: id.Ownership()}, nil
}

// StoreIdentity is the identity under which images are made: the mode of the
// run, and root inside for a payload.
func StoreIdentity(s Spec, f Facts) (Identity, error) {
	s.User = ""
	id, _, err := identity(s, f)
	if err == nil {
		return id, nil
	}
	// A range too small for the default user still has a root.
	s.User = "0"
	id, _, err = identity(s, f)
	return id, err
}

// dirImage is --image DIR.
func (l *look) dirImage(dir string) error {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return misuse("--image %s: %v", dir, errors.Unwrap(err))
	}
	if resolved, err = filepath.Abs(resolved); err != nil {
		return fmt.Errorf("find the working directory: %w", err)
	}
	inside := ""
	if path.IsAbs(l.spec.Program) {
		inside = l.spec.Program
	}
	if resolved == "/" {
		return misuse("--image /: the host itself is no image; --image host shows its programs read-only")
	}
	if store, err := filepath.EvalSymlinks(l.facts.Store); err == nil && under(store, resolved) {
		return misuse("--image %s: sbx keeps the images and sandboxes in %s, and a copy of a tree cannot lie in that tree", dir, l.facts.Store)
	}
	if l.tree, err = rootfs.OpenDirImage(resolved, inside); err != nil {
		return misuse("--image %s: %v", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(l.tree.FD(), &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	l.facts.Image = Image{Name: resolved, Tree: resolved, Foreign: true, OwnerUID: st.Uid}
	l.facts.Image.Shell = l.shell()
	return nil
}

// imageUsers reads the image's passwd and group. The tree may be hostile: by
// descriptor, regular files only, with a bound.
func (l *look) imageUsers() error {
	if l.tree == nil {
		l.facts.Passwd, l.facts.Group = rootfs.Passwd(defaultUID, defaultUID, ""), rootfs.Group(defaultUID, defaultUID)
		return nil
	}
	for _, file := range []struct {
		name string
		into *[]byte
	}{{"/etc/passwd", &l.facts.Passwd}, {"/etc/group", &l.facts.Group}} {
		var err error
		if *file.into, err = l.userFile(file.name); err != nil {
			return err
		}
	}
	return nil
}

// view is the image as the program will find it, with shares and copies.
func (l *look) view() rootfs.View {
	v := rootfs.View{Root: l.tree, Host: l.host}
	for _, m := range l.facts.Image.Binds {
		v.Binds = append(v.Binds, rootfs.Bind{Inside: m.Target, Outside: m.Source})
	}
	for _, sh := range l.facts.Shares {
		v.Binds = append(v.Binds, rootfs.Bind{Inside: sh.Target, Outside: sh.Resolved})
	}
	v.Binds = append(v.Binds, l.copied...)
	return v
}
