package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A place is undone by the last run that holds it, however many there were.
func TestPlacesAreUndoneByTheLast(t *testing.T) {
	s := newTestStore(t)
	var undone []string
	undo := func(p *Place) error {
		undone = append(undone, p.Path+" "+string(p.Made))
		return nil
	}
	hold := func(path string) *Place {
		list, err := s.Places()
		must(t, err)
		defer list.Close()
		p, err := list.Hold(path)
		must(t, err)
		return p
	}
	drop := func(p *Place) {
		list, err := s.Places()
		must(t, err)
		defer list.Close()
		must(t, list.Drop(p, undo))
	}
	first, second := hold("/a/x"), hold("/a/x")
	must(t, first.Save("a much longer account than the next"))
	must(t, first.Save("made"))
	drop(first)
	if len(undone) > 0 {
		t.Errorf("undone while it is held: %q", undone)
	}
	must(t, s.CollectPlaces(undo))
	if len(undone) > 0 {
		t.Errorf("collected while it is held: %q", undone)
	}
	drop(second)
	if !slices.Equal(undone, []string{`/a/x "made"`}) {
		t.Errorf("undone %q", undone)
	}
	if third := hold("/a/x"); third.Made != nil {
		t.Errorf("still known: %s", third.Made)
	} else {
		drop(third)
	}
}

// What the runs that were killed held is collected; what cannot be undone is
// tried again.
func TestPlacesAreCollected(t *testing.T) {
	s := newTestStore(t)
	fail := errors.New("no")
	must(t, s.CollectPlaces(func(*Place) error { return fail })) // none was ever made
	list, err := s.Places()
	must(t, err)
	for _, path := range []string{"/a/x", "/a/b/y", "/ab/z"} {
		p, err := list.Hold(path)
		must(t, err)
		must(t, p.Save(path))
		defer Release([]*Place{p})
		if path == "/ab/z" {
			Release([]*Place{p})
		}
	}
	below, err := list.HoldBelow("/a")
	must(t, err)
	if len(below) != 2 {
		t.Errorf("below /a: %v", below)
	}
	Release(below)
	// A record that a power cut has left.
	must(t, os.WriteFile(filepath.Join(s.Path(), placesDir, "broken"), []byte("\x00\x00"), 0o600))
	list.Close()
	if err := s.CollectPlaces(func(*Place) error { return fail }); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	var undone []string
	must(t, s.CollectPlaces(func(p *Place) error {
		undone = append(undone, p.Path)
		return nil
	}))
	if !slices.Contains(undone, "/ab/z") || slices.Contains(undone, "/a/x") {
		t.Errorf("undone %q", undone)
	}
}
