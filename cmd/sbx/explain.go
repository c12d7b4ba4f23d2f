package main

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
)

// explainRun adds to an error of the start what the plan knows about it.
func explainRun(err error, spec plan.Spec, p *plan.Plan) error {
	var stage *launch.StageError
	if errors.As(err, &stage) && !stage.NotFound && errors.Is(err, unix.ENOENT) && strings.Contains(stage.Text, "go to the working directory") {
		return fmt.Errorf("%w; the sandbox has no such directory: --tmpfs %s makes an empty one", err, quote.Quote(p.Process.Dir))
	}
	if stage != nil && stage.Stage.Op == plan.OpCopyIn && errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w; --ro shows a file in the place of one that is there", err)
	}
	if stage != nil && errors.Is(err, unix.E2BIG) {
		return fmt.Errorf("%w; an argument or variable can have 128 KiB, and all of them a quarter of `ulimit -s`", err)
	}
	if stage != nil && stage.NotRunnable && errors.Is(err, unix.EACCES) && onNoexec(p) {
		return fmt.Errorf("%w: its file system is mounted noexec on this host; without the share sbx runs a copy of it", err)
	}
	if flag := roomFlag(p); stage != nil && errors.Is(err, unix.ENOSPC) && flag != "" {
		return fmt.Errorf("%w: there is room for %s of files; raise it with %s", err, cgroupv2.Size(uint64(p.Private.Size)), flag)
	}
	if stage != nil && stage.NotRunnable && errors.Is(err, unix.EACCES) && closedRoot(p) {
		return fmt.Errorf("%w: the root directory of the image %s is closed to uid %d; --user 0 can enter it", err, p.Image.Name, p.User.UID)
	}
	if stage == nil || !stage.NotFound {
		return err
	}
	if p.Program.Interp != "" {
		return fmt.Errorf("%w (its interpreter %s is not in the image %s)", err, p.Program.Interp, p.Image.Name)
	}
	return explainMissing(err, spec, plan.Facts{Program: p.Program, Image: p.Image})
}

// closedRoot tells whether the image's root directory lets nobody in but its owner, as
// that of a directory that mktemp(1) made.
func closedRoot(p *plan.Plan) bool {
	var st unix.Stat_t
	return p.User.UID != 0 && unix.Stat(p.Image.Tree, &st) == nil && st.Mode&0o011 == 0
}

// explainMissing adds to the error for a program that was looked for along PATH
// and not found where it is.
func explainMissing(err error, spec plan.Spec, f plan.Facts) error {
	name, image := f.Program.Inside, f.Image
	if name == "" || strings.Contains(name, "/") || exitStatus(err) != exitNotFound {
		return err
	}
	if slices.ContainsFunc(spec.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH") }) {
		return fmt.Errorf("%w: it was looked for in the PATH that you gave", err)
	}
	found, lookErr := exec.LookPath(name) //nolint:forbidigo // it is named in a message, and never run
	if lookErr != nil {
		return fmt.Errorf("%w: neither the image %s nor this host has a program of that name", err, image.Name)
	}
	if image.Name == plan.ImageHost {
		return fmt.Errorf("%w; this host has it as %s: run it by that path", err, found)
	}
	if image.Foreign {
		return fmt.Errorf("%w: not in the image %s; this host has it as %s: run it by that path to bring it along", err, image.Name, found)
	}
	return fmt.Errorf("%w: not in the image %s; this host has it as %s: add --image host, or run it by that path", err, image.Name, found)
}
