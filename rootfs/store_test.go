package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStorePath(t *testing.T) {
	for _, tc := range []struct {
		name, data, home string
		want, problem    string
	}{
		{name: "XDG_DATA_HOME", data: "/data", home: "/home/u", want: "/data/sbx"},
		{name: "HOME", home: "/home/u", want: "/home/u/.local/share/sbx"},
		{name: "relative XDG_DATA_HOME", data: "data", home: "/home/u", problem: "use store data: XDG_DATA_HOME is not an absolute path; set XDG_DATA_HOME to an absolute path, or unset it"},
		{name: "relative HOME", home: "u", problem: "use store u: HOME is not an absolute path; set HOME to the absolute path of your home directory"},
		{name: "no home", problem: "find the store: HOME is not set; set HOME, or XDG_DATA_HOME, to a directory of your own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{"XDG_DATA_HOME": tc.data, "HOME": tc.home}
			got, err := StorePath(func(name string) string { return env[name] })
			if got != tc.want || tc.problem == "" && err != nil || tc.problem != "" && (err == nil || err.Error() != tc.problem) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestOpenStoreMakesPrivateDirectories(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o777} {
		dir := t.TempDir()
		old := syscall.Umask(mask)
		s, err := OpenStore(filepath.Join(dir, "a/b/sbx"))
		syscall.Umask(old)
		if mask == 0o777 && os.Geteuid() != 0 {
			// Not even the caller may enter what he just made above the store.
			if err == nil {
				t.Error("made a store below a directory without permissions")
			}
			removeBelow(t, dir)
			continue
		}
		must(t, err)
		for _, name := range []string{"", "images", "sandboxes", "trash"} {
			st, err := os.Lstat(filepath.Join(s.Path(), name))
			must(t, err)
			if st.Mode() != os.ModeDir|0o700 {
				t.Errorf("umask %03o: %q has mode %v", mask, name, st.Mode())
			}
		}
		must(t, s.Close())
		removeBelow(t, dir)
	}
}

func TestOpenStoreRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, data, store string)
		root    bool // needs root to prepare
		user    bool // has no effect on root
		want    []string
		errno   error
	}{
		{
			name: "a link",
			prepare: func(t *testing.T, data, store string) {
				must(t, os.Mkdir(data+"/real", 0o700))
				must(t, os.Symlink("real", store))
			},
			want: []string{"it is a link", "remove the link"}, errno: unix.ELOOP,
		},
		{
			name: "a link in it",
			prepare: func(t *testing.T, _, store string) {
				must(t, os.Mkdir(store, 0o700))
				must(t, os.Symlink("/tmp", store+"/images"))
			},
			want: []string{"sbx/images: it is a link"}, errno: unix.ELOOP,
		},
		{
			name:    "a file",
			prepare: func(t *testing.T, _, store string) { must(t, os.WriteFile(store, nil, 0o600)) },
			want:    []string{"not a directory", "move it away"}, errno: unix.ENOTDIR,
		},
		{
			name:    "writable by all",
			prepare: func(t *testing.T, _, store string) { must(t, os.Mkdir(store, 0o700)); must(t, os.Chmod(store, 0o777)) },
			want:    []string{"others can write to it (mode 0777)", "move it away"}, errno: unix.EPERM,
		},
		{
			name:    "writable by a group",
			prepare: func(t *testing.T, _, store string) { must(t, os.Mkdir(store, 0o700)); must(t, os.Chmod(store, 0o770)) },
			want:    []string{"others can write to it (mode 0770)"}, errno: unix.EPERM,
		},
		{
			name: "someone else's",
			prepare: func(t *testing.T, _, store string) {
				must(t, os.Mkdir(store, 0o755))
				must(t, os.Chown(store, 12345, 12345))
			},
			root: true, want: []string{"it belongs to uid 12345", "XDG_DATA_HOME"}, errno: unix.EPERM,
		},
		{
			name:    "below someone else's directory",
			prepare: func(t *testing.T, data, _ string) { must(t, os.Chown(data, 12345, 12345)) },
			root:    true, want: []string{"it belongs to uid 12345", "XDG_DATA_HOME"}, errno: unix.EPERM,
		},
		{
			name:    "below a directory that anyone can write",
			prepare: func(t *testing.T, data, _ string) { must(t, os.Chmod(data, 0o777)) },
			want:    []string{"anyone can write to it (mode 0777)", "chmod o-w"}, errno: unix.EPERM,
		},
		{
			name:    "below a directory that cannot be written",
			prepare: func(t *testing.T, data, _ string) { must(t, os.Chmod(data, 0o500)) },
			user:    true, want: []string{"permission denied", "set XDG_DATA_HOME"}, errno: unix.EACCES,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			switch {
			case tc.root && os.Geteuid() != 0:
				t.Skip("cannot: only root can give files away; the run as root has this case")
			case tc.user && os.Geteuid() == 0:
				t.Skip("cannot: root may write everywhere; the run as a user has this case")
			}
			data := t.TempDir()
			t.Cleanup(func() { _ = os.Chmod(data, 0o700) })
			tc.prepare(t, data, data+"/sbx")
			checkStoreError(t, data+"/sbx", tc.errno, append(tc.want, data)...)
		})
	}
}

// checkStoreError wants OpenStore to fail with a StoreError that says all this.
func checkStoreError(t *testing.T, store string, errno error, parts ...string) {
	t.Helper()
	s, err := OpenStore(store)
	if err == nil {
		s.Close()
		t.Fatal("no error")
	}
	var storeErr *StoreError
	if !errors.As(err, &storeErr) || !errors.Is(err, errno) {
		t.Errorf("%v is no StoreError with %v", err, errno)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestOpenStoreOnAReadOnlyFileSystem(t *testing.T) {
	must(t, worker(t, workerTask{Do: "read-only", Dir: t.TempDir()}, false).Wait())
}

func TestOpenStoreTightensItsOwn(t *testing.T) {
	store := filepath.Join(t.TempDir(), "sbx")
	must(t, os.MkdirAll(store+"/images", 0o755))
	s, err := OpenStore(store)
	must(t, err)
	defer s.Close()
	for _, name := range []string{store, store + "/images"} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestInspectStoreChangesNothing(t *testing.T) {
	data := t.TempDir()
	exists, err := InspectStore(data + "/deep/sbx")
	if exists || err != nil {
		t.Errorf("got %v, %v", exists, err)
	}
	must(t, os.Mkdir(data+"/sbx", 0o755))
	exists, err = InspectStore(data + "/sbx")
	if exists || err != nil {
		t.Errorf("a store without its directories: %v, %v", exists, err)
	}
	if paths := treePaths(t, data); len(paths) != 2 {
		t.Errorf("made %v", paths)
	}
	if st, err := os.Stat(data + "/sbx"); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	s, err := OpenStore(data + "/sbx")
	must(t, err)
	must(t, s.Close())
	if exists, err = InspectStore(data + "/sbx"); !exists || err != nil {
		t.Errorf("got %v, %v", exists, err)
	}
	if err := os.Chmod(data+"/sbx", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err = InspectStore(data + "/sbx"); err == nil {
		t.Error("a store that anyone can write is not refused")
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"base": true, "a": true, "0": true, "my-image_1.2": true, strings.Repeat("a", 63): true,
		"": false, "-rf": false, ".hidden": false, "..": false, "Upper": false, "a/b": false, "a b": false,
		"ä": false, "a\n": false, "a\x00": false, strings.Repeat("a", 64): false,
	} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) is %v", name, !want)
		}
	}
}

// The advice fits what is wrong: another directory does not help against a limit
// of descriptors.
func TestStoreErrorAdvice(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EMFILE: "ulimit -n", unix.ENFILE: "too many files", unix.EDQUOT: "quota", unix.ENOSPC: "free some space",
		unix.EROFS: "that you can write",
	} {
		err := storeErr("/x/sbx", errno)
		var se *StoreError
		if !errors.As(err, &se) || !errors.Is(err, errno) || !strings.Contains(se.Remedy, want) {
			t.Errorf("%v", err)
		}
	}
}
