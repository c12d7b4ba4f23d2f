package sbxtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strings"
	"testing"
)

// Requirement is something of the machine or the caller that a test needs.
type Requirement struct {
	// Text completes the sentence "needs …".
	Text string
	// Cannot marks what a machine of the kind in use may be unable to give:
	// its lack is a skip even where skips are failures.
	Cannot bool
	// Missing returns why the requirement is not met, or "".
	Missing func() string
}

// Need skips the test when a requirement is not met. With SBX_MUST_WORK=1 a
// machine that lacks something fails the test instead, except for what no test
// run on such a machine could have. Requirements on the caller ([Root],
// [OrdinaryUser], [GoCommand]) always skip: scripts/test runs everything as
// root and as a user, and counts a test that neither ran as failed.
func Need(t testing.TB, requirements ...Requirement) {
	t.Helper()
	for _, r := range requirements {
		reason := r.Missing()
		switch {
		case reason == "":
		case r.Cannot:
			t.Skipf("cannot: needs %s: %s", r.Text, reason)
		case MustWork() && !r.caller():
			t.Fatalf("needs %s: %s", r.Text, reason)
		default:
			t.Skipf("needs %s: %s", r.Text, reason)
		}
	}
}

// MustWork says that a skip of what this machine could do is a failure.
func MustWork() bool { return os.Getenv("SBX_MUST_WORK") != "" }

func (r Requirement) caller() bool { return slices.Contains(callerTexts, r.Text) }

const (
	rootText = "root"
	userText = "an ordinary user"
	goText   = "the go command"
	noneText = "a caller without subordinate ids"
)

// callerTexts are the requirements that one of the two runs of scripts/test
// meets and the other does not.
var callerTexts = []string{rootText, userText, goText, noneText}

// Root requires that the test runs as root.
func Root() Requirement {
	return Requirement{Text: rootText, Missing: func() string {
		if os.Geteuid() != 0 {
			return fmt.Sprintf("this is uid %d", os.Geteuid())
		}
		return ""
	}}
}

// OrdinaryUser requires that the test does not run as root.
func OrdinaryUser() Requirement {
	return Requirement{Text: userText, Missing: func() string {
		if os.Geteuid() == 0 {
			return "this is root"
		}
		return ""
	}}
}

// GoCommand requires a tool chain that understands this module. The test user
// of scripts/test has none, or an older one: his tests are compiled for him.
func GoCommand() Requirement {
	return Requirement{Text: goText, Missing: func() string {
		if err := exec.Command("go", "list", ".").Run(); err != nil {
			return fmt.Sprintf("go list: %v", err)
		}
		return ""
	}}
}

// Program requires an executable in PATH.
func Program(name string) Requirement {
	return Requirement{Text: "the program " + name, Missing: func() string {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
		return ""
	}}
}

// SubordinateRange requires that the caller has subordinate ids and the
// helpers that map them, without which there is only the single mode. Root
// needs neither.
func SubordinateRange() Requirement {
	return Requirement{Text: "a subordinate id range", Missing: func() string {
		if os.Geteuid() == 0 {
			return ""
		}
		if _, err := exec.LookPath("newuidmap"); err != nil {
			return "no newuidmap"
		}
		me, err := user.Current()
		if err != nil {
			return err.Error()
		}
		for _, path := range []string{"/etc/subuid", "/etc/subgid"} {
			data, err := os.ReadFile(path)
			if err != nil {
				return err.Error()
			}
			if _, _, found := subordinateRange(string(data), me.Username, me.Uid); !found {
				return me.Username + " has no line in " + path
			}
		}
		return ""
	}}
}

// NoSubordinateRange requires the opposite: a user who has only the single mode.
// scripts/test runs the tests that begin with TestPlainUser as such a one.
func NoSubordinateRange() Requirement {
	return Requirement{Text: noneText, Missing: func() string {
		if os.Geteuid() == 0 || SubordinateRange().Missing() == "" {
			return "this one has a range or needs none"
		}
		return ""
	}}
}

// UserNamespaces requires that the caller may make a user namespace.
func UserNamespaces() Requirement {
	return Requirement{Text: "user namespaces", Missing: func() string {
		out, err := exec.Command("unshare", "--user", "--map-root-user", "true").CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, strings.TrimSpace(string(out)))
		}
		return ""
	}}
}

// File requires that a file of the machine exists. It is one of the things a
// machine may be unable to give.
func File(path string) Requirement {
	return Requirement{Text: path, Cannot: true, Missing: func() string {
		if _, err := os.Stat(path); err != nil {
			return err.Error()
		}
		return ""
	}}
}
