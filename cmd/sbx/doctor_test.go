package main_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// hostileUID is an account that no host has: no name, no home, no line in
// /etc/subuid.
const hostileUID = "2012345"

// hostile is a host made worse, and what the two commands say of it. What is
// looked for is in the text with all white space as one blank.
type hostile struct {
	name string
	// spoil is run by a shell of root's in a mount namespace of its own.
	spoil string
	// doctor and admin are patterns.
	doctor, admin string
	// selftest is a pattern, and the exit status.
	selftest string
	status   int
}

// Hosts that root can make of this one without touching it, as an ordinary user
// meets them: each has its cause named, and a next step.
func TestDoctorOnHostileHosts(t *testing.T) {
	sbxtest.Need(t, sbxtest.Root(), sbxtest.Program("unshare"), sbxtest.Program("setpriv"))
	tests := []hostile{
		{
			"no subordinate ids", "true",
			`host: WEAK: .* nomap weaker .*no subordinate uids for ` + hostileUID + ` in /etc/subuid .*single the program is you outside.*\(the default here\).*subordinate ids = none bad: `,
			`usermod --add-subuids \d+-\d+ --add-subgids \d+-\d+ ` + hostileUID,
			`ID PROMISE single .*nomap was not attacked: .*no hole: `, 0,
		},
		{
			"no newuidmap", "mount --bind $EMPTY $(command -v newuidmap)",
			`host: WEAK: .* nomap weaker .*newuidmap`, `newuidmap and newgidmap are installed and have no rights.*chmod u\+s`,
			`no hole: `, 0,
		},
		{
			"/proc is masked, as in a container", "mount -t tmpfs none /proc/fs",
			`host: NONE: .* pid missing .*parts of the outer /proc are covered.*-> start sbx outside of the container`,
			`podman run --security-opt unmask=ALL`, `no sandbox could be attacked.*sbx doctor`, 125,
		},
		{
			"home that is full", "mount -t tmpfs -o size=4k,mode=755,uid=" + hostileUID + " none $HOME; head -c 8192 /dev/zero >$HOME/full || true",
			`problem: nothing can be written in \S+ no space left on device -> set XDG_DATA_HOME .*next: mend the store`, "", "", 125,
		},
		{
			"home that is noexec", "mount -t tmpfs -o noexec,mode=755,uid=" + hostileUID + " none $HOME",
			`store .*note: its file system is mounted noexec.* -> set XDG_DATA_HOME`, "", `no hole: `, 0,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			home := hostileHome(t)
			text, status := onHost(t, test.spoil, home, "doctor")
			if status != 1 {
				t.Errorf("doctor ended with status %d", status)
			}
			matches(t, text, test.doctor)
			if test.admin != "" {
				text, _ = onHost(t, test.spoil, home, "doctor", "--admin")
				matches(t, text, test.admin)
			}
			text, status = onHost(t, test.spoil, home, "selftest")
			if status != test.status {
				t.Errorf("selftest ended with status %d, want %d", status, test.status)
			}
			matches(t, text, test.selftest)
		})
	}
}

// Where the limit of user namespaces is 0, sbx says so. The limit is one of a
// namespace of this test's own.
func TestDoctorWithoutUserNamespaces(t *testing.T) {
	sbxtest.Need(t, sbxtest.OrdinaryUser(), sbxtest.UserNamespaces())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, form := range []struct{ most, flag, want string }{
		{"0", "--json=false", `host: NONE: .*problem: a run does not start: .*user.max_user_namespaces is 0; ask the administrator.* userns missing .*pid missing .*it needs a user namespace, and none can be made`},
		{"0", "--admin", `user namespaces are switched off.*/etc/sysctl.d/90-sbx.conf`},
		{"1", "--json=false", `problem: a run does not start: .*user.max_user_namespaces is 1, and a sandbox takes two, one in the other; ask the administrator`},
		{"1", "--admin", `a sandbox takes two user namespaces, one in the other \(user.max_user_namespaces is 1\).*/etc/sysctl.d/90-sbx.conf`},
	} {
		spoil := "echo " + form.most + " >/proc/sys/user/max_user_namespaces && exec \"$@\""
		cmd := exec.CommandContext(ctx, "sh", "-c", spoil, "sh", sbxtest.Binary(t), "doctor", form.flag)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN},
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v\n%s", err, out)
		}
		matches(t, string(out), form.want)
	}
}

// Ctrl-C in the middle leaves nothing.
func TestDoctorInterrupted(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	for _, after := range []time.Duration{5 * time.Millisecond, 40 * time.Millisecond, 90 * time.Millisecond} {
		box := sbxtest.NewStore(t)
		cmd := box.Command(t, "doctor")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		_ = cmd.Process.Signal(unix.SIGINT)
		_ = cmd.Wait()
		if left, _ := os.ReadDir(box.Home); len(left) > 0 {
			t.Errorf("after %s: left behind: %v", after, left)
		}
	}
}

// hostileHome is a home for hostileUID.
func hostileHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(sbxtest.TempDir(t), "home")
	if err := errors.Join(os.Chmod(filepath.Dir(home), 0o755), os.Mkdir(home, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", hostileUID+":"+hostileUID, home).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return home
}

// onHost runs sbx as hostileUID on a host that a shell has spoiled.
func onHost(t *testing.T, spoil, home string, args ...string) (text string, status int) {
	t.Helper()
	empty := filepath.Join(filepath.Dir(home), "empty")
	if err := os.WriteFile(empty, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "set -e; mount --make-rprivate /; " + spoil + `
exec setpriv --reuid=` + hostileUID + " --regid=" + hostileUID + ` --clear-groups "$@"`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// In reach of a stranger, unlike the cache of the user who built it.
	bin := filepath.Join(filepath.Dir(home), "sbx")
	if _, err := os.Lstat(bin); err != nil {
		if out, err := exec.Command("cp", sbxtest.Binary(t), bin).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	argv := append([]string{"--mount", "sh", "-c", script, "sh", bin}, args...)
	cmd := exec.CommandContext(ctx, "unshare", argv...)
	cmd.Env = []string{"HOME=" + home, "EMPTY=" + empty, "PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// matches looks for a pattern in the text with all white space as one blank.
// No report ever shows a Go trace.
func matches(t *testing.T, text, pattern string) {
	t.Helper()
	flat := strings.Join(strings.Fields(text), " ")
	if !regexp.MustCompile(pattern).MatchString(flat) {
		t.Errorf("does not match %q:\n%s", pattern, text)
	}
	if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic:") {
		t.Errorf("a trace:\n%s", text)
	}
}
