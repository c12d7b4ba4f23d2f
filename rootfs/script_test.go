package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shebangCases are the first bytes of scripts; want is nil where the kernel
// gives ENOEXEC. ECHO stands for the absolute path of an interpreter that
// prints its arguments.
var shebangCases = []struct {
	head string
	want *Shebang
}{
	{"#!ECHO\n", &Shebang{"ECHO", ""}},
	{"#!ECHO", &Shebang{"ECHO", ""}},
	{"#! \t ECHO \t \nrest", &Shebang{"ECHO", ""}},
	{"#!ECHO -e\n", &Shebang{"ECHO", "-e"}},
	{"#!ECHO\t -e  two words \t\n", &Shebang{"ECHO", "-e  two words"}},
	{"#!ECHO one argument without end", &Shebang{"ECHO", "one argument without end"}},
	{"#!ECHO blanks at the end of the file   ", &Shebang{"ECHO", "blanks at the end of the file   "}},
	{"#!ECHO\x00 -e\n", &Shebang{"ECHO", ""}},
	{"#!ECHO a\x00b\n", &Shebang{"ECHO", "a"}},
	{"#!ECHO " + strings.Repeat("x", 300) + "\n", &Shebang{"ECHO", "(cut)"}},
	{"#!ECHO" + strings.Repeat(" ", 300) + "\n", &Shebang{"ECHO", ""}},
	{"#!" + strings.Repeat(" ", 100) + "ECHO x\n", &Shebang{"ECHO", "x"}},
	{"#!\n", nil},
	{"#! \t \n", nil},
	{"#!", nil},
	{"#!" + strings.Repeat(" ", 300), nil},
	{"#!/" + strings.Repeat("x", 300) + "\n", nil},
	{"#!" + strings.Repeat(" ", 253) + "ECHO\n", nil},
}

// The table is true of this kernel: each head is written to a file and run.
func TestShebangAsTheKernelReadsIt(t *testing.T) {
	dir := t.TempDir()
	echo := tool(t, "echo")
	for i, c := range shebangCases {
		head := strings.ReplaceAll(c.head, "ECHO", echo)
		file := filepath.Join(dir, string(rune('a'+i)))
		must(t, os.WriteFile(file, []byte(head), 0o755))
		var want *Shebang
		if c.want != nil {
			arg := c.want.Arg
			if arg == "(cut)" {
				arg = head[3+len(echo) : 255]
			}
			want = &Shebang{echo, arg}
		}
		got, err := ParseShebang([]byte(head)[:min(len(head), shebangBytes)])
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ParseShebang(%q) = %+v, %v; want %+v", head, got, err, want)
		}
		out, err := exec.Command(file).Output()
		if want == nil {
			if !errors.Is(err, unix.ENOEXEC) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) {
				t.Errorf("the kernel runs %q: %v, %q", head, err, out)
			}
			continue
		}
		line := file + "\n"
		if want.Arg != "" {
			line = want.Arg + " " + line
		}
		if want.Arg == "-e" {
			line = file + "\n" // an option of echo
		}
		if string(out) != line {
			t.Errorf("the kernel reads from %q: %q, want %q (%v)", head, out, line, err)
		}
	}
}

func TestEnvCommand(t *testing.T) {
	for arg, want := range map[string]string{
		"python3":                       "python3",
		"python3 -u":                    "python3 -u", // one name for env, and that is the message
		"-S python3 -u":                 "python3",
		"-Spython3":                     "python3",
		"-vS python3":                   "python3",
		"-iS python3":                   "python3",
		"--split-string=python3 -u":     "python3",
		"--split-string python3":        "python3",
		"-S A=1 B='x y' python3":        "python3",
		"-S -i -u HOME -C /tmp python3": "python3",
		"-S -- python3":                 "python3",
		`-S "my prog" x`:                "my prog",
		`-S 'it'\''s'`:                  "it's",
		`-S my\_prog`:                   "my",
		`-S "my\_prog"`:                 "my prog",
		"-S # nothing":                  "",
		"-S perl # words":               "perl",
		"-S PATH=/x python3":            "",
		"-S ${PYTHON}":                  "",
		"-S 'python3":                   "",
		"-S":                            "",
		"A=1":                           "",
		"-i":                            "",
		"--help":                        "",
		"-S -u":                         "",
		"/opt/bin/tool":                 "/opt/bin/tool",
	} {
		s := &Shebang{"/usr/bin/env", arg}
		if got, ok := s.EnvCommand(); got != want || ok != (want != "") {
			t.Errorf("EnvCommand(%q) = %q, %v; want %q", arg, got, ok, want)
		}
	}
	if _, ok := (&Shebang{"/bin/sh", "python3"}).EnvCommand(); ok {
		t.Error("/bin/sh is not env")
	}
}

func TestResolveInterp(t *testing.T) {
	image := plant(t, map[string]any{
		"usr/bin/sh": prog(), "bin": "-> usr/bin", "usr/bin/env": prog(), "usr/local/bin/python3": "-> ../../bin/python3.11",
		"usr/bin/python3.11": prog(), "lib64/ld-linux-x86-64.so.2": lib(), "opt/outer": "#!/bin/sh\n", "opt/a": "#!/opt/b\n", "opt/b": "#!/opt/a\n",
		"opt/broken": elfSpec{interp: "/lib/ld-musl.so"}, "opt/text": "hello\n", "opt/arm": elfSpec{machine: 8},
		"box/mine": elfSpec{kind: elfTypeExec}, "opt/inner": "#!/opt/gone\n", "opt/perl/x": "",
	})
	must(t, os.WriteFile(filepath.Join(image.Path(), "opt/plain"), elfSpec{}.bytes(), 0o644))
	host := plant(t, map[string]any{"usr/bin/perl": prog(), "usr/bin/lua": prog()})

	for _, c := range []struct {
		line   string
		want   []string
		err    error
		text   string // behind "run x: "
		onHost string
	}{
		{line: "/bin/sh", want: []string{"/bin/sh"}},
		{line: "/usr/bin/env python3", want: []string{"/usr/bin/env", "/usr/local/bin/python3"}},
		{line: "/usr/bin/env -S A=1 python3 -u", want: []string{"/usr/bin/env", "/usr/local/bin/python3"}},
		{line: "/opt/outer", want: []string{"/opt/outer", "/bin/sh"}},
		{line: "./mine", want: []string{"/box/./mine"}},
		{line: "/usr/bin/env ./mine", want: []string{"/usr/bin/env", "/box/./mine"}},
		{
			line: "./gone", err: unix.ENOENT,
			text: "no such file or directory (its interpreter /box/./gone is not in the image: ./gone is relative to the working directory inside, /box)",
		},
		{
			line: "/usr/bin/env bin/gone", err: unix.ENOENT,
			text: "no such file or directory (/box/bin/gone, which /usr/bin/env needs, is not in the image: bin/gone is relative to the working directory inside, /box)",
		},
		{
			line: "/usr/bin/perl -w", err: unix.ENOENT, onHost: "/usr/bin/perl",
			text: "no such file or directory (its interpreter /usr/bin/perl is not in the image)",
		},
		{
			line: "/usr/bin/env lua", err: unix.ENOENT, onHost: "/usr/bin/lua",
			text: "no such file or directory (env finds no lua in the image)",
		},
		{
			line: "/usr/bin/env python3 -u", err: unix.ENOENT,
			text: "no such file or directory (env gets python3 -u as one name; `env -S` splits it)",
		},
		{line: "/opt/a", err: unix.ELOOP, text: "too many levels of symbolic links (/opt/b, which /opt/a needs, cannot be started in the image)"},
		{line: "/opt/broken", err: unix.ENOENT, text: "no such file or directory (/lib/ld-musl.so, which /opt/broken needs, is not in the image)"},
		{line: "/opt/inner", err: unix.ENOENT, text: "no such file or directory (/opt/gone, which /opt/inner needs, is not in the image)"},
		{line: "/opt/text", err: unix.ENOEXEC, text: "exec format error (its interpreter /opt/text cannot be started in the image)"},
		{line: "/opt/arm", err: unix.ENOEXEC, text: "exec format error (its interpreter /opt/arm cannot be started in the image)"},
		{line: "/opt/plain", err: unix.EACCES, text: "permission denied (its interpreter /opt/plain is not executable in the image)"},
		{line: "/opt/perl", err: unix.EACCES, text: "permission denied (its interpreter /opt/perl is not executable in the image)"},
		{line: "/opt/text/x", err: unix.ENOENT, text: "no such file or directory (its interpreter /opt/text/x is not in the image)"},
		{line: "/opt/\x1b[2J", err: unix.ENOENT, text: `no such file or directory (its interpreter "/opt/\x1b[2J" is not in the image)`},
	} {
		script, err := ParseShebang([]byte("#!" + c.line + "\n"))
		must(t, err)
		p := &Program{Path: "x", Kind: KindScript, Script: script}
		got, err := p.ResolveInterp(View{Root: image}, host, Surroundings{Dir: "/box", Path: "/usr/local/bin:/usr/bin"})
		if !errors.Is(err, c.err) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, %v; want %q, %v", c.line, got, err, c.want, c.err)
		}
		var missing *MissingInterpreter
		if errors.As(err, &missing) && (err.Error() != "run x: "+c.text || missing.HostPath != c.onHost) {
			t.Errorf("%q: %v; on the host %q", c.line, err, missing.HostPath)
		}
	}
	if got, err := (&Program{ELF: &ELF{}}).ResolveInterp(View{Root: image}, host, Surroundings{}); got != nil || err != nil {
		t.Errorf("a program that is no script: %q, %v", got, err)
	}
}

// An interpreter below a mount of the host is there.
func TestResolveInterpSeesMounts(t *testing.T) {
	host := plant(t, map[string]any{"home/py/bin/python3": elfSpec{kind: elfTypeExec}})
	image := plant(t, map[string]any{"bin/env": elfSpec{kind: elfTypeExec}, "usr/bin/python3": "-> /opt/py/bin/python3"})
	script, err := ParseShebang([]byte("#!/bin/env python3\n"))
	must(t, err)
	p := &Program{Path: "x", Kind: KindScript, Script: script}
	view := View{Root: image, Host: host, Binds: []Bind{{Inside: "/opt/py", Outside: "/home/py"}}}
	got, err := p.ResolveInterp(view, host, Surroundings{Path: "/usr/bin"})
	if err != nil || !reflect.DeepEqual(got, []string{"/bin/env", "/usr/bin/python3"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzShebang(f *testing.F) {
	for _, c := range shebangCases {
		f.Add([]byte(c.head))
	}
	f.Add([]byte("#!/usr/bin/env -S \"a\\_b\" '' \\c #"))
	f.Fuzz(func(t *testing.T, head []byte) {
		s, err := ParseShebang(head)
		if err != nil {
			return
		}
		if s.Interp == "" || strings.ContainsAny(s.Interp, " \t\n\x00") || strings.ContainsAny(s.Arg, "\n\x00") || len(s.Interp)+len(s.Arg) > 253 {
			t.Errorf("ParseShebang(%q) = %+v", head, s)
		}
		s.EnvCommand()
		(&Shebang{"env", s.Arg}).EnvCommand()
		s.hasCarriageReturn()
	})
}
