package initproc

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
)

// pid1 is a pid 1 that is about to start its payload.
func pid1(t *testing.T, change func(*plan.Plan)) *process {
	t.Helper()
	p := &plan.Plan{
		Identity: plan.Identity{Mode: userns.NoMap, SetGroups: true},
		User:     plan.User{Name: "sbx", UID: 1000, GID: 1001},
		Process: plan.Process{
			Args: []string{"tool", ""}, Env: []string{"A=b"}, Dir: "/box",
			Rlimits: []plan.Rlimit{{Name: "nofile", Resource: unix.RLIMIT_NOFILE, Soft: 1, Hard: 2}},
			Seccomp: plan.Seccomp{Profile: "default"},
		},
	}
	if abi := landlock.ABI(); abi > 1 {
		p.Process.LandlockABI, p.Process.Landlock = abi, []plan.Access{{Path: "/", Access: "read"}}
	}
	if change != nil {
		change(p)
	}
	return &process{Setup: &Setup{gate: [2]int{7, 8}}, plan: p, dir: -1, slave: -1, proc: -1}
}

// steps composes the payload's list of system calls, as texts, and lets go of
// what was opened for it.
func steps(t *testing.T, p *process) []string {
	t.Helper()
	pl, err := p.compose("/box/tool")
	if err != nil {
		t.Fatal(err)
	}
	if pl.ruleset >= 0 {
		unix.Close(pl.ruleset)
	}
	return pl.Steps()
}

func index(list []string, prefix string) int {
	return slices.IndexFunc(list, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

func lastIndex(list []string, prefix string) int {
	for i := len(list) - 1; i >= 0; i-- {
		if strings.HasPrefix(list[i], prefix) {
			return i
		}
	}
	return -1
}

// The order between clone and execve is the sandbox. Each law has its reason.
func TestOrderOfTheLastSteps(t *testing.T) {
	list := steps(t, pid1(t, nil))
	for _, law := range []struct{ first, then, why string }{
		{"wait for the id maps", "join a keyring", "without maps nobody has a uid to own one"},
		{"wait for the id maps", "clear the groups", "there are no gids yet"},
		{"clear the groups", "become group", "it takes CAP_SETGID"},
		{"become group", "become user", "a user who is not root changes no group"},
		{"become user", "drop a capability for good", "setresuid takes CAP_SETUID"},
		{"drop a capability for good", "drop the capabilities", "it takes CAP_SETPCAP"},
		{"lock the securebits", "drop the capabilities", "it takes CAP_SETPCAP"},
		{"become user", "go to the working directory", "a directory he may not enter is refused"},
		{"drop the capabilities", "go to the working directory", "CAP_DAC_OVERRIDE enters everything"},
		{"drop the capabilities", "set no_new_privs", "order of authority"},
		{"set no_new_privs", "apply the Landlock rules", "without CAP_SYS_ADMIN it asks for no_new_privs"},
		{"set no_new_privs", "install the system call filter", "so does seccomp"},
		{"apply the Landlock rules", "install the system call filter", "the filter refuses it"},
		{"go to the working directory", "apply the Landlock rules", "the directory may be out of their reach"},
		{"set the limit", "drop the capabilities", "raising up to the caller's own takes CAP_SYS_RESOURCE"},
		{"reset a signal", "unblock the signals", "one that is pending would run pid 1's handler"},
		{"close what was inherited", "install the system call filter", "the filter may refuse it"},
		{"unblock the signals", "install the system call filter", "the filter may refuse it"},
		{"install the system call filter", "wait for pid 1", "all that can be done before is done"},
		{"wait for pid 1", "run ", "nothing of the program's runs before pid 1 is another program"},
	} {
		if law.first == "apply the Landlock rules" || law.then == "apply the Landlock rules" {
			if landlock.ABI() < 2 {
				continue
			}
		}
		a, b := lastIndex(list, law.first), index(list, law.then)
		if a < 0 || b < 0 || a > b {
			t.Errorf("%q (%d) must come before %q (%d): %s", law.first, a, law.then, b, law.why)
		}
	}
	n := len(list)
	if !strings.HasPrefix(list[1], "wait for the id maps") {
		t.Errorf("the gate is not first: %q", list[:2])
	}
	if list[n-1] != "run tool" || list[n-2] != "wait for pid 1" || list[n-3] != "install the system call filter" {
		t.Errorf("the last three are %q", list[n-3:])
	}
}

// Every signal but the two that cannot be is reset, and every capability that
// is not kept is dropped for good.
func TestNothingIsLeftOut(t *testing.T) {
	count := func(list []string, text string) (n int) {
		for _, s := range list {
			if s == text {
				n++
			}
		}
		return n
	}
	list := steps(t, pid1(t, nil))
	if n := count(list, "reset a signal"); n != 62 {
		t.Errorf("%d signals are reset", n)
	}
	if n := count(list, "drop a capability for good"); n != 64 {
		t.Errorf("%d capabilities are dropped", n)
	}
	fake := steps(t, pid1(t, func(p *plan.Plan) { p.Process.Capabilities = []int{unix.CAP_CHOWN, unix.CAP_KILL} }))
	if n := count(fake, "drop a capability for good"); n != 62 {
		t.Errorf("a fake root with two capabilities: %d are dropped", n)
	}
	for _, s := range []string{
		"join a keyring of its own", "set the umask", "set the default personality", "set the limit nofile",
		"lock the securebits", "drop the capabilities", "set no_new_privs", "close what was inherited",
	} {
		if n := count(list, s); n != 1 {
			t.Errorf("%q stands there %d times", s, n)
		}
	}
}

func TestStepsThatDependOnThePlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*plan.Plan)
		step   string
		there  bool
	}{
		{"one id only: the kernel forbids it", func(p *plan.Plan) { p.Identity.SetGroups = false }, "clear the groups", false},
		{"the filter is off", func(p *plan.Plan) { p.Process.Seccomp.Profile = "off" }, "install the system call filter", false},
		{"a strict one", func(p *plan.Plan) { p.Process.Seccomp.Profile = "strict" }, "install the system call filter", true},
		{"no Landlock", func(p *plan.Plan) { p.Process.LandlockABI = 0 }, "apply the Landlock rules", false},
		{"no terminal", nil, "take the terminal", false},
		{"the user's numbers", nil, "become user 1000", true},
		{"the group's", nil, "become group 1001", true},
	} {
		list := steps(t, pid1(t, c.change))
		if (index(list, c.step) >= 0) != c.there {
			t.Errorf("%s: %q: %t", c.name, c.step, !c.there)
		}
	}
	p := pid1(t, nil)
	p.slave = 9
	if n := lastIndex(steps(t, p), "take the terminal") - index(steps(t, p), "take the terminal"); n != 2 {
		t.Errorf("the terminal is taken %d times, want 0, 1 and 2", n+1)
	}
}

// What cannot be an argument of execve is an error, not a shorter argument.
func TestNULNeverCutsAnArgument(t *testing.T) {
	for name, change := range map[string]func(*plan.Plan){
		"argument": func(p *plan.Plan) { p.Process.Args = []string{"a\x00b"} },
		"variable": func(p *plan.Plan) { p.Process.Env = []string{"A=\x00"} },
	} {
		p := pid1(t, change)
		if _, err := p.compose("/box/tool"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := pid1(t, nil).compose("/box/\x00"); err == nil {
		t.Error("file: no error")
	}
}

func TestBuildFilter(t *testing.T) {
	const profile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chroot"],"action":"SCMP_ACT_ERRNO"}]}`
	for _, c := range []struct {
		seccomp plan.Seccomp
		none    bool
		err     bool
	}{
		{plan.Seccomp{Profile: "off"}, true, false},
		{plan.Seccomp{Profile: "default"}, false, false},
		{plan.Seccomp{Profile: "default", Fakeroot: true}, false, false},
		{plan.Seccomp{Profile: "strict"}, false, false},
		{plan.Seccomp{Profile: "x.json", OCI: []byte(profile)}, false, false},
		{plan.Seccomp{Profile: "x.json"}, false, true}, // never no filter for want of a profile
		{plan.Seccomp{Profile: ""}, false, false},      // the default, not none
		{plan.Seccomp{Profile: "x.json", OCI: []byte("{")}, false, true},
	} {
		filter, err := buildFilter(c.seccomp)
		if (err != nil) != c.err || !c.err && (filter == nil) != c.none {
			t.Errorf("%+v: %d instructions, %v", c.seccomp, len(filter), err)
		}
		if len(filter) > unix.BPF_MAXINSNS {
			t.Errorf("%+v: %d instructions", c.seccomp, len(filter))
		}
	}
}

func TestLandlockAccess(t *testing.T) {
	for word, want := range map[string]landlock.Access{
		"write": landlock.Write, "device": landlock.Device, "read": landlock.Read, "anything": landlock.Read, "": landlock.Read,
	} {
		if got := landlockAccess(word); got != want {
			t.Errorf("%q is %v", word, got)
		}
	}
}
