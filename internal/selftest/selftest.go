// Package selftest attacks a sandbox from inside, on this very host as this very
// user, and says which of the promises of sbx hold.
//
// For each identity mode it runs sbx as a user would, with sbx's own file as the
// program: inside, that file is the probe (internal/probe), which tries what a
// hostile program would try first and reports. Outside, things are laid out
// that it must not reach: a file in the home, a listening port, an abstract
// socket, a key, a variable, open descriptors.
//
// It is no proof. What holds here was held against these attempts only.
//
// Do not use it in a test of sbx: the tests know more about what to expect of
// each flag. Do not call [ProbeMain] outside of a sandbox: what it tries there
// succeeds.
package selftest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/probe"
)

// ProbeWord is the one argument that makes sbx the probe.
const ProbeWord = "sbx-probe"

// ProbeMain reads the facts from standard input, makes every check and writes
// the findings to standard output, both as JSON. It returns the exit status.
func ProbeMain() int {
	findings, err := answer(os.Stdin, os.Readlink)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(findings)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; this is started by `sbx selftest`\n", ProbeWord, err)
		return exitFailed
	}
	return 0
}

// answer probes only where the mount namespace is another one than the host's:
// outside of a sandbox, what a probe tries would succeed, with root's rights
// even where it does harm.
func answer(in io.Reader, readlink func(string) (string, error)) ([]probe.Finding, error) {
	var facts probe.Facts
	if err := json.NewDecoder(in).Decode(&facts); err != nil {
		return nil, fmt.Errorf("read the facts from standard input: %w", err)
	}
	host := facts.Namespaces["mnt"]
	if host == "" {
		return nil, errors.New("the facts do not name the host's mount namespace")
	}
	own, err := readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("look at the own mount namespace: %w", err)
	}
	if own == host {
		return []probe.Finding{{
			ID: "A5", Name: "namespaces", Promise: "all seven namespaces are the sandbox's own", State: probe.Broken,
			Detail: "the mount namespace is the host's: this is no sandbox, and nothing else was tried",
		}}, nil
	}
	return probe.Run(facts), nil
}

// exitFailed is the probe's own failure: no finding, and not sbx's.
const exitFailed = 3

// Mode is one way of being somebody inside, and how its run went.
type Mode struct {
	Name string `json:"name"`
	// Flags are those of `sbx run`.
	Flags []string `json:"flags"`
	// Ran is false when no program could be run in this mode; Why says why.
	Ran bool   `json:"ran"`
	Why string `json:"why,omitempty"`
	// Broken says that the run began and brought no findings.
	Broken bool `json:"broken,omitempty"`

	facts    func(*probe.Facts)
	findings []probe.Finding
}

// modes are those that a user has. Of the real root, no number can be kept.
func modes(root bool) []*Mode {
	list := []*Mode{
		{Name: "nomap", Flags: []string{"--userns=nomap"}, facts: func(f *probe.Facts) { f.Userns = "nomap" }},
		{Name: "keep-id", Flags: []string{"--userns=keep-id"}, facts: func(f *probe.Facts) { f.Userns = "keep-id" }},
		{Name: "single", Flags: []string{"--userns=single"}, facts: func(f *probe.Facts) { f.Userns = "single" }},
		{Name: "fake root", Flags: []string{"--user=0"}, facts: func(f *probe.Facts) { f.FakeRoot = true }},
	}
	if root {
		list = slices.DeleteFunc(list, func(m *Mode) bool { return m.Name == "keep-id" })
	}
	return list
}

// Run attacks a sandbox in every mode. The error is of the preparations; what
// went wrong in a mode is in the report.
func Run(ctx context.Context) (Report, error) {
	type outcome struct {
		report Report
		err    error
	}
	done := make(chan outcome)
	go func() {
		// The keyring that is laid out is the thread's, and so is the
		// parent-death signal. The thread is not given back: it ends here.
		runtime.LockOSThread()
		report, err := run(ctx)
		done <- outcome{report, err}
	}()
	o := <-done
	return o.report, o.err
}

func run(ctx context.Context) (Report, error) {
	begin := time.Now()
	bait, err := layOut()
	if err != nil {
		return Report{}, err
	}
	defer bait.close()
	r := Report{Modes: modes(os.Getuid() == 0)}
	for _, m := range r.Modes {
		// A fake root has the mode that a run without --userns gets: where
		// there are no subordinate ids, the single one.
		facts := bait.facts
		m.facts(&facts)
		if facts.Userns == "" {
			facts.Userns = "nomap"
			if !ran(r.Modes, "nomap") {
				facts.Userns = "single"
			}
		}
		m.attack(ctx, facts, bait)
		if ctx.Err() != nil {
			return r, fmt.Errorf("attack a sandbox: %w", ctx.Err())
		}
	}
	r.collect()
	r.Seconds = time.Since(begin).Seconds()
	return r, nil
}

func ran(modes []*Mode, name string) bool {
	return slices.ContainsFunc(modes, func(m *Mode) bool { return m.Name == name && m.Ran })
}

// timeout bounds one mode; the first may have to make the base image.
const timeout = 3 * time.Minute

// exitSbx is sbx's own status for "the program was not started".
const exitSbx = 125

// attack runs the probe in a sandbox of the mode.
func (m *Mode) attack(ctx context.Context, facts probe.Facts, b *bait) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	input, err := json.Marshal(facts)
	if err != nil {
		m.Broken, m.Why = true, err.Error()
		return
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = slices.Concat([]string{"sbx", "run", "--quiet"}, m.Flags, []string{"/proc/self/exe", ProbeWord})
	cmd.Env = append(os.Environ(), b.variable)
	cmd.ExtraFiles = b.files
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	err = cmd.Run()
	words := strings.TrimPrefix(lastLine(stderr.String()), "sbx: ")
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitSbx:
		m.Why = words
		return
	case err != nil:
		m.Broken, m.Why = true, strings.TrimSpace(fmt.Sprintf("%v %s", err, words))
		return
	}
	if err := json.Unmarshal(stdout.Bytes(), &m.findings); err != nil || len(m.findings) == 0 {
		m.Broken, m.Why = true, fmt.Sprintf("the probe's report cannot be read: %v %s", err, words)
		return
	}
	m.Ran = true
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
