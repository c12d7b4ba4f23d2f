package main_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// stageCalls are the system calls of the set-up, each made to fail in turn.
// Those marked must never be survived: going on without them would drop a layer
// silently. For the others the code may have a second way.
func stageCalls() map[string]bool {
	return map[string]bool{
		"pivot_root": true, "seccomp": true, "setresuid": true, "setresgid": true, "setgroups": true,
		"capset": true, "landlock_restrict_self": true, "sethostname": true, "mount_setattr": true,
		"move_mount": false, "open_tree": false, "fsopen": false, "fsconfig": false, "fsmount": false,
		"mount": false, "umount2": false, "memfd_create": false, "socketpair": false, "prlimit64": true,
		"setsid": false, "close_range": false, "landlock_create_ruleset": false, "landlock_add_rule": false,
		"openat2": false, "mkdirat": false, "chown": false, "fchown": false, "symlinkat": false,
	}
}

// maxPerCall bounds how many of the calls of one name are made to fail: the
// mount table alone makes dozens, and they are all alike in the middle.
const maxPerCall = 7

// Whatever fails during the set-up, sbx ends with 125 and one line that says
// what it was doing and the errno's text, leaves nothing behind and never
// shows a stack trace.
func TestFaults(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("strace"), sbxtest.UserNamespaces())
	testFaults(t, sbxtest.New(t), faultArgs())
}

// The same where newuidmap and newgidmap write the maps. Root's strace can
// follow setuid programs and starts sbx as the user that scripts/test made.
func TestFaultsWithHelpers(t *testing.T) {
	user := os.Getenv("SBX_TEST_USER")
	sbxtest.Need(t, sbxtest.Root(), sbxtest.Program("strace"), sbxtest.Requirement{
		Text: "$SBX_TEST_USER, a user with subordinate ids", Cannot: true,
		Missing: func() string {
			if user == "" {
				return "it is not set"
			}
			return ""
		},
	})
	box := sbxtest.New(t)
	box.Home = "/home/" + user
	box.Env = []string{"USER=" + user, "LOGNAME=" + user}
	box.TraceAs, box.Dir = user, "/" // the clone may lie where he cannot look
	testFaults(t, box, []string{"run", "--copy=overlay", "--userns=nomap", sbxtest.Probe(t), "exit", "0"})
}

func testFaults(t *testing.T, box sbxtest.Sandbox, args []string) {
	t.Helper()
	box.Prefix = untraced(box)
	box.MustRun(t, "run", "true") // makes the image
	if box.Dir == "" {
		box.Dir = probeDir(t)
	}
	counts := countCalls(t, box, args)
	before := box.Sandboxes(t) // kept ones of the user's own
	for _, call := range slices.Sorted(maps.Keys(counts)) {
		t.Run(call, func(t *testing.T) {
			for _, when := range sample(counts[call]) {
				inject(t, box, args, call, when, stageCalls()[call])
			}
			box.Prefix = untraced(box)
			box.MustRun(t, "run", "true") // the next run collects what a failed removal left
			if left := box.Sandboxes(t); !slices.Equal(left, before) {
				t.Errorf("left behind: %v, before %v", left, before)
			}
		})
	}
}

// faultArgs is the run under test. strace by a user cannot follow a setuid
// helper, so the maps are written by sbx itself: by root directly, by a user in
// single mode. One way to copy the root, since falling back to another is no
// fault.
func faultArgs() []string {
	args := []string{"run", "--copy=overlay"}
	if os.Geteuid() != 0 {
		args = append(args, "--userns=single")
	}
	return append(args, "./probe", "exit", "0")
}

func probeDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(sbxtest.Probe(t), filepath.Join(dir, "probe")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sample picks some of 1..n: the first ones, the last ones and a few between.
func sample(n int) []int {
	if n <= maxPerCall {
		all := make([]int, n)
		for i := range all {
			all[i] = i + 1
		}
		return all
	}
	return []int{1, 2, 3, n / 2, n - n/4, n - 1, n}
}

func strace(box sbxtest.Sandbox, flags ...string) []string {
	prefix := []string{"strace", "-f", "-qq", "--signal=none"}
	if box.TraceAs != "" {
		prefix = append(prefix, "-u", box.TraceAs)
	}
	return append(prefix, flags...)
}

// untraced runs sbx as the one who is traced in the other runs, and leaves it
// alone.
func untraced(box sbxtest.Sandbox) []string {
	if box.TraceAs == "" {
		return nil
	}
	return strace(box, "-o", os.DevNull, "-e", "trace=none")
}

// countCalls runs sbx once under strace and returns, for each stage call, the
// largest number that one process makes of it: strace counts by process.
func countCalls(t *testing.T, box sbxtest.Sandbox, args []string) map[string]int {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	names := strings.Join(slices.Sorted(maps.Keys(stageCalls())), ",")
	box.Prefix = strace(box, "-o", trace, "-e", "trace="+names)
	box.MustRun(t, args...)
	file, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type key struct{ pid, call string }
	seen := map[key]int{}
	counts := map[string]int{}
	line := regexp.MustCompile(`^(\d+) +(\w+)\(`)
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if m := line.FindStringSubmatch(scanner.Text()); m != nil {
			k := key{m[1], m[2]}
			seen[k]++
			counts[k.call] = max(counts[k.call], seen[k])
		}
	}
	if len(counts) < 8 {
		t.Fatalf("the trace shows only %v", counts)
	}
	for call := range counts {
		if strings.HasPrefix(call, "syscall_") {
			t.Logf("%s is newer than this strace, which cannot make it fail", call)
			delete(counts, call)
		}
	}
	return counts
}

func inject(t *testing.T, box sbxtest.Sandbox, args []string, call string, when int, fatal bool) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), fmt.Sprintf("trace-%s-%d", call, when))
	box.Prefix = strace(box, "-o", trace, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:error=EIO:when=%d", call, when))
	start := time.Now()
	result := box.Run(t, args...)
	took := time.Since(start)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s number %d", call, when)
	if !strings.Contains(string(text), "INJECTED") {
		t.Logf("%s was not made this time", name)
		return
	}
	switch {
	case result.Exit == 0 && fatal && !harmless(string(text)):
		t.Errorf("%s failed and the program ran all the same\n%s", name, injected(string(text)))
	case result.Exit == 0:
		t.Logf("%s: another way was found: %s", name, injected(string(text)))
	case result.Exit != 125:
		t.Errorf("%s: want exit status 125\n%v\n%s", name, result, injected(string(text)))
	default:
		checkFaultMessage(t, name, result)
	}
	if took > sbxtest.Patience(30*time.Second) {
		t.Errorf("%s: took %v", name, took)
	}
}

// harmless tells a failed call that drops no layer: the Go runtime reads limits
// and raises that of descriptors.
func harmless(trace string) bool {
	for line := range strings.Lines(injected(trace)) {
		if !strings.Contains(line, "prlimit64(0, RLIMIT_NOFILE") && !strings.Contains(line, ", NULL, 0x") {
			return false
		}
	}
	return true
}

func checkFaultMessage(t *testing.T, name string, result sbxtest.Result) {
	t.Helper()
	for _, bad := range []string{"goroutine ", "panic:", "runtime error"} {
		if strings.Contains(result.Stderr, bad) {
			t.Errorf("%s: a stack trace\n%v", name, result)
			return
		}
	}
	found := false
	for line := range strings.Lines(result.Stderr) {
		if !strings.HasPrefix(line, "sbx: ") {
			t.Errorf("%s: a line that is not sbx's: %q", name, line)
		}
		found = found || strings.Contains(line, "input/output error")
	}
	if !found {
		t.Errorf("%s: no line with the errno's text\n%v", name, result)
	}
	if result.Stdout != "" {
		t.Errorf("%s: something on standard output\n%v", name, result)
	}
}

// injected returns the lines of a trace that show the failed calls.
func injected(trace string) string {
	var lines []string
	for line := range strings.Lines(trace) {
		if strings.Contains(line, "INJECTED") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// A process that dies in the middle of the set-up must not look like a program
// that ended well. When it is the one that was about to become the program,
// nobody can tell its death from that of the program, so the status may be
// that of the signal.
func TestInitDies(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("strace"), sbxtest.UserNamespaces())
	box := sbxtest.New(t)
	box.Dir = probeDir(t)
	args := faultArgs()
	for _, call := range []string{"pivot_root", "move_mount:signal=KILL:when=2", "seccomp", "sethostname"} {
		name, _, tail := strings.Cut(call, ":")
		rule := call
		if !tail {
			rule += ":signal=KILL"
		}
		t.Run(name, func(t *testing.T) {
			box.Prefix = strace(box, "-o", filepath.Join(t.TempDir(), "trace"), "-e", "trace="+name, "-e", "inject="+rule)
			result := box.Run(t, args...)
			inPayload := name == "seccomp" && result.Exit == 137
			if result.Exit != 125 && !inPayload || !strings.HasPrefix(result.Stderr, "sbx: ") {
				t.Errorf("%v", result)
			}
		})
	}
}
