package rootfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// importedDir is the directory below images/ that holds images which came from
// elsewhere:
//
//	imported/.lock              taken for each change of what follows
//	imported/names.json         name → KEY
//	imported/KEY/image.json     written last, as for sbx's own images
//	imported/KEY/owner.json     the id map of the files
//	imported/KEY/lock           shared while a run uses the image
//	imported/KEY/tree/
//	imported/.staging-X/        an image on its way, its lock held
//	imported/.removed-X/        one whose removal waits for the last run of it
const importedDir = "imported"

// importedFormat is the Format of an imported image's image.json.
const importedFormat = 1

// Imported reports whether the image came from elsewhere, and not from Build.
func (i *ImageInfo) Imported() bool { return i.Name == importedDir }

// importedKey is the directory name of an image: of what it is, and of the ids
// that its files were given.
func importedKey(digest string, o Ownership) string {
	_, digits, _ := strings.Cut(digest, ":")
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%t %d %d %d %d %v %v", o.Single, o.UID, o.GID, o.HostUID, o.HostGID, o.UIDMap, o.GIDMap)
	return fmt.Sprintf("%s-%016x", digits[:32], sum.Sum64())
}

// imported opens images/imported.
func (s *Store) imported(missing missingPolicy) (*os.File, error) {
	return privateDir(int(s.images.Fd()), importedDir, filepath.Join(s.images.Name(), importedDir), missing)
}

// lockImported takes the lock of images/imported, waiting for it: whoever holds
// it is done in a moment.
func lockImported(dir *os.File, how int) (*os.File, error) {
	lock, err := openLock(dir, guardFile, unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	if err := flock(lock, how); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// Staging is an image that is being made: a directory that no run uses, held by
// a lock. After a crash Collect finds it.
type Staging struct {
	// Path is the absolute path of the directory.
	Path string
	// Dir is open for reading; Tree is the empty directory in it that becomes
	// the root. Both belong to the caller, who hands Tree to a process in U1;
	// that gives it its owner, its mode (0755 where nobody says otherwise), and
	// its content.
	Dir, Tree *os.File
	// Lock is held until Commit, Discard or Close. A process that must outlive
	// the caller may inherit it.
	Lock *os.File

	owner    Ownership
	store    *Store
	imported *os.File
	name     string
}

// NewStaging begins an image whose files will belong to the ids of owner. One
// of Commit, Discard and Close has to follow.
func (s *Store) NewStaging(owner Ownership) (*Staging, error) {
	dir, err := s.imported(createMissing)
	if err != nil {
		return nil, err
	}
	g := &Staging{owner: owner, store: s, imported: dir}
	if err := g.make(); err != nil {
		_, discardErr := g.Discard()
		return nil, errors.Join(fmt.Errorf("begin an image: %w", err), discardErr)
	}
	return g, nil
}

func (g *Staging) make() error {
	id, err := randomID(8)
	if err != nil {
		return err
	}
	// So that a Collect does not find the directory before its lock is taken.
	guard, err := lockImported(g.imported, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer guard.Close()
	name := stagingPrefix + id
	if g.Dir, err = makeDir(g.imported, name, 0o700); err != nil {
		return err
	}
	g.name, g.Path = name, g.Dir.Name()
	if g.Lock, err = openLock(g.Dir, lockFile, unix.O_CREAT|unix.O_EXCL); err != nil {
		return err
	}
	if err := flock(g.Lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if err := writeJSON(g.Dir, ownerFile, g.owner); err != nil {
		return err
	}
	g.Tree, err = makeDir(g.Dir, treeDir, 0o700)
	return err
}

// Owner is the ownership that the image is made for.
func (g *Staging) Owner() Ownership { return g.owner }

// Close lets go of the staging directory and leaves it to Collect. It is called
// by Commit and Discard, and may be called again.
func (g *Staging) Close() error {
	var err error
	for _, f := range []**os.File{&g.Dir, &g.Tree, &g.Lock, &g.imported} {
		if *f != nil {
			err = errors.Join(err, (*f).Close())
			*f = nil
		}
	}
	return err
}

// Discard removes the staging directory. What belongs to other ids waits in the
// trash: the Leftover is for EmptyTrash in a worker. After Commit there is
// nothing left to do.
func (g *Staging) Discard() (*Leftover, error) {
	defer g.Close()
	if g.name == "" || g.imported == nil {
		return nil, nil
	}
	name := g.name
	g.name = ""
	return g.store.throwAway(g.imported, name, g.owner)
}

// throwAway moves dir/name to the trash and deletes what the caller may delete.
func (s *Store) throwAway(dir *os.File, name string, owner Ownership) (*Leftover, error) {
	trash, err := s.toTrash(dir, name)
	if err != nil {
		return nil, err
	}
	return s.deleteTrash(&Leftover{Trash: trash, Owner: owner})
}

// deleteTrash deletes what the caller may delete of something in the trash, and
// gives it back if something is left; nil is nothing.
func (s *Store) deleteTrash(thrown *Leftover) (*Leftover, error) {
	if thrown == nil {
		return nil, nil
	}
	err := emptyEntry(s.trashcan, thrown.Trash)
	if errors.Is(err, ErrNeedsMap) {
		return thrown, nil
	}
	return nil, ignoreBusy(err) // a Collect beside us got hold of it first
}

// Commit makes the staged tree an image and gives it these names, which are
// taken from other images that have them. The caller fills in Digest, Files and
// Bytes, and what else is known; Format, Name, Key, Owner and Created are set
// here. An image that the store has already, of the same digest and the same
// ids, is kept, gets the names, and its info is returned.
//
// Afterwards the staging directory is gone, with an error too. The image is in
// the store in full or not at all; it may have lost names to another Commit.
func (g *Staging) Commit(info ImageInfo, names ...Reference) (ImageInfo, error) {
	info.Format, info.Name, info.Owner = importedFormat, importedDir, g.owner
	info.Created = time.Now().UTC()
	err := checkInfo(info, names)
	if err == nil {
		info.Key = importedKey(info.Digest, g.owner)
		err = writeJSON(g.Dir, imageFile, info)
	}
	if err == nil {
		// One wait for the disk for the whole image: after a power cut its
		// name must not lead to files without content.
		err = syncfs(g.Dir)
	}
	if err == nil {
		info, err = g.publish(info, names)
	}
	if err != nil {
		err = fmt.Errorf("put the image in the store: %w", err)
	}
	_, discardErr := g.Discard() // when it was not published
	return info, errors.Join(err, discardErr)
}

func syncfs(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}

// publish renames the staging directory into place.
func (g *Staging) publish(info ImageInfo, names []Reference) (ImageInfo, error) {
	lock, err := lockImported(g.imported, unix.LOCK_EX)
	if err != nil {
		return info, err
	}
	defer lock.Close()
	if old, err := readInfo(g.imported, info.Key); err == nil && old.sound(info.Key) {
		return old, setNames(g.imported, old.Key, names)
	}
	if _, err := g.store.throwAway(g.imported, info.Key, g.owner); err != nil && !errors.Is(err, unix.ENOENT) {
		return info, err
	}
	fd := int(g.imported.Fd())
	if err := unix.Renameat(fd, g.name, fd, info.Key); err != nil {
		return info, fmt.Errorf("rename %s to %s: %w", g.Path, info.Key, err)
	}
	g.name = ""
	return info, setNames(g.imported, info.Key, names)
}

// sound tells whether image.json is that of the directory it was found in.
func (i *ImageInfo) sound(key string) bool {
	return i.Format == importedFormat && i.Key == key && i.Imported() && ValidDigest(i.Digest)
}

// maxNames is how many names an image gets at once: they may come from an
// archive, and all names of the store are read at each run.
const maxNames = 128

// checkInfo refuses what could not be read back, or could not have been meant.
func checkInfo(info ImageInfo, names []Reference) error {
	if !ValidDigest(info.Digest) {
		return fmt.Errorf("digest %s: %w", shown(info.Digest), explain(unix.EINVAL, "not of the form sha256:…"))
	}
	if len(names) > maxNames {
		return fmt.Errorf("%d names: %w", len(names), explain(unix.EFBIG, fmt.Sprintf("more than %d at once; name it yourself", maxNames)))
	}
	if err := checkMeta(info); err != nil {
		return fmt.Errorf("what the image says of itself: %w", err)
	}
	return nil
}

// checkMeta refuses what readJSON would refuse.
func checkMeta(v any) error {
	data, err := json.Marshal(v)
	if err == nil && len(data) >= metaLimit {
		err = explain(unix.EFBIG, "longer than 4 MiB")
	}
	return err
}
