package plan

import (
	"bytes"
	"fmt"
	"path"
	"slices"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// boxDir is where the program stands and where it starts.
const boxDir = "/box"

// programDir takes the program when a share covers /box: writing it there would
// write into the user's own directory.
const programDir = "/run/sbx"

// table is the mount table of a run: what every sandbox has, what the image
// brings, and what was asked for, sorted so that a parent comes before what
// lies in it whatever the order of the flags was.
func table(s Spec, f Facts, p *Plan) ([]mounts.Mount, error) {
	asked, err := askedMounts(s, f, p)
	if err == nil {
		err = checkTargets(asked)
	}
	if err != nil {
		return nil, err
	}
	root := p.Identity.Layout.Root()
	own := slices.Concat(
		[]mounts.Mount{{Kind: mounts.Proc, Target: "/proc", Directory: true}},
		mounts.ProcMasks(),
		mounts.Dev(wantsTTY(s, f), root.UID, root.GID),
		privateDirs(s, f, p),
		f.Image.Binds,
		etcFiles(s, f, p),
	)
	// A share or --tmpfs may take the place of one of sbx's own directories.
	own = slices.DeleteFunc(own, func(m mounts.Mount) bool {
		return slices.ContainsFunc(asked, func(a mounts.Mount) bool { return a.Target == m.Target })
	})
	all := append(own, asked...)
	sorted, err := mounts.Sort(append(all, missingWorkdir(s, f, p, all)...))
	if err != nil {
		return nil, &Misuse{Reason: err.Error()}
	}
	return sorted, nil
}

// checkTargets holds that no two flags want the same place.
func checkTargets(asked []mounts.Mount) error {
	flags := map[string]string{}
	for _, m := range asked {
		flag := m.String()
		switch {
		case m.Kind == mounts.Tmpfs:
			flag = "--tmpfs"
		case m.Kind == mounts.Bind && m.ReadOnly:
			flag = "--ro " + quote.Quote(m.Source)
		case m.Kind == mounts.Bind:
			flag = "--rw " + quote.Quote(m.Source)
		}
		if other, taken := flags[m.Target]; taken {
			return misuse("%s and %s both go to %s: give one of them another place", other, flag, quote.Quote(m.Target))
		}
		flags[m.Target] = flag
	}
	return nil
}

// SetupIDs are the ids of the program's user in the namespace that mounts.
func (p *Plan) SetupIDs() userns.Identity {
	id, err := p.Identity.Layout.SetupID(userns.Identity{UID: p.User.UID, GID: p.User.GID})
	if err != nil {
		panic(err) // no layout comes to be without them
	}
	return id
}

// privateDirs are the directories every sandbox can write to. With --keep those
// that a user would look for afterwards belong to the copy instead.
//
// Where an imported image has something in such a directory, that is what the
// program sees: its files are not hidden by an empty directory. What the caller
// cannot see is made only if it is not there.
func privateDirs(s Spec, f Facts, p *Plan) []mounts.Mount {
	user := p.SetupIDs()
	root := p.Identity.Layout.Root()
	kept := mounts.Shared
	if s.Keep {
		kept = mounts.Dir
	}
	dirs := []mounts.Mount{
		{Kind: mounts.Shared, Target: "/tmp", Mode: 0o1777, UID: root.UID, GID: root.GID, Directory: true},
		{Kind: kept, Target: "/var/tmp", Mode: 0o1777, UID: root.UID, GID: root.GID, Directory: true},
		{Kind: mounts.Shared, Target: "/run", Mode: 0o755, UID: user.UID, GID: user.GID, Directory: true},
		{Kind: kept, Target: boxDir, Mode: 0o755, UID: user.UID, GID: user.GID, Directory: true},
	}
	if home := path.Clean(p.User.Home); under(home, "/home") && home != "/home" || home == "/root" {
		dirs = append(dirs, mounts.Mount{Kind: kept, Target: home, Mode: 0o700, UID: user.UID, GID: user.GID, Directory: true})
	}
	dirs = slices.DeleteFunc(dirs, func(m mounts.Mount) bool { return slices.Contains(f.Filled, m.Target) })
	for i := range dirs {
		if slices.Contains(f.Closed, dirs[i].Target) {
			dirs[i].Kind = mounts.Dir
		}
	}
	return dirs
}

// missingWorkdir is the working directory of an imported image that lacks it,
// which docker makes. Nothing is made in what is shared with the host.
func missingWorkdir(s Spec, f Facts, p *Plan, others []mounts.Mount) []mounts.Mount {
	dir := workdir(s, f)
	shared := func(sh Shared) bool { return under(dir, sh.Target) }
	taken := func(m mounts.Mount) bool { return m.Target == dir }
	if !f.NoWorkdir || slices.ContainsFunc(f.Shares, shared) || slices.ContainsFunc(others, taken) {
		return nil
	}
	root := p.Identity.Layout.Root()
	return []mounts.Mount{{Kind: mounts.Dir, Target: dir, Mode: 0o755, UID: root.UID, GID: root.GID, Directory: true}}
}

// etcFiles stand over the image's own where the run differs from what the image
// was made for.
func etcFiles(s Spec, f Facts, p *Plan) []mounts.Mount {
	root := p.Identity.Layout.Root()
	file := func(target string, content []byte) mounts.Mount {
		return mounts.Mount{Kind: mounts.File, Target: target, Mode: 0o644, UID: root.UID, GID: root.GID, ReadOnly: true, Content: content}
	}
	var files []mounts.Mount
	if p.Image.Foreign || s.Hostname != "" {
		files = append(files,
			file("/etc/hostname", []byte(p.Hostname+"\n")),
			file("/etc/hosts", rootfs.Hosts(p.Hostname)))
	}
	switch {
	case p.User.Listed, p.Image.Foreign && !p.Image.Imported, p.Image.Imported && f.UsersHidden:
	case !p.Image.Imported, len(f.Passwd) == 0:
		files = append(files,
			file("/etc/passwd", rootfs.Passwd(p.User.UID, p.User.GID, p.Image.Shell)),
			file("/etc/group", rootfs.Group(p.User.UID, p.User.GID)))
	default:
		files = append(files, file("/etc/passwd", withUser(f.Passwd, p.User, p.Image.Shell)))
	}
	if p.HostNetwork && len(f.ResolvConf) > 0 {
		files = append(files, file("/etc/resolv.conf", f.ResolvConf))
	}
	return files
}

// withUser adds a line for the user to an image's passwd(5), which lacks it.
func withUser(passwd []byte, u User, shell string) []byte {
	if shell == "" {
		shell = "/bin/sh"
	}
	passwd = bytes.TrimRight(passwd, "\n")
	if len(passwd) > 0 {
		passwd = append(passwd[:len(passwd):len(passwd)], '\n')
	}
	return fmt.Appendf(passwd, "%s:x:%d:%d:%s:%s:%s\n", u.Name, u.UID, u.GID, u.Name, u.Home, shell)
}

// askedMounts are --ro, --rw and --tmpfs.
func askedMounts(s Spec, f Facts, p *Plan) ([]mounts.Mount, error) {
	var list []mounts.Mount
	for _, sh := range f.Shares {
		if err := checkTarget(sh.Flag(), sh.Target); err != nil {
			return nil, err
		}
		if err := checkShare(sh, f.Caller, f.Store); err != nil {
			return nil, err
		}
		list = append(list, mounts.Mount{
			Kind: mounts.Bind, Source: sh.Resolved, Dev: sh.Dev, Ino: sh.Ino,
			Target: sh.Target, ReadOnly: !sh.Write, Directory: sh.Directory,
		})
		list = append(list, sh.Guard...)
	}
	user := p.SetupIDs()
	for _, t := range s.Tmpfs {
		if err := checkTarget("--tmpfs", t.Target); err != nil {
			return nil, err
		}
		size := t.Size
		if size == 0 {
			size = p.Private.Size
		}
		list = append(list, mounts.Mount{
			Kind: mounts.Tmpfs, Target: path.Clean(t.Target), Size: size, Inodes: inodes(size, 1<<10),
			Mode: 0o755, UID: user.UID, GID: user.GID, Directory: true,
		})
	}
	return list, nil
}

// checkShare refuses to hand over everything the user has: a program that can
// write to the whole home owns the account.
func checkShare(sh Shared, c Caller, store string) error {
	if !sh.Write {
		return nil
	}
	if sh.Resolved == "/" {
		return misuse("--rw /: the whole host is never shared read-write; name the directory that the program is to change")
	}
	if sh.Home || c.Home != "" && under(path.Clean(c.Home), sh.Resolved) {
		return misuse("--rw %s: your whole home is never shared read-write; name the directory that the program is to change", sh.Source)
	}
	// Later runs trust the images in it.
	if sh.Store || store != "" && (under(store, sh.Resolved) || under(sh.Resolved, store)) {
		return misuse("--rw %s: sbx keeps the images and other sandboxes in %s, which no program may change", sh.Source, store)
	}
	return nil
}

// checkTarget refuses places inside that belong to sbx.
func checkTarget(flag, target string) error {
	switch {
	case !path.IsAbs(target):
		return misuse("%s: the place inside, %q, must be an absolute path", flag, target)
	case path.Clean(target) == "/":
		return misuse("%s: nothing can be put on / itself; --image DIR runs in a root tree of your own", flag)
	}
	clean := path.Clean(target)
	for _, taken := range []string{"/proc", "/dev", "/sys"} {
		if under(clean, taken) && clean != "/dev/shm" {
			return misuse("%s: %q lies in %s, which sbx makes itself", flag, target, taken)
		}
	}
	return nil
}

// inside is where a --copy-in goes.
func (c CopyFact) inside() string {
	if c.Target == "" {
		return path.Join(boxDir, path.Base(path.Clean(c.Source)))
	}
	if !path.IsAbs(c.Target) {
		return c.Target // refused later
	}
	return path.Clean(c.Target)
}

// copyIns gives every --copy-in its place: /box unless told otherwise.
func copyIns(f Facts) ([]CopyJob, error) {
	var jobs []CopyJob
	taken := map[string]string{}
	for _, c := range f.CopyIn {
		target := c.inside()
		if err := checkTarget("--copy-in", target); err != nil {
			return nil, err
		}
		if target == f.Program.Inside && f.Program.Host != "" {
			if c.IsProgram {
				continue // it is brought along anyway
			}
			return nil, misuse("--copy-in %s: %s is where the program stands; write --copy-in %s:DST", c.Source, target, c.Source)
		}
		if other, ok := taken[target]; ok {
			return nil, misuse("--copy-in: both %q and %q would be %s inside", other, c.Source, target)
		}
		taken[target] = c.Source
		for _, sh := range f.Shares {
			if under(target, sh.Target) {
				return nil, misuse("--copy-in %s: %s lies in %s, which is shared with the host; nothing is copied into your own files", c.Source, target, sh.Source)
			}
		}
		jobs = append(jobs, CopyJob{Source: c.Source, Target: target, Directory: c.Directory})
	}
	return jobs, nil
}
