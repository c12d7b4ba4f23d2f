package plan

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
)

// program decides where the program comes from.
//
//	name          looked up in PATH inside
//	/abs/path     the image's, or a share's, when it is there; else the host's, copied in
//	./rel, a/b    the host's, copied in
//
// That holds for what the user wrote as PROGRAM; an image's own Entrypoint and
// Cmd, and --entrypoint, are of the image only.
func (l *look) program() error {
	argv, own, err := command(l.spec, l.facts.Config)
	if err != nil {
		return err
	}
	name := argv[0]
	if !own {
		l.facts.Program = Program{Inside: name}
		if strings.Contains(name, "/") && !path.IsAbs(name) {
			// Not cleaned: a directory on the way may be a link, and ".." another.
			l.facts.Program.Inside = strings.TrimSuffix(workdir(l.spec, l.facts), "/") + "/" + strings.TrimPrefix(name, "./")
		}
		return nil
	}
	if !strings.Contains(name, "/") && name != "." && name != ".." {
		l.facts.Program = Program{Inside: name}
		return nil
	}
	if path.IsAbs(name) && l.isInside(path.Clean(name)) {
		l.facts.Program = Program{Inside: path.Clean(name)}
		return nil
	}
	prog, err := rootfs.OpenProgram(name)
	if err != nil {
		return l.copiedInstead(err, name)
	}
	l.held.Program = prog
	l.isCopied(prog)
	dir := boxDir
	for _, sh := range l.facts.Shares {
		if under(boxDir, sh.Target) {
			dir = programDir
		}
	}
	l.facts.Program = Program{
		Host: name, Inside: path.Join(dir, prog.Base), Kind: string(prog.Kind), Size: prog.Size, Interp: prog.Interp(),
	}
	if l.tree == nil {
		return nil // the image comes first; then this is looked at again
	}
	return l.needs(prog)
}

// copiedInstead adds to the error for a program that this host does not have what
// the user may have meant: PROGRAM with a slash is a file of the host's, and what
// --copy-in brings has a name inside.
func (l *look) copiedInstead(err error, name string) error {
	for _, c := range l.facts.CopyIn {
		if inside := c.inside(); path.Base(inside) == path.Base(name) && errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%w; what --copy-in brings is %s inside: run it by that name", err, inside)
		}
	}
	return err
}

// isCopied marks a --copy-in of the program itself.
func (l *look) isCopied(prog *rootfs.Program) {
	own, err := prog.File.Stat()
	if err != nil {
		return
	}
	for i, c := range l.facts.CopyIn {
		if st, err := os.Stat(c.Source); err == nil && os.SameFile(st, own) {
			l.facts.CopyIn[i].IsProgram = true
		}
	}
}

// isInside tells whether the sandbox will have a file of this name by itself.
func (l *look) isInside(name string) bool {
	for _, sh := range l.facts.Shares {
		if under(name, sh.Target) {
			return true
		}
	}
	for _, c := range l.facts.CopyIn {
		if c.Directory && under(name, c.inside()) || name == c.inside() {
			return true
		}
	}
	if l.tree == nil {
		return under(name, "/usr") || under(name, "/bin") || under(name, "/sbin")
	}
	if l.kept != nil || l.facts.Image.Imported {
		// A directory may be closed to the caller, and not to the program: root's
		// home in an image, or what the program of a kept sandbox has closed.
		if _, err := l.tree.Stat(name); errors.Is(err, unix.EACCES) {
			return true
		}
	}
	v := l.view()
	return v.Exists(name)
}

// needs finds the libraries or the interpreter that the program asks for.
func (l *look) needs(prog *rootfs.Program) error {
	p := &l.facts.Program
	dir := workdir(l.spec, l.facts)
	view := l.view()
	if prog.Kind == rootfs.KindScript {
		_, err := prog.ResolveInterp(view, l.host, rootfs.Surroundings{Dir: dir, Path: l.pathInside()})
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "/"
	}
	p.Libraries, p.MissingLibraries, err = rootfs.Lacking(prog, rootfs.Placement{Path: p.Inside, Dir: dir, HostDir: cwd}, l.host, view)
	return err
}

func (l *look) pathInside() string {
	for _, kv := range slices.Backward(append(imageEnv(l.facts.Config), l.facts.AskedEnv...)) {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			return value
		}
	}
	return defaultPath
}
