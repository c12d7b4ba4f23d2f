package pack

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Many holes, more than a map may have, holes at both ends, and nothing else.
func TestHoles(t *testing.T) {
	root := memory(t)
	write := func(name string, size int64, spots ...int64) {
		f, err := os.Create(root + "/" + name)
		must(t, err)
		for _, at := range spots {
			_, err := f.WriteAt([]byte("spot"), at)
			must(t, err)
		}
		must(t, f.Truncate(size))
		must(t, f.Close())
	}
	var many []int64
	for i := range int64(maxRegions + 50) {
		many = append(many, i*8192)
	}
	write("many", (maxRegions+60)*8192, many...)
	write("empty", 1<<20)
	write("odd", 1<<20+3, 300_000)
	write("end", 1<<20, 1<<20-4)
	write("start", 1<<20, 0)
	must(t, os.Link(root+"/odd", root+"/other"))
	long := strings.Repeat("ä long näme ", 12)
	write(long, 1<<20, 70_000)
	for name, when := range map[string]time.Time{
		"odd": time.Unix(-1, 500_000_000), "end": time.Unix(-5, 999_999_999), "start": time.Unix(-7, 0), long: time.Unix(1<<33, 1),
	} {
		must(t, os.Chtimes(root+"/"+name, when, when))
		must(t, os.Chmod(root+"/"+name, 0o1640))
		if err := unix.Setxattr(root+"/"+name, "user.note", []byte(name), 0); !errors.Is(err, unix.EOPNOTSUPP) {
			must(t, err)
		}
	}
	data := packed(t, root)
	copied := unpackedTo(t, data, memory(t))
	if a, b := describe(t, root), describe(t, copied); !slices.Equal(a, b) {
		t.Errorf("packed\n%s\nunpacked\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	for _, name := range []string{"many", "empty", "odd", "end", "start", long} {
		a, err := os.ReadFile(root + "/" + name)
		must(t, err)
		b, err := os.ReadFile(copied + "/" + name)
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s has other data", name)
		}
	}
}

// TestRandomTrees packs and unpacks trees of every shape: nothing is lost, and
// the copy gives the same archive.
func TestRandomTrees(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		root := t.TempDir()
		randomTree(t, r, root)
		data := packed(t, root)
		copied := unpacked(t, data)
		if a, b := describe(t, root), describe(t, copied); !slices.Equal(a, b) {
			t.Fatalf("seed %d: packed\n%s\nunpacked\n%s", seed, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		if !bytes.Equal(packed(t, copied), data) {
			t.Fatalf("seed %d: the copy gives another archive", seed)
		}
	}
}

func randomTree(t *testing.T, r *rand.Rand, root string) {
	t.Helper()
	dirs, files := []string{root}, []string{}
	name := func() string {
		parts := []string{"a", "ünïcode", "\xff", " ", "\n", "b.c", strings.Repeat("n", 120), "-x", "PaxHeaders.0", "%d"}
		return dirs[r.IntN(len(dirs))] + "/" + parts[r.IntN(len(parts))] + fmt.Sprint(r.IntN(50))
	}
	for range 40 {
		at := name()
		switch r.IntN(6) {
		case 0, 1:
			if os.Mkdir(at, 0o700) == nil {
				dirs = append(dirs, at)
			}
		case 2:
			_ = os.Symlink(strings.Repeat("x/", r.IntN(150))+"y", at)
		case 3:
			if len(files) > 0 {
				_ = os.Link(files[r.IntN(len(files))], at)
			}
		default:
			data := bytes.Repeat([]byte{byte(r.IntN(256)), 0}, r.IntN(70_000)/(1+r.IntN(500)))
			if os.WriteFile(at, data, os.FileMode(r.IntN(0o1000))|0o400) == nil {
				files = append(files, at)
			}
		}
	}
	for _, at := range append(files, dirs...) {
		when := time.Unix(r.Int64N(1<<32)-1<<31, r.Int64N(1_000_000_000))
		must(t, os.Chtimes(at, when, when))
	}
	for _, at := range dirs {
		must(t, os.Chmod(at, os.FileMode(r.IntN(0o1000))|0o700))
	}
}

// memory is a directory in memory, where there is one.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sbx-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
