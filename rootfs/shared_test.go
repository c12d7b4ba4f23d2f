package rootfs

import (
	"path/filepath"
	"slices"
	"testing"
)

// What was once writable for a payload is remembered, once, across runs.
func TestSharedDirectoriesAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sbx")
	for _, add := range [][]string{{"/a"}, {"/b", "/a"}, {"/b"}} {
		s, err := OpenStore(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddShared(add...); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	s, err := OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Shared()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/a", "/b"}; !slices.Equal(got, want) {
		t.Errorf("remembered %q, want %q", got, want)
	}
}
