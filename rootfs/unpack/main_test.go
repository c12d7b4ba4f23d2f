package unpack

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/userns"
)

// inNamespace is set in the environment of a test process that is root of a
// user namespace: "range" with subordinate ids, "single" with one id.
const inNamespace = "SBX_TEST_UNPACK"

// TestMain runs the tests as a worker of sbx would run: for the real root where
// they are, for an ordinary user in a user namespace with his range. There the
// whole suite runs once more with a single id, as on a host without a range.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(inNamespace) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the maps are written
	}
	if os.Geteuid() == 0 || asked("test.fuzz") || asked("test.fuzzworker") || asked("test.list") {
		os.Exit(m.Run())
	}
	status := 0
	for _, kind := range []string{"range", "single"} {
		if err := runInNamespace(kind); err != nil {
			fmt.Fprintf(os.Stderr, "tests in a user namespace (%s): %v\n", kind, err)
			status = 1
		}
	}
	os.Exit(status)
}

// asked reports whether a flag of go test is set. The fuzzer talks to this process
// through pipes, and a list is to be printed once: neither runs in a namespace.
func asked(name string) bool {
	f := flag.Lookup(name)
	return f != nil && f.Value.String() != "" && f.Value.String() != "false"
}

// single reports whether the tests run with one id only.
func single() bool { return os.Getenv(inNamespace) == "single" }

// runInNamespace runs this test binary again as root of a user namespace.
func runInNamespace(kind string) error {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"="+kind)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		AmbientCaps: []uintptr{
			unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SYS_ADMIN,
		},
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	uids, gids := userns.Map{{Outside: uid, Count: 1}}, userns.Map{{Outside: gid, Count: 1}}
	helpers := userns.Helpers{}
	if kind == "single" {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: int(uid), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: int(gid), Size: 1}}
	} else {
		sub, err := userns.LookupSubordinate(os.Getenv("USER"), uid)
		if err != nil {
			return err
		}
		if helpers, err = userns.FindHelpers(); err != nil || len(sub.UID) == 0 || len(sub.GID) == 0 {
			fmt.Fprintf(os.Stderr, "no subordinate ids here, so no test with them: %v\n", err)
			return nil
		}
		uids = append(uids, userns.Extent{Inside: 1, Outside: sub.UID[0].Start, Count: sub.UID[0].Count})
		gids = append(gids, userns.Extent{Inside: 1, Outside: sub.GID[0].Start, Count: sub.GID[0].Count})
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if kind != "single" {
		err = helpers.Write(cmd.Process.Pid, uids, gids)
	}
	in.Close()
	return errors.Join(err, cmd.Wait())
}
