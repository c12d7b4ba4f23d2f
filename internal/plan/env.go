package plan

import (
	"bufio"
	"bytes"
	"maps"
	"slices"
	"strings"
)

// defaultPath is the search path inside, whatever the caller's is.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// passedOn tells which of the caller's variables reach the program without
// being asked for: how the terminal and the language are, and nothing that could
// be a secret, a socket or a path of the host (SECURITY.md, B4).
func passedOn(name string) bool {
	switch name {
	case "TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ", "COLUMNS", "LINES":
		return true
	}
	return strings.HasPrefix(name, "LC_")
}

// PassedOn filters the caller's environment down to what [Facts] may hold of it.
func PassedOn(environ []string) map[string]string {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && passedOn(name) && value != "" {
			env[name] = value
		}
	}
	return env
}

// environment builds the payload's, sorted by name. Values asked for win over
// the image's, which win over the sandbox's own, and those over the caller's.
func environment(f Facts, s Spec, user User, tty bool) []string {
	env := maps.Clone(f.Environ)
	if env == nil {
		env = map[string]string{}
	}
	if s.Image != ImageHost {
		neutralLocale(env)
	}
	if !tty {
		delete(env, "COLUMNS")
		delete(env, "LINES")
	}
	env["PATH"] = defaultPath
	env["HOME"] = user.Home
	env["USER"], env["LOGNAME"] = user.Name, user.Name
	env["SHELL"] = "/bin/sh"
	if f.Image.Shell != "" {
		env["SHELL"] = f.Image.Shell
	}
	env["HOSTNAME"] = hostname(s)
	if tty && env["TERM"] == "" {
		env["TERM"] = "xterm"
	}
	for _, kv := range append(imageEnv(f.Config), f.AskedEnv...) {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// neutralLocale keeps the encoding and drops the language: an image other than
// the host's own has C.UTF-8 and no other locale, and perl and bash complain
// about a locale that is not there.
func neutralLocale(env map[string]string) {
	for name, value := range env {
		if name != "LANG" && name != "LANGUAGE" && !strings.HasPrefix(name, "LC_") {
			continue
		}
		switch upper := strings.ToUpper(value); {
		case value == "C" || value == "POSIX" || value == "C.UTF-8":
		case name != "LANGUAGE" && (strings.Contains(upper, "UTF-8") || strings.Contains(upper, "UTF8")):
			env[name] = "C.UTF-8"
		default:
			delete(env, name)
		}
	}
}

// askedEnv resolves -e and --env-file: KEY=VALUE is taken as it stands, KEY is
// the caller's own value and is left out where he has none, as in docker.
func askedEnv(list []string, lookup func(string) (string, bool)) ([]string, error) {
	var env []string
	for _, kv := range list {
		name, _, given := strings.Cut(kv, "=")
		if name == "" || strings.ContainsAny(name, " \t\x00\n") || strings.ContainsRune(kv, 0) {
			return nil, misuse("environment variable %.60q: write NAME=VALUE, or NAME for your own value", kv)
		}
		if given {
			env = append(env, kv)
		} else if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env, nil
}

// parseEnvFile reads docker's format: a variable a line, # begins a comment
// line, no quoting.
func parseEnvFile(data []byte) []string {
	var list []string
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors begin files so
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimLeft(strings.TrimSuffix(lines.Text(), "\r"), " \t")
		if line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}
