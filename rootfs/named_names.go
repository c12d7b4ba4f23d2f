package rootfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// namesFile maps names to keys.
const namesFile = "names.json"

// nameTable is the content of names.json.
type nameTable struct {
	Format int               `json:"format"`
	Names  map[string]string `json:"names"` // Reference.String → KEY
}

// readNames reads names.json; none is no error, no name neither.
func readNames(dir *os.File) (map[string]string, error) {
	var t nameTable
	err := readJSON(dir, namesFile, &t)
	if errors.Is(err, unix.ENOENT) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	if t.Names == nil {
		t.Names = map[string]string{}
	}
	return t.Names, nil
}

// changeNames rewrites names.json; names of images that are gone are dropped by
// the way. The caller holds the exclusive lock.
func changeNames(dir *os.File, change func(map[string]string)) error {
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	before := maps.Clone(names)
	change(names)
	maps.DeleteFunc(names, func(_, key string) bool {
		var st unix.Stat_t
		return errors.Is(unix.Fstatat(int(dir.Fd()), key, &st, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT)
	})
	if maps.Equal(before, names) {
		return nil
	}
	if err := checkMeta(nameTable{Format: importedFormat, Names: names}); err != nil {
		return fmt.Errorf("the store has too many names of images: %w", err)
	}
	return writeJSON(dir, namesFile, nameTable{Format: importedFormat, Names: names})
}

func setNames(dir *os.File, key string, names []Reference) error {
	if len(names) == 0 {
		return nil
	}
	return changeNames(dir, func(table map[string]string) {
		for _, name := range names {
			table[name.String()] = key
		}
	})
}

// Tag gives the image that ref names (see FindNamed) one more name, taking it
// from another image that has it.
func (s *Store) Tag(ref string, name Reference) error {
	img, err := s.FindNamed(ref)
	if err != nil {
		return err
	}
	defer img.Close() // held, so that it is not removed meanwhile
	dir, err := s.imported(mustExist)
	if err != nil {
		return err
	}
	defer dir.Close()
	lock, err := lockImported(dir, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	return setNames(dir, img.Key, []Reference{name})
}

// noNamed explains that there is no such image when err says so.
func noNamed(ref string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		err = explain(unix.ENOENT, "the store has no image of this name or id")
	}
	return fmt.Errorf("find image %s: %w", shown(ref), err)
}

// FindNamed gives the imported image of this name, held against removal. ref is,
// in this order, a name as ParseReference reads it; the start of a key or of a
// digest, at least four digits with or without "sha256:", that fits one image;
// or the end of one name only, from a slash on, as "busybox" for
// "example.com/library/busybox:latest". None is ENOENT; several are an error
// that lists them.
func (s *Store) FindNamed(ref string) (*Image, error) {
	dir, err := s.imported(mustExist)
	if err != nil {
		return nil, noNamed(ref, err)
	}
	defer dir.Close()
	for try := 0; ; try++ {
		key, _, err := findKey(dir, ref)
		if err != nil {
			return nil, noNamed(ref, err)
		}
		img, err := holdImage(dir, key)
		switch {
		case err == nil && img.sound(key):
			return img, nil
		case err == nil:
			img.Close()
			return nil, fmt.Errorf("find image %s: %w", shown(ref), explain(unix.EINVAL, "its image.json is of another version of sbx"))
		case (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EWOULDBLOCK)) && try < busyTries:
			time.Sleep(busyStep) // it was removed, or replaced, since the name was read
		default:
			return nil, noNamed(ref, err)
		}
	}
}

// minPrefix is how many digits of a key or digest say which image is meant.
const minPrefix = 4

// findKey looks ref up. name is the entry of names.json that it was found by,
// empty for a key or digest.
func findKey(dir *os.File, ref string) (key, name string, err error) {
	names, err := readNames(dir)
	if err != nil {
		return "", "", err
	}
	parsed, parseErr := ParseReference(ref)
	if key, ok := names[parsed.String()]; ok && parseErr == nil {
		return key, parsed.String(), nil
	}
	found, err := keysByPrefix(dir, ref) // key → name
	if err != nil {
		return "", "", err
	}
	if len(found) == 0 && parseErr == nil {
		for other, key := range names {
			if strings.HasSuffix(other, "/"+parsed.String()) {
				found[key] = max(found[key], other)
			}
		}
	}
	keys := slices.Sorted(maps.Keys(found))
	switch {
	case len(keys) == 0 && parseErr != nil && !looksLikeID(ref):
		return "", "", parseErr
	case len(keys) == 0:
		return "", "", unix.ENOENT
	case len(keys) > 1:
		return "", "", explain(unix.EINVAL, "it fits several images: "+strings.Join(keys, ", "))
	}
	return keys[0], found[keys[0]], nil
}

// looksLikeID tells a digest or a part of one from a name.
func looksLikeID(ref string) bool {
	digits := strings.TrimPrefix(strings.TrimPrefix(ref, "sha256:"), "sha512:")
	return len(digits) >= minPrefix && strings.Trim(digits, "0123456789abcdef-") == ""
}

// keysByPrefix finds the images whose key or digest begins so.
func keysByPrefix(dir *os.File, ref string) (keys map[string]string, err error) {
	keys = map[string]string{}
	if !looksLikeID(ref) {
		return keys, nil
	}
	kind, digits, ok := strings.Cut(ref, ":")
	if !ok {
		kind, digits = "", ref
	}
	all, err := listNames(dir)
	if err != nil {
		return nil, err
	}
	for _, key := range all {
		if kind == "" && strings.HasPrefix(key, digits) {
			keys[key] = ""
			continue
		}
		// A key holds the first half of the digest only.
		if n := min(len(digits), 32); !strings.HasPrefix(key, digits[:n]) {
			continue
		}
		info, err := readInfo(dir, key)
		if err != nil {
			continue // being removed, or broken
		}
		ownKind, own, _ := strings.Cut(info.Digest, ":")
		if strings.HasPrefix(own, digits) && (kind == "" || kind == ownKind) {
			keys[key] = ""
		}
	}
	return keys, nil
}

// InspectNamed is FindNamed for a dry run: nothing is held or made.
func InspectNamed(store, ref string) (ImageInfo, error) {
	s, err := openExisting(store)
	if err != nil {
		return ImageInfo{}, noNamed(ref, err)
	}
	defer s.Close()
	img, err := s.FindNamed(ref)
	if err != nil {
		return ImageInfo{}, err
	}
	return img.ImageInfo, img.Close()
}
