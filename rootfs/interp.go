package rootfs

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxInterpreters is how deep "#!" lines may name scripts again (execve(2): the
// kernel gives ELOOP beyond).
const maxInterpreters = 5

// MissingInterpreter says that a script cannot start in an image because what
// its "#!" line leads to is not there. errors.Is finds the errno: ENOENT,
// EACCES when it is there without execute permission, ELOOP, ENOEXEC.
type MissingInterpreter struct {
	// Script is the path of the script as the user gave it.
	Script string
	// Name is what is missing: a path, or with ByEnv a command.
	Name string
	// Relative is Name as it was written, when that was relative to the working
	// directory inside, which is Dir; both are empty otherwise.
	Relative, Dir string
	// NeededBy is what names it: empty for the script itself, else the
	// interpreter between.
	NeededBy string
	// ByEnv is true when env(1) would look Name up in PATH.
	ByEnv bool
	// HostPath is where the host has it; empty when it has not.
	HostPath string
	// Err is the errno.
	Err error
}

// Error has the form "run SCRIPT: ERRNO (DETAIL)"; names with control
// characters are quoted.
func (e *MissingInterpreter) Error() string {
	detail := "its interpreter " + shown(e.Name)
	if e.NeededBy != "" {
		detail = shown(e.Name) + ", which " + shown(e.NeededBy) + " needs,"
	}
	switch {
	case e.ByEnv && strings.ContainsAny(e.Name, " \t"):
		detail = "env gets " + shown(e.Name) + " as one name; `env -S` splits it"
	case e.ByEnv:
		detail = "env finds no " + shown(e.Name) + " in the image"
	case errors.Is(e.Err, unix.ENOENT) && e.Relative != "":
		detail += " is not in the image: " + shown(e.Relative) + " is relative to the working directory inside, " + shown(e.Dir)
	case errors.Is(e.Err, unix.ENOENT):
		detail += " is not in the image"
	case errors.Is(e.Err, unix.EACCES):
		detail += " is not executable in the image"
	default:
		detail += " cannot be started in the image"
	}
	return fmt.Sprintf("run %s: %v (%s)", shown(e.Script), e.Err, detail)
}

// Unwrap returns the errno.
func (e *MissingInterpreter) Unwrap() error { return e.Err }

// Surroundings are what the start of a script depends on besides the trees.
type Surroundings struct {
	// Dir is the working directory inside, for an interpreter that is not named
	// by an absolute path.
	Dir string
	// Path is the PATH inside, for env(1).
	Path string
}

// ResolveInterp follows the "#!" line of a script through an image, as the
// kernel and env(1) will: the interpreter, the interpreter of that when it is a
// script too, the command behind env, and the dynamic loader of an ELF
// interpreter. It returns the paths of the interpreters inside, the first one
// first; nothing for a program that is no script. The error is a
// [*MissingInterpreter]; host, which may be nil, is only looked at to fill its
// HostPath. No libraries are looked for: an image is taken to be complete in
// itself.
func (p *Program) ResolveInterp(image View, host *Root, with Surroundings) (interps []string, err error) {
	if p.Script == nil {
		return nil, nil
	}
	r := interpResolver{image: image, host: host, with: with, script: p.Path}
	if err := r.follow(p.Script, ""); err != nil {
		return nil, err
	}
	return r.found, nil
}

type interpResolver struct {
	image  View
	host   *Root
	with   Surroundings
	script string
	found  []string
}

// follow checks what the line s, in the file named by, leads to.
func (r *interpResolver) follow(s *Shebang, by string) error {
	if len(r.found) >= maxInterpreters {
		return r.missing(s.Interp, by, false, unix.ELOOP)
	}
	if err := r.start(s.Interp, by); err != nil {
		return err
	}
	name, ok := s.EnvCommand()
	if !ok {
		return nil
	}
	if strings.Contains(name, "/") {
		return r.start(name, s.Interp)
	}
	denied := false
	for _, file := range r.candidates(name) {
		switch err := r.executable(&r.image, file); {
		case err == nil:
			return r.start(file, s.Interp)
		case errors.Is(err, unix.EACCES):
			denied = true
		}
	}
	if denied {
		return r.missing(name, "", true, unix.EACCES)
	}
	return r.missing(name, "", true, unix.ENOENT)
}

// candidates are the paths that execvp(3) tries for a name.
func (r *interpResolver) candidates(name string) (files []string) {
	for dir := range strings.SplitSeq(r.with.Path, ":") {
		if dir = absolute(dir, r.with.Dir); dir != "" {
			files = append(files, path.Join(dir, name))
		}
	}
	return files
}

// start checks one executable of the image, by the name that was written, and goes
// on to what it needs.
func (r *interpResolver) start(written, by string) error {
	file := absolute(written, r.with.Dir)
	if file == "" {
		return r.missing(file, by, false, unix.ENOENT)
	}
	if err := r.executable(&r.image, file); err != nil {
		e := r.missing(file, by, false, err)
		if file != written {
			e.Relative, e.Dir = written, r.with.Dir
		}
		return e
	}
	r.found = append(r.found, file)
	fd, _, err := r.image.openRegular(file)
	if errors.Is(err, unix.EACCES) {
		return nil // --x--x--x: nothing to read, and the kernel can run it
	}
	if err != nil {
		return r.missing(file, by, false, err)
	}
	defer func() { _ = unix.Close(fd) }()

	head := make([]byte, shebangBytes)
	n, err := fdReader(fd).ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return r.missing(file, by, false, err)
	}
	if script, err := ParseShebang(head[:n]); err == nil {
		return r.follow(script, file)
	}
	e, err := ReadELF(fdReader(fd))
	switch {
	case err != nil || !e.native():
		return r.missing(file, by, false, unix.ENOEXEC)
	case e.Interp == "":
		return nil
	}
	loader := absolute(e.Interp, r.with.Dir)
	if err := r.executable(&r.image, loader); err != nil {
		return r.missing(loader, file, false, err)
	}
	return nil
}

// executable returns the errno with which execve(2) of a path would fail for
// its type or its permission bits. Who is going to execute it is not known
// here, so one bit of the three is enough.
func (r *interpResolver) executable(v *View, file string) error {
	st, err := v.Stat(file)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return unix.ENOENT // for the user it is simply not there
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFREG, st.Mode&0o111 == 0:
		return unix.EACCES
	}
	return nil
}

func (r *interpResolver) missing(name, by string, byEnv bool, errno error) *MissingInterpreter {
	e := &MissingInterpreter{Script: r.script, Name: name, NeededBy: by, ByEnv: byEnv, Err: errno}
	if r.host == nil {
		return e
	}
	files := []string{name}
	if byEnv {
		files = r.candidates(name)
	}
	host := View{Root: r.host}
	for _, file := range files {
		if r.executable(&host, file) == nil {
			e.HostPath = file
			break
		}
	}
	return e
}
