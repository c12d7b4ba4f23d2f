package main

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/sbxtest"
)

// Kernels differ, and calls fail. What cannot be given up is said or is an error, and never silently kept.
func TestPullOnAnotherKernel(t *testing.T) {
	sbxtest.Need(t, sbxtest.Program("strace"))
	f := newFake(t, httptest.NewServer)
	digest, content := pushed(t, f)
	well(f, digest, content)
	// By number: the strace of Debian 11 does not know their names.
	create, restrict := strconv.Itoa(unix.SYS_LANDLOCK_CREATE_RULESET), strconv.Itoa(unix.SYS_LANDLOCK_RESTRICT_SELF)
	for name, test := range map[string]struct {
		inject string
		exit   int
		says   string
	}{
		"without Landlock":     {create + ":error=ENOSYS", 0, "by a process that could read your files: this kernel has no landlock"},
		"Landlock fails":       {restrict + ":error=E2BIG", 125, "confine sbx-image: landlock_restrict_self: argument list too long"},
		"no filter":            {"seccomp:error=EINVAL", 125, "confine sbx-image: install the system call filter: invalid argument"},
		"a thread has another": {"seccomp:retval=7", 125, "thread 7 has another one"},
		"no file in memory":    {"memfd_create:error=EMFILE:when=1", 125, "make a file in memory: too many open files"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(test.inject, restrict) && landlock.ABI() == 0 {
				t.Skip("cannot: this kernel has no Landlock")
			}
			box := sbxtest.NewStore(t)
			box.Prefix = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=" + test.inject}
			result := box.Run(t, "image", "pull", "--plain-http", "--userns", "single", f.host()+"/tool:1") // strace takes the privileges of newuidmap
			if result.Exit != test.exit || !strings.Contains(result.Stderr, test.says) {
				t.Errorf("want %q:\n%v", test.says, result)
			}
		})
	}
}
