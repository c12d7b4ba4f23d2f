package main_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// entry is one of a tar that a test makes; data is only as long as it says
// unless the header asks for more.
type entry struct {
	tar.Header

	data string
}

func reg(name, data string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}, data}
}

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}, ""}
}

func dir(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func tarFile(t *testing.T, list ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range list {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// importer is the confined child of a running import, and what it was given.
type importer struct {
	process
	input io.WriteCloser
}

// startImport begins to import a tar of which the end does not come, and waits
// until the child has unpacked the beginning: then it is confined.
func startImport(t *testing.T, box sbxtest.Sandbox, args ...string) importer {
	t.Helper()
	cmd := box.Command(t, append([]string{"image", "import"}, args...)...)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	data := tarFile(t, dir("usr/"), reg("usr/mark", "here"), reg("usr/large", strings.Repeat("x", 1<<20)))
	if _, err := input.Write(data[:1<<20]); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		for _, p := range descendants(cmd.Process.Pid) {
			_, err := os.Stat(fmt.Sprintf("/proc/%d/root/usr/mark", p.pid))
			if _, old := os.Stat(fmt.Sprintf("/proc/%d/root/usr/bin", p.pid)); err == nil && old != nil {
				return importer{p, input}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("there is no child that has unpacked anything")
	return importer{}
}

func (i importer) file(name string) string { return fmt.Sprintf("/proc/%d/%s", i.pid, name) }

// The child that unpacks has nothing but the new image: its root is that
// directory, its namespaces are its own, each of its threads has the filter and
// four capabilities over files, and it has no descriptor of anything else
// (SECURITY D1).
func TestImportIsConfined(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	var args []string
	if sbxtest.SubordinateRange().Missing() != "" {
		args = []string{"--userns", "single"}
	}
	child := startImport(t, box, append(args, "-", "a")...)
	for _, ns := range []string{"user", "mnt", "net", "ipc", "pid", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := os.Readlink(child.file("ns/" + ns)); err != nil || theirs == ours {
			t.Errorf("the %s namespace is ours: %s %v", ns, theirs, err)
		}
	}
	if lines := strings.Split(strings.TrimSpace(readFile(t, child.file("mountinfo"))), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "nosuid,nodev,noexec") {
		t.Errorf("its mounts: %q", lines)
	}
	threads, err := filepath.Glob(child.file("task/*/status"))
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, thread := range threads {
		status := readFile(t, thread)
		for _, want := range []string{
			"CapInh:\t0000000000000000", "CapPrm:\t000000000000001b", "CapEff:\t000000000000001b", "CapAmb:\t0000000000000000",
			"NoNewPrivs:\t1", "Seccomp:\t2",
		} {
			if !strings.Contains(status, want+"\n") {
				t.Errorf("%s lacks %q:\n%s", thread, want, status)
			}
		}
		if len(args) == 0 && !strings.Contains(status, "Groups:\t \n") {
			t.Errorf("%s has groups:\n%s", thread, status)
		}
	}
	checkDescriptors(t, child)
	limits := readFile(t, child.file("limits"))
	for _, want := range []string{"Max data size             1073741824", "Max core file size        0"} {
		if !strings.Contains(limits, want) {
			t.Errorf("no %q in\n%s", want, limits)
		}
	}
}

func checkDescriptors(t *testing.T, child importer) {
	t.Helper()
	entries, err := os.ReadDir(child.file("fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(child.file("fd/" + e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		harmless := target == "/dev/null" || target == "/" || strings.HasPrefix(target, "/usr") ||
			slices.ContainsFunc([]string{"pipe:", "socket:", "anon_inode:", "/memfd:"}, func(kind string) bool { return strings.HasPrefix(target, kind) })
		inTree := strings.Contains(target, "/images/imported/.staging-") && strings.Contains(target, "/tree")
		if !harmless && !inTree {
			t.Errorf("descriptor %s is %s", e.Name(), target)
		}
	}
}

// On a terminal an import shows how far it is, on one line that goes away.
func TestImportProgress(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	data := tarFile(t, reg("usr/a", strings.Repeat("x", 1<<20)), reg("usr/b", strings.Repeat("x", 1<<20)))
	go func() {
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			return
		}
		defer w.Close()
		for ; len(data) > 0; data = data[min(len(data), 200<<10):] {
			if _, err := w.Write(data[:min(len(data), 200<<10)]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	args := importArgs()
	args[2] = pipe
	term := sbxtest.StartOnTerminal(t, box.Command(t, args...), 250, 25)
	term.Expect(t, "\r\x1b[Ksbx: importing "+pipe+": 2 files, ")
	status, output := term.Wait(t)
	if status != 0 || !strings.Contains(output, "\r\x1b[Ksbx: imported a tar: 3 files, 2 MB") || !strings.HasSuffix(output, "some/name:latest\r\n") {
		t.Errorf("status %d, %q", status, output)
	}
}

// checkNothingStaged holds that no image on its way is left in the store.
func checkNothingStaged(t *testing.T, box sbxtest.Sandbox) {
	t.Helper()
	for _, pattern := range []string{"images/imported/.staging-*", "trash/*"} {
		left, err := filepath.Glob(filepath.Join(box.Store(), pattern))
		if err != nil || len(left) > 0 {
			t.Errorf("left in the store: %v %v", left, err)
		}
	}
}

// Ctrl-C ends an import, and nothing of it is kept.
func TestImportInterrupted(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		box := sbxtest.NewStore(t)
		cmd := box.Command(t, importArgs()...)
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		data := tarFile(t, reg("usr/large", strings.Repeat("x", 1<<20)))
		if _, err := input.Write(data[:1<<20]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		input.Close()
		if got := cmd.ProcessState.ExitCode(); got != 128+int(sig) || !strings.Contains(stderr.String(), "interrupted; nothing of it was kept") {
			t.Errorf("%v: exit status %d, %q", sig, got, stderr.String())
		}
		checkNothingStaged(t, box)
	}
}

// importArgs imports standard input under any conditions.
func importArgs() []string {
	args := []string{"image", "import", "-", "some/name"}
	if sbxtest.SubordinateRange().Missing() != "" {
		args = append(args, "--userns", "single")
	}
	return args
}

const importKillRounds = 25

// SIGKILL of any process of an import, at any moment, leaves no process behind and
// nothing in the store that gc does not collect; an image is there whole or not
// at all.
func TestImportKilled(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	list := []entry{dir("usr/")}
	for i := range 2000 {
		list = append(list, reg(fmt.Sprintf("usr/f%d", i), strings.Repeat("x", i)))
	}
	data := tarFile(t, list...)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	killed := 0
	for round := range importKillRounds {
		box.Stdin = bytes.NewReader(data)
		cmd := box.Command(t, importArgs()...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		family := descendants(cmd.Process.Pid)
		_ = syscall.Kill(family[random.IntN(len(family))].pid, syscall.SIGKILL)
		if err := cmd.Wait(); err != nil {
			killed++
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			alive := slices.DeleteFunc(slices.Clone(family), func(p process) bool { return !p.alive() })
			if len(alive) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: these live on: %v", round, alive)
			}
		}
		if round%5 == 4 {
			box.Stdin = nil
			box.MustRun(t, "gc")
			checkNothingStaged(t, box)
		}
	}
	if killed == 0 {
		t.Error("every import was over before it was killed")
	}
	box.Stdin = bytes.NewReader(data)
	box.MustRun(t, importArgs()...)
}

// importFaults are the calls of an import that fail in turn, with the errno of
// each; the ones that are marked must never be survived.
func importFaults() map[string]struct {
	errno string
	fatal bool
} {
	type fault = struct {
		errno string
		fatal bool
	}
	return map[string]fault{
		"pivot_root": {"EPERM", true}, "capset": {"EPERM", true}, "seccomp": {"EINVAL", true}, "setgroups": {"EIO", true},
		"open_tree": {"EPERM", true}, "move_mount": {"EPERM", true}, "mount_setattr": {"EPERM", true}, "mount": {"EPERM", true},
		"mkdirat": {"ENOSPC", false}, "openat2": {"ENOSPC", false}, "fchown": {"EIO", false}, "fchmod": {"EIO", false},
		"renameat": {"ENOSPC", false}, "syncfs": {"EIO", false}, "memfd_create": {"ENOSPC", false}, "linkat": {"ENOSPC", false},
		"symlinkat": {"ENOSPC", false}, "ftruncate": {"EIO", false}, "utimensat": {"EIO", false},
	}
}

// Whatever fails in an import, a full disk among them, it ends with 125 and one
// line, or has another way, and nothing of a failed one is kept.
func TestImportFaults(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("strace"), sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	data := tarFile(t, dir("usr/"), dir("usr/lib/"), reg("usr/a", strings.Repeat("x", 1000)), reg("usr/b", strings.Repeat("x", 300<<10)),
		link(tar.TypeLink, "usr/h", "usr/a"), link(tar.TypeSymlink, "usr/s", "a"), reg("usr/lib/c", "c"))
	source := filepath.Join(t.TempDir(), "source.tar")
	if err := os.WriteFile(source, data, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"image", "import", source, "a"}
	if os.Geteuid() != 0 {
		args = append(args, "--userns", "single") // strace follows no setuid helper
	}
	for call, f := range importFaults() {
		for when := 1; when <= 4; when++ {
			trace := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d", call, when))
			box.Prefix = strace(box, "-o", trace, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, f.errno, when))
			result := box.Run(t, args...)
			text := readFile(t, trace)
			if !strings.Contains(text, "INJECTED") {
				break
			}
			name := fmt.Sprintf("%s number %d", call, when)
			switch {
			case result.Exit == 0 && f.fatal:
				t.Errorf("%s failed, and the image was imported\n%s", name, injected(text))
			case result.Exit != 0 && result.Exit != 125:
				t.Errorf("%s: %v", name, result)
			case result.Exit == 125 && (strings.Count(result.Stderr, "\n") != 1 || !strings.HasPrefix(result.Stderr, "sbx: ") || result.Stdout != ""):
				t.Errorf("%s: want one line\n%v", name, result)
			}
			box.Prefix = nil
			box.MustRun(t, "gc")
			checkNothingStaged(t, box)
			removeImported(t, box)
		}
	}
}

// removeImported empties the store, so that the next import is a first one.
func removeImported(t *testing.T, box sbxtest.Sandbox) {
	t.Helper()
	images := filepath.Join(box.Store(), "images/imported")
	if _, err := os.Lstat(images); errors.Is(err, os.ErrNotExist) {
		return
	}
	sbxtest.RemoveAll(t, images)
}

// Before Linux 5.12 the attributes of the new root are set by remounting it.
func TestImportWithoutMountSetattr(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("strace"), sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	source := filepath.Join(t.TempDir(), "source.tar")
	if err := os.WriteFile(source, tarFile(t, reg("usr/a", "a")), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"image", "import", source, "a"}
	if os.Geteuid() != 0 {
		args = append(args, "--userns", "single") // strace follows no setuid helper
	}
	trace := filepath.Join(t.TempDir(), "trace")
	setattr := strconv.Itoa(unix.SYS_MOUNT_SETATTR) // the strace of Debian 11 does not know the name
	box.Prefix = strace(box, "-o", trace, "-e", "trace=mount,"+setattr, "-e", "inject="+setattr+":error=ENOSYS")
	box.MustRun(t, args...)
	for _, want := range []string{"MS_NOSUID", "MS_NODEV", "MS_NOEXEC"} {
		found := false
		for line := range strings.Lines(readFile(t, trace)) {
			found = found || strings.Contains(line, "MS_REMOUNT") && strings.Contains(line, want) && strings.HasSuffix(line, "= 0\n")
		}
		if !found {
			t.Errorf("no remount with %s:\n%s", want, readFile(t, trace))
		}
	}
	box.Prefix = strace(box, "-o", trace, "-e", "trace="+setattr, "-e", "inject="+setattr+":error=ENOSYS")
	args[2] = filepath.Dir(probeDir(t)) // a directory as the source is a mount too
	if result := box.Run(t, args...); result.Exit != 0 {
		t.Errorf("%v", result)
	}
}
