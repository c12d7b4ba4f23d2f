package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// example is one command of the README and what it prints.
type example struct {
	command, output string
}

// Every ```console block of the README is run: a line "$ COMMAND" is a command,
// the lines below it are its output, in which … stands for anything. The
// commands of one block share a shell-like working directory. Blocks in other
// languages (sh, go) are only shown.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := consoleBlocks(string(text))
	if len(blocks) == 0 {
		t.Fatal("README.md has no console block")
	}
	bin := scriptPath(t)
	for _, block := range blocks {
		t.Run(block[0].command, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Symlink(sbxtest.Probe(t), filepath.Join(dir, "tool")); err != nil {
				t.Fatal(err)
			}
			for _, e := range block {
				cmd := exec.Command("bash", "-c", e.command)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "HOME="+sbxtest.New(t).Home, "PATH="+bin+":/usr/bin:/bin")
				got, err := cmd.CombinedOutput()
				if !outputPattern(e.output).MatchString(strings.TrimSpace(string(got))) {
					t.Errorf("$ %s\n%s\n%v; the README says\n%s", e.command, got, err, e.output)
				}
			}
		})
	}
}

func consoleBlocks(text string) [][]example {
	var blocks [][]example
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case !inside && strings.TrimSpace(line) == "```console":
			inside = true
			blocks = append(blocks, nil)
		case inside && strings.TrimSpace(line) == "```":
			inside = false
			if blocks[len(blocks)-1] == nil {
				blocks = blocks[:len(blocks)-1]
			}
		case inside && strings.HasPrefix(line, "$ "):
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], example{command: line[2:]})
		case inside:
			block := blocks[len(blocks)-1]
			if len(block) > 0 {
				block[len(block)-1].output += line + "\n"
			}
		}
	}
	return blocks
}

// outputPattern turns the output shown into a pattern for the whole of it.
func outputPattern(shown string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(strings.TrimSpace(shown))
	quoted = strings.ReplaceAll(quoted, "…", `[\s\S]*`)
	return regexp.MustCompile(`^` + quoted + `$`)
}

func TestConsoleBlocks(t *testing.T) {
	got := consoleBlocks("text\n```console\n$ a b\nout …\n$ c\n```\n```sh\n$ no\n```\n")
	if len(got) != 1 || len(got[0]) != 2 || got[0][0] != (example{"a b", "out …\n"}) || got[0][1].command != "c" {
		t.Errorf("got %q", got)
	}
	if !outputPattern("a …\nb.\n").MatchString("a xyz\nq\nb.") || outputPattern("b.").MatchString("bc") {
		t.Error("the pattern matches the wrong text")
	}
}
