package mounts

import (
	"bytes"
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
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
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

// apply runs the whole sequence as pid 1 would.
func apply(root Root, list []Mount) error {
	b, err := Begin(Scratch{Size: 1 << 20, Inodes: 200})
	if err != nil {
		return err
	}
	defer b.Close()
	return b.apply(root, list)
}

func (b *Builder) apply(root Root, list []Mount) error {
	sorted, err := Sort(list)
	if err != nil {
		return err
	}
	for _, m := range sorted {
		if err := b.Take(m); err != nil {
			return err
		}
	}
	if err := b.MakeRoot(root); err != nil {
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
	return b.Finish()
}
