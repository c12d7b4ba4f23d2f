package plan

import (
	"encoding/json"
	"path"
	"runtime"
	"strings"

	"github.com/sbx-run/sbx/rootfs"
)

// An imported image says how it wants to be run. It is as untrusted as its
// files: its words are taken as they stand, are looked up in the image only,
// and none of them stands for anything of the host's (SECURITY D13).

// ParseEntrypoint reads --entrypoint as podman does: a list in JSON, or one word
// that is not split. Empty takes the image's own entrypoint away.
func ParseEntrypoint(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if !strings.HasPrefix(s, "[") {
		return []string{s}, nil
	}
	var list []string
	if err := json.Unmarshal([]byte(s), &list); err != nil {
		return nil, misuse("--entrypoint %q: write one word, or a list such as [\"sh\",\"-c\"]", s)
	}
	return list, nil
}

// command is what is executed. As in docker, what stands on the command line
// takes the place of Cmd and is added to Entrypoint, and --entrypoint takes the
// place of both. own tells that the first word is the user's PROGRAM, which may
// be a file of the host's; all others are of the image.
func command(s Spec, c *rootfs.ImageConfig) (argv []string, own bool, err error) {
	if s.HasEntrypoint {
		argv = append(argv, s.Entrypoint...)
	} else if c != nil {
		argv = append(argv, c.Entrypoint...)
	}
	own = len(argv) == 0 && s.Program != ""
	switch {
	case s.Program != "":
		argv = append(append(argv, s.Program), s.Args...)
	case c != nil && !s.HasEntrypoint:
		argv = append(argv, c.Cmd...)
	}
	if len(argv) == 0 {
		if c != nil {
			return nil, false, misuse("name a program to run: the image has neither Entrypoint nor Cmd")
		}
		return nil, false, misuse("name a program to run; see sbx run --help")
	}
	if argv[0] == "" {
		return nil, false, misuse("the program's name is empty, by the image's Entrypoint or Cmd")
	}
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return nil, false, misuse("argument %q holds a NUL byte", arg)
		}
	}
	return argv, own, nil
}

// workdir is where the program starts: --workdir, else what the image says, "/"
// where it says nothing, as in docker; else /box. A program that is copied in
// stands in /box, and starts there.
func workdir(s Spec, f Facts) string {
	switch {
	case s.Workdir != "":
		return path.Clean(s.Workdir)
	case f.Config != nil && f.Program.Host == "":
		return path.Clean("/" + f.Config.WorkingDir)
	}
	return boxDir
}

// checkConfig refuses what an image must not ask for. The user of the image is
// checked where users are looked up.
func checkConfig(s Spec, f Facts) error {
	if f.Config == nil || s.Workdir != "" {
		return nil
	}
	dir := workdir(s, f)
	if under(dir, "/proc") || strings.ContainsRune(dir, 0) {
		return misuse("the image's WorkingDir is %q, which cannot be the working directory; give another with --workdir", dir)
	}
	return nil
}

// imageEnv is the image's Env without what is no variable. A name without a
// value is left out: it would be the caller's own.
func imageEnv(c *rootfs.ImageConfig) []string {
	if c == nil {
		return nil
	}
	var list []string
	for _, kv := range c.Env {
		name, _, given := strings.Cut(kv, "=")
		if given && name != "" && !strings.ContainsRune(kv, 0) {
			list = append(list, kv)
		}
	}
	return list
}

// imageWarnings say what about an imported image is not as it should be here.
func imageWarnings(f Facts) []string {
	var list []string
	if c := f.Config; c != nil && c.Architecture != "" && c.Architecture != runtime.GOARCH {
		list = append(list, "the image "+f.Image.Name+" is for "+c.Architecture+" and this host is "+runtime.GOARCH)
	}
	if f.Image.Imported && !f.Image.Owned {
		list = append(list, "the image "+f.Image.Name+" was imported with one id only, so its files are copied for this run; import it again to spare that")
	}
	return list
}
