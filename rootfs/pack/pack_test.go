package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs/unpack"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDir(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// options are those under which this process's own files become id 0.
func options() Options {
	return Options{
		UIDOffset: uint32(os.Geteuid()), GIDOffset: uint32(os.Getegid()), UIDCount: 10, GIDCount: 10,
	}
}

func packed(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := Tree(context.Background(), openDir(t, dir), &b, options())
	must(t, err)
	return b.Bytes()
}

// describe is all of a tree that a pack and an unpack keep.
func describe(t testing.TB, root string) []string {
	t.Helper()
	var list []string
	first := map[uint64]string{}
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, root)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o %d.%09d", rel, st.Mode, st.Mtim.Sec, st.Mtim.Nsec)
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		case d.Type().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if f, known := first[st.Ino]; known {
				line += " = " + f
			} else {
				first[st.Ino] = rel
			}
			if len(data) > 100 {
				data = fmt.Appendf(nil, "%d %x", len(data), bytes.Count(data, []byte{0}))
			}
			line += fmt.Sprintf(" %q", data)
		}
		if d.Type() != fs.ModeSymlink {
			value := make([]byte, 1024)
			if n, err := unix.Getxattr(name, "user.note", value); err == nil {
				line += fmt.Sprintf(" note %q", value[:n])
			}
		}
		list = append(list, line)
		return nil
	}))
	return list
}

// sample makes a tree with everything that is kept.
func sample(t testing.TB, root string) {
	t.Helper()
	must(t, os.MkdirAll(root+"/etc/deep", 0o755))
	must(t, os.WriteFile(root+"/etc/passwd", []byte("root"), 0o600))
	must(t, os.WriteFile(root+"/empty", nil, 0o444))
	must(t, os.WriteFile(root+"/tool", []byte("x"), 0o755))
	must(t, os.Chmod(root+"/tool", 0o755|os.ModeSticky))
	must(t, os.Symlink("/etc/passwd", root+"/absolute"))
	must(t, os.Symlink("nowhere", root+"/etc/"+strings.Repeat("n", 200)))
	must(t, os.Link(root+"/etc/passwd", root+"/again"))
	must(t, os.WriteFile(root+"/etc/deep/\xff\x1b[31m", []byte("odd name"), 0o644))
	must(t, os.WriteFile(root+"/large", bytes.Repeat([]byte("data"), 100_000), 0o644))
	f, err := os.Create(root + "/sparse")
	must(t, err)
	for _, at := range []int64{1 << 20, 5<<20 + 100} {
		_, err = f.WriteAt([]byte("data"), at)
		must(t, err)
	}
	must(t, f.Truncate(16<<20))
	must(t, f.Close())
	must(t, os.WriteFile(root+"/after", []byte("the sparse file"), 0o644))
	if err := unix.Setxattr(root+"/tool", "user.note", []byte("a=b\x00c"), 0); !errors.Is(err, unix.EOPNOTSUPP) {
		must(t, err)
	}
	for i, name := range []string{"etc/deep", "etc/passwd", "etc", "tool", "sparse", ""} {
		when := time.Unix(1_500_000_000+int64(i), int64(i)*111_111_111)
		must(t, os.Chtimes(filepath.Join(root, name), when, when))
	}
	old := time.Date(1955, 1, 2, 3, 4, 5, 500_000_000, time.UTC)
	must(t, os.Chtimes(root+"/after", old, old))
}

func unpacked(t testing.TB, data []byte) string {
	t.Helper()
	return unpackedTo(t, data, t.TempDir())
}

func unpackedTo(t testing.TB, data []byte, dir string) string {
	t.Helper()
	var st unpack.State
	must(t, unpack.Layer(context.Background(), openDir(t, dir), bytes.NewReader(data), unpackOptions(), &st))
	return dir
}

func TestUnpackGivesThePackedTree(t *testing.T) {
	root := t.TempDir()
	sample(t, root)
	data := packed(t, root)
	copied := unpacked(t, data)
	if a, b := describe(t, root), describe(t, copied); !slices.Equal(a, b) {
		t.Errorf("packed\n%s\nunpacked\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if again := packed(t, copied); !bytes.Equal(data, again) {
		t.Error("the copy gives another archive")
	}
	var st unix.Stat_t
	must(t, unix.Stat(copied+"/sparse", &st))
	if len(data) > 2<<20 || st.Blocks*512 > 1<<20 {
		t.Errorf("the holes are gone: an archive of %d bytes, a file of %d", len(data), st.Blocks*512)
	}
}

// GNU tar reads the same from it, the sparse format included.
func TestGNUTarReadsIt(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar here")
	}
	root, copied := t.TempDir(), t.TempDir()
	sample(t, root)
	cmd := exec.Command("tar", "--xattrs", "--xattrs-include=user.*", "-xpf", "-", "-C", copied)
	cmd.Stdin = bytes.NewReader(packed(t, root))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if a, b := describe(t, root), describe(t, copied); !slices.Equal(a, b) {
		t.Errorf("packed\n%s\nunpacked\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// unpackOptions are those that undo options.
func unpackOptions() unpack.Options {
	return unpack.Options{
		UIDOffset: uint32(os.Geteuid()), GIDOffset: uint32(os.Getegid()), UIDCount: 10, GIDCount: 10,
		Limits: unpack.Limits{MinFree: 1},
	}
}
