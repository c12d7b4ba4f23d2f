package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBaseImageOfEachLayout(t *testing.T) {
	for _, tc := range []struct {
		name string
		host map[string]any
		want []string
	}{
		{"merged /usr, multiarch", mergedHost(), []string{
			"/bin -> usr/bin", "/lib64 -> usr/lib64", "/usr/bin/sh -> dash", "/usr/bin/dash",
			"/usr/bin/awk -> /etc/alternatives/awk", "/etc/alternatives/awk -> /usr/bin/mawk", "/usr/bin/mawk",
			// A link of the distribution's that leads to a user's file is not followed.
			"no /usr/bin/which", "no /home/eve",
			// Nor is anything there that no list names.
			"no /usr/bin/unrelated", "no /usr/lib/x86_64-linux-gnu/libunrelated.so.1",
			"/usr/lib64/ld-linux-x86-64.so.2 -> ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
			"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
			"/usr/lib/x86_64-linux-gnu/libtinfo.so.6 -> libtinfo.so.6.4", "/usr/lib/x86_64-linux-gnu/libtinfo.so.6.4",
			// A library comes from wherever the loader finds it.
			"/opt/vendor/lib/libselinux.so.1",
			"/usr/bin/python3 -> python3.11", "/usr/lib/python3.11/os.py", "/usr/lib/python3.11/__pycache__/os.pyc",
			"/usr/lib/python3.11/sitecustomize.py -> /etc/python3.11/sitecustomize.py", "/etc/python3.11/sitecustomize.py",
			"no /usr/lib/python3.11/test", "no /usr/lib/python3.11/dist-packages",
			"/usr/lib/x86_64-linux-gnu/libffi.so.8", // of a plug-in
			"/usr/lib/terminfo/x/xterm-256color",
			"/usr/share/zoneinfo/Etc/UTC", "no /usr/share/zoneinfo/right",
			"/etc/localtime -> /usr/share/zoneinfo/Etc/UTC",
			"/etc/ssl/certs/Root.pem -> /usr/share/ca-certificates/mozilla/Root.crt",
			"/usr/share/ca-certificates/mozilla/Root.crt", "no /etc/ssl/private",
			"/etc/os-release -> ../usr/lib/os-release", "/usr/lib/os-release",
			"no /etc/machine-id", "no /etc/vim", "/etc/services",
			"/box", "/home/sbx", "/tmp", "/proc", "/root", "/etc/mtab -> ../proc/self/mounts", "/var/run -> /run",
		}},
		{"split /usr, lib64", splitHost(), []string{
			"/bin", "/bin/sh -> bash", "/bin/bash", "/usr/bin/env", "/usr/bin/sed -> ../../bin/sed", "/bin/sed",
			"/lib64/ld-linux-x86-64.so.2 -> ld-2.17.so", "/lib64/ld-2.17.so", "/lib64/libc-2.17.so",
			"/usr/lib64/libtinfo.so.6", "no /lib/modules", "/sbin/ldconfig", "/usr/share/terminfo/x/xterm",
			"/etc/ssl/certs -> ../pki/tls/certs",
			"/etc/pki/tls/certs/ca.crt -> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
			"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "no /etc/pki/tls/private", "/etc/redhat-release",
		}},
		{"musl and busybox", muslHost(), []string{
			"/bin/busybox", "/bin/sh -> /bin/busybox", "/usr/bin/awk -> /bin/busybox",
			"/lib/ld-musl-x86_64.so.1", "/lib/libc.musl-x86_64.so.1 -> ld-musl-x86_64.so.1",
			"/usr/lib/libz.so.1 -> libz.so.1.3", "/etc/alpine-release", "/etc/ssl/cert.pem -> certs/ca-certificates.crt",
			"/etc/terminfo/x/xterm", "no /etc/ld.so.cache",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, req := testStore(t, plant(t, tc.host))
			img := buildImage(t, s, req)
			checkPaths(t, img.Path, tc.want...)
		})
	}
}

func TestBaseImageTellsNothingOfTheHost(t *testing.T) {
	files := mergedHost()
	files["etc/ld.so.cache"] = cacheOf(t,
		CacheEntry{Name: "libexpat.so.1", Path: "/lib/x86_64-linux-gnu/libexpat.so.1"},
		CacheEntry{Name: "libselinux.so.1", Path: "/opt/vendor/lib/libselinux.so.1"},
		CacheEntry{Name: "libunrelated.so.1", Path: "/lib/x86_64-linux-gnu/libunrelated.so.1"})
	s, req := testStore(t, plant(t, files))
	img := buildImage(t, s, req)
	etc := filepath.Join(img.Path, "etc")
	for name, text := range map[string]string{"passwd": "eve", "hosts": "secret.example", "group": "eve", "ld.so.cache": "libunrelated"} {
		data, err := os.ReadFile(filepath.Join(etc, name))
		must(t, err)
		if strings.Contains(string(data), text) {
			t.Errorf("/etc/%s has %q in it", name, text)
		}
	}
	data, err := os.ReadFile(filepath.Join(etc, "ld.so.cache"))
	must(t, err)
	cache, err := ParseLdCache(data)
	must(t, err)
	if got := cache.Lookup("libselinux.so.1"); !slices.Equal(got, []string{"/opt/vendor/lib/libselinux.so.1"}) {
		t.Errorf("the cache finds libselinux at %v", got)
	}
}

func TestImageKeepsModesAndTimesButNoPrivilege(t *testing.T) {
	host := plant(t, mergedHost())
	old := time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
	ls := filepath.Join(host.Path(), "usr/bin/ls")
	must(t, os.Chtimes(ls, old, old))
	must(t, unix.Chmod(filepath.Join(host.Path(), "usr/bin/bash"), 0o6755))
	must(t, unix.Chmod(filepath.Join(host.Path(), "etc/services"), 0o640))
	s, req := testStore(t, host)
	img := buildImage(t, s, req)
	for name, mode := range map[string]os.FileMode{
		"usr/bin/ls": 0o755, "usr/bin/bash": 0o755, "tmp": os.ModeSticky | 0o777, "root": 0o700, "proc": 0o555, ".": 0o755,
	} {
		st, err := os.Stat(filepath.Join(img.Path, name))
		must(t, err)
		if st.Mode()&^os.ModeDir != mode {
			t.Errorf("%s has mode %v, want %v", name, st.Mode(), mode)
		}
	}
	st, err := os.Stat(filepath.Join(img.Path, "usr/bin/ls"))
	must(t, err)
	if !st.ModTime().Equal(old) {
		t.Errorf("ls is of %v, want %v", st.ModTime(), old)
	}
	checkPaths(t, img.Path, "no /etc/services") // not everyone may read it
}

// D14: a payload that writes must never change the host or another copy.
func TestImageSharesNoFile(t *testing.T) {
	files := mergedHost()
	host := plant(t, files)
	must(t, os.Link(filepath.Join(host.Path(), "usr/bin/ls"), filepath.Join(host.Path(), "usr/bin/dir")))
	s, req := testStore(t, host)
	img := buildImage(t, s, req)
	var a, b, c unix.Stat_t
	must(t, unix.Stat(filepath.Join(host.Path(), "usr/bin/ls"), &a))
	must(t, unix.Stat(filepath.Join(img.Path, "usr/bin/ls"), &b))
	must(t, unix.Stat(filepath.Join(img.Path, "usr/bin/dir"), &c))
	if a.Ino == b.Ino && a.Dev == b.Dev {
		t.Error("the image has the host's own file")
	}
	if b.Ino != c.Ino || b.Nlink != 2 {
		t.Error("a hard link of the host is two files in the image")
	}
}

func TestHostImageBindsAndCopiesEtc(t *testing.T) {
	for _, tc := range []struct {
		name  string
		host  map[string]any
		binds []string
		want  []string
	}{
		{"merged", mergedHost(), []string{"/usr", "/opt"}, []string{
			"/bin -> usr/bin", "/lib64 -> usr/lib64", "/usr", "no /usr/bin", "/opt", "no /opt/vendor",
			"/etc/alternatives/awk -> /usr/bin/mawk", "no /etc/alternatives/which",
			"/etc/vim/vimrc", "/etc/localtime -> /usr/share/zoneinfo/Etc/UTC",
			"/etc/ssl/certs/Root.pem -> /usr/share/ca-certificates/mozilla/Root.crt",
			"no /etc/ssl/private", "no /etc/machine-id", "/etc/python3.11/sitecustomize.py", "/box",
		}},
		{"split", splitHost(), []string{"/usr", "/bin", "/sbin", "/lib", "/lib64"}, []string{
			"/usr", "/bin", "no /bin/sh", "/lib64", "no /lib64/libc.so.6",
			"/etc/ssl/certs -> ../pki/tls/certs", "no /etc/pki/tls/private",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, req := testStore(t, plant(t, tc.host))
			req.Name = ImageHost
			img := buildImage(t, s, req)
			if !slices.Equal(img.Binds, tc.binds) {
				t.Errorf("binds %v, want %v", img.Binds, tc.binds)
			}
			checkPaths(t, img.Path, tc.want...)
			if data, err := os.ReadFile(filepath.Join(img.Path, "etc/passwd")); err != nil || strings.Contains(string(data), "eve") {
				t.Errorf("/etc/passwd: %v %s", err, data)
			}
		})
	}
}

func TestScratchImageIsASkeleton(t *testing.T) {
	s, req := testStore(t, plant(t, mergedHost()))
	req.Name = ImageScratch
	img := buildImage(t, s, req)
	checkPaths(t, img.Path, "/bin -> usr/bin", "/usr/bin", "no /usr/bin/sh", "/etc/passwd", "no /etc/profile", "/box")
	if img.Shell != "" {
		t.Errorf("shell %q", img.Shell)
	}
}

func TestImageFollowsTheHost(t *testing.T) {
	in := func(r *Root, name string) string { return filepath.Join(r.Path(), name) }
	for _, tc := range []struct {
		name    string
		change  func(t *testing.T, host *Root)
		rebuild bool
	}{
		{"nothing", func(*testing.T, *Root) {}, false},
		{"a library is replaced", func(t *testing.T, h *Root) {
			must(t, os.WriteFile(in(h, "new"), lib("libm.so.6").bytes(), 0o755))
			must(t, os.Rename(in(h, "new"), in(h, "usr/lib/x86_64-linux-gnu/libexpat.so.1")))
		}, true},
		{"a library is overwritten", func(t *testing.T, h *Root) {
			must(t, os.WriteFile(in(h, "opt/vendor/lib/libselinux.so.1"), lib("libm.so.6").bytes(), 0o755))
		}, true},
		{"a library is touched", func(t *testing.T, h *Root) {
			now := time.Now().Add(time.Hour)
			must(t, os.Chtimes(in(h, "usr/lib/x86_64-linux-gnu/libc.so.6"), now, now))
		}, true},
		{"a program comes", func(t *testing.T, h *Root) {
			must(t, os.WriteFile(in(h, "usr/bin/cat"), fakeProgram().bytes(), 0o755))
		}, true},
		{"a program goes", func(t *testing.T, h *Root) { must(t, os.Remove(in(h, "usr/bin/bash"))) }, true},
		{"something else is installed", func(t *testing.T, h *Root) {
			must(t, os.WriteFile(in(h, "usr/bin/browser"), fakeProgram().bytes(), 0o755))
		}, false},
		{"a user is added", func(t *testing.T, h *Root) {
			must(t, os.WriteFile(in(h, "etc/passwd"), []byte("mallory:x:2:2::/:/bin/sh\n"), 0o644))
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := plant(t, mergedHost())
			s, req := testStore(t, host)
			first := buildImage(t, s, req)
			must(t, first.Close())
			tc.change(t, host)
			_, inspectErr := InspectImage(context.Background(), req)
			second, err := s.FindImage(context.Background(), req)
			if tc.rebuild {
				if !errors.Is(err, ErrNoImage) || !errors.Is(inspectErr, ErrNoImage) {
					t.Fatalf("the old image is still taken: %v, %v", err, inspectErr)
				}
				second = buildImage(t, s, req)
				if second.Key == first.Key {
					t.Error("the key is the same")
				}
				if _, err := os.Stat(first.Path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the old image is still there: %v", err)
				}
				return
			}
			must(t, err)
			must(t, inspectErr)
			defer second.Close()
			if second.Key != first.Key {
				t.Error("the key has changed")
			}
			stamp, err := os.ReadFile(filepath.Join(filepath.Dir(second.Path), stampFile))
			must(t, err)
			if !sameStamp(host, string(stamp)) {
				t.Error("the stamp was not refreshed")
			}
		})
	}
}

func TestOldImageInUseStaysUntilItIsFree(t *testing.T) {
	host := plant(t, mergedHost())
	s, req := testStore(t, host)
	first := buildImage(t, s, req)
	must(t, os.Remove(filepath.Join(host.Path(), "usr/bin/bash")))
	second := buildImage(t, s, req)
	if _, err := os.Stat(first.Path); err != nil {
		t.Fatalf("an image in use was removed: %v", err)
	}
	_, err := s.Collect(nil)
	must(t, err)
	if _, err := os.Stat(first.Path); err != nil {
		t.Fatalf("an image in use was collected: %v", err)
	}
	must(t, first.Close())
	_, err = s.Collect(nil)
	must(t, err)
	if _, err := os.Stat(first.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a free old image stays: %v", err)
	}
	if _, err := os.Stat(second.Path); err != nil {
		t.Error(err)
	}
}

func TestBuildsBesideEachOther(t *testing.T) {
	host := plant(t, mergedHost())
	s, req := testStore(t, host)
	var wg sync.WaitGroup
	var mu sync.Mutex
	copies, waits := 0, 0
	for range 8 {
		wg.Go(func() {
			copied, waited := false, false
			err := Build(context.Background(), req, func(p Progress) {
				copied, waited = copied || p.Stage == StageCopy, waited || p.Stage == StageWait
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if copied {
				copies++
			}
			if waited {
				waits++
			}
		})
	}
	wg.Wait()
	if copies != 1 || waits == 0 {
		t.Errorf("%d copied and %d waited, want 1 and some", copies, waits)
	}
	findImage(t, s, req)
}

func TestWaitingBuildCanBeBrokenOff(t *testing.T) {
	s, req := testStore(t, plant(t, mergedHost()))
	dir, err := privateDir(int(s.images.Fd()), req.Name, "base", createMissing)
	must(t, err)
	defer dir.Close()
	lock, err := openLock(dir, guardFile, unix.O_CREAT)
	must(t, err)
	defer lock.Close()
	must(t, flock(lock, unix.LOCK_EX))
	ctx, cancel := context.WithCancel(context.Background())
	err = Build(ctx, req, func(p Progress) {
		if p.Stage == StageWait {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	s, req := testStore(t, plant(t, mergedHost()))
	ctx, cancel := context.WithCancel(context.Background())
	err := Build(ctx, req, func(p Progress) {
		if p.Stage == StageCopy {
			cancel()
		}
	})
	if err == nil {
		t.Skip("it was done before it could be cancelled")
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkStoreIsEmpty(t, s)
}

// checkStoreIsEmpty wants no image, sandbox or trash in the store.
func checkStoreIsEmpty(t *testing.T, s *Store) {
	t.Helper()
	for name := range treePaths(t, s.Path()) {
		switch {
		case name == "", strings.HasSuffix(name, "/.lock"), strings.Count(name, "/") == 1, name == "/images/base":
		default:
			t.Errorf("left over: %s", name)
		}
	}
}

func TestKilledBuildIsNeverUsed(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { removeBelow(t, dir) })
	s, err := OpenStore(filepath.Join(dir, "sbx"))
	must(t, err)
	defer s.Close()
	host := plant(t, mergedHost())
	for i := range 400 {
		must(t, os.WriteFile(filepath.Join(host.Path(), "usr/share/zoneinfo", "Zone"+string(rune('a'+i%26))+time.Duration(i).String()), make([]byte, 9000), 0o644))
	}
	req := ImageRequest{Store: s.Path(), Name: ImageBase, Host: host.Path(), Owner: Ownership{Single: true}}
	killed := 0
	for _, delay := range []time.Duration{60, 90, 120, 150, 200} {
		cmd := worker(t, workerTask{Do: "build", Request: req}, false)
		time.Sleep(delay * time.Millisecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		img, err := s.FindImage(context.Background(), req)
		if err == nil { // it was faster
			checkPaths(t, img.Path, "/etc/mtab -> ../proc/self/mounts", "/usr/bin/dash")
			must(t, img.Close())
			break
		}
		if !errors.Is(err, ErrNoImage) {
			t.Fatal(err)
		}
		staging, err := filepath.Glob(filepath.Join(s.Path(), "images/base/.staging-*"))
		must(t, err)
		killed += len(staging)
		_, err = s.Collect(nil)
		must(t, err)
		checkStoreIsEmpty(t, s)
	}
	t.Logf("killed %d in the middle", killed)
	img := buildImage(t, s, req)
	if img.Files != int64(len(treePaths(t, img.Path)))-1 {
		t.Errorf("image.json counts %d files, there are %d", img.Files, len(treePaths(t, img.Path))-1)
	}
}

func TestBuildOnAFullDiskLeavesNothing(t *testing.T) {
	host := plant(t, mergedHost())
	must(t, os.WriteFile(filepath.Join(host.Path(), "usr/bin/sort"), make([]byte, 1<<20), 0o755))
	req := ImageRequest{Name: ImageBase, Host: host.Path(), Owner: Ownership{Single: true}}
	must(t, worker(t, workerTask{Do: "full", Dir: t.TempDir(), Request: req}, false).Wait())
}

func TestBaseImageNeedsAShell(t *testing.T) {
	files := mergedHost()
	delete(files, "usr/bin/sh")
	_, req := testStore(t, plant(t, files))
	err := Build(context.Background(), req, nil)
	if want := "look for sh: the host has none in /usr/bin or /bin"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

func TestImageRequestRefuses(t *testing.T) {
	s, req := testStore(t, plant(t, mergedHost()))
	for name, errno := range map[string]error{"nosuch": unix.EINVAL, "../base": unix.EINVAL, "": unix.EINVAL, ".x": unix.EINVAL} {
		req.Name = name
		if err := Build(context.Background(), req, nil); !errors.Is(err, errno) {
			t.Errorf("build %q: %v", name, err)
		}
		if _, err := s.FindImage(context.Background(), req); err == nil {
			t.Errorf("found %q", name)
		}
	}
	req.Name, req.Host = ImageBase, "/nonexistent"
	if err := Build(context.Background(), req, nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestInspectImageMakesNothing(t *testing.T) {
	host := plant(t, mergedHost())
	dir := t.TempDir()
	req := ImageRequest{Store: dir + "/sbx", Name: ImageBase, Host: host.Path(), Owner: Ownership{Single: true}}
	if _, err := InspectImage(context.Background(), req); !errors.Is(err, ErrNoImage) {
		t.Errorf("got %v", err)
	}
	if paths := treePaths(t, dir); len(paths) != 1 {
		t.Errorf("made %v", paths)
	}
}

func TestMappedImageBelongsToRootInside(t *testing.T) {
	owner := mappedOwner(t)
	s, req := testStore(t, plant(t, mergedHost()))
	req.Owner = owner
	cmd := worker(t, workerTask{Do: "build", Request: req}, true)
	must(t, cmd.Wait())
	img := findImage(t, s, req)
	for _, name := range []string{".", "usr/bin/dash", "usr/bin/sh", "etc/passwd", "tmp"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(img.Path, name), &st))
		if st.Uid != owner.HostUID || st.Gid != owner.HostGID {
			t.Errorf("%s belongs to %d:%d, want %d", name, st.Uid, st.Gid, owner.HostUID)
		}
	}
	must(t, img.Close())
	// An image for other ids is none for these.
	other := req
	other.Owner.HostUID++
	if _, err := s.FindImage(context.Background(), other); !errors.Is(err, ErrNoImage) {
		t.Errorf("an image of other ids was taken: %v", err)
	}
	trash, err := s.toTrash(s.images, ImageBase)
	must(t, err)
	emptyByWorker(t, s, trash)
}

func emptyByWorker(t *testing.T, s *Store, names ...string) {
	t.Helper()
	must(t, worker(t, workerTask{Do: "empty", Request: ImageRequest{Store: s.Path()}, Names: names}, true).Wait())
	left, err := listNames(s.trashcan)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("still in the trash: %v", left)
	}
}

func BenchmarkFindImage(b *testing.B) {
	dir := b.TempDir()
	s, err := OpenStore(filepath.Join(dir, "sbx"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	req := ImageRequest{Store: s.Path(), Name: ImageBase, Owner: Ownership{Single: true}}
	if err := Build(b.Context(), req, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		img, err := s.FindImage(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		img.Close()
	}
}
