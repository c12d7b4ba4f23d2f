package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/userns"
)

// setup does the work of pid 1, in its order, as far as it comes.
func (t *tester) setup() {
	t.ok(CloneAll, "all of them were made at once")
	if t.job.Identity.SetGroups {
		t.groups()
	}
	b, err := mounts.Begin(mounts.Scratch{Size: 16 << 20, Inodes: 4096})
	if err != nil {
		t.failMounts(err)
		return
	}
	defer b.Close()
	t.ok(Tmpfs, "a tmpfs was mounted")
	t.ok(Proc, "a procfs of the own pid namespace was mounted")
	t.check(Hostname, unix.Sethostname([]byte("trial")), "a host name of its own was set")
	t.check(Loopback, loopbackUp(), "its loopback is up")
	t.check(Limit, limitUserns(), "the limit of further user namespaces was set to one")
	proc, err := b.PrivateProc()
	if err == nil {
		err = t.nested(proc)
	}
	if err != nil {
		t.fail(Nested, err)
	}
	if t.job.Dir != "" {
		t.root(b)
	}
}

// failMounts tells which of the first mounts was refused.
func (t *tester) failMounts(err error) {
	r := failure(Tmpfs, err)
	if errors.Is(err, mounts.ErrMaskedProc) || strings.Contains(err.Error(), "procfs") {
		t.ok(Tmpfs, "a tmpfs was mounted")
		r.Try = Proc
		r.Hint = "start sbx outside of the container, or ask whoever starts the container: `sbx doctor --admin` prints what for"
	}
	if l := strings.TrimSpace(label()); l != "" && l != "unconfined" {
		r.Text += fmt.Sprintf(" (this process is %q to the security module)", l)
	}
	t.send(r)
}

func (t *tester) groups() {
	if err := unix.Setgroups([]int{}); err != nil {
		t.fail(Groups, err)
		return
	}
	left, err := unix.Getgroups()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d are still in force", len(left))
	}
	t.check(Groups, err, "all supplementary groups were dropped")
}

// limitUserns is what keeps a program from making namespaces of its own. It
// runs on the host's /proc, before the root changes.
func limitUserns() error {
	const file = "/proc/sys/user/max_user_namespaces"
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("1")); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// loopbackUp sets IFF_UP on lo (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// nested starts a process in the program's own user namespace and passes on
// what it reports.
func (t *tester) nested(proc int) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{Name}, []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, AmbientCaps: ambient(), Pdeathsig: unix.SIGKILL,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	layout := t.job.Identity.Layout
	if err := userns.WriteDirectIn(proc, cmd.Process.Pid, layout.PayloadUID, layout.PayloadGID, false); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	t.ok(Nested, "another in it for the program, with the ids %s", mapText(layout.PayloadUID))
	locks := job{Kind: jobLocks, Payload: true, Identity: t.job.Identity, LandlockABI: t.job.LandlockABI}
	_ = json.NewEncoder(stdin).Encode(locks)
	_ = stdin.Close()
	return t.relay(stdout, cmd)
}

// relay passes on the results of the process inside.
func (t *tester) relay(from io.Reader, cmd *exec.Cmd) error {
	decoder := json.NewDecoder(from)
	for {
		var r Result
		if err := decoder.Decode(&r); err != nil {
			waitErr := cmd.Wait()
			return fmt.Errorf("the process inside ended early: %w", errors.Join(waitErr, err))
		}
		if r.Try == done {
			return cmd.Wait()
		}
		t.send(r)
	}
}

func mapText(m userns.Map) string {
	return strings.ReplaceAll(strings.TrimSpace(m.String()), "\n", ", ")
}
