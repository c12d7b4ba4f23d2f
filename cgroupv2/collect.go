package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Places returns the directories that leaves of the caller may be in, whichever rung
// made them: his own cgroup, and below his service manager the scopes of this package.
func (h Host) Places() []string {
	var dirs []string
	if h.Own != "" {
		dirs = append(dirs, h.Own)
		if filepath.Base(h.Own) == supervisorDir {
			dirs = append(dirs, filepath.Dir(h.Own))
		}
		if h.Unit != "" && h.Unit != h.Own {
			dirs = append(dirs, h.Unit)
		}
	}
	if h.Manager == "" {
		return dirs
	}
	for _, slice := range []string{"", "app.slice", "system.slice"} {
		scopes, _ := filepath.Glob(filepath.Join(h.Manager, slice, scopePrefix+"*"+scopeSuffix))
		dirs = append(dirs, scopes...)
	}
	return dirs
}

// Collect ends and removes the leaves in some directories, as [Host.Places] gives
// them, whose sandbox is not alive. It returns the names of those that are gone; errors
// of single ones are joined and do not stop it.
//
// live must answer true for a sandbox that is about to get its leaf: a sandbox's own
// lock, taken before, does.
func Collect(ctx context.Context, dirs []string, live func(name string) bool) ([]string, error) {
	return collect(ctx, host(), dirs, live)
}

func collect(ctx context.Context, k kernel, dirs []string, live func(name string) bool) ([]string, error) {
	var gone []string
	var errs []error
	for _, parent := range dirs {
		for _, dir := range children(parent) {
			l, err := openLeaf(k, dir)
			if err != nil || live(l.Name) {
				continue
			}
			if err := l.discard(ctx); err != nil {
				errs = append(errs, err)
				continue
			}
			gone = append(gone, l.Name)
		}
	}
	return gone, errors.Join(errs...)
}

// discard ends and removes a leaf that nobody answers for. One without a directory for
// processes was never finished; it goes if it is empty, and is no leaf otherwise.
func (l *Leaf) discard(ctx context.Context) error {
	if !isDir(filepath.Join(l.Dir, boxDir)) {
		if err := l.k.rmdir(l.Dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the cgroup %s: %w", l.Dir, err)
		}
		return nil
	}
	if err := l.Kill(ctx); err != nil {
		return err
	}
	return l.Remove(ctx)
}
