package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// place makes the placeholders in --rw trees. Each is written down in the store
// before it is made, for whoever clears up if this run is killed, and shared
// with the other runs over the same tree: the last one takes it away.
func (r *run) place() error {
	if len(r.plan.Writable) > 0 {
		if err := r.held.Store.AddShared(r.plan.Writable...); err != nil {
			return err
		}
	}
	if len(r.plan.Placeholders) == 0 {
		return nil
	}
	list, err := r.held.Store.Places()
	if err != nil {
		return err
	}
	defer list.Close()
	var places []*rootfs.Place
	var holds []*os.File
	r.undo.push(func() error {
		for _, hold := range holds {
			hold.Close()
		}
		return dropPlaces(r.held.Store, places)
	})
	for _, ph := range r.plan.Placeholders {
		place, err := list.Hold(ph.Path)
		if err != nil {
			return err
		}
		places = append(places, place)
		made, hold, err := establish(place, ph)
		if err != nil {
			return err
		}
		if hold != nil {
			holds = append(holds, hold)
			r.plan.Mounts = append(r.plan.Mounts, made.Mount())
		}
	}
	return nil
}

// takeTries and takePause bound the wait for one who is just taking a
// placeholder away, which is a matter of a few system calls.
const (
	takeTries = 100
	takePause = 5 * time.Millisecond
)

// establish makes a placeholder, or takes the one that another run has made, and
// holds it. The file is nil when the caller cannot make it, since then the
// program cannot either.
func establish(place *rootfs.Place, ph mounts.Placeholder) (made mounts.Placeholder, hold *os.File, err error) {
	for range takeTries {
		made, hold, err = tryPlace(place, ph)
		switch {
		case errors.Is(err, mounts.ErrHeld):
			time.Sleep(takePause)
		case errors.Is(err, unix.ENOENT):
		default:
			return made, hold, err
		}
	}
	return made, nil, fmt.Errorf("%w; end what has it open or locked, or remove it", err)
}

func tryPlace(place *rootfs.Place, ph mounts.Placeholder) (made mounts.Placeholder, hold *os.File, err error) {
	if made, ok := recorded(place); ok {
		if made.Directory == ph.Directory {
			if hold, err := made.Hold(); err == nil || errors.Is(err, mounts.ErrHeld) {
				made.Target = ph.Target
				return made, hold, err
			}
		}
		// A run was cut off, or somebody has taken it away.
		if err := made.Remove(); err != nil && !errors.Is(err, mounts.ErrChanged) {
			return made, nil, err
		}
	}
	note := func(ph mounts.Placeholder) error { return place.Save(ph) }
	made, hold, err = ph.Create(note)
	switch {
	case errors.Is(err, unix.EEXIST):
	case errors.Is(err, unix.EACCES):
		return made, nil, lockedOut(ph.Path, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		return made, nil, nil
	default:
		return made, hold, err
	}
	made, hold, err = ph.Adopt(note)
	if errors.Is(err, mounts.ErrChanged) {
		return made, nil, fmt.Errorf("make placeholder %s: it was made while sbx looked at the directory; run it again", quote.Quote(ph.Path))
	}
	return made, hold, err
}

// lockedOut is nil where the program cannot make the name either. In a directory
// of the caller's own it could: its owner can give himself the right.
func lockedOut(path string, err error) error {
	dir := filepath.Dir(path)
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil && int(st.Uid) != os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%w; the program could give itself the right to write there: chmod u+w %s, or share it with --ro", err, quote.Quote(dir))
}

// recorded is what a place says of its placeholder.
func recorded(place *rootfs.Place) (ph mounts.Placeholder, ok bool) {
	return ph, json.Unmarshal(place.Made, &ph) == nil && ph.Path == place.Path
}

// removePlaceholder takes the thing of a place away. What is not what was made
// is the user's and stays. What another user or store needs stays as well: he
// takes it away, and if he cannot, a later run of this one does.
func removePlaceholder(place *rootfs.Place) error {
	ph, ok := recorded(place)
	if !ok {
		return nil // nothing had been made yet
	}
	err := ph.Remove()
	switch {
	case errors.Is(err, mounts.ErrHeld):
		return rootfs.ErrPlaceNeeded
	case errors.Is(err, mounts.ErrChanged):
		return nil
	case ph.Adopted && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)):
		return nil // it is for the one who made it
	default:
		return err
	}
}

// dropPlaces lets go of places, and of what is in those that no other run holds.
func dropPlaces(store *rootfs.Store, places []*rootfs.Place) error {
	if len(places) == 0 {
		return nil
	}
	list, err := store.Places()
	if err != nil {
		rootfs.Release(places)
		return err
	}
	defer list.Close()
	for _, place := range places {
		err = errors.Join(err, list.Drop(place, removePlaceholder))
	}
	return err
}
