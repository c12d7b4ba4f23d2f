package main_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// waiting is a run that says one line, waits for one and goes on.
type waiting struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startWaiting(t *testing.T, box sbxtest.Sandbox, project, script string) waiting {
	t.Helper()
	cmd := box.Command(t, "run", "--userns=single", "--rw", project+":/p", "sh", "-c", "echo ready; read x; cd /p; "+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	w := waiting{cmd, in, bufio.NewReader(out)}
	if line, err := w.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return w
}

// goOn returns what the program says until its end.
func (w waiting) goOn(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(w.in, "\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(w.out)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.cmd.Wait()
	return string(text)
}

// Two runs over one tree share the placeholders, whether they know of each other
// or not: neither can make what the host would obey after the other has ended,
// and the last one takes them away.
func TestTwoRunsOverOneTree(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	box, other := sbxtest.New(t), sbxtest.NewStore(t)
	t.Run("one store", func(t *testing.T) { runsOverOneTree(t, box, box, box) })
	t.Run("two stores", func(t *testing.T) { runsOverOneTree(t, box, other, box) })
	t.Run("the other is the last", func(t *testing.T) { runsOverOneTree(t, box, box, other) })
	t.Run("the other is killed", func(t *testing.T) { runsOverOneTree(t, other, other, box) })
}

// runsOverOneTree has the first one end, the second one be killed, and the third
// one find everything as it was.
func runsOverOneTree(t *testing.T, boxes ...sbxtest.Sandbox) {
	gc := func() {
		for _, box := range boxes {
			box.MustRun(t, "gc")
		}
	}
	plain := t.TempDir()
	repository := projectDir(t)
	for _, c := range []struct{ project, names string }{
		{plain, ".git .vscode .idea"},
		{repository, ".git/config.worktree .git/commondir .vscode .idea"},
	} {
		before := tree(t, c.project)
		attempt := fmt.Sprintf("for n in %s; do rm -r $n 2>/dev/null && echo removed $n; [ -e $n ] || echo no $n; (mkdir $n/x || echo x >$n) 2>/dev/null && echo made $n; done; echo tried", c.names)
		first := startWaiting(t, boxes[0], c.project, attempt)
		second := startWaiting(t, boxes[1], c.project, attempt)
		third := startWaiting(t, boxes[2], c.project, attempt)
		if got := first.goOn(t); got != "tried\n" {
			t.Errorf("the first: %q", got)
		}
		gc()
		// Those are killed by which nothing is taken away.
		if err := second.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = second.cmd.Wait()
		gc()
		if got := third.goOn(t); got != "tried\n" {
			t.Errorf("the last: %q", got)
		}
		if after := tree(t, c.project); !slices.Equal(before, after) {
			t.Errorf("the shared directory changed:\n%v\n%v", before, after)
		}
	}
}

// What a killed run of another store has left is taken away by the next run.
func TestKilledOverTheSameTree(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	box, other := sbxtest.New(t), sbxtest.NewStore(t)
	project := projectDir(t)
	before := tree(t, project)
	killed := startWaiting(t, other, project, "true")
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.cmd.Wait()
	if left := tree(t, project); len(left) == len(before) {
		t.Fatal("the killed run left nothing, so this shows nothing")
	}
	for range 2 {
		box.MustRun(t, "run", "--userns=single", "--rw", project+":/p", "true")
		if after := tree(t, project); !slices.Equal(before, after) {
			t.Errorf("the shared directory changed:\n%v\n%v", before, after)
		}
	}
	other.MustRun(t, "gc")
}

// SIGKILL at each step of making and of removing the placeholders leaves nothing
// that gc does not take away, and gc takes nothing else.
func TestKilledWithPlaceholders(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("strace"), sbxtest.UserNamespaces(), sbxtest.OrdinaryUser())
	box := sbxtest.New(t)
	box.Dir = probeDir(t)
	box.MustRun(t, "run", "true")
	project := projectDir(t)
	before := tree(t, project)
	args := []string{"run", "--userns=single", "--rw", project + ":/p", "./probe", "exit", "0"}
	calls := []string{"mkdirat", "openat", "pwrite64", "ftruncate", "renameat2", "unlinkat", "flock", "statx"}
	counts := supervisorCalls(t, box, calls, args)
	seen := map[int]bool{}
	for _, call := range calls {
		for _, when := range sample(counts[call]) {
			traced := box
			traced.Prefix = []string{
				"strace", "-f", "-qq", "--signal=none", "-o", os.DevNull, "-e", "trace=" + call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, when),
			}
			traced.Run(t, args...)
			left := len(tree(t, project)) - len(before)
			seen[left] = true
			// What is the user's own, made where a placeholder would stand.
			mine := filepath.Join(project, ".idea")
			_ = os.Remove(mine)
			if err := os.Mkdir(mine, 0o755); err != nil {
				t.Fatal(err)
			}
			box.MustRun(t, "gc")
			if err := os.Remove(mine); err != nil {
				t.Errorf("killed at %s number %d: gc took a directory of the user's: %v", call, when, err)
			}
			if after := tree(t, project); !slices.Equal(before, after) {
				t.Fatalf("killed at %s number %d: the shared directory has\n%v\nbefore\n%v", call, when, after, before)
			}
		}
	}
	if len(seen) < 3 {
		t.Errorf("the kills came at too few different moments: files left %v", seen)
	}
}

// supervisorCalls counts the calls that one process makes: strace counts by
// process, and what is looked for is made by the first one.
func supervisorCalls(t *testing.T, box sbxtest.Sandbox, calls, args []string) map[string]int {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	box.Prefix = []string{"strace", "-f", "-qq", "--signal=none", "-o", trace, "-e", "trace=" + strings.Join(calls, ",")}
	box.MustRun(t, args...)
	line := regexp.MustCompile(`^(\d+) +(\w+)\(`)
	counts := map[string]int{}
	perProcess := map[string]int{}
	for text := range strings.Lines(readFile(t, trace)) {
		if m := line.FindStringSubmatch(text); m != nil {
			perProcess[m[1]+m[2]]++
			counts[m[2]] = max(counts[m[2]], perProcess[m[1]+m[2]])
		}
	}
	return counts
}
