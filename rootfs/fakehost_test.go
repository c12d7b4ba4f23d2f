package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The programs of the fake hosts cannot be run; only their headers are read.
func fakeProgram(needed ...string) elfSpec {
	return elfSpec{interp: testLoader, needed: append(needed, "libc.so.6")}
}

// mergedHost is a small Debian of today: /usr merged, multiarch, alternatives.
func mergedHost() map[string]any {
	return map[string]any{
		"bin": "-> usr/bin", "sbin": "-> usr/sbin", "lib": "-> usr/lib", "lib64": "-> usr/lib64",
		"usr/sbin/ldconfig":              fakeProgram(),
		"usr/bin/dash":                   fakeProgram(),
		"usr/bin/sh":                     "-> dash",
		"usr/bin/bash":                   fakeProgram("libtinfo.so.6"),
		"usr/bin/ls":                     fakeProgram("libselinux.so.1"),
		"usr/bin/mawk":                   fakeProgram("libm.so.6"),
		"usr/bin/awk":                    "-> /etc/alternatives/awk",
		"etc/alternatives/awk":           "-> /usr/bin/mawk",
		"usr/bin/which":                  "-> /etc/alternatives/which",
		"etc/alternatives/which":         "-> /home/eve/which",
		"home/eve/which":                 "#!/bin/sh\n",
		"usr/bin/unrelated":              fakeProgram("libunrelated.so.1"),
		"usr/lib64/ld-linux-x86-64.so.2": "-> ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",

		"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": lib(),
		"usr/lib/x86_64-linux-gnu/libc.so.6":            lib(),
		"usr/lib/x86_64-linux-gnu/libm.so.6":            lib("libc.so.6"),
		"usr/lib/x86_64-linux-gnu/libtinfo.so.6":        "-> libtinfo.so.6.4",
		"usr/lib/x86_64-linux-gnu/libtinfo.so.6.4":      lib("libc.so.6"),
		"usr/lib/x86_64-linux-gnu/libunrelated.so.1":    lib(),
		"opt/vendor/lib/libselinux.so.1":                lib(),
		"etc/ld.so.conf":                                "/opt/vendor/lib\n",

		"usr/bin/python3":                           "-> python3.11",
		"usr/bin/python3.11":                        fakeProgram("libexpat.so.1"),
		"usr/lib/x86_64-linux-gnu/libexpat.so.1":    lib(),
		"usr/lib/x86_64-linux-gnu/libffi.so.8":      lib(),
		"usr/lib/python3.11/os.py":                  "pass\n",
		"usr/lib/python3.11/test/test_os.py":        "pass\n",
		"usr/lib/python3.11/__pycache__/os.pyc":     "pyc",
		"usr/lib/python3.11/sitecustomize.py":       "-> /etc/python3.11/sitecustomize.py",
		"usr/lib/python3.11/lib-dynload/_ctypes.so": lib("libffi.so.8"),
		"usr/lib/python3.11/dist-packages/apt.py":   "pass\n",
		"etc/python3.11/sitecustomize.py":           "pass\n",

		"usr/lib/terminfo/x/xterm-256color":          "xterm",
		"usr/share/zoneinfo/Etc/UTC":                 "TZif2",
		"usr/share/zoneinfo/right/UTC":               "TZif2",
		"etc/localtime":                              "-> /usr/share/zoneinfo/Etc/UTC",
		"etc/ssl/certs/Root.pem":                     "-> /usr/share/ca-certificates/mozilla/Root.crt",
		"etc/ssl/private/key.pem":                    "secret",
		"usr/share/ca-certificates/mozilla/Root.crt": "cert",
		"etc/os-release":                             "-> ../usr/lib/os-release",
		"usr/lib/os-release":                         "ID=fake\n",
		"etc/passwd":                                 "eve:x:1:1::/home/eve:/bin/sh\n",
		"etc/hosts":                                  "10.1.2.3 secret.example\n",
		"etc/machine-id":                             "0123\n",
		"etc/vim/vimrc":                              "set nocp\n",
		"etc/services":                               "echo 7/tcp\n",
	}
}

// splitHost has no merged /usr and keeps libraries in lib64, as older
// enterprise distributions do; awk is a hard link there.
func splitHost() map[string]any {
	return map[string]any{
		"bin/bash":                     fakeProgram("libtinfo.so.6"),
		"bin/sh":                       "-> bash",
		"bin/ls":                       fakeProgram(),
		"usr/bin/env":                  fakeProgram(),
		"usr/bin/sed":                  "-> ../../bin/sed",
		"bin/sed":                      fakeProgram(),
		"sbin/ldconfig":                fakeProgram(),
		"lib64/ld-linux-x86-64.so.2":   "-> ld-2.17.so",
		"lib64/ld-2.17.so":             lib(),
		"lib64/libc.so.6":              "-> libc-2.17.so",
		"lib64/libc-2.17.so":           lib(),
		"usr/lib64/libtinfo.so.6":      lib(),
		"lib/modules/5.0/kernel.ko":    "not for us",
		"usr/share/terminfo/x/xterm":   "xterm",
		"etc/pki/tls/certs/ca.crt":     "-> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"etc/pki/tls/private/host.key": "secret",
		"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": "certs",
		"etc/ssl/certs":      "-> ../pki/tls/certs",
		"etc/redhat-release": "Fake release 7\n",
	}
}

// muslHost is an Alpine: one busybox under many names, musl's loader.
func muslHost() map[string]any {
	busybox := elfSpec{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"libc.musl-x86_64.so.1"}}
	return map[string]any{
		"bin/busybox":                       busybox,
		"bin/sh":                            "-> /bin/busybox",
		"bin/ls":                            "-> /bin/busybox",
		"usr/bin/awk":                       "-> /bin/busybox",
		"lib/ld-musl-x86_64.so.1":           lib(),
		"lib/libc.musl-x86_64.so.1":         "-> ld-musl-x86_64.so.1",
		"usr/lib/libz.so.1":                 "-> libz.so.1.3",
		"usr/lib/libz.so.1.3":               lib(),
		"etc/alpine-release":                "3.20\n",
		"etc/ssl/cert.pem":                  "-> certs/ca-certificates.crt",
		"etc/ssl/certs/ca-certificates.crt": "certs",
		"etc/terminfo/x/xterm":              "xterm",
	}
}

// testStore is an open store below a fresh directory, with a request for base
// copied from a fake host, all of it owned by whoever runs the test.
func testStore(t *testing.T, host *Root) (*Store, ImageRequest) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { removeBelow(t, dir) })
	s, err := OpenStore(filepath.Join(dir, "sbx"))
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, ImageRequest{Store: s.Path(), Name: ImageBase, Host: host.Path(), Owner: Ownership{Single: true}}
}

// removeBelow empties a directory that testing.T could not: it has directories
// without permissions in it.
func removeBelow(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	must(t, err)
	for _, name := range names {
		must(t, RemoveTree(f, name))
	}
}

func findImage(t *testing.T, s *Store, req ImageRequest) *Image {
	t.Helper()
	img, err := s.FindImage(context.Background(), req)
	must(t, err)
	t.Cleanup(func() { _ = img.Close() })
	return img
}

func buildImage(t *testing.T, s *Store, req ImageRequest) *Image {
	t.Helper()
	must(t, Build(context.Background(), req, nil))
	return findImage(t, s, req)
}

// treePaths lists all paths of a tree, links with " -> target".
func treePaths(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := ""
		if d.Type() == os.ModeSymlink {
			target, err = os.Readlink(name)
		}
		paths[strings.TrimPrefix(name, dir)] = target
		return err
	}))
	return paths
}

// checkPaths wants each line of want in the tree: a path, "path -> target", or
// "no path".
func checkPaths(t *testing.T, dir string, want ...string) {
	t.Helper()
	paths := treePaths(t, dir)
	for _, w := range want {
		if name, no := strings.CutPrefix(w, "no "); no {
			if _, there := paths[name]; there {
				t.Errorf("the image has %s", name)
			}
			continue
		}
		name, target, _ := strings.Cut(w, " -> ")
		got, there := paths[name]
		if !there || got != target {
			t.Errorf("want %q, have %q (there: %v)", w, got, there)
		}
	}
	if t.Failed() {
		t.Logf("the image has\n%s", strings.Join(slices.Sorted(maps.Keys(paths)), "\n"))
	}
}

// workerTask is what a worker process is told on its standard input.
type workerTask struct {
	Do      string
	Request ImageRequest
	Names   []string
	Dir     string
	Copy    CopyOptions
}

// TestWorkerProcess is not a test: worker starts it in another process.
func TestWorkerProcess(t *testing.T) {
	if os.Getenv("SBX_ROOTFS_WORKER") == "" {
		return
	}
	var task workerTask
	must(t, json.NewDecoder(os.Stdin).Decode(&task)) // comes when the id map is there
	switch task.Do {
	case "build":
		must(t, Build(context.Background(), task.Request, func(p Progress) { fmt.Fprintln(os.Stderr, p.Stage, p.Files) }))
	case "empty":
		must(t, EmptyTrash(task.Request.Store, task.Names...))
	case "prepare":
		dir, err := os.Open(task.Dir)
		must(t, err)
		must(t, PrepareOverlay(dir, task.Request.Owner))
		must(t, os.WriteFile(task.Dir+"/upper/file", nil, 0o600))
		must(t, os.Lchown(task.Dir+"/upper/file", 1001, 1001))
		must(t, os.Mkdir(task.Dir+"/work/work", 0))
	case "copy":
		src, err := os.Open(task.Names[0])
		must(t, err)
		dst, err := os.Open(task.Names[1])
		must(t, err)
		_, err = CopyTree(context.Background(), src, dst, task.Copy)
		must(t, err)
	case "mounted":
		mountedTask(t, task)
	case "unmapped":
		unmappedTask(t, task)
	case "remove":
		parent, err := os.Open(task.Dir)
		must(t, err)
		must(t, RemoveTree(parent, "tree"))
	case "fill":
		fillTask(t, task)
	case "mount":
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(t, unix.Mount(task.Names[0], task.Names[1], "", unix.MS_BIND, ""))
		parent, err := os.Open(task.Dir)
		must(t, err)
		if err := RemoveTree(parent, "tree"); err == nil {
			t.Fatal("a tree with a mount in it was removed")
		}
	case "read-only":
		must(t, unix.Mount("none", task.Dir, "tmpfs", unix.MS_RDONLY, ""))
		checkStoreError(t, task.Dir+"/sbx", unix.EROFS, "read-only file system", "set XDG_DATA_HOME")
	case "full":
		must(t, unix.Mount("none", task.Dir, "tmpfs", 0, "size=128k,mode=700"))
		s, err := OpenStore(task.Dir + "/sbx")
		must(t, err)
		task.Request.Store = s.Path()
		err = Build(context.Background(), task.Request, nil)
		// Files are copied in parallel: while the large one fills the disk, any
		// other may be the one that finds it full.
		if !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), "make image base: copy /") ||
			!strings.HasSuffix(err.Error(), ": no space left on device") {
			t.Errorf("got %v", err)
		}
		checkStoreIsEmpty(t, s)
	default:
		t.Fatalf("unknown task %q", task.Do)
	}
}

// worker starts a task in a user namespace of its own: with one id, or with a
// range of subordinate ids from 1 on. The caller waits for it.
func worker(t *testing.T, task workerTask, mapped bool) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWorkerProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "SBX_ROOTFS_WORKER=1")
	var out strings.Builder
	cmd.Stdout = &out
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("worker %s: %s", task.Do, out.String())
		}
	})
	in, err := cmd.StdinPipe()
	must(t, err)
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		AmbientCaps: []uintptr{
			unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SYS_ADMIN,
		},
	}
	cmd.SysProcAttr = attr
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	gids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	if !mapped {
		attr.UidMappings, attr.GidMappings = ids, gids
		must(t, cmd.Start())
		sendTask(t, in, task)
		return cmd
	}
	first, count := subordinateIDs(t)
	must(t, cmd.Start())
	pid := fmt.Sprint(cmd.Process.Pid)
	if os.Geteuid() == 0 {
		text := fmt.Sprintf("0 0 1\n1 %d %d\n", first, count)
		must(t, os.WriteFile("/proc/"+pid+"/uid_map", []byte(text), 0))
		must(t, os.WriteFile("/proc/"+pid+"/gid_map", []byte(text), 0))
	} else {
		for _, helper := range []struct {
			name string
			self int
		}{{"newuidmap", os.Geteuid()}, {"newgidmap", os.Getegid()}} {
			args := []string{pid, "0", fmt.Sprint(helper.self), "1", "1", fmt.Sprint(first), fmt.Sprint(count)}
			if text, err := exec.Command(tool(t, helper.name), args...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", helper.name, err, text)
			}
		}
	}
	sendTask(t, in, task)
	return cmd
}

func sendTask(t *testing.T, in io.WriteCloser, task workerTask) {
	t.Helper()
	must(t, json.NewEncoder(in).Encode(task))
	must(t, in.Close())
}

// subordinateIDs is the range of the user who runs the test; root takes one
// that nobody uses.
func subordinateIDs(t *testing.T) (first, count int) {
	t.Helper()
	if os.Geteuid() == 0 {
		return 1_000_000_000, 65536
	}
	data, err := os.ReadFile("/etc/subuid")
	if err != nil {
		lack(t, "no /etc/subuid")
	}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != os.Getenv("USER") && name != fmt.Sprint(os.Geteuid()) {
			continue
		}
		if n, _ := fmt.Sscanf(rest, "%d:%d", &first, &count); n == 2 && count >= 65536 {
			return first, 65536
		}
	}
	lack(t, "no subordinate ids in /etc/subuid")
	return 0, 0
}

// mappedOwner is the owner of files made by a worker with a range.
func mappedOwner(t *testing.T) Ownership {
	t.Helper()
	first, count := subordinateIDs(t)
	ranges := []IDRange{
		{Inside: 0, Outside: uint32(os.Geteuid()), Count: 1},
		{Inside: 1, Outside: uint32(first), Count: uint32(count)},
	}
	return Ownership{
		UID: 1, GID: 1, HostUID: uint32(first), HostGID: uint32(first), UIDMap: ranges, GIDMap: ranges,
	}
}
