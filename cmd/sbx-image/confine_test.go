package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/sbxtest"
)

// confinedWord makes the test binary try what the second half may not.
const confinedWord = "SBX_IMAGE_TEST_CONFINED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(confinedWord); dir != "" {
		os.Exit(confinedMain(dir))
	}
	os.Exit(m.Run())
}

// confinedMain puts on this thread what the second half has, and tries. It prints what it could do and may not.
func confinedMain(dir string) int {
	runtime.LockOSThread()
	if err := errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), restrictFiles(), filterCalls()); err != nil {
		fmt.Println(err)
		return 1
	}
	const pool = 3 // as pull.PoolFD
	open := func(fd int, path string, flags int) error {
		f, err := unix.Openat(fd, path, flags, 0o600)
		if err == nil {
			unix.Close(f)
		}
		return err
	}
	for _, try := range []struct {
		what string
		err  error
		want error
	}{
		{"read a certificate", open(unix.AT_FDCWD, os.Getenv("SSL_CERT_FILE"), unix.O_RDONLY), nil},
		{"read /etc/hosts", open(unix.AT_FDCWD, "/etc/hosts", unix.O_RDONLY), nil},
		{"write the download", open(pool, "blob", unix.O_RDWR|unix.O_CREAT), nil},
		{"link into the layout", unix.Linkat(pool, "blob", pool, "sub/blob", 0), nil},
		{"read a secret", open(unix.AT_FDCWD, dir+"/secret", unix.O_RDONLY), unix.EACCES},
		{"read /etc/passwd", open(unix.AT_FDCWD, "/etc/passwd", unix.O_RDONLY), unix.EACCES},
		{"read beside the download", open(pool, "../secret", unix.O_RDONLY), unix.EACCES},
		{"write a certificate", open(unix.AT_FDCWD, os.Getenv("SSL_CERT_FILE"), unix.O_WRONLY), unix.EACCES},
		{"write beside the download", open(pool, "../new", unix.O_WRONLY|unix.O_CREAT), unix.EACCES},
		{"write to /tmp", open(unix.AT_FDCWD, "/tmp/sbx-image-test", unix.O_WRONLY|unix.O_CREAT), unix.EACCES},
		{"execute a shell", unix.Exec("/bin/sh", []string{"sh"}, nil), unix.EPERM},
		{"make a TCP socket", socket(unix.AF_INET, unix.SOCK_STREAM), nil},
		{"make a Unix socket", socket(unix.AF_UNIX, unix.SOCK_STREAM), unix.EAFNOSUPPORT},
		{"make a packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW), unix.EAFNOSUPPORT},
		{"signal another process", unix.Kill(os.Getppid(), 0), unix.EPERM},
		{"change its own limits", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), unix.EPERM},
		{"make a user namespace", unix.Unshare(unix.CLONE_NEWUSER), unix.EPERM},
		{"trace", unix.PtraceAttach(os.Getppid()), unix.EPERM},
		{"mount", unix.Mount("none", "/", "tmpfs", 0, ""), unix.EPERM},
	} {
		if !errors.Is(try.err, try.want) {
			fmt.Printf("%s: %v, want %v\n", try.what, try.err, try.want)
		}
	}
	return 0
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// The half that speaks to the registry reads certificates and names of hosts, writes the download, and nothing else.
func TestConfined(t *testing.T) {
	sbxtest.Need(t, sbxtest.Requirement{Text: "Landlock", Cannot: true, Missing: func() string {
		if err := landlock.Check(landlock.ABI()); err != nil {
			return err.Error()
		}
		return ""
	}})
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pool", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "secret"), "x")
	write(t, filepath.Join(dir, "ca.pem"), "x")
	pool, err := os.Open(filepath.Join(dir, "pool"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), confinedWord+"="+dir, "SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"))
	cmd.ExtraFiles = []*os.File{pool}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// What the second half is given of the environment has no word of the user's secrets, and its arguments neither.
func TestKeep(t *testing.T) {
	got := keep([]string{"HOME=/h", "https_proxy=http://p", "DOCKER_CONFIG=/d", "PATH=/bin", "SSL_CERT_DIR=/c", "NO_PROXYX=1"})
	if want := "https_proxy=http://p SSL_CERT_DIR=/c"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTaskCrossesOver(t *testing.T) {
	want := task{Login: login{User: "alice", Password: strings.Repeat("ä", 100_000), From: "a file"}, CAs: []byte{0, 1}}
	fd, err := handOver(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readTask(fmt.Sprint(fd))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v: got %d bytes", err, len(got.Login.Password))
	}
	for _, wrong := range []string{"", "x", "-1", "0", "4", "99999999999999999999"} {
		if _, err := readTask(wrong); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}
