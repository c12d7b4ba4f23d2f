package main_test

import (
	"archive/tar"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// hostileArchives are archives that try to get out of the directory or to leave
// something dangerous in it; canary is a directory of the host's that they know.
func hostileArchives(t *testing.T, canary string) map[string][]byte {
	t.Helper()
	up := strings.Repeat("../", 40)
	inside := func(list ...entry) []byte { return tarFile(t, list...) }
	setid := reg("usr/su", "x")
	setid.Mode = 0o6755
	device := entry{tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}, ""}
	disk := entry{tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o666}, ""}
	white := entry{tar.Header{Name: "white", Typeflag: tar.TypeChar, Mode: 0o666}, ""}
	steer := dir("over/")
	steer.PAXRecords = map[string]string{"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.overlay.redirect": canary, "SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
	steer.Format = tar.FormatPAX
	deep := reg(strings.Repeat("d/", 300)+"x", "x")
	return map[string][]byte{
		"dot dot":                        inside(reg(up+canary[1:]+"/file", "taken")),
		"dot dot in the middle":          inside(dir("a/"), reg("a/"+up+canary[1:]+"/file", "taken")),
		"absolute":                       inside(reg(canary+"/file", "taken")),
		"through a link":                 inside(link(tar.TypeSymlink, "l", canary), reg("l/file", "taken")),
		"through a link up":              inside(link(tar.TypeSymlink, "l", up+canary[1:]), reg("l/file", "taken")),
		"through two links":              inside(link(tar.TypeSymlink, "a", ".."), link(tar.TypeSymlink, "b", "a/"+up+canary[1:]), reg("b/file", "taken")),
		"a link as a parent, later":      inside(dir("d/"), reg("d/x", "x"), link(tar.TypeSymlink, "d", canary), reg("d/file", "taken")),
		"through a link of procfs":       inside(link(tar.TypeSymlink, "p", "/proc/self/root"), reg("p"+canary+"/file", "taken")),
		"writing through a link":         inside(link(tar.TypeSymlink, "f", canary+"/file"), reg("f", "taken")),
		"a directory over a link":        inside(link(tar.TypeSymlink, "f", canary), dir("f/"), reg("f/file", "taken")),
		"a hard link to the host":        inside(link(tar.TypeLink, "h", canary+"/file"), reg("h", "taken")),
		"a hard link up":                 inside(link(tar.TypeLink, "h", up+canary[1:]+"/file"), reg("h", "taken")),
		"a hard link through a link":     inside(link(tar.TypeSymlink, "l", canary), link(tar.TypeLink, "h", "l/file"), reg("h", "taken")),
		"a hard link to a link":          inside(link(tar.TypeSymlink, "l", canary+"/file"), link(tar.TypeLink, "h", "l"), reg("h", "taken")),
		"the root as a link":             inside(link(tar.TypeSymlink, ".", canary), reg("file", "taken")),
		"the root as a file":             inside(reg(".", "x")),
		"whiteout up":                    inside(reg(".wh...", "")),
		"whiteout of the root":           inside(reg(".wh..", "")),
		"whiteout through a link":        inside(link(tar.TypeSymlink, "l", canary), reg("l/.wh.file", "")),
		"opaque through a link":          inside(link(tar.TypeSymlink, "l", canary), reg("l/.wh..wh..opq", "")),
		"whiteout with a path":           inside(reg(".wh."+up+canary[1:], "")),
		"devices":                        inside(dir("dev/"), device, disk, white),
		"set-user-ID":                    inside(setid),
		"attributes of overlays":         inside(steer),
		"very deep":                      inside(deep),
		"escape sequences":               inside(reg("usr/\x1b[2J\x1b]0;x\x07", "x"), reg("usr/\u009b31m", "x"), link(tar.TypeSymlink, "usr/l", "\x1b[31m")),
		"a file where a directory stood": inside(dir("x/"), reg("x/y", "x"), reg("x", "x"), reg("x/z", "x")),
	}
}

// Each hostile archive ends in an error or in a harmless tree: the directory
// outside is as it was, and so is the rest of the store.
func TestHostileArchives(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	canary := t.TempDir()
	if err := os.WriteFile(filepath.Join(canary, "file"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := tree(t, canary)
	for name, data := range hostileArchives(t, canary) {
		box.Stdin = bytes.NewReader(data)
		result := box.Run(t, importArgs()...)
		if result.Exit != 0 && result.Exit != 125 {
			t.Errorf("%s: %v", name, result)
		}
		if strings.ContainsAny(result.Stdout+result.Stderr, "\x1b\u009b\x07") {
			t.Errorf("%s: escape sequences are printed: %q", name, result.Stderr)
		}
		if after := tree(t, canary); !slices.Equal(before, after) || readFile(t, filepath.Join(canary, "file")) != "mine" {
			t.Fatalf("%s: the directory outside has changed: %v", name, after)
		}
		checkHarmless(t, name, box)
	}
	checkNothingStaged(t, box)
}

// A hostile directory is copied without being followed, waited for or executed
// (SECURITY E1).
func TestHostileSourceDirectory(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("taken"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := t.TempDir()
	in := func(name string) string { return filepath.Join(source, name) }
	deep := "deep"
	for range 900 {
		deep += "/d"
	}
	listener, err := net.Listen("unix", in("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for what, err := range map[string]error{
		"a fifo":              unix.Mkfifo(in("fifo"), 0o644),
		"a link to a file":    os.Symlink(canary, in("file")),
		"a link to a tree":    os.Symlink(filepath.Dir(canary), in("tree")),
		"a link up":           os.Symlink("../../../../../../../../..", in("up")),
		"a link to itself":    os.Symlink("loop", in("loop")),
		"many directories":    os.MkdirAll(in(deep), 0o755),
		"a closed file":       os.WriteFile(in("closed"), []byte("x"), 0),
		"a closed directory":  os.Mkdir(in("shut"), 0),
		"a set-user-ID file":  os.WriteFile(in("su"), []byte("x"), 0o755),
		"its bit":             os.Chmod(in("su"), 0o755|os.ModeSetuid),
		"an enormous file":    os.WriteFile(in("huge"), nil, 0o644),
		"its size, no blocks": os.Truncate(in("huge"), 1<<40),
		"escape sequences":    os.WriteFile(in("\x1b[2J"), nil, 0o644),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	args := importArgs()
	args[2] = source
	begin := time.Now()
	result := box.Run(t, args...)
	if result.Exit != 0 || strings.ContainsAny(result.Stderr, "\x1b") {
		t.Fatalf("%v", result)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	checkHarmless(t, "a hostile directory", box)
	checkNothingStaged(t, box)
	out, _ := exec.Command("grep", "-rls", "--exclude=huge", "taken", box.Store()).Output()
	if len(out) > 0 {
		t.Errorf("the file outside is in the image: %s", out)
	}
}

// checkHarmless looks at what was unpacked, as far as the caller can: no device,
// no file that shares its inode with one outside, and nothing set-user-ID that
// belongs to the caller.
func checkHarmless(t *testing.T, name string, box sbxtest.Sandbox) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(box.Store(), "images/imported"), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // of subordinate ids, and closed
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode()&(os.ModeDevice|os.ModeCharDevice) != 0 {
			t.Errorf("%s: %s is a device", name, path)
		}
		if ok && info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 && int(st.Uid) == os.Getuid() {
			t.Errorf("%s: %s is set-user-ID and the caller's", name, path)
		}
		if n, err := unix.Lgetxattr(path, "user.overlay.opaque", nil); err == nil {
			t.Errorf("%s: %s steers an overlay, %d bytes", name, path, n)
		}
		return nil
	})
}
