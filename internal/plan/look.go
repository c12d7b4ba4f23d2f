package plan

import (
	"context"
	"errors"
	"io"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// Held are the live things behind the facts: opened once, while looking, and
// never looked up again by name.
type Held struct {
	Store   *rootfs.Store
	Image   *rootfs.Image // nil for a directory of the user's, and when Hold was not asked for
	Program *rootfs.Program
	Sandbox *rootfs.Sandbox // of --in

	// places are what other runs made in the --rw trees: it protects this run
	// as well, and must stay as long.
	places []*rootfs.Place
}

// TakePlaces hands over what other runs made in the --rw trees: the caller is to
// take it away when he is the last who holds it.
func (h *Held) TakePlaces() []*rootfs.Place {
	places := h.places
	h.places = nil
	return places
}

// Close lets go of them.
func (h *Held) Close() {
	rootfs.Release(h.TakePlaces())
	if h.Program != nil {
		_ = h.Program.Close()
	}
	if h.Sandbox != nil {
		_ = h.Sandbox.Close()
	}
	if h.Image != nil {
		_ = h.Image.Close()
	}
	if h.Store != nil {
		_ = h.Store.Close()
	}
}

// maxIdentityFile bounds what is read of an image's passwd and group (SECURITY A6).
const maxIdentityFile = 1 << 20

// LookOptions say what may happen while looking.
type LookOptions struct {
	// Hold: the store is opened, and made if it is not there, and the image is held
	// against removal. Without, as for a dry run, nothing on the host is changed.
	Hold bool
	// Maps, if it is not nil, is told the identity of which U1's maps will be as soon
	// as they are known, which is long before the rest is. Of its Layout only they
	// are set. It is not called for a run that will fail, or in a kept sandbox.
	Maps func(Identity)
	// Seek: the program is looked for in the image as well, as for a dry run. In a run
	// pid 1 does that, where everything is in its place.
	Seek bool
}

// Look reads the host for a run. Held is not nil even with an error.
//
// An image that has to be made first is a fact (Image.Build); look again when
// it has been made.
func Look(ctx context.Context, s Spec, opt LookOptions) (Facts, *Held, error) {
	return (&look{ctx: ctx, spec: s, opt: opt, held: &Held{}}).run()
}

func (l *look) run() (Facts, *Held, error) {
	// A wrong word is refused before anything is looked at, let alone made.
	if err := checkSpec(l.spec); err != nil {
		return l.facts, l.held, err
	}
	err := l.all()
	if l.host != nil {
		l.host.Close()
	}
	if l.tree != nil {
		l.tree.Close()
	}
	return l.facts, l.held, err
}

// look is one look in progress.
type look struct {
	ctx   context.Context
	spec  Spec
	opt   LookOptions
	facts Facts
	held  *Held
	host  *rootfs.Root
	tree  *rootfs.Root // the image's, nil while it is not built
	// copied is where each --copy-in will stand, for view.
	copied []rootfs.Bind
	kept   *KeptRoot // of --in, else nil
}

func (l *look) all() error {
	steps := []func() error{
		l.caller, l.tellMaps, l.kernel, l.streams, l.environment, l.store, l.shares, l.copies, l.image, l.program, l.filled, l.seek,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// caller finds out who runs sbx and which ids he may use.
func (l *look) caller() error {
	c := Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Name: strconv.Itoa(os.Getuid()), Home: os.Getenv("HOME")}
	if os.Geteuid() != os.Getuid() || os.Getegid() != os.Getgid() {
		return misuse("sbx is installed set-user-ID or set-group-ID, which it is not made for: `chmod ug-s` it")
	}
	if u, err := user.LookupId(c.Name); err == nil {
		c.Name = u.Username
		if c.Home == "" {
			c.Home = u.HomeDir
		}
	} else if name := os.Getenv("USER"); name != "" {
		c.Name = name // a directory service that /etc/passwd does not list
	}
	var err error
	if c.Groups, err = userns.SurvivingGroups(); err != nil && len(c.Groups) == 0 {
		return err
	}
	l.facts.Caller = c
	if l.facts.Subordinate, err = userns.LookupSubordinate(c.Name, c.UID); err != nil {
		return err
	}
	return l.idsOfThisNamespace()
}

// idsOfThisNamespace leaves out ids that were granted in a file and do not
// exist: in a container /etc/subuid often came with the image.
func (l *look) idsOfThisNamespace() error {
	uid, gid, err := userns.OwnMaps()
	if err != nil {
		return err
	}
	f := &l.facts
	if f.Caller.UID == 0 {
		f.Subordinate, err = userns.RootSubordinate(f.Subordinate, uid, gid)
		if errors.Is(err, userns.ErrNoRange) {
			return misuse("running as root of a user namespace that has no other id (`unshare -r`): start sbx outside of it")
		}
		return err
	}
	if len(f.Subordinate.UID) > 0 && !f.Subordinate.Within(uid, gid) {
		f.NoHelpers = "the subordinate ids of " + f.Subordinate.Source + " do not exist in this container"
		return nil
	}
	if f.Helpers, err = userns.FindHelpers(); err != nil {
		f.NoHelpers = err.Error()
	}
	return nil
}

func (l *look) streams() error {
	for fd := range l.facts.Stdio {
		l.facts.Stdio[fd] = lookStream(fd)
	}
	return nil
}

func lookStream(fd int) Stream {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return Stream{Kind: StreamClosed}
	}
	s := Stream{Kind: StreamDevice, Dev: st.Dev, Ino: st.Ino}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		// One with a name is a file of the host's, with a mode of its own.
		var fs unix.Statfs_t
		if unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PIPEFS_MAGIC {
			s.Kind = StreamPipe
		}
	case unix.S_IFSOCK:
		s.Kind = StreamSocket
	case unix.S_IFREG:
		s.Kind = StreamFile
	case unix.S_IFDIR:
		s.Kind = StreamDir
	case unix.S_IFCHR:
		if st.Rdev == unix.Mkdev(1, 3) {
			s.Kind = StreamNull
		} else if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			s.Kind = StreamTTY
		}
	}
	return s
}

func (l *look) environment() error {
	l.facts.Environ = PassedOn(os.Environ())
	for _, name := range l.spec.EnvFile {
		data, err := readSmall(name)
		var asked []string
		if err == nil {
			asked, err = askedEnv(parseEnvFile(data), os.LookupEnv)
		}
		if err != nil {
			return misuse("--env-file %s: %v", name, err)
		}
		l.facts.AskedEnv = append(l.facts.AskedEnv, asked...)
	}
	asked, err := askedEnv(l.spec.Env, os.LookupEnv)
	if err != nil {
		return err
	}
	l.facts.AskedEnv = append(l.facts.AskedEnv, asked...)
	if p := l.spec.Seccomp; p != "" && isFile(p) {
		if l.facts.SeccompFile, err = readSmall(p); err != nil {
			return misuse("--seccomp %s: %v; the names are default, strict and off, anything else is a file", p, err)
		}
	}
	if l.spec.Network == NetworkHost {
		l.facts.ResolvConf, _ = readSmall("/etc/resolv.conf")
	}
	return nil
}

// awaitWriter waits until something was written into a pipe, or its last writer has
// gone: a named one that nobody has opened yet reads as empty.
func awaitWriter(fd int) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// readSmall reads a file or a pipe of at most 1 MiB.
func readSmall(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, unix.EISDIR
	case st.Mode()&os.ModeNamedPipe != 0:
		awaitWriter(int(f.Fd()))
	case st.Size() > maxIdentityFile:
		return nil, unix.EFBIG
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIdentityFile+1))
	if len(data) > maxIdentityFile {
		return nil, unix.EFBIG
	}
	return data, err
}
