package plan

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
)

// shares looks at every --ro and --rw.
func (l *look) shares() error {
	if len(l.spec.Shares) == 0 {
		return nil
	}
	tainted, err := rootfs.SharedIn(l.facts.Store)
	if err != nil {
		return err
	}
	for _, sh := range l.spec.Shares {
		shared, err := l.share(sh, tainted)
		if err != nil {
			return misuse("%s %s: %s", sh.Flag(), quote.Quote(sh.Source), withoutName(err.Error(), sh.Source))
		}
		l.facts.Shares = append(l.facts.Shares, shared)
	}
	return nil
}

// withoutName takes the path out of an error's text that stands in front of it
// anyway.
func withoutName(text, path string) string {
	for _, again := range []string{"resolve " + path + ": ", "resolve " + quote.Quote(path) + ": ", path + ": "} {
		text = strings.TrimPrefix(text, again)
	}
	return text
}

func (l *look) share(sh Share, tainted []string) (Shared, error) {
	src, err := mounts.Resolve(sh.Source, tainted...)
	if err != nil {
		return Shared{}, err
	}
	shared := Shared{Share: sh, Resolved: src.Path, Dev: src.Dev, Ino: src.Ino, Directory: src.Directory}
	if shared.Target == "" {
		if shared.Target, err = filepath.Abs(sh.Source); err != nil {
			return Shared{}, fmt.Errorf("find the working directory: %w", err)
		}
	}
	shared.Target = filepath.Clean(shared.Target)
	if sh.Write {
		shared.Home, shared.Store = l.precious(shared)
	}
	for _, socket := range mounts.ReachedSockets(src.Path, mounts.PowerfulSockets(l.facts.Caller.Home)) {
		if _, err := os.Lstat(socket.Path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		shared.Notes = append(shared.Notes, fmt.Sprintf("%s %s shows %s: %s", sh.Flag(), sh.Source, socket.Path, socket.Reason))
	}
	if src.Directory && len(shared.Notes) == 0 {
		if socket := mounts.FindSocket(src.Path); socket != "" {
			shared.Notes = append(shared.Notes, fmt.Sprintf("%s %s shows the socket %s: the program can talk to what listens there", sh.Flag(), sh.Source, socket))
		}
	}
	refused := checkShare(shared, l.facts.Caller, l.facts.Store) != nil // by Build, later
	if !sh.Write || !src.Directory || refused {
		return shared, nil
	}
	if err := l.holdPlaces(src.Path); err != nil {
		return Shared{}, err
	}
	guarded, err := mounts.Guard(src.Path, shared.Target)
	if err != nil {
		return Shared{}, err
	}
	shared.Guard, shared.Placeholders = guarded.Mounts, guarded.Missing
	shared.Notes = append(shared.Notes, guarded.Unprotected...)
	if guarded.Truncated != "" {
		shared.Notes = append(shared.Notes, guarded.Truncated)
	}
	return shared, nil
}

// holdPlaces keeps the placeholders of other runs in a tree where they are.
func (l *look) holdPlaces(dir string) error {
	if l.held.Store == nil || !l.opt.Hold {
		return nil
	}
	list, err := l.held.Store.Places()
	if err != nil {
		return err
	}
	defer list.Close()
	places, err := list.HoldBelow(dir)
	l.held.places = append(l.held.places, places...)
	return err
}

// copies looks at every --copy-in.
func (l *look) copies() error {
	for _, c := range l.spec.CopyIn {
		st, err := os.Stat(c.Source)
		if err != nil {
			return misuse("--copy-in %s: %v", c.Source, errors.Unwrap(err))
		}
		if !st.IsDir() && !st.Mode().IsRegular() {
			return misuse("--copy-in %s: neither a regular file nor a directory", c.Source)
		}
		abs, err := filepath.Abs(c.Source)
		if err != nil {
			return fmt.Errorf("find the working directory: %w", err)
		}
		fact := CopyFact{PathPair: PathPair{abs, c.Target}, Directory: st.IsDir()}
		l.facts.CopyIn = append(l.facts.CopyIn, fact)
		// Links on the way to the source are followed as for the copy.
		outside, err := filepath.EvalSymlinks(abs)
		if inside := fact.inside(); err == nil && path.IsAbs(inside) {
			l.copied = append(l.copied, rootfs.Bind{Inside: inside, Outside: outside})
		}
	}
	return nil
}
