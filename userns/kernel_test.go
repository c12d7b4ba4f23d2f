package userns

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// me returns the caller's ids and subordinate ranges, and skips where root runs the
// test: the helpers have no exception for root.
func me(t *testing.T) (Identity, Subordinate, Helpers) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Skip("cannot: newuidmap serves the users of /etc/subuid, and this is root")
	}
	helpers, err := FindHelpers()
	if err != nil {
		skip(t, err.Error())
	}
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	sub, err := LookupSubordinate(name, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	if len(sub.UID) == 0 || len(sub.GID) == 0 {
		skip(t, "no subordinate range for "+name)
	}
	return Identity{uint32(os.Getuid()), uint32(os.Getgid())}, sub, helpers
}

func TestHelpersWriteBothNamespaces(t *testing.T) {
	host, sub, helpers := me(t)
	for _, mode := range []Mode{NoMap, KeepID} {
		t.Run(string(mode), func(t *testing.T) {
			l, err := NewLayout(mode, host, Identity{}, sub)
			if err != nil {
				t.Fatal(err)
			}
			got := runInit(t, l, func(pid int) error {
				return helpers.Write(pid, l.SetupUID, l.SetupGID)
			})
			if got != (report{}) {
				t.Errorf("inside: %+v", got)
			}
		})
	}
}

func TestSingleBothNamespaces(t *testing.T) {
	host := Identity{uint32(os.Getuid()), uint32(os.Getgid())}
	if host.UID == 0 {
		t.Skip("cannot: an ordinary user's mode, and this is root")
	}
	l, err := NewLayout(Single, host, Identity{1000, 1000}, Subordinate{})
	if err != nil {
		t.Fatal(err)
	}
	got := runInit(t, l, func(pid int) error {
		return WriteDirect(pid, l.SetupUID, l.SetupGID, l.DenySetgroups())
	})
	if got != (report{Setgroups: syscall.EPERM.Error()}) {
		t.Errorf("inside: %+v", got)
	}
}

// Without setgroups denied the kernel refuses a group map to a user, and says EPERM.
func TestWriteDirectKeepsErrno(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("cannot: root may write any map")
	}
	if policy, err := os.ReadFile("/proc/self/setgroups"); err != nil || string(policy) != "allow\n" {
		skip(t, "setgroups is denied here already, so the kernel does not ask for it")
	}
	cmd, _ := startWaiting(t)
	own := Map{{0, uint32(os.Getgid()), 1}}
	err := WriteDirect(cmd.Process.Pid, Map{{0, uint32(os.Getuid()), 1}}, own, false)
	if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "gid_map") {
		t.Errorf("got %v", err)
	}
}

// Root can write what no ordinary user here is granted: several ranges, and keep-id
// with a cut in one of them, which is the longest map there is.
func TestRootWritesDirectly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("cannot: needs root")
	}
	three := same(Range{200000, 10}, Range{300000, 30}, Range{4200000000, 20})
	keepID, err := NewLayout(KeepID, Identity{15, 15}, Identity{15, 15}, three)
	if err != nil {
		t.Fatal(err)
	}
	layouts := map[string]Layout{"keep-id of five extents": keepID}
	own, ownGroups, err := OwnMaps()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := RootSubordinate(Subordinate{}, own, ownGroups)
	if err != nil {
		skip(t, err.Error())
	}
	for _, mode := range []Mode{NoMap, Single} {
		if layouts["root, "+string(mode)], err = NewRootLayout(mode, Identity{1000, 1000}, sub); err != nil {
			t.Fatal(err)
		}
	}
	for name, l := range layouts {
		t.Run(name, func(t *testing.T) {
			if !three.Within(own, ownGroups) && len(l.SetupUID) > 2 {
				skip(t, "ids up to 4200000020")
			}
			got := runInit(t, l, func(pid int) error {
				return WriteDirect(pid, l.SetupUID, l.SetupGID, false)
			})
			if got != (report{}) {
				t.Errorf("inside: %+v", got)
			}
		})
	}
}

// A program called newuidmap that comes first in PATH is never started.
func TestFakeHelperInPathNotRun(t *testing.T) {
	host, sub, _ := me(t)
	dir := t.TempDir()
	trace := filepath.Join(dir, "ran")
	for _, name := range []string{"newuidmap", "newgidmap", "getsubids"} {
		script := "#!/bin/sh\n: > " + trace + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Chdir(dir)
	helpers, err := FindHelpers()
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLayout(NoMap, host, Identity{}, sub)
	if err != nil {
		t.Fatal(err)
	}
	cmd, _ := startWaiting(t)
	if err := helpers.Write(cmd.Process.Pid, l.SetupUID, l.SetupGID); err != nil {
		t.Error(err)
	}
	if _, err := LookupSubordinate("no-such-user-here", 4200000001); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(trace); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the fake was run: %v", err)
	}
}

// What newuidmap says about ids that are not the user's comes through, quoted.
func TestHelperRefusal(t *testing.T) {
	host, _, helpers := me(t)
	cmd, _ := startWaiting(t)
	stolen := Map{{0, host.UID, 1}, {1, 4100000000, 10}}
	err := helpers.Write(cmd.Process.Pid, stolen, Map{{0, host.GID, 1}, {1, 4100000000, 10}})
	var refused *HelperError
	if !errors.As(err, &refused) || !filepath.IsAbs(refused.Path) || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("got %v", err)
	}
}

// With nothing but his own group newgidmap denies setgroups; Write does not accept
// that, since the groups could not be dropped.
func TestHelpersWriteWantsSetgroups(t *testing.T) {
	host, sub, helpers := me(t)
	l, err := NewLayout(NoMap, host, Identity{}, sub)
	if err != nil {
		t.Fatal(err)
	}
	cmd, _ := startWaiting(t)
	err = helpers.Write(cmd.Process.Pid, l.SetupUID, Map{{0, host.GID, 1}})
	if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "setgroups") {
		t.Errorf("got %v", err)
	}
}

// A child that dies before, or while, it is mapped is an error, and since it is not
// reaped no other process can have its pid meanwhile.
func TestHelpersWriteToDyingChild(t *testing.T) {
	host, sub, helpers := me(t)
	l, err := NewLayout(NoMap, host, Identity{}, sub)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		cmd, _ := startWaiting(t)
		kill := func() error { return syscall.Kill(cmd.Process.Pid, syscall.SIGKILL) }
		killed := make(chan error, 1)
		if round == 0 {
			killed <- kill()
			// The signal is sent; that the child has died is another thing.
			if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
		} else {
			go func() { killed <- kill() }()
		}
		err := helpers.Write(cmd.Process.Pid, l.SetupUID, l.SetupGID)
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		if err != nil && !errors.Is(err, ErrNotChild) {
			t.Errorf("round %d: %v", round, err)
		}
		if err == nil && round == 0 {
			t.Error("a dead child was mapped")
		}
	}
}

func TestWriteToWrongProcess(t *testing.T) {
	gone, stdin, err := start(roleWait, nil)
	if err != nil {
		skip(t, "clone a user namespace: "+err.Error())
	}
	stdin.Close()
	if err := gone.Wait(); err != nil {
		t.Fatal(err)
	}
	m := Map{{0, uint32(os.Getuid()), 1}}
	for name, pid := range map[string]int{
		"a reaped child": gone.Process.Pid, "this process": os.Getpid(), "its parent": os.Getppid(),
		"zero": 0, "a group": -os.Getpid(), "any child": -1,
	} {
		if err := WriteDirect(pid, m, m, true); !errors.Is(err, ErrNotChild) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadBack(t *testing.T) {
	cmd, _ := startWaiting(t)
	uid, gid := Map{{0, uint32(os.Getuid()), 1}}, Map{{0, uint32(os.Getgid()), 1}}
	pid := cmd.Process.Pid
	if err := ReadBack(pid, uid, gid); !errors.Is(err, ErrMapDiffers) {
		t.Errorf("before: %v", err)
	}
	if err := WriteDirect(pid, uid, gid, true); err != nil {
		t.Fatal(err)
	}
	if err := ReadBack(pid, uid, gid); err != nil {
		t.Errorf("after: %v", err)
	}
	if err := ReadBack(pid, uid, Map{{1, uint32(os.Getgid()), 1}}); !errors.Is(err, ErrMapDiffers) {
		t.Errorf("another group: %v", err)
	}
	if err := WriteDirect(pid, uid, gid, false); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a second time: %v", err)
	}
}
