package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/mounts"
)

// closingLine says why the program ended, where its exit status alone would not:
// a signal, the time limit, or something that it looked for and the sandbox
// does not have. Empty when there is nothing to say.
func closingLine(p *plan.Plan, r launch.Result) string {
	switch {
	case r.TimedOut:
		return fmt.Sprintf("timed out after %s (--timeout), everything was killed", p.Process.Timeout)
	case r.Killed:
		return "interrupted twice, everything was killed"
	case r.Over != "":
		return "killed: " + r.Over
	case len(r.Findings) > 0:
		return limitLine(r)
	case r.Signal == unix.SIGPIPE:
		return "" // the reader went away: `sbx run yes | head` ends quietly
	case r.Signal != 0:
		return fmt.Sprintf("killed by %s (%s)%s", signalName(r.Signal), r.Signal, limitOf(p, r.Signal))
	case r.Status != 0:
		if line := roomLine(p, r); line != "" {
			return line
		}
		if line := missingLine(p, string(r.LastErr)); line != "" {
			return line
		}
	default:
		// git goes on, and ends well, after it could not write its config.
		if line := guardedFile(p, string(r.LastErr)); line != "" {
			return line
		}
	}
	if r.Swallowed > 0 {
		return fmt.Sprintf("%d bytes of standard input were taken and not read by the program: what reads the same input next will miss them; add < /dev/null to a program that needs none", r.Swallowed)
	}
	return ""
}

// limitOf names the limit behind a signal, see setrlimit(2). For SIGKILL there are
// other causes than the hard limit of processor time.
func limitOf(p *plan.Plan, sig unix.Signal) string {
	text := map[unix.Signal][2]string{
		unix.SIGXCPU: {"cpu", "; the processor time of --ulimit cpu was used up"},
		unix.SIGKILL: {"cpu", "; the processor time of --ulimit cpu may have been used up"},
		unix.SIGXFSZ: {"fsize", "; a file reached the size of --ulimit fsize"},
	}[sig]
	if slices.ContainsFunc(p.Process.Rlimits, func(r plan.Rlimit) bool { return r.Name == text[0] && r.Soft != plan.Unlimited }) {
		return text[1]
	}
	return ""
}

// signalName knows real-time signals as well, which kill -l numbers from 34.
func signalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	const sigrtmin = 34
	if sig == sigrtmin {
		return "SIGRTMIN"
	}
	return fmt.Sprintf("SIGRTMIN%+d", int(sig)-sigrtmin)
}

// keptLine says under what the sandbox is found that stays.
func keptLine(p *plan.Plan, r launch.Result) string {
	switch {
	case r.Sandbox == "":
		return ""
	case p.Name != "":
		return fmt.Sprintf("kept as %s (%s)", p.Name, r.Sandbox)
	default:
		return "kept as " + r.Sandbox
	}
}

// limitLine tells what the kernel did for a limit and which flag moves it.
func limitLine(r launch.Result) string {
	f := r.Findings[0]
	text := f.Text
	if !f.Killed && r.Status == 0 && r.Signal == 0 {
		return "" // it went well in spite of it
	}
	switch f.Cause {
	case cgroupv2.MemoryLimit:
		text += "; raise it with -m"
	case cgroupv2.PidsLimit:
		text += "; raise it with --pids-limit"
	}
	return text
}

// roomLine says that the sandbox's own memory for files was full, and which flag
// makes it so small. Without one it is half of the host's.
func roomLine(p *plan.Plan, r launch.Result) string {
	if !r.Full && !strings.Contains(string(r.LastErr), unix.ENOSPC.Error()) && !strings.Contains(string(r.LastErr), "No space left on device") {
		return ""
	}
	flag := roomFlag(p)
	if flag == "" {
		return ""
	}
	return fmt.Sprintf("the room for files is used up (%s, %d files); raise it with %s", cgroupv2.Size(uint64(p.Private.Size)), p.Private.Inodes, flag)
}

// roomFlag is the flag that bounds what is written in memory.
func roomFlag(p *plan.Plan) string {
	switch {
	case p.Root.Bounded:
		return "--disk"
	case p.Private.Size == p.Cgroup.Watch:
		return "-m"
	default:
		return ""
	}
}

// missingLine reads the program's last words for something that was not there
// and that a flag would bring.
func missingLine(p *plan.Plan, tail string) string {
	if len(p.Program.MissingLibraries) > 0 {
		var names []string
		for _, m := range p.Program.MissingLibraries {
			names = append(names, m.Name)
		}
		return fmt.Sprintf("this host has no %s, which the program needs; bring the library's directory with --ro DIR and -e LD_LIBRARY_PATH=DIR",
			strings.Join(names, ", "))
	}
	for _, find := range []func(*plan.Plan, string) string{guardedFile, notEmpty, missingRepository, missingLibrary, missingCommand, missingModule, missingFile} {
		if line := find(p, tail); line != "" {
			return line
		}
	}
	return ""
}

// lastMatch returns the first group that is not empty of the last match. Most
// programs end without a word: then the pattern, which takes longer to compile than
// to match, is not looked at.
func lastMatch(pattern, text string) string {
	if text == "" {
		return ""
	}
	all := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return ""
	}
	for _, group := range all[len(all)-1][1:] {
		if group != "" {
			return group
		}
	}
	return ""
}

func missingLibrary(p *plan.Plan, tail string) string {
	name := lastMatch(`error while loading shared libraries: ([^\s:]+): cannot open shared object file: No such file|([^\s:']+\.so[.0-9]*): cannot open shared object file: No such file`, tail)
	if name == "" {
		return ""
	}
	return fmt.Sprintf("the library %s is not in the image %s; %s", quote.Quote(name), p.Image.Name, bring(p, "--ro the directory that has it, with -e LD_LIBRARY_PATH=DIR"))
}

// missingCommand knows the words of dash, bash, busybox and env.
func missingCommand(p *plan.Plan, tail string) string {
	name := lastMatch(`(?m)(?:^|: )([^\s:]+): (?:command )?not found$|env: ['‘]?([^\s:'’]+)['’]?: No such file or directory`, tail)
	if name == "" || strings.Contains(name, "/") {
		return ""
	}
	found, err := exec.LookPath(name) //nolint:forbidigo // it is named in a message, and never run
	if err != nil {
		return ""
	}
	return fmt.Sprintf("the program %s is not in the image %s; this host has it as %s: %s", quote.Quote(name), p.Image.Name, quote.Quote(found), bring(p, "--copy-in it"))
}

func missingModule(p *plan.Plan, tail string) string {
	name := lastMatch(`ModuleNotFoundError: No module named '([^']+)'|Can't locate (\S+) in @INC|Cannot find module '([^/'][^']*)'`, tail)
	if name == "" {
		return ""
	}
	return fmt.Sprintf("the module %s is not in the image %s; %s", quote.Quote(name), p.Image.Name, bring(p, "--ro the directory that has it"))
}

// missingFile takes a name only if the host has it: then a flag would have
// brought it.
func missingFile(p *plan.Plan, tail string) string {
	name := lastMatch(`No such file or directory: ['"]([^'"]+)['"]|can't open file '([^']+)'|Cannot find module '(/[^']+)'|['"‘]?([^\s:'"‘’]+)['"’]?: No such file or directory|open ([^\s:]+): no such file or directory|No such file or directory \(os error 2\): (\S+)|ENOENT: no such file or directory, \w+ '([^']+)'`, tail)
	if name == "" || strings.HasPrefix(name, "/proc/") || strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/sys/") {
		return ""
	}
	// The words are the program's, and it may want to be given something: no
	// advice to share what is hidden (~/.ssh).
	if strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "./") || strings.Contains(name, "/.") {
		return ""
	}
	// What stands in /box would stand in the working directory outside.
	name = strings.TrimPrefix(name, "/box/")
	host, err := filepath.Abs(name)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(host); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if inside, share := shared(p, host); share != "" && inside != "" {
		return fmt.Sprintf("%s is in the sandbox as %s: start there with -w %s", quote.Quote(name), quote.Quote(inside), quote.Quote(share))
	}
	if filepath.IsAbs(name) {
		return fmt.Sprintf("%s is on this host and not in the sandbox; bring it with --ro %s", quote.Quote(name), quote.Quote(name))
	}
	return fmt.Sprintf("%s is on this host and not in the sandbox; bring it with --copy-in %s", quote.Quote(name), quote.Quote(name))
}

// shared finds a file of the host's in what --ro and --rw show: its name inside
// and the directory there that stands for the working directory outside. Empty
// when it is in no share, or the program starts there anyway.
func shared(p *plan.Plan, host string) (inside, dir string) {
	wd, err := os.Getwd()
	if err != nil {
		return "", ""
	}
	for _, m := range p.Mounts {
		if m.Kind != mounts.Bind || !m.Directory {
			continue
		}
		rest, ok := strings.CutPrefix(host, m.Source+"/")
		below, here := strings.CutPrefix(wd+"/", m.Source+"/")
		if ok && here {
			inside, dir = path.Join(m.Target, rest), path.Join(m.Target, below)
		}
	}
	if dir == p.Process.Dir {
		return "", ""
	}
	return inside, dir
}

// bring names --image host where that would help, else the other way.
func bring(p *plan.Plan, other string) string {
	if p.Image.Name == plan.ImageHost || p.Image.Foreign {
		return other
	}
	return "add --image host, or " + other
}

// onNoexec tells whether the program stands in a share of what the host has
// mounted noexec.
func onNoexec(p *plan.Plan) bool {
	for _, m := range p.Mounts {
		var fs unix.Statfs_t
		if m.Kind == mounts.Bind && strings.HasPrefix(p.Program.Inside, m.Target) &&
			unix.Statfs(m.Source, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0 {
			return true
		}
	}
	return false
}
