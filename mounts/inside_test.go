package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A body runs as pid 1 of new user, mount, pid and ipc namespaces in which the
// caller is id 0. dir is a directory made by the test for it. It is a
// subprocess of the test binary, since a Builder changes the whole process.
type body func(dir string) error

// bodyVariable tells the subprocess which body to run.
const bodyVariable = "MOUNTS_TEST_BODY"

func TestMain(m *testing.M) {
	if name := os.Getenv(bodyVariable); name != "" {
		run, ok := bodies[name]
		if !ok {
			fmt.Println("no such body:", name)
			os.Exit(2)
		}
		if err := run(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inside runs a body and fails the test with what it printed. It returns the
// output of a body that succeeded.
func inside(t *testing.T, name, dir string) string {
	t.Helper()
	one := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	return insideAs(t, name, dir, one(os.Getuid()), one(os.Getgid()))
}

func insideAs(t *testing.T, name, dir string, uids, gids []syscall.SysProcIDMap) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command(exe, dir)
	cmd.Env = []string{bodyVariable + "=" + name}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		UidMappings: uids,
		GidMappings: gids,
		Pdeathsig:   unix.SIGKILL,
	}
	err = cmd.Start()
	if err != nil {
		lacks(t, "user namespaces: "+err.Error())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out.String())
	}
	return out.String()
}

// lacks skips a test that the machine cannot run, unless the run must be
// complete.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal("this machine lacks: " + what)
	}
	t.Skip("this machine lacks: " + what)
}

// tree makes files below dir from lines such as "dir a/b", "file a/b/c text",
// "link a/l target", "fifo f".
func tree(t *testing.T, dir string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		name, text, _ := strings.Cut(rest, " ")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch kind {
		case "dir":
			err = os.MkdirAll(path, 0o755)
		case "file":
			err = os.WriteFile(path, []byte(text), 0o644)
		case "link":
			err = os.Symlink(text, path)
		case "fifo":
			err = unix.Mkfifo(path, 0o644)
		default:
			t.Fatalf("unknown line %q", line)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// bind is what the plan makes of a host path.
func bind(source, target string, readOnly bool) Mount {
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		panic(fmt.Sprintf("%s: %v", source, err))
	}
	return Mount{
		Kind: Bind, Source: source, Target: target, ReadOnly: readOnly,
		Dev: st.Dev, Ino: st.Ino, Directory: st.Mode&unix.S_IFMT == unix.S_IFDIR,
	}
}

// apply runs the whole sequence as pid 1 would; change may set up the Builder.
func apply(root Root, list []Mount, change ...func(*Builder)) error {
	b, err := Begin(Scratch{Size: 1 << 20, Inodes: 200})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, f := range change {
		f(b)
	}
	if err := attachAll(b, root, list); err != nil {
		return err
	}
	return b.Finish()
}

// attachAll does everything before Finish.
func attachAll(b *Builder, root Root, list []Mount) error {
	sorted, err := Sort(list)
	if err != nil {
		return err
	}
	for _, m := range sorted {
		if err := b.Take(m); err != nil {
			return err
		}
	}
	if err := makeRoot(b, root); err != nil {
		return err
	}
	if err := b.Pivot(); err != nil {
		return err
	}
	for _, m := range sorted {
		if err := b.Attach(m); err != nil {
			return err
		}
	}
	return nil
}

// makeRoot falls back from an overlay to a tree where no overlay is possible.
func makeRoot(b *Builder, root Root) error {
	err := b.MakeRoot(root)
	var refused *RootError
	if errors.As(err, &refused) && root.Method == MethodOverlay && !overlays() {
		root.Method, root.Tree = MethodTree, root.Lower[0]
		return b.MakeRoot(root)
	}
	return err
}

// overlays reports whether this kernel has overlays in user namespaces. Only
// tests go by the version, to notice when trying goes wrong.
func overlays() bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return true
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return true
	}
	return major > 5 || (major == 5 && minor >= 11)
}

// old makes a Builder behave as on a kernel before Linux 5.12.
func old(b *Builder) { b.noSetattr = true }

// checks collects what a body found wrong.
type checks struct{ wrong []string }

func (c *checks) ok(what string, err error) {
	if err != nil {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %v", what, err))
	}
}

func (c *checks) fails(what string, err error, want ...error) {
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	c.wrong = append(c.wrong, fmt.Sprintf("%s: got %v, want one of %v", what, err, want))
}

func (c *checks) reads(path, want string) {
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		c.wrong = append(c.wrong, fmt.Sprintf("read %s: %q, %v, want %q", path, data, err, want))
	}
}

func (c *checks) writes(path string) { c.ok("write "+path, os.WriteFile(path, []byte("x"), 0o600)) }

func (c *checks) cannotWrite(path string, want ...error) {
	c.fails("write "+path, os.WriteFile(path, []byte("x"), 0o600), want...)
}

func (c *checks) flags(path string, want int64, not int64) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || int64(fs.Flags)&want != want || int64(fs.Flags)&not != 0 {
		c.wrong = append(c.wrong, fmt.Sprintf("statfs %s: flags %#x, %v, want %#x and not %#x", path, fs.Flags, err, want, not))
	}
}

func (c *checks) result() error {
	if len(c.wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(c.wrong, "\n"))
}
