package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// The files testdata/*.txtar are examples of use that are run: "sbx" is the
// built program, "./probe" the probe program of internal/sbxtest. Beside the
// words of testscript they know
//
//	exits N COMMAND…   the command ends with exactly that status
//	waitfor FILE       waits until the file exists, five seconds at most
//	gone PATTERN       no process has the pattern in its command line, likewise
//	mode FILE OCTAL    the file's permission bits
//	archive OUT TREE CONFIG [TAG…]  a docker-archive of a directory (imagearchive_test.go)
//
// and the conditions [root], [range] (subordinate ids can be had), [overlay] (for a user since Linux 5.11).
func TestScripts(t *testing.T) {
	bin := scriptPath(t)
	overlay := sync.OnceValue(func() bool {
		run := exec.Command(filepath.Join(bin, "sbx"), "run", "-q", "--image", "scratch", "--copy", "overlay", filepath.Join(bin, "probe"), "args")
		return run.Run() == nil
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		ContinueOnError:     true,
		Setup:               func(env *testscript.Env) error { return scriptSetup(t, bin, env) },
		Condition:           func(name string) (bool, error) { return scriptCondition(name, overlay) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "archive": cmdArchive, "waitfor": cmdWaitFor, "gone": cmdGone, "mode": cmdMode,
			"mapped": cmdMapped,
		},
	})
}

// scriptPath makes a directory with the programs that the scripts call.
func scriptPath(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for name, target := range map[string]string{"sbx": sbxtest.Binary(t), "probe": sbxtest.Probe(t)} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func scriptSetup(t *testing.T, bin string, env *testscript.Env) error {
	// Scripts that use a store of their own keep it in the work directory.
	env.Defer(func() { sbxtest.RemoveAll(t, env.WorkDir) })
	env.Setenv("HOME", sbxtest.New(t).Home)
	env.Setenv("PATH", bin+":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
	env.Setenv("USER", os.Getenv("USER"))
	env.Setenv("TERM", "xterm-256color")
	env.Setenv("LANG", "C.UTF-8")
	env.Setenv("UID", strconv.Itoa(os.Getuid()))
	env.Setenv("GID", strconv.Itoa(os.Getgid()))
	return os.Symlink(filepath.Join(bin, "probe"), filepath.Join(env.WorkDir, "probe"))
}

func scriptCondition(name string, overlay func() bool) (bool, error) {
	// What a host may lack, and its base image with it.
	if path, found := strings.CutPrefix(name, "file:"); found {
		_, err := os.Stat(path)
		return err == nil, nil
	}
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "overlay":
		return overlay(), nil
	case "range":
		return sbxtest.SubordinateRange().Missing() == "", nil
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			ts.Fatalf("died by signal %v, want exit status %d", status.Signal(), want)
		}
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// cmdMapped runs a program that may use the caller's subordinate ids.
func cmdMapped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: mapped COMMAND [ARG…]")
	}
	if out, err := sbxtest.MappedRoot(ts.MkAbs("."), args...); err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
}

// until waits for a condition that another process brings about.
func until(ts *testscript.TestScript, what string, holds func() bool) {
	deadline := time.Now().Add(sbxtest.Patience(10 * time.Second))
	for !holds() {
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor FILE")
	}
	until(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone PATTERN")
	}
	until(ts, "the end of "+args[0], func() bool { return len(processesWith(args[0])) == 0 })
}

func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE OCTAL")
	}
	info, err := os.Lstat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// processesWith lists the processes that have text in their command line.
func processesWith(text string) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || file == fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			continue
		}
		line := strings.ReplaceAll(string(data), "\x00", " ")
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
