package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/userns"
)

// timeout bounds one throw-away process. A helper that asks a directory service
// takes seconds; a mount on a dead server never returns.
const timeout = 20 * time.Second

// maxStderr bounds what is kept of a child's last words.
const maxStderr = 4 << 10

// start is one throw-away process: a re-exec of this binary.
type start struct {
	job   job
	flags uintptr
	// identity is whose maps are written, nil for a namespace without any.
	identity *plan.Identity
	// try is what the clone itself counts as.
	try Try
}

// run starts the process, has its maps written, tells it what to do and
// collects what it reports.
func run(ctx context.Context, s start) Results {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// The parent-death signal follows the thread that clones.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	c, err := s.clone(ctx)
	if err != nil {
		r := failure(s.try, launch.ExplainClone(err))
		var ce *launch.CloneError
		if errors.As(launch.ExplainClone(err), &ce) {
			r.Text, r.Hint = "clone: "+ce.Errno.Error(), ce.Hint
		}
		return Results{r}
	}
	var results Results
	if s.identity != nil {
		results = append(results, s.writeMaps(c.cmd.Process.Pid))
		if r := results[0]; !r.OK {
			c.end()
			return Results{{Try: s.try, OK: true, Text: "all of them were made at once"}, r}
		}
	}
	return append(results, c.talk(ctx, s)...)
}

// child is a process that waits for its job.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	stderr bytes.Buffer
}

func (s start) clone(ctx context.Context) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, "/proc/self/exe")}
	c.cmd.Args, c.cmd.Env, c.cmd.Dir = []string{Name}, []string{}, "/"
	if s.job.Kind == jobCgroup {
		c.cmd.Env = nil // the service manager is found by variables
	}
	c.cmd.Stderr = &limited{buf: &c.stderr}
	c.cmd.WaitDelay = time.Second
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: s.flags, Pdeathsig: unix.SIGKILL}
	if s.flags != 0 && s.identity != nil {
		// Maps are written after the execve, which would otherwise leave a
		// process of an unmapped id without rights.
		c.cmd.SysProcAttr.AmbientCaps = ambient()
	}
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return c, c.cmd.Start()
}

// ambient are the capabilities that a set-up works with.
func ambient() []uintptr {
	return []uintptr{
		unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP,
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID,
		unix.CAP_KILL, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_CHROOT,
	}
}

func (s start) writeMaps(pid int) Result {
	id := *s.identity
	by := "ids were written by sbx itself"
	var err error
	if id.Direct {
		err = userns.WriteDirect(pid, id.Layout.SetupUID, id.Layout.SetupGID, id.Layout.DenySetgroups())
	} else {
		by = "ids were written by newuidmap and newgidmap"
		err = id.Helpers.Write(pid, id.Layout.SetupUID, id.Layout.SetupGID)
	}
	if err != nil {
		r := failure(Maps, err)
		r.Hint = mapHint(err, id)
		return r
	}
	text := strings.ReplaceAll(strings.TrimSpace(id.Layout.SetupUID.String()), "\n", ", ")
	return Result{Try: Maps, OK: true, Text: fmt.Sprintf("%s and read back: %s", by, text)}
}

// mapHint says why a map was refused. The helpers' own words are the same for
// a range that is not granted and for a namespace that the host restricts.
func mapHint(err error, id plan.Identity) string {
	if hint := launch.RestrictedHint(); hint != "" {
		return hint
	}
	var helper *userns.HelperError
	if errors.As(err, &helper) && strings.Contains(helper.Stderr, "not allowed") {
		return "the host's helper does not grant the range: compare /etc/subuid and /etc/subgid with the map, and see whether a directory service (subid: in /etc/nsswitch.conf) replaces them"
	}
	if id.Direct {
		return "the kernel refuses a map of the own id: sbx runs in a container or sandbox that forbids it"
	}
	return "start sbx outside of a container, or have the helpers of the host's package reinstalled: `sbx doctor --admin` names it"
}

// talk hands over the job and reads one result a line until the child ends.
func (c *child) talk(ctx context.Context, s start) Results {
	var results Results
	_ = json.NewEncoder(c.stdin).Encode(s.job) // a dead child is noticed below
	_ = c.stdin.Close()
	decoder := json.NewDecoder(c.stdout)
	last := false
	for {
		var r Result
		if decoder.Decode(&r) != nil {
			break
		}
		if r.Try == done {
			last = true
			continue
		}
		results = append(results, hinted(r))
	}
	err := c.cmd.Wait()
	switch {
	case last:
		return results
	case ctx.Err() != nil:
		return append(results, Result{
			Try: s.try, Text: fmt.Sprintf("the process for the trial did not end within %s", timeout),
			Hint: "a mount or a directory service of this host may hang; try again, and see `dmesg` or the system's log",
		})
	default:
		return append(results, Result{Try: s.try, Text: strings.TrimSpace(fmt.Sprintf("the process for the trial ended early (%v) %s", err, quote.Line(c.stderr.String())))})
	}
}

// hinted adds the cause where a user namespace was made and gives no rights.
func hinted(r Result) Result {
	if !r.OK && r.Hint == "" && (r.Errno == unix.EPERM || r.Errno == unix.EACCES) {
		r.Hint = launch.RestrictedHint()
	}
	return r
}

func (c *child) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// failure makes a result of an error.
func failure(t Try, err error) Result {
	r := Result{Try: t, Text: err.Error()}
	_ = errors.As(err, &r.Errno)
	return r
}

// limited keeps the first maxStderr bytes.
type limited struct{ buf *bytes.Buffer }

// Write never fails, so that a chatty child is not blocked.
func (l *limited) Write(p []byte) (int, error) {
	l.buf.Write(p[:min(len(p), maxStderr-l.buf.Len())])
	return len(p), nil
}
