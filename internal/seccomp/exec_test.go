package seccomp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With this in its environment the test binary installs the profile that it names and becomes the program of its arguments.
const execUnder = "SBX_TEST_SECCOMP_PROFILE"

func TestMain(m *testing.M) {
	profile, ok := os.LookupEnv(execUnder)
	if !ok {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	program, err := Build(Options{Profile: profile})
	if err == nil {
		err = install(program)
	}
	if err == nil {
		os.Unsetenv(execUnder)
		err = unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(125)
}

func commandUnder(t *testing.T, profile string, argv ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, argv...)
	cmd.Env = append(os.Environ(), execUnder+"="+profile)
	return cmd
}

// A call of another architecture ends the process, from a program of that architecture and from a 64-bit program that uses int $0x80.
func TestOtherArchitectureIsKilled(t *testing.T) {
	if Native() != AMD64 {
		needs(t, false, "x86-64")
	}
	for name, elf := range map[string][]byte{"an i386 program": exit7(elf32), "int 0x80 in a 64-bit program": exit7(elf64)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "exit7")
			if err := os.WriteFile(path, elf, 0o755); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			err := commandUnder(t, Off, path).Run()
			if !errors.As(err, &exit) || exit.ExitCode() != 7 {
				needs(t, false, fmt.Sprintf("a kernel that runs 32-bit system calls: %v", err))
			}
			err = commandUnder(t, Default, path).Run()
			if !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGSYS {
				t.Errorf("ended with %v, want SIGSYS", err)
			}
		})
	}
}

type elfClass struct {
	class, header, program byte
	machine                uint16
}

var (
	elf32 = elfClass{class: 1, header: 52, program: 32, machine: 3}  // EM_386
	elf64 = elfClass{class: 2, header: 64, program: 56, machine: 62} // EM_X86_64
)

// exit7 is a whole static program, see elf(5): mov $1, %eax; mov $7, %ebx; int $0x80.
func exit7(c elfClass) []byte {
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80}
	const base = 0x10000
	start := uint64(c.header) + uint64(c.program)
	size := start + uint64(len(code))
	var b []byte
	half := func(v uint16) { b = binary.LittleEndian.AppendUint16(b, v) }
	word := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	addr := func(v uint64) {
		if c.class == 2 {
			b = binary.LittleEndian.AppendUint64(b, v)
		} else {
			word(uint32(v))
		}
	}
	b = append(b, 0x7f, 'E', 'L', 'F', c.class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	half(2) // ET_EXEC
	half(c.machine)
	word(1)
	addr(base + start)
	addr(uint64(c.header)) // of the program header
	addr(0)
	word(0)
	half(uint16(c.header))
	half(uint16(c.program))
	half(1)
	half(0)
	half(0)
	half(0)
	word(1) // PT_LOAD
	if c.class == 2 {
		word(5) // readable and executable
	}
	addr(0)
	addr(base)
	addr(base)
	addr(size)
	addr(size)
	if c.class == 1 {
		word(5)
	}
	addr(0x1000)
	return append(b, code...)
}

// Ordinary programs find everything that they need.
func TestProgramsRun(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		needs(t, true, "sh")
	}
	tests := []struct{ needs, script, want string }{
		{"sh", `echo $((6*7)) | cat`, "42\n"},
		{"ls", `mkdir d && touch d/f && chmod 700 d && mv d e && ls e && rm -r e`, "f\n"},
		{"mktemp", `f=$(mktemp ./XXXXXX) && echo x >$f && cp -p $f g && cat g && rm $f g`, "x\n"},
		{"tar", `echo x >f && tar cf f.tar f && rm f && tar xf f.tar && cat f && rm f f.tar`, "x\n"},
		{"sort", `printf '3\n1\n2\n' | sort | head -1`, "1\n"},
		{"timeout", `timeout 5 sh -c 'echo in time'`, "in time\n"},
		{"python3", `python3 -c 'import threading, subprocess, socket, tempfile, mmap
t = threading.Thread(target=lambda: print("thread")); t.start(); t.join()
a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1).decode(), subprocess.run(["true"]).returncode)'`, "thread\nx 0\n"},
		{"perl", `perl -e 'print "perl\n" if fork; wait'`, "perl\n"},
		{"git", `git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m m && git log --format=%s`, "m\n"},
		{"chmod", `touch s; chmod u+s s 2>/dev/null || echo refused; rm s`, "refused\n"},
		{"unshare", `unshare -U true 2>/dev/null || echo refused`, "refused\n"},
	}
	for _, profile := range []string{Default, Strict} {
		for _, tt := range tests {
			t.Run(profile+" "+tt.needs, func(t *testing.T) {
				if _, err := exec.LookPath(tt.needs); err != nil {
					t.Skipf("cannot: no %s here", tt.needs)
				}
				cmd := commandUnder(t, profile, sh, "-c", tt.script)
				cmd.Dir = t.TempDir()
				cmd.Env = append(cmd.Env, "HOME="+cmd.Dir)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Run(); err != nil || stdout.String() != tt.want {
					t.Errorf("%q, %v, want %q; %s", stdout.String(), err, tt.want, strings.TrimSpace(stderr.String()))
				}
			})
		}
	}
}
