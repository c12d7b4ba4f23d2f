package landlock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needsABI returns the kernel's ABI and skips where it is too old; a kernel without any Landlock is one that this machine cannot change.
func needsABI(t *testing.T, atLeast int) int {
	t.Helper()
	abi := ABI()
	if abi < atLeast {
		t.Skipf("cannot: the kernel has Landlock ABI %d, this needs %d", abi, atLeast)
	}
	return abi
}

// expectation is an action and what comes of it.
type expectation struct {
	action string // words; the first operand is relative to the test's directory unless it starts with a slash
	want   string
}

// try makes a directory with files, runs the actions under the rules, and compares. Paths of rules are relative to the directory too.
func try(t *testing.T, abi int, rules []Rule, expectations []expectation) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"ro/sub", "rw/one", "rw/two", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	truth, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(truth)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"ro/file", "ro/sub/file", "rw/file", "rw/one/file", "other/file", "single"} {
		if err := os.WriteFile(filepath.Join(dir, f), program, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// What a dynamic program needs in order to start.
	full := []Rule{}
	for _, p := range []string{"/lib", "/lib64", "/usr", "/etc"} {
		if _, err := os.Stat(p); err == nil {
			full = append(full, Rule{p, Read})
		}
	}
	for _, r := range rules {
		full = append(full, Rule{within(dir, r.Path), r.Access})
	}
	job := task{ABI: abi, Rules: full}
	for _, e := range expectations {
		words := strings.Fields(e.action)
		for i := range words[1:] {
			words[i+1] = within(dir, words[i+1])
		}
		job.Actions = append(job.Actions, words)
	}
	for i, got := range job.run(t) {
		if got != expectations[i].want {
			t.Errorf("%s: %s, want %s", expectations[i].action, got, expectations[i].want)
		}
	}
}

func within(dir, path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, "@") {
		return path
	}
	if _, err := strconv.Atoi(path); err == nil {
		return path
	}
	return filepath.Join(dir, path)
}

func TestFiles(t *testing.T) {
	abi := needsABI(t, 2)
	rules := []Rule{{"ro", Read}, {"rw", Write}, {"single", Read}}
	expectations := []expectation{
		{"read ro/file", "ok"},
		{"list ro/sub", "ok"},
		{"read ro/sub/file", "ok"},
		{"execute ro/file", "ok"},
		{"write ro/file", "EACCES"},
		{"create ro/new", "EACCES"},
		{"mkdir ro/new", "EACCES"},
		{"remove ro/file", "EACCES"},
		{"rename ro/file ro/sub/new", "EACCES"},
		{"link ro/file rw/new", "EXDEV"}, // it would be writable there
		{"read rw/file", "ok"},
		{"write rw/file", "ok"},
		{"overwrite rw/file", "ok"},
		{"create rw/new", "ok"},
		{"mkdir rw/dir", "ok"},
		{"mkfifo rw/fifo", "ok"},
		{"symlink rw/symlink", "ok"},
		{"link rw/new rw/one/linked", "ok"},
		{"rename rw/one/linked rw/two/renamed", "ok"},
		{"remove rw/two/renamed", "ok"},
		{"rmdir rw/dir", "ok"},
		{"read other/file", "EACCES"},
		{"list other", "EACCES"},
		{"execute other/file", "EACCES"},
		{"remove other/file", "EACCES"},
		{"rename other/file rw/stolen", "EACCES"},
		{"read single", "ok"},
		{"write single", "EACCES"},
	}
	if abi >= 3 {
		expectations = append(expectations,
			expectation{"truncate ro/file", "EACCES"},
			expectation{"truncate other/file", "EACCES"},
			expectation{"truncate rw/file", "ok"})
	}
	try(t, abi, rules, expectations)
}

// Each ABI that the kernel speaks can be used, whatever newer ones it has too.
func TestOlderABIs(t *testing.T) {
	for abi := 2; abi <= needsABI(t, 2); abi++ {
		t.Run(strconv.Itoa(abi), func(t *testing.T) {
			try(t, abi, []Rule{{"ro", Read}, {"rw", Write | Device | Socket}, {"single", Write | Device | Socket}, {"ro/file", Socket}}, []expectation{
				{"read ro/file", "ok"},
				{"write ro/file", "EACCES"},
				{"rename rw/one/file rw/two/renamed", "ok"},
				{"write single", "ok"},
				{"read other/file", "EACCES"},
			})
		})
	}
}

// Rights add up on the way down, and a rule on the root reaches into mounts.
func TestRulesAddUp(t *testing.T) {
	try(t, needsABI(t, 2), []Rule{{"/", Read}, {"rw", Write}}, []expectation{
		{"read other/file", "ok"},
		{"write other/file", "EACCES"},
		{"write rw/file", "ok"},
		{"read /proc/self/status", "ok"},
		{"write /dev/null", "EACCES"},
	})
}

func TestDevices(t *testing.T) {
	abi := needsABI(t, 5)
	if _, err := os.Stat("/dev/ptmx"); err != nil {
		t.Skip("cannot: no /dev/ptmx here")
	}
	try(t, abi, []Rule{{"/dev", Device}}, []expectation{
		{"write /dev/null", "ok"},
		{"overwrite /dev/null", "ok"}, // O_TRUNC means nothing for a device
		{"list /dev", "ok"},
		{"ptyNumber /dev/ptmx", "ok"},
		{"create /dev/sbx-test", "EACCES"},
	})
	try(t, abi, []Rule{{"/dev", Write}}, []expectation{
		{"write /dev/null", "ok"},
		{"ptyNumber /dev/ptmx", "EACCES"},
	})
}

func TestScopes(t *testing.T) {
	abi := needsABI(t, 6)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("@sbx-landlock-test-%d", os.Getpid())
	listener, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	actions := [][]string{{"connect", name}, {"signal", strconv.Itoa(os.Getpid())}, {"signalChild", sleep}}
	for _, tt := range []struct {
		abi  int
		want []string
	}{
		{0, []string{"ok", "ok", "ok"}},
		{5, []string{"ok", "ok", "ok"}},
		{abi, []string{"EPERM", "EPERM", "ok"}},
	} {
		job := task{ABI: tt.abi, Rules: []Rule{{"/", Read | Device}}, Actions: actions}
		if got := job.run(t); !slices.Equal(got, tt.want) {
			t.Errorf("ABI %d: %q, want %q", tt.abi, got, tt.want)
		}
	}
}

// A socket in a shared directory is an exit from the sandbox that only ABI 9 closes.
func TestNamedSockets(t *testing.T) {
	abi := needsABI(t, 2)
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	want := "ok"
	if abi >= 9 {
		want = "EACCES"
	}
	for access, want := range map[Access]string{Write: want, Write | Socket: "ok"} {
		job := task{ABI: abi, Rules: []Rule{{dir, access}}, Actions: [][]string{{"connect", path}}}
		if got := job.run(t); got[0] != want {
			t.Errorf("access %d, ABI %d: %s, want %s", access, abi, got[0], want)
		}
	}
}

// Pipes that were open before can be opened again, as programs do with /dev/stdout; host files cannot.
func TestStandardStreams(t *testing.T) {
	job := task{ABI: needsABI(t, 2), Rules: []Rule{{"/proc", Read}}, Actions: [][]string{{"write", "/proc/self/fd/1"}, {"read", "/proc/self/exe"}}}
	if got, want := job.run(t), []string{"ok", "EACCES"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRulesetErrors(t *testing.T) {
	abi := needsABI(t, 2)
	before := countDescriptors(t)
	missing := filepath.Join(t.TempDir(), "missing")
	fd, err := Ruleset(abi, []Rule{{"/", Read}, {missing, Read}})
	if fd != -1 || !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), strconv.Quote(missing)) {
		t.Errorf("a missing path: %d, %v", fd, err)
	}
	if after := countDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func BenchmarkRuleset(b *testing.B) {
	abi := ABI()
	rules := []Rule{{"/", Read}, {"/tmp", Write}, {"/dev", Device}, {"/proc", Write}, {"/etc", Read}, {"/usr", Read}, {"/var", Write}}
	for b.Loop() {
		fd, err := Ruleset(abi, rules)
		if err != nil {
			b.Skip(err)
		}
		unix.Close(fd)
	}
}
