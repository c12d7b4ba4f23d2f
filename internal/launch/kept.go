package launch

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// record is what state.json says of the sandbox of a plan. It lies outside of
// the copy, where no program can write.
func record(p *plan.Plan) (rootfs.SandboxState, error) {
	user := p.SetupIDs()
	state := rootfs.SandboxState{
		Owner: p.Identity.Ownership(), Image: p.Image.Name, Key: p.Image.Key, Name: p.Name,
		Program: p.Process.Args[0], UID: user.UID, GID: user.GID, Foreign: p.Image.Foreign,
	}
	for _, m := range p.Mounts {
		if m.Kind != mounts.Dir {
			state.Places = append(state.Places, m.Target)
		}
	}
	if rel, err := filepath.Rel(filepath.Join(p.Store, "images"), p.Image.Tree); err == nil && p.Image.Key != "" {
		state.Shelf, _, _ = strings.Cut(rel, "/")
		return state, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(p.Image.Tree, &st); err != nil {
		return state, fmt.Errorf("look at %q: %w", p.Image.Tree, err)
	}
	state.Tree, state.TreeIno = p.Image.Tree, st.Ino
	return state, nil
}

// keep makes the sandbox one that stays: its program has begun.
func (r *run) keep() error {
	if !r.plan.Root.Keep {
		return nil
	}
	r.sandbox.State.Keep, r.sandbox.State.Copy = true, r.result.Copy
	if err := r.sandbox.Save(); err != nil {
		return err
	}
	r.result.Sandbox = r.sandbox.State.ID
	return nil
}

// keepAtRest lets go of a sandbox that stays, with how its run ended.
func (r *run) keepAtRest() error {
	r.sandbox.State.Ended, r.sandbox.State.Status = time.Now().UTC(), r.result.ExitStatus()
	if err := r.sandbox.Save(); err != nil {
		r.sandbox.Close()
		return err
	}
	return r.sandbox.Close()
}
