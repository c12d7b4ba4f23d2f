package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// placesDir lists what runs made outside of the store, one file for each.
const placesDir = "places"

// Place is the record of something that a run makes outside of the store, and
// that is to go when no run needs it any more. It is written before the thing
// is made, so that a run which is killed at any moment leaves nothing unknown.
//
// A run holds a place by a shared lock on its file, which ends with the run,
// however it ends. Several runs may hold one.
type Place struct {
	// Path is the thing's own, absolute, on the host.
	Path string
	// Made is the maker's account of it, empty until Save.
	Made json.RawMessage

	file *os.File
}

type placeRecord struct {
	Path string          `json:"path"`
	Made json.RawMessage `json:"made,omitempty"`
}

// Places is the list of places, which one process has for itself until Close.
type Places struct{ dir, guard *os.File }

// Places takes the list for this process and waits for another one that has
// it; nobody has it for longer than a few system calls.
func (s *Store) Places() (*Places, error) {
	p, err := s.openPlaces(createMissing)
	if err != nil {
		return nil, err
	}
	return p, p.lock(unix.LOCK_EX)
}

func (s *Store) openPlaces(missing missingPolicy) (*Places, error) {
	defer runtime.KeepAlive(s)
	dir, err := privateDir(int(s.dir.Fd()), placesDir, filepath.Join(s.path, placesDir), missing)
	if err != nil {
		return nil, err
	}
	return &Places{dir: dir}, nil
}

// lock closes the list when it cannot be had.
func (p *Places) lock(how int) error {
	var err error
	if p.guard, err = openLock(p.dir, guardFile, unix.O_CREAT); err == nil {
		err = flock(p.guard, how)
	}
	if err != nil {
		p.Close()
	}
	return err
}

// CollectPlaces has undo take away what runs that were killed left outside of
// the store, and forgets each place for which that succeeds. It never waits:
// who has the list is about to do the same. Usually there is nothing to do, and
// that is all it finds out.
func (s *Store) CollectPlaces(undo func(*Place) error) error {
	p, err := s.openPlaces(mustExist)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if names, err := listNames(p.dir); err != nil || len(names) == 0 {
		p.Close()
		return err
	}
	if err := p.lock(unix.LOCK_EX | unix.LOCK_NB); err != nil {
		return ignoreBusy(err)
	}
	defer p.Close()
	list, err := p.abandoned()
	for _, place := range list {
		err = errors.Join(err, p.undo(place, undo))
	}
	return err
}

// ErrPlaceNeeded is for an undo that leaves its thing alone, since somebody needs
// it whom this store does not know. It is no error to the caller of who undoes.
var ErrPlaceNeeded = errors.New("somebody else needs it")

// undo has undo take away the thing of a place that is held alone, and forgets
// the place if that succeeds. Otherwise it is for CollectPlaces to try again.
func (p *Places) undo(place *Place, undo func(*Place) error) error {
	if err := undo(place); err != nil {
		place.file.Close()
		if errors.Is(err, ErrPlaceNeeded) {
			return nil
		}
		return err
	}
	return p.forget(place)
}

// Close lets go of the list, not of the places that are held.
func (p *Places) Close() {
	p.dir.Close()
	if p.guard != nil {
		p.guard.Close()
	}
}

// placeName is the file of a path: paths are longer than names may be.
func placeName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:16])
}

// Hold returns the record of a path, a new one when there is none, and holds it.
func (p *Places) Hold(path string) (*Place, error) {
	return p.open(placeName(path), path, unix.LOCK_SH)
}

// HoldBelow holds every place that lies in a directory.
func (p *Places) HoldBelow(dir string) ([]*Place, error) {
	names, err := listNames(p.dir)
	if err != nil {
		return nil, err
	}
	var held []*Place
	for _, name := range names {
		place, err := p.open(name, "", unix.LOCK_SH)
		if err != nil {
			Release(held)
			return nil, err
		}
		if !strings.HasPrefix(place.Path, strings.TrimSuffix(dir, "/")+"/") {
			place.file.Close()
			continue
		}
		held = append(held, place)
	}
	return held, nil
}

// Release lets go of places without a look at who else holds them. What nobody
// holds is for CollectPlaces then.
func Release(places []*Place) {
	for _, place := range places {
		place.file.Close()
	}
}

// abandoned returns the places that no run holds, held alone.
func (p *Places) abandoned() ([]*Place, error) {
	names, err := listNames(p.dir)
	if err != nil {
		return nil, err
	}
	var list []*Place
	for _, name := range names {
		place, e := p.open(name, "", unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(e, unix.EWOULDBLOCK) {
			continue
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		list = append(list, place)
	}
	return list, err
}

// Drop lets go of a place, and undoes it when no other run holds it.
func (p *Places) Drop(place *Place, undo func(*Place) error) error {
	err := flock(place.file, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Another run may have made the thing anew meanwhile.
		err = place.read("")
	}
	if err != nil {
		place.file.Close()
		return ignoreBusy(err)
	}
	return p.undo(place, undo)
}

// forget removes the record of a place whose thing is gone, and lets go of it.
func (p *Places) forget(place *Place) error {
	defer runtime.KeepAlive(p)
	defer place.file.Close()
	if err := unix.Unlinkat(int(p.dir.Fd()), filepath.Base(place.file.Name()), 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget %s: %w", place.Path, err)
	}
	return nil
}

func (p *Places) open(name, path string, lock int) (*Place, error) {
	flags := 0
	if path != "" {
		flags = unix.O_CREAT
	}
	f, err := openLock(p.dir, name, flags)
	if err != nil {
		return nil, err
	}
	place := &Place{file: f}
	if err = flock(f, lock); err == nil {
		err = place.read(path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return place, nil
}

// read takes the record from the file. What is no record is what a power cut
// has left of one, and tells nothing.
func (l *Place) read(path string) error {
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", l.file.Name(), unwrapErrno(err))
	}
	data, err := io.ReadAll(io.LimitReader(l.file, metaLimit))
	if err != nil {
		return fmt.Errorf("read %s: %w", l.file.Name(), unwrapErrno(err))
	}
	var rec placeRecord
	// Only the first value: see Save.
	if json.NewDecoder(bytes.NewReader(data)).Decode(&rec) != nil || path != "" && rec.Path != path {
		rec = placeRecord{Path: path}
	}
	l.Path, l.Made = rec.Path, rec.Made
	return nil
}

// Save writes the maker's account down. It is for the one who has the list.
func (l *Place) Save(made any) error {
	defer runtime.KeepAlive(l)
	var err error
	if l.Made, err = json.Marshal(made); err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	data, err := json.Marshal(placeRecord{l.Path, l.Made})
	if err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	// In place, because the lock belongs to this very file. Who is killed in
	// between leaves the end of the old record behind the new one.
	data = append(data, '\n')
	if _, err := l.file.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), unwrapErrno(err))
	}
	if err := unix.Ftruncate(int(l.file.Fd()), int64(len(data))); err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	return nil
}

// unwrapErrno leaves out the path that an *os.PathError repeats.
func unwrapErrno(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
