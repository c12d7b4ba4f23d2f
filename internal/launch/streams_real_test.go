package launch_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// sandbox is the built sbx, where sandboxes can be made.
func sandbox(t *testing.T) sbxtest.Sandbox {
	t.Helper()
	sbxtest.Need(t, sbxtest.UserNamespaces())
	return sbxtest.New(t)
}

// through puts a shell in front that sets up the descriptors of sbx.
func through(s sbxtest.Sandbox, redirect string) sbxtest.Sandbox {
	s.Prefix = []string{"sh", "-c", `exec "$@" ` + redirect, "sh"}
	return s
}

func inode(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return strconv.FormatUint(st.Ino, 10)
}

// A pipe is handed over as it is; stderr and files go through one of sbx's own.
func TestPipesAreHandedOverAndFilesAreNot(t *testing.T) {
	box := sandbox(t)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, c := range []struct {
		name string
		fd   int
		f    *os.File
		same bool
	}{
		{"pipe as input", 0, r, true},
		{"file as input", 0, file, false},
		{"pipe as output", 1, w, true},
		{"file as output", 1, file, false},
		{"pipe for errors", 2, w, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			// What the descriptor is inside is told on another one.
			script := fmt.Sprintf("readlink /proc/self/fd/%d", c.fd)
			if c.fd == 1 {
				script = "exec 3>&1; readlink /proc/self/fd/3 >&2"
			}
			cmd := box.Command(t, "run", "-q", "sh", "-c", script)
			var told bytes.Buffer
			cmd.Stdout, cmd.Stderr = &told, &told
			switch c.fd {
			case 0:
				cmd.Stdin = c.f
			case 1:
				cmd.Stdout = c.f
			default:
				cmd.Stderr = c.f
			}
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, told.String())
			}
			if want := "pipe:[" + inode(t, c.f) + "]\n"; (told.String() == want) != c.same {
				t.Errorf("inside it is %q, outside %q", told.String(), want)
			}
		})
	}
}

// A file cannot be opened again with other rights (SECURITY B2).
func TestFilesCannotBeOpenedAgain(t *testing.T) {
	box := sandbox(t)
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("content\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"--userns=single", "--userns=auto"} {
		in, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		b := box
		b.Stdin = in
		result := b.Run(t, "run", "-q", mode, "sh", "-c", `cat; timeout 1 sh -c 'echo changed > /proc/self/fd/0'; true`)
		if !strings.HasPrefix(result.Stdout, "content\n") {
			t.Errorf("%s: %v", mode, result)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != "content\n" {
			t.Errorf("%s: the file holds %q, %v", mode, got, err)
		}
	}
}

// The mode of a pipe that has a name is the user's business.
func TestNamedPipeKeepsItsMode(t *testing.T) {
	box := sandbox(t)
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0) // so that nobody waits for the other side
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := box.Command(t, "run", "-q", "echo", "hello")
	cmd.Stdout = f
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := f.Read(buf); err != nil || string(buf[:n]) != "hello\n" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestOrderOfOutputAndErrors(t *testing.T) {
	box := sandbox(t)
	const script = `i=0; while [ $i -lt 300 ]; do echo $i; echo $((i+1)) >&2; i=$((i+2)); done`
	var want strings.Builder
	for i := range 300 {
		fmt.Fprintln(&want, i)
	}
	name := filepath.Join(t.TempDir(), "log")
	for _, redirect := range []string{">" + name + " 2>&1", ">>" + name + " 2>&1", "2>&1 | cat >" + name} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		through(box, redirect).MustRun(t, "run", "-q", "sh", "-c", script)
		if got, err := os.ReadFile(name); err != nil || string(got) != want.String() {
			t.Errorf("%s: the lines are not in order (%d bytes, want %d), %v", redirect, len(got), want.Len(), err)
		}
	}
}

// Whatever is closed outside, 0, 1 and 2 are open inside, and lead to none of
// sbx's own files.
func TestClosedStreams(t *testing.T) {
	box := sandbox(t)
	for _, redirect := range []string{"<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"} {
		result := through(box, redirect).Run(t, "run", "-q", "sh", "-c", `
			for fd in 0 1 2; do [ -e /proc/self/fd/$fd ] || exit 9; done
			cat >/dev/null; echo out; echo err >&2; exit 7`)
		if result.Exit != 7 {
			t.Errorf("%s: %v", redirect, result)
		}
		if open := !strings.Contains(" "+redirect, " >&-"); open != (result.Stdout == "out\n") {
			t.Errorf("%s: %v", redirect, result)
		}
	}
}

// What the caller has open stays outside (SECURITY B1).
func TestOpenDescriptorsStayOutside(t *testing.T) {
	box := through(sandbox(t), "3</ 4</tmp 5</proc 6</dev 7</etc/passwd 8>&1 9</")
	result := box.MustRun(t, "run", "-q", sbxtest.Probe(t), "fdlist")
	for line := range strings.Lines(result.Stdout) {
		if fd := strings.TrimLeft(line, " ")[0]; fd > '2' {
			t.Errorf("descriptor %s", line)
		}
	}
}
