package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// SIGKILL of sbx or one of its helpers at any moment of a command on a kept
// sandbox leaves nothing but what gc collects, and the sandbox as good as it was.
func TestRandomKillsOnKeptSandbox(t *testing.T) {
	box := sbxtest.NewStore(t)
	box.Dir = probeDir(t)
	source := filepath.Join(t.TempDir(), "source")
	for i := range 200 {
		dir := filepath.Join(source, fmt.Sprint(i%10))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, fmt.Sprint(i)), strings.Repeat("x", 4096))
	}
	box.MustRun(t, "run", "--image", "scratch", "--keep", "--name", "kept", "-u", "0", "./probe", "write", "/kept", "kept")
	box.MustRun(t, "cp", source, "kept:/source")
	out := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	commands := [][]string{
		{"diff", "kept"},
		{"cp", "-f", "kept:/source", out},
		{"cp", source, "kept:/again"},
		{"cp", source + "/.", "kept:/source"},
		{"commit", "kept", "killed"},
		{"run", "--in", "kept", "./probe", "sleep", "0.1"},
		{"run", "--image", "scratch", "--keep", "--name", "other", "./probe", "args"},
		{"rm", "other"},
	}
	for round := range 5 * len(commands) {
		killCommand(t, box, random, commands[round%len(commands)])
		got := box.Run(t, "run", "--in", "kept", "./probe", "cat", "/kept")
		for begin := time.Now(); strings.Contains(got.Stderr, "is using it") && time.Since(begin) < 20*time.Second; {
			// pid 1 has the lock until nothing of the killed run lives on.
			time.Sleep(10 * time.Millisecond)
			got = box.Run(t, "run", "--in", "kept", "./probe", "cat", "/kept")
		}
		if got.Exit != 0 || got.Stdout != "kept" {
			t.Fatalf("after %v: %v", commands[round%len(commands)], got)
		}
	}
	wholeFiles(t, out)
	box.MustRun(t, "gc")
	box.Run(t, "rm", "other")
	box.MustRun(t, "rm", "kept")
	for _, dir := range []string{"sandboxes", "trash"} {
		if left := visible(t, filepath.Join(box.Store(), dir)); len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	images, err := filepath.Glob(filepath.Join(box.Store(), "images/*/.staging-*"))
	if err != nil || len(images) > 0 {
		t.Errorf("half-made images: %v %v", images, err)
	}
}

// killCommand kills one of the processes of a command at a random moment.
func killCommand(t *testing.T, box sbxtest.Sandbox, random *rand.Rand, args []string) {
	t.Helper()
	cmd := box.Command(t, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
	family := descendants(cmd.Process.Pid)
	victim := family[0]
	if random.IntN(3) == 0 {
		victim = family[random.IntN(len(family))]
	}
	_ = syscall.Kill(victim.pid, syscall.SIGKILL)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%v hangs after the death of %v", args, victim)
	}
	deadline := time.Now().Add(10 * time.Second)
	for slices.ContainsFunc(family, func(p process) bool { return p.alive() }) {
		if time.Now().After(deadline) {
			t.Fatalf("%v: after the death of %v something lives on", args, victim)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// wholeFiles holds that no file of a copy that was cut off is half a file.
func wholeFiles(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "source/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() != 4096 {
			t.Errorf("%s: %v %v", file, info.Size(), err)
		}
	}
}

// visible lists a directory without names that begin with a dot.
func visible(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// One run at a time: of several that begin at once in a kept sandbox each has it
// for itself or is told that another has it.
func TestKeptSandboxIsOnesAtATime(t *testing.T) {
	box := sbxtest.NewStore(t)
	box.Dir = probeDir(t)
	box.MustRun(t, "run", "--image", "scratch", "--keep", "--name", "one", "./probe", "args")
	results := make([]sbxtest.Result, 6)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			args := [][]string{
				{"run", "--in", "one", "./probe", "sleep", "1"},
				{"cp", "one:/box/probe", filepath.Join(box.Home, fmt.Sprint("copy", i))},
				{"diff", "one"},
			}[i%3]
			results[i] = box.Run(t, args...)
		})
	}
	wg.Wait()
	good := 0
	for _, r := range results {
		switch {
		case r.Exit == 0:
			good++
		case r.Exit != 125 || !strings.Contains(r.Stderr, "sbx: use sandbox one: a run or another command is using it"):
			t.Errorf("%v", r)
		}
	}
	if good == 0 {
		t.Errorf("none of them had it: %v", results)
	}
	box.MustRun(t, "rm", "one")
}
