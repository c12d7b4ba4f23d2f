package trial

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// Name is argv[0] of a throw-away process; main dispatches on it before
// anything else.
const Name = "sbx-trial"

// The kinds of jobs.
const (
	jobNamespace = "namespace"
	jobSetup     = "setup"
	jobLocks     = "locks"
	jobClean     = "clean"
	jobCgroup    = "cgroup"
)

// job is what a throw-away process is told to do, as JSON on its standard
// input. It is written when the id maps are, so that reading it is the wait for
// them.
type job struct {
	Kind        string        `json:"kind"`
	Namespace   string        `json:"namespace,omitempty"`
	Identity    plan.Identity `json:"identity"`
	LandlockABI int           `json:"landlockABI,omitempty"`
	Dir         string        `json:"dir,omitempty"`
	// Payload makes the locks those of a program in its own user namespace.
	Payload bool `json:"payload,omitempty"`
}

// done is the last line of a process that was not cut off.
const done Try = "done"

// tester is the state of a throw-away process: what it found goes to standard
// output at once, so that it is known even if the process does not survive the
// next step.
type tester struct {
	job job
	out *json.Encoder
}

// Main runs a throw-away process and returns its exit status.
func Main() int {
	// Namespaces, credentials, keyrings and filters concern one thread.
	runtime.LockOSThread()
	t := tester{out: json.NewEncoder(os.Stdout)}
	data, err := io.ReadAll(os.Stdin)
	if err != nil || json.Unmarshal(data, &t.job) != nil {
		return 1 // the parent gave up: it closes the pipe without a job
	}
	switch t.job.Kind {
	case jobNamespace:
		t.namespace()
	case jobSetup:
		t.setup()
	case jobLocks:
		t.locks()
	case jobClean:
		t.clean()
	case jobCgroup:
		t.cgroup()
	default:
		return 1
	}
	if t.out.Encode(Result{Try: done, OK: true}) != nil {
		return 1
	}
	return 0
}

func (t *tester) ok(try Try, format string, args ...any) {
	t.send(Result{Try: try, OK: true, Text: fmt.Sprintf(format, args...)})
}

func (t *tester) fail(try Try, err error) { t.send(failure(try, err)) }

func (t *tester) send(r Result) {
	if t.out.Encode(r) != nil {
		os.Exit(1) // nobody listens any more
	}
}

// check reports a step that either works or not.
func (t *tester) check(try Try, err error, format string, args ...any) bool {
	if err != nil {
		t.fail(try, err)
		return false
	}
	t.ok(try, format, args...)
	return true
}

// namespace says in which namespace the process is.
func (t *tester) namespace() {
	name := t.job.Namespace
	link, err := os.Readlink("/proc/self/ns/" + name)
	for _, ns := range namespaces() {
		if ns.name == name {
			t.check(ns.try, err, "one of its own was made (%s)", link)
		}
	}
}

// clean empties the directory of a trial under the id map of its files.
func (t *tester) clean() {
	dir, err := os.Open(t.job.Dir)
	if err != nil {
		t.fail(Root, err)
		return
	}
	defer dir.Close()
	t.check(Root, emptyDir(dir), "emptied")
}

func emptyDir(dir *os.File) error {
	for _, name := range []string{"upper", "work", "tree"} {
		if err := rootfs.RemoveTree(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// label is what the security module calls this process, to tell a restricted
// user namespace by; empty without one.
func label() string {
	fd, err := unix.Open("/proc/thread-self/attr/current", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	n, err := unix.Read(fd, buf)
	if err != nil || n <= 0 {
		return ""
	}
	return string(buf[:n])
}
