package main_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// A user without subordinate ids gets the weaker mode without asking, and one
// line that names it.
func TestPlainUserRuns(t *testing.T) {
	sbxtest.Need(t, sbxtest.NoSubordinateRange())
	box := sbxtest.New(t)
	result := box.MustRun(t, "run", "/bin/echo", "hello")
	if result.Stdout != "hello\n" {
		t.Errorf("%v", result)
	}
	if lines := strings.Count(result.Stderr, "\n"); lines != 1 || !strings.HasPrefix(result.Stderr, "sbx: weaker") {
		t.Errorf("want one line that names the weaker mode\n%v", result)
	}
	if quiet := box.MustRun(t, "run", "-q", "/bin/echo", "hello"); quiet.Stdout != "hello\n" {
		t.Errorf("%v", quiet)
	}
}

// An image from elsewhere is his alone, which is said, and runs.
func TestPlainUserImports(t *testing.T) {
	sbxtest.Need(t, sbxtest.NoSubordinateRange())
	box := sbxtest.NewStore(t)
	file := reg("etc/motd", "hello\n")
	file.Uid, file.Mode = 7, 0o4755
	box.Stdin = bytes.NewReader(tarFile(t, file))
	result := box.MustRun(t, "image", "import", "-", "a")
	if !strings.Contains(result.Stderr, "which belong to you now: 1") || !strings.Contains(result.Stderr, "without their setuid or setgid bits: 1") {
		t.Errorf("%v", result)
	}
	box.Stdin, box.Dir = nil, probeDir(t)
	if result = box.MustRun(t, "run", "-q", "--image", "a", "./probe", "cat", "/etc/motd"); result.Stdout != "hello\n" {
		t.Errorf("%v", result)
	}
}

// Every other promise holds for him as well.
func TestPlainUserPromises(t *testing.T) {
	sbxtest.Need(t, sbxtest.NoSubordinateRange())
	box := sbxtest.New(t)
	for _, image := range []string{"base", "host", "scratch"} {
		for user, fakeRoot := range map[string]bool{"1000": false, "0": true} {
			t.Run(image+"/"+user, func(t *testing.T) {
				facts := sbxtest.HostFacts(t)
				facts.Userns, facts.HostImage, facts.FakeRoot = "single", image == "host", fakeRoot
				weaker := []string{"A2/caller-unmapped", "A3/groups"}
				if fakeRoot {
					weaker = append(weaker, "J3/setuid")
				}
				checkFindings(t, box.Report(t, facts, "--image", image, "--user", user), weaker)
			})
		}
	}
}

// Modes that need a range are refused with the reason and the next step.
func TestPlainUserMisuse(t *testing.T) {
	sbxtest.Need(t, sbxtest.NoSubordinateRange())
	box := sbxtest.New(t)
	for _, args := range [][]string{
		{"run", "--userns=nomap", "true"},
		{"run", "--userns=keep-id", "true"},
		{"run", "--require=nomap", "true"},
	} {
		result := box.Run(t, args...)
		if result.Exit != 125 || !strings.Contains(result.Stderr, "sub") {
			t.Errorf("want status 125 and a word about subordinate ids\n%v", result)
		}
	}
}
