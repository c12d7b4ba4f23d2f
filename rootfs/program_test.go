package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpenProgram(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, data, 0o755))
		return file
	}
	dynamic := write("dyn\tamic", prog("libc.so.6").bytes())
	must(t, os.Symlink(dynamic, filepath.Join(dir, "link")))
	for file, want := range map[string]Kind{
		dynamic:                    KindDynamic,
		filepath.Join(dir, "link"): KindDynamic,
		write("static", elfSpec{kind: 2}.bytes()): KindStatic,
		write("loader", elfSpec{}.bytes()):        KindStatic,
		write("script", []byte("#!/bin/sh -e\n")): KindScript,
		"/bin/true": KindDynamic,
	} {
		p, err := OpenProgram(file)
		if err != nil {
			t.Errorf("OpenProgram(%q): %v", file, err)
			continue
		}
		if p.Kind != want || p.Base != filepath.Base(file) || p.Size == 0 || p.Ino == 0 || (p.ELF == nil) == (p.Script == nil) {
			t.Errorf("OpenProgram(%q) = %+v", file, p)
		}
		if flags, err := unix.FcntlInt(p.File.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%q: descriptor flags %#x, %v", file, flags, err)
		}
		must(t, p.Close())
	}
}

// Every way in which a file is no program, and what the user reads.
func TestOpenProgramRefuses(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("cannot: the texts are those of x86-64")
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	mkfifo(t, filepath.Join(dir, "fifo"))
	must(t, os.Symlink("gone", filepath.Join(dir, "dangling")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { _ = unix.Close(socket) }()
	must(t, unix.Bind(socket, &unix.SockaddrUnix{Name: filepath.Join(dir, "sock")}))

	const noexec = "exec format error"
	for _, c := range []struct {
		name    string
		content any // bytes, or nil when it is there already
		mode    os.FileMode
		problem Problem
		errno   error
		text    string
	}{
		{"gone", nil, 0, NoSuchProgram, unix.ENOENT, "no such file or directory"},
		{"dir/gone/x", nil, 0, NoSuchProgram, unix.ENOENT, "no such file or directory"},
		{"dangling", nil, 0, NoSuchProgram, unix.ENOENT, "no such file or directory (it is a link to something that does not exist)"},
		{"plain", "x", 0o644, NotExecutable, unix.EACCES, "permission denied (not executable; `chmod +x` makes it so)"},
		{"plain/x", nil, 0, NoSuchProgram, unix.ENOTDIR, "not a directory"},
		{"loop", nil, 0, Unreachable, unix.ELOOP, "too many levels of symbolic links"},
		{"dir", nil, 0, IsDirectory, unix.EISDIR, "is a directory"},
		{"dir/", nil, 0, IsDirectory, unix.EISDIR, "is a directory"},
		{"fifo", nil, 0, NotRegular, unix.EACCES, "permission denied (it is a named pipe)"},
		{"sock", nil, 0, NotRegular, unix.EACCES, "permission denied (it is a socket)"},
		{"empty", "", 0o755, EmptyProgram, unix.ENOEXEC, noexec + " (the file is empty)"},
		{"arm", elfSpec{machine: 183}, 0o755, ForeignProgram, unix.ENOEXEC, noexec + " (for aarch64, this machine is x86_64)"},
		{
			"i386",
			elfSpec{class: 1, machine: 3},
			0o755, ForeignProgram, unix.ENOEXEC,
			noexec + " (a 32-bit program (i386); sbx runs 64-bit programs (x86_64) only)",
		},
		{"big", elfSpec{data: 2, machine: 22}, 0o755, ForeignProgram, unix.ENOEXEC, noexec + " (for s390x, this machine is x86_64)"},
		{
			"bsd", strings.Replace(string(elfSpec{}.bytes()), "\x01\x00", "\x01\x09", 1), 0o755, ForeignProgram, unix.ENOEXEC,
			noexec + " (for FreeBSD, this system is Linux)",
		},
		{"cut", "\x7fELF\x02\x01\x01", 0o755, DamagedProgram, unix.ENOEXEC, noexec + " (damaged ELF file: the header is cut short)"},
		{"lib", elfSpec{needed: []string{"x"}}, 0o755, NotAProgram, unix.ENOEXEC, noexec + " (a shared library, not a program)"},
		{"obj", elfSpec{kind: 1}, 0o755, NotAProgram, unix.ENOEXEC, noexec + " (an object file that is not linked yet)"},
		{"core", elfSpec{kind: 4}, 0o755, NotAProgram, unix.ENOEXEC, noexec + " (a core dump)"},
		{"win", "MZ\x90\x00", 0o755, NotAProgram, unix.ENOEXEC, noexec + " (a Windows or DOS program)"},
		{"html", "\n<!DOCTYPE html><html>", 0o755, NotAProgram, unix.ENOEXEC, noexec + " (an HTML page; perhaps a download that went wrong)"},
		{"data", "\x01\x02\x03\x00", 0o755, NotAProgram, unix.ENOEXEC, noexec + " (neither an ELF program nor a script)"},
		{"text", "echo hello ü\n", 0o755, NoInterpreterLine, unix.ENOEXEC, noexec + " (a text without interpreter; add a #! line such as #!/bin/sh)"},
		{"one", "x", 0o755, NoInterpreterLine, unix.ENOEXEC, noexec + " (a text without interpreter; add a #! line such as #!/bin/sh)"},
		{
			"bom", "\xef\xbb\xbf#!/bin/sh\n", 0o755, BadInterpreterLine, unix.ENOEXEC,
			noexec + " (a byte order mark stands before the #!; save the file as UTF-8 without one)",
		},
		{"bare", "#!\n", 0o755, BadInterpreterLine, unix.ENOEXEC, noexec + " (the #! line names no interpreter)"},
		{
			"crlf", "#!/bin/sh\r\necho\r\n", 0o755, BadInterpreterLine, unix.ENOENT,
			"no such file or directory (interpreter path ends in a carriage return: the file has Windows line ends; `sed -i 's/\\r$//'` takes them off)",
		},
		{
			"crenv", "#!/usr/bin/env python3\r\n", 0o755, BadInterpreterLine, unix.ENOENT,
			"no such file or directory (interpreter path ends in a carriage return: the file has Windows line ends; `sed -i 's/\\r$//'` takes them off)",
		},
		{"nul\x00", nil, 0, NoSuchProgram, unix.EINVAL, "invalid argument (a NUL in the name)"},
	} {
		file := filepath.Join(dir, c.name)
		if strings.HasSuffix(c.name, "/") {
			file += "/"
		}
		switch content := c.content.(type) {
		case string:
			must(t, os.WriteFile(file, []byte(content), c.mode))
		case elfSpec:
			must(t, os.WriteFile(file, content.bytes(), c.mode))
		}
		p, err := OpenProgram(file)
		var refusal *ProgramError
		if !errors.As(err, &refusal) {
			t.Errorf("%q: %+v, %v", c.name, p, err)
			continue
		}
		if refusal.Problem != c.problem || !errors.Is(err, c.errno) || err.Error() != "run "+shown(file)+": "+c.text {
			t.Errorf("%q: problem %d, %v\nwant problem %d, %s", c.name, refusal.Problem, err, c.problem, c.text)
		}
	}
	if _, err := OpenProgram("/dev/null"); !errors.Is(err, unix.EACCES) || err.Error() != "run /dev/null: permission denied (it is a device)" {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := OpenProgram(""); !errors.Is(err, unix.ENOENT) || err.Error() != `run "": no such file or directory` {
		t.Errorf("the empty name: %v", err)
	}
	if _, err := OpenProgram(strings.Repeat("x/", 3000)); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a long name: %v", err)
	}
}

func TestOpenProgramWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("cannot: root may read everything")
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		mode    os.FileMode
		problem Problem
	}{
		"x only":  {0o111, NotReadable},
		"others":  {0o045, NotReadable},
		"notmine": {0o455, NotExecutable},
	} {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, prog().bytes(), 0o755))
		must(t, os.Chmod(file, c.mode))
		var refusal *ProgramError
		if _, err := OpenProgram(file); !errors.As(err, &refusal) || refusal.Problem != c.problem || !errors.Is(err, unix.EACCES) {
			t.Errorf("mode %o: %v", c.mode, err)
		}
	}
	must(t, os.Mkdir(filepath.Join(dir, "shut"), 0))
	var refusal *ProgramError
	if _, err := OpenProgram(filepath.Join(dir, "shut/x")); !errors.As(err, &refusal) || refusal.Problem != Unreachable {
		t.Errorf("below a closed directory: %v", err)
	}
}

func TestExecutableBits(t *testing.T) {
	st := func(mode, uid, gid uint32) unix.Stat_t { return unix.Stat_t{Mode: mode, Uid: uid, Gid: gid} }
	for _, c := range []struct {
		st     unix.Stat_t
		uid    int
		groups []int
		want   bool
	}{
		{st(0o100, 5, 5), 5, nil, true},
		{st(0o011, 5, 5), 5, []int{5}, false}, // the owner's bits alone count for the owner
		{st(0o010, 5, 7), 6, []int{1, 7}, true},
		{st(0o101, 5, 7), 6, []int{7}, false},
		{st(0o001, 5, 7), 6, []int{1}, true},
		{st(0o644, 5, 7), 0, nil, false},
		{st(0o001, 5, 7), 0, nil, true},
	} {
		if got := executableBits(c.st, c.uid, c.groups); got != c.want {
			t.Errorf("mode %o of %d:%d for %d %v: %v", c.st.Mode, c.st.Uid, c.st.Gid, c.uid, c.groups, got)
		}
	}
}

func TestShownNames(t *testing.T) {
	for name, want := range map[string]string{
		"/bin/a b": "/bin/a b", "größe": "größe", "": `""`, "a\nb": `"a\nb"`, "\x1b[31m": `"\x1b[31m"`,
		"a\u202eb": `"a\u202eb"`, "\xff": `"\xff"`, "\u009b": `"\u009b"`,
	} {
		if got := shown(name); got != want {
			t.Errorf("shown(%q) = %s", name, got)
		}
	}
}

// scratchFile is a file to copy to.
func scratchFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestCopyTo(t *testing.T) {
	for _, size := range []int{100, copyChunk - 1, copyChunk, copyChunk + 1, 5*copyChunk + 17} {
		content := append([]byte("#!/bin/sh\n"), bytes.Repeat([]byte("0123456789abcdef"), size/16+1)...)[:size]
		file := filepath.Join(t.TempDir(), "prog")
		must(t, os.WriteFile(file, content, 0o755))
		p := openIn(t, file)
		must(t, os.Rename(file, file+".old")) // the name does not matter any more
		dst := scratchFile(t)
		got, err := p.CopyTo(dst)
		must(t, err)
		sum := sha256.Sum256(content)
		copied, err := os.ReadFile(dst.Name())
		must(t, err)
		if got != hex.EncodeToString(sum[:]) || !bytes.Equal(copied, content) {
			t.Errorf("%d bytes: %s, copy of %d bytes", size, got, len(copied))
		}
		dst = scratchFile(t)
		must(t, p.CopyUnhashed(dst))
		copied, err = os.ReadFile(dst.Name())
		must(t, err)
		if !bytes.Equal(copied, content) {
			t.Errorf("%d bytes: copy without a hash of %d bytes", size, len(copied))
		}
	}
}

// Holes of a large file take no room in the copy either: it often lies in memory.
func TestCopyUnhashedKeepsHoles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(file)
	must(t, err)
	defer func() { _ = f.Close() }()
	_, err = f.WriteAt([]byte("#!/bin/sh\n"), 0)
	must(t, err)
	_, err = f.WriteAt([]byte("end"), 256<<20)
	must(t, err)
	p, err := ProgramFromFile(f, "./sparse")
	must(t, err)
	dst := scratchFile(t)
	must(t, p.CopyUnhashed(dst))
	var st unix.Stat_t
	must(t, unix.Fstat(int(dst.Fd()), &st))
	end := make([]byte, 3)
	if _, err := dst.ReadAt(end, 256<<20); err != nil || string(end) != "end" || st.Size != 256<<20+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes, %d blocks, end %q, %v", st.Size, st.Blocks, end, err)
	}
}

// Where sendfile(2) is refused, as for a file that is appended to, the copy is made
// by reading and writing.
func TestCopyUnhashedWithoutSendfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prog")
	content := append([]byte("#!/bin/sh\n"), bytes.Repeat([]byte("0123456789"), plainChunk/4)...)
	must(t, os.WriteFile(file, content, 0o755))
	dst, err := os.OpenFile(filepath.Join(t.TempDir(), "copy"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer func() { _ = dst.Close() }()
	src := openIn(t, file)
	if n, err := src.send(dst, int(src.File.Fd())); n != 0 || err != nil {
		t.Fatalf("sendfile(2) was not refused: %d, %v", n, err)
	}
	must(t, src.CopyUnhashed(dst))
	if copied, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(copied, content) {
		t.Errorf("a copy of %d bytes, %v", len(copied), err)
	}
}

// Another process that was handed the descriptor copies it without the name.
func TestProgramFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prog")
	must(t, os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755))
	f, err := os.Open(file)
	must(t, err)
	p, err := ProgramFromFile(f, "./prog")
	must(t, err)
	defer func() { _ = p.Close() }()
	if sum, err := p.CopyTo(scratchFile(t)); err != nil || len(sum) != 64 {
		t.Errorf("%q, %v", sum, err)
	}
	dir, err := os.Open(filepath.Dir(file))
	must(t, err)
	defer func() { _ = dir.Close() }()
	if _, err := ProgramFromFile(dir, "./prog"); !errors.Is(err, unix.ESTALE) {
		t.Errorf("a directory: %v", err)
	}
}

func TestCopyToNoticesChanges(t *testing.T) {
	for what, change := range map[string]func(file string) error{
		"shorter": func(file string) error { return os.Truncate(file, 3) },
		"longer":  func(file string) error { return os.Truncate(file, 2*copyChunk+100) },
		"written": func(file string) error { return os.Chtimes(file, time.Time{}, time.Now().Add(time.Hour)) },
	} {
		for _, size := range []int{100, 2 * copyChunk} {
			file := filepath.Join(t.TempDir(), "prog")
			must(t, os.WriteFile(file, append([]byte("#!/bin/sh\n"), make([]byte, size)...), 0o755))
			p := openIn(t, file)
			must(t, change(file))
			if sum, err := p.CopyTo(scratchFile(t)); !errors.Is(err, ErrProgramChanged) || sum != "" {
				t.Errorf("%s, %d bytes: %q, %v", what, size, sum, err)
			}
			if err := p.CopyUnhashed(scratchFile(t)); !errors.Is(err, ErrProgramChanged) {
				t.Errorf("%s, %d bytes without a hash: %v", what, size, err)
			}
		}
	}
}

func TestCopyToReportsTheErrno(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer func() { _ = full.Close() }()
	for _, size := range []int{100, 3 * copyChunk} {
		file := filepath.Join(t.TempDir(), "prog")
		must(t, os.WriteFile(file, append([]byte("#!/bin/sh\n"), make([]byte, size)...), 0o755))
		if _, err := openIn(t, file).CopyTo(full); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if err := openIn(t, file).CopyUnhashed(full); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%d bytes without a hash: %v", size, err)
		}
	}
}

func BenchmarkCopyTo(b *testing.B) {
	file := filepath.Join(b.TempDir(), "prog")
	if err := os.WriteFile(file, append([]byte("#!/bin/sh\n"), make([]byte, 100<<20)...), 0o755); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(100 << 20)
	for b.Loop() {
		p, err := OpenProgram(file)
		if err != nil {
			b.Fatal(err)
		}
		dst, err := os.Create(file + ".copy")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.CopyTo(dst); err != nil {
			b.Fatal(err)
		}
		_, _ = dst.Close(), p.Close()
	}
}
