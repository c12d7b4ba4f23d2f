package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// What is passed on without being asked for is a list of what may be; anything
// that nobody thought of stays outside (SECURITY B4).
func TestPassedOn(t *testing.T) {
	for _, name := range []string{
		"TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ", "COLUMNS", "LINES", "LC_ALL", "LC_CTYPE",
	} {
		if got := PassedOn([]string{name + "=x"}); got[name] != "x" {
			t.Errorf("%s does not come through", name)
		}
	}
	for _, name := range []string{
		"GITHUB_TOKEN", "NPM_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "SSH_AUTH_SOCK", "SSH_CONNECTION",
		"DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
		"KRB5CCNAME", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH", "LOCPATH", "BASH_ENV", "ENV",
		"BASH_FUNC_x%%", "http_proxy", "HTTPS_PROXY", "PATH", "HOME", "USER", "SHELL", "PWD", "OLDPWD", "MAIL",
		"GPG_AGENT_INFO", "PYTHONPATH", "NODE_OPTIONS", "TERMINFO", "TERMCAP", "PS1", "IFS", "LANGX", "XLANG", "term", "LC",
	} {
		if got := PassedOn([]string{name + "=x"}); len(got) != 0 {
			t.Errorf("%s comes through", name)
		}
	}
	if got := PassedOn([]string{"TERM=", "LANG", "=x", "", "TZ=a=b"}); !maps.Equal(got, map[string]string{"TZ": "a=b"}) {
		t.Errorf("odd entries became %q", got)
	}
}

func TestAskedEnv(t *testing.T) {
	lookup := func(name string) (string, bool) {
		value, ok := map[string]string{"MINE": "v", "EMPTY": ""}[name]
		return value, ok
	}
	got, err := askedEnv([]string{"A=1", "B=", "C=x=y", "D=a,b \n", "MINE", "EMPTY", "NOT_SET", "A=2", "E=\xff"}, lookup)
	want := []string{"A=1", "B=", "C=x=y", "D=a,b \n", "MINE=v", "EMPTY=", "A=2", "E=\xff"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", "=", "=x", "A B=1", "A\tB", "A\nB=1", "A\x00=1", "A=1\x00", "\x00"} {
		if _, err := askedEnv([]string{bad}, lookup); !IsMisuse(err) {
			t.Errorf("%q: error %v, want misuse", bad, err)
		}
	}
}

func TestParseEnvFile(t *testing.T) {
	const file = "# a comment\nA=1\n\n  B=two words  \n\t# another\nC=\"kept\"\r\nMINE\nD=#not a comment\nE=1"
	want := []string{"A=1", "B=two words  ", "C=\"kept\"", "MINE", "D=#not a comment", "E=1"}
	if got := parseEnvFile([]byte(file)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := parseEnvFile([]byte("\ufeffA=1\n")); !slices.Equal(got, []string{"A=1"}) {
		t.Errorf("with a mark of its encoding in front: %q", got)
	}
	if got := parseEnvFile(nil); len(got) != 0 {
		t.Errorf("an empty file gives %q", got)
	}
}

// A value is not cut short without a word, however long it is: the file as a
// whole is bounded already.
func TestParseEnvFileLongLine(t *testing.T) {
	long := "A=" + strings.Repeat("x", maxIdentityFile-10)
	if got := parseEnvFile([]byte(long + "\nB=2\n")); len(got) != 2 || got[0] != long {
		t.Errorf("%d variables", len(got))
	}
}

func TestNeutralLocale(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"LANG", "de_DE.UTF-8", "C.UTF-8"},
		{"LANG", "de_DE.utf8", "C.UTF-8"},
		{"LC_TIME", "en_US.UTF-8", "C.UTF-8"},
		{"LANG", "C", "C"},
		{"LANG", "POSIX", "POSIX"},
		{"LANG", "C.UTF-8", "C.UTF-8"},
		{"LANG", "de_DE@euro", ""},
		{"LANGUAGE", "de:en.UTF-8", ""},
		{"TZ", "Europe/Berlin", "Europe/Berlin"},
	} {
		env := map[string]string{c.name: c.value}
		neutralLocale(env)
		if env[c.name] != c.want {
			t.Errorf("%s=%s became %q, want %q", c.name, c.value, env[c.name], c.want)
		}
	}
}

func TestEnvironmentOfTheRun(t *testing.T) {
	user := User{Name: "web", UID: 33, Home: "/var/www"}
	for _, c := range []struct {
		name  string
		spec  Spec
		facts Facts
		tty   bool
		want  []string
	}{
		{
			"the sandbox's own",
			Spec{},
			Facts{},
			false,
			[]string{"HOME=/var/www", "HOSTNAME=sbx", "LOGNAME=web", "PATH=" + defaultPath, "SHELL=/bin/sh", "USER=web"},
		},
		{
			"a terminal has a size and a type",
			Spec{Hostname: "h"},
			Facts{Environ: map[string]string{"LINES": "9", "COLUMNS": "8"}, Image: Image{Shell: "/bin/bash"}},
			true,
			[]string{
				"COLUMNS=8", "HOME=/var/www", "HOSTNAME=h", "LINES=9", "LOGNAME=web", "PATH=" + defaultPath,
				"SHELL=/bin/bash", "TERM=xterm", "USER=web",
			},
		},
		{
			"without one it has neither",
			Spec{Image: ImageHost},
			Facts{Environ: map[string]string{"LINES": "9", "TERM": "screen", "LANG": "de_DE.UTF-8"}},
			false,
			[]string{
				"HOME=/var/www", "HOSTNAME=sbx", "LANG=de_DE.UTF-8", "LOGNAME=web", "PATH=" + defaultPath,
				"SHELL=/bin/sh", "TERM=screen", "USER=web",
			},
		},
		{
			"asked for wins, the last one",
			Spec{},
			Facts{AskedEnv: []string{"HOME=/a", "HOME=/b", "USER=", "PATH=/p"}},
			false,
			[]string{"HOME=/b", "HOSTNAME=sbx", "LOGNAME=web", "PATH=/p", "SHELL=/bin/sh", "USER="},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := maps.Clone(c.facts.Environ)
			if got := environment(c.facts, c.spec, user, c.tty); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if !maps.Equal(before, c.facts.Environ) {
				t.Error("the facts were changed")
			}
		})
	}
}

func FuzzParseEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\n", "# x\n\nB\r\n", "\x00", "=\n", " \t#"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list := parseEnvFile(data)
		env, err := askedEnv(list, func(string) (string, bool) { return "", false })
		if err != nil {
			return
		}
		for _, kv := range env {
			if name, _, ok := strings.Cut(kv, "="); !ok || name == "" || strings.ContainsAny(kv, "\x00\n") {
				t.Errorf("%q became the variable %q", data, kv)
			}
		}
	})
}
