package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// headers are the entries of an archive.
func headers(t testing.TB, data []byte) []*tar.Header {
	t.Helper()
	var list []*tar.Header
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		must(t, err)
		list = append(list, hdr)
	}
}

// lines are the entries as "TYPE NAME TARGET".
func lines(t testing.TB, data []byte) []string {
	t.Helper()
	var list []string
	for _, hdr := range headers(t, data) {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%c %s %s", hdr.Typeflag, hdr.Name, hdr.Linkname)))
	}
	return list
}

func wantLines(t *testing.T, data []byte, want ...string) {
	t.Helper()
	if got := lines(t, data); !slices.Equal(got, want) {
		t.Errorf("the archive has\n  %s\nand should have\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// E1: links are data, a fifo does not block, a socket and a device are left out,
// and names that mean a removal do not get into an image.
func TestHostileTree(t *testing.T) {
	base := t.TempDir()
	must(t, os.WriteFile(base+"/secret", []byte("of the host"), 0o600))
	root := base + "/tree"
	must(t, os.MkdirAll(root+"/d", 0o755))
	must(t, os.Symlink("../secret", root+"/link"))
	must(t, os.Symlink("/etc", root+"/etc"))
	must(t, os.Symlink("loop", root+"/loop"))
	must(t, unix.Mkfifo(root+"/fifo", 0o600))
	must(t, os.WriteFile(root+"/.wh.d", nil, 0o600))
	must(t, os.WriteFile(root+"/d/.wh..wh..opq", nil, 0o600))
	must(t, os.WriteFile(root+"/-rf", nil, 0o600))
	must(t, os.WriteFile(root+"/unreadable", nil, 0o000))
	socket, err := net.Listen("unix", root+"/socket")
	must(t, err)
	defer socket.Close()
	devices := int64(0)
	if unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
		devices = 1
	}
	if os.Geteuid() != 0 {
		must(t, os.Remove(root+"/unreadable"))
		must(t, os.WriteFile(root+"/unreadable", nil, 0o600))
	}
	var b bytes.Buffer
	stats, err := Tree(context.Background(), openDir(t, root), &b, options())
	must(t, err)
	wantLines(t, b.Bytes(), "5 ./", "0 -rf", "5 d/", "2 etc /etc", "6 fifo", "2 link ../secret", "2 loop loop", "0 unreadable")
	if bytes.Contains(b.Bytes(), []byte("of the host")) {
		t.Error("a file outside was read")
	}
	for kind, count := range map[string]int64{NoteSocket: 1, NoteDevice: devices, NoteWhiteout: 2} {
		if got := noted(stats, kind); got != count {
			t.Errorf("%s: %d, not %d", kind, got, count)
		}
	}
	if stats.Entries != 8 || stats.Bytes != 0 {
		t.Errorf("%+v", stats)
	}
}

func noted(s Stats, kind string) int64 {
	for _, n := range s.Notes {
		if n.Kind == kind {
			return n.Count
		}
	}
	return 0
}

// The twin: an archive that is no image has every name.
func TestAnyName(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(root+"/.wh.x", []byte("data"), 0o600))
	var b bytes.Buffer
	opt := options()
	opt.AnyName = true
	_, err := Tree(context.Background(), openDir(t, root), &b, opt)
	must(t, err)
	wantLines(t, b.Bytes(), "5 ./", "0 .wh.x")
}

// E1: another file system in the tree is none of the tree's.
func TestMountsAreNotEntered(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/d/below", 0o755))
	if err := unix.Mount("none", root+"/d", "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot: mount a tmpfs: %v", err)
	}
	defer func() { must(t, unix.Unmount(root+"/d", unix.MNT_DETACH)) }()
	must(t, os.WriteFile(root+"/d/secret", nil, 0o600))
	wantLines(t, packed(t, root), "5 ./")
}

// A tree without bottom is an error, with few descriptors in use.
func TestBottomlessTree(t *testing.T) {
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range maxDepth + 10 {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	_, err = Tree(context.Background(), openDir(t, root), io.Discard, options())
	if !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("got %v", err)
	}
}

// Ids come back as an image had them before it was unpacked.
func TestIDs(t *testing.T) {
	for _, c := range []struct {
		id, offset, count uint32
		want              int
		beyond            bool
	}{
		{1, 1, 65535, 0, false},
		{1001, 1, 65535, 1000, false},
		{0, 1, 65535, 0, false},
		{65535, 1, 65535, 65534, false},
		{65536, 1, 65535, nobody, true},
		{1<<32 - 2, 1, 65535, nobody, true},
		{7, 0, 1 << 31, 7, false},
	} {
		if got, beyond := unmapID(c.id, c.offset, c.count); got != c.want || beyond != c.beyond {
			t.Errorf("%+v: %d, %v", c, got, beyond)
		}
	}
	root := t.TempDir()
	must(t, os.WriteFile(root+"/f", nil, 0o600))
	var b bytes.Buffer
	stats, err := Tree(context.Background(), openDir(t, root), &b, Options{Single: true})
	must(t, err)
	for _, hdr := range headers(t, b.Bytes()) {
		if hdr.Uid != 0 || hdr.Gid != 0 || hdr.Uname != "" || hdr.Gname != "" {
			t.Errorf("%s is of %d:%d", hdr.Name, hdr.Uid, hdr.Gid)
		}
	}
	if len(stats.Notes) != 0 {
		t.Errorf("notes %v", stats.Notes)
	}
}

// Attributes that steer an overlay, and names that no record can hold.
func TestXattrs(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(root+"/f", nil, 0o600))
	for _, attr := range []string{"user.kept", "user.overlay.opaque", "user.with=sign"} {
		if err := unix.Setxattr(root+"/f", attr, []byte("v"), 0); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("cannot: no user attributes in the temporary directory")
		} else {
			must(t, err)
		}
	}
	var b bytes.Buffer
	stats, err := Tree(context.Background(), openDir(t, root), &b, options())
	must(t, err)
	records := headers(t, b.Bytes())[1].PAXRecords
	delete(records, "mtime")
	if len(records) != 1 || records["SCHILY.xattr.user.kept"] != "v" || noted(stats, NoteXattr) != 1 {
		t.Errorf("records %q, notes %v", records, stats.Notes)
	}
}

// Add writes parts of trees under other names.
func TestAdd(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/src/sub", 0o755))
	must(t, os.WriteFile(root+"/src/sub/f", []byte("data"), 0o600))
	must(t, os.Link(root+"/src/sub/f", root+"/src/g"))
	must(t, os.WriteFile(root+"/src/-", nil, 0o600))
	var b bytes.Buffer
	w, dir := NewWriter(&b, options()), openDir(t, root+"/src")
	must(t, w.Add(context.Background(), dir, "sub", "to/here"))
	must(t, w.Add(context.Background(), dir, "g", "single"))
	must(t, w.Add(context.Background(), dir, "-", "-"))
	for _, bad := range []string{"", "..", "sub/f", "/etc"} {
		if err := w.Add(context.Background(), dir, bad, "x"); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := w.Add(context.Background(), dir, "g", ""); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	if err := w.Add(context.Background(), dir, "no\x1bthing", "x\x1b"); !errors.Is(err, unix.ENOENT) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v", err)
	}
	_, err := w.Close()
	must(t, err)
	wantLines(t, b.Bytes(), "5 to/here/", "0 to/here/f", "1 single to/here/f", "0 -")
}

// A reader that goes away, and a caller that gives up.
func TestErrors(t *testing.T) {
	root := t.TempDir()
	sample(t, root)
	_, err := Tree(context.Background(), openDir(t, root), failing{}, options())
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Tree(ctx, openDir(t, root), io.Discard, options()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, unix.ENOSPC }
