package launch

import (
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

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
	r.undo.push(func() error { return dropPlaces(r.held.Store, places) })
	for _, ph := range r.plan.Placeholders {
		place, err := list.Hold(ph.Path)
		if err != nil {
			return err
		}
		places = append(places, place)
		made, err := establish(place, ph)
		if err != nil {
			return err
		}
		if made != nil {
			r.plan.Mounts = append(r.plan.Mounts, made.Mount())
		}
	}
	return nil
}

// establish makes a placeholder, or takes the one that another run has made. It
// is nil when the caller cannot make it, since then the program cannot either.
func establish(place *rootfs.Place, ph mounts.Placeholder) (*mounts.Placeholder, error) {
	if made, ok := recorded(place); ok {
		made.Target = ph.Target
		if made.Directory == ph.Directory && made.Stands() {
			return &made, nil
		}
		// A run was cut off, or somebody has taken it away.
		if err := made.Remove(); err != nil && !errors.Is(err, mounts.ErrChanged) {
			return nil, err
		}
	}
	var saved error
	made, err := ph.Create(func(ph mounts.Placeholder) error {
		saved = place.Save(ph)
		return saved
	})
	switch {
	case err == nil:
		return &made, nil
	case saved != nil:
		return nil, err
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		return nil, nil
	case errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("%w: it was made while sbx looked at the directory; run it again", err)
	default:
		return nil, err
	}
}

// recorded is what a place says of its placeholder.
func recorded(place *rootfs.Place) (ph mounts.Placeholder, ok bool) {
	return ph, json.Unmarshal(place.Made, &ph) == nil && ph.Path == place.Path
}

// removePlaceholder takes the thing of a place away. What is not what was made
// is the user's and stays.
func removePlaceholder(place *rootfs.Place) error {
	ph, ok := recorded(place)
	if !ok {
		return nil // nothing had been made yet
	}
	if err := ph.Remove(); err != nil && !errors.Is(err, mounts.ErrChanged) {
		return err
	}
	return nil
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
