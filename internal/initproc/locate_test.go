package initproc

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func link(t *testing.T, to, name string) string {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
	return name
}

func program(inside string, path ...string) *process {
	return &process{plan: &plan.Plan{
		Program: plan.Program{Inside: inside},
		Process: plan.Process{Env: []string{"PATH=" + strings.Join(path, ":")}},
	}}
}

func TestLocateAlongPath(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	write(t, filepath.Join(a, "plain"), "", 0o644)
	tool := write(t, filepath.Join(b, "tool"), "", 0o755)
	write(t, filepath.Join(c, "tool"), "", 0o755)
	write(t, filepath.Join(a, "dir", "x"), "", 0o755)
	linked := link(t, "tool", filepath.Join(b, "linked"))
	link(t, "nowhere", filepath.Join(b, "dangling"))
	t.Chdir(b)
	for _, test := range []struct {
		name string
		path []string
		want string // the file, or in the error
		errs error  // nil for none
	}{
		{"tool", []string{a, b, c}, tool, nil},
		{"linked", []string{b}, linked, nil},
		{"tool", []string{a}, "", unix.ENOENT},
		{"plain", []string{a, b}, "", unix.EACCES},
		{"dir", []string{a}, "", unix.ENOENT},
		{"dangling", []string{b}, "", unix.ENOENT},
		{"tool", []string{"", ".", "b"}, "", unix.ENOENT}, // never the working directory
		{"tool", nil, "", unix.ENOENT},
		{"/not/looked/at", []string{a}, "/not/looked/at", nil},
	} {
		got, err := program(test.name, test.path...).locate()
		if test.errs == nil {
			if err != nil || got != test.want {
				t.Errorf("%s in %q: %q, %v; want %q", test.name, test.path, got, err, test.want)
			}
			continue
		}
		var run *RunError
		if !errors.As(err, &run) || !errors.Is(err, test.errs) || run.NotFound != errors.Is(err, unix.ENOENT) {
			t.Errorf("%s in %q: %v, want %v", test.name, test.path, err, test.errs)
		}
	}
}

// A link of procfs leads to where the name does not: to pid 1's own descriptors
// and to the host's sbx (CVE-2024-21626, CVE-2019-5736).
func TestNoProgramThroughLinksOfProc(t *testing.T) {
	dir := t.TempDir()
	held, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	tool := write(t, filepath.Join(dir, "tool"), "", 0o755)
	fd := "/proc/self/fd/" + strconv.Itoa(int(held.Fd()))
	script := func(name, interp string) string {
		return write(t, filepath.Join(dir, name), "#!"+interp+"\n", 0o755)
	}
	inner := script("inner", "/proc/self/exe arg")
	for _, file := range []string{
		"/proc/self/exe", fd + "/tool", "/proc/thread-self/root" + tool,
		link(t, "/proc/self/exe", filepath.Join(dir, "exe")),
		link(t, fd+"/tool", filepath.Join(dir, "fd")),
		link(t, fd, filepath.Join(dir, "d")) + "/tool",
		inner, script("outer", inner), script("spaces", " \t"+inner+" x"),
	} {
		_, err := program(file).locate()
		var run *RunError
		if !errors.As(err, &run) || !errors.Is(err, unix.ELOOP) || run.NotFound {
			t.Errorf("%s: %v, want ELOOP", file, err)
		}
	}
	for _, file := range []string{
		tool, link(t, "tool", filepath.Join(dir, "l1")), link(t, tool, filepath.Join(dir, "l2")),
		script("fine", tool), script("gone", "/not/there"), script("empty", ""),
	} {
		if _, err := program(file).locate(); err != nil {
			t.Errorf("%s: %v; execve is to judge it", file, err)
		}
	}
}

// A script that names itself ends, as it does in the kernel.
func TestScriptThatIsItsOwnInterpreter(t *testing.T) {
	name := filepath.Join(t.TempDir(), "loop")
	write(t, name, "#!"+name+"\n", 0o755)
	if _, err := program(name).locate(); err != nil {
		t.Error(err)
	}
}

func TestEnterDir(t *testing.T) {
	dir := t.TempDir()
	held, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	fd := "/proc/self/fd/" + strconv.Itoa(int(held.Fd()))
	file := write(t, filepath.Join(dir, "sub", "file"), "", 0o644)
	for _, c := range []struct {
		dir  string
		errs error
	}{
		{filepath.Join(dir, "sub"), nil},
		{link(t, "sub", filepath.Join(dir, "link")), nil},
		{filepath.Join(dir, "none"), unix.ENOENT},
		{file, unix.ENOTDIR},
		{fd, unix.ELOOP},
		{fd + "/sub", unix.ELOOP},
		{link(t, fd, filepath.Join(dir, "magic")), unix.ELOOP},
		{link(t, "magic/sub", filepath.Join(dir, "magic2")), unix.ELOOP},
		{"/proc/self/root", unix.ELOOP},
		{"/proc/self/cwd", unix.ELOOP},
		{"/proc", unix.EACCES},
		{"/proc/self", unix.EACCES},
		{link(t, "/proc/self/task", filepath.Join(dir, "proc")), unix.EACCES},
	} {
		t.Run(filepath.Base(c.dir), func(t *testing.T) {
			t.Chdir(dir)
			p := &process{plan: &plan.Plan{Process: plan.Process{Dir: c.dir}}}
			err := p.enterDir()
			if !errors.Is(err, c.errs) {
				t.Fatalf("%s: %v, want %v", c.dir, err, c.errs)
			}
			here, wdErr := os.Getwd()
			if wdErr != nil {
				t.Fatal(wdErr)
			}
			if moved := here != dir; moved != (c.errs == nil) {
				t.Errorf("%s: now in %s", c.dir, here)
			}
			if err != nil && !strings.Contains(err.Error(), c.dir) {
				t.Errorf("%v does not name it", err)
			}
		})
	}
}

// execve(2) has EACCES for all of these, which says nothing of the reason. A fifo
// blocks nobody.
func TestNoFileToRun(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o755); err != nil {
		t.Fatal(err)
	}
	script := write(t, filepath.Join(dir, "script"), "#!"+dir+"\n", 0o755)
	for _, c := range []struct {
		file, says string
		errs       error
	}{
		{dir, "run " + dir + ": is a directory", unix.EISDIR},
		{"/", "run /: is a directory", unix.EISDIR},
		{pipe, "run " + pipe + ": permission denied (it is a named pipe)", unix.EACCES},
		{"/dev/null", "run /dev/null: permission denied (it is a device)", unix.EACCES},
		{script, "run " + script + ": run " + dir + ": is a directory", unix.EISDIR},
	} {
		_, err := program(c.file).locate()
		var run *RunError
		if !errors.As(err, &run) || run.NotFound || !errors.Is(err, c.errs) || err.Error() != c.says {
			t.Errorf("%s: %v, want %q", c.file, err, c.says)
		}
	}
}
