package mounts

import "errors"

// Temporary list of signatures while the package is being written; replaced file by file today.

// Builder is the live state of a mount table inside pid 1.
type Builder struct{}

var errUnfinished = errors.New("mounts: not written yet")

func Begin(scratch Scratch) (*Builder, error)               { return nil, errUnfinished }
func (b *Builder) Take(m Mount) error                       { return errUnfinished } // call for EVERY entry, any kind, before Pivot
func (b *Builder) MakeRoot(r Root) error                    { return errUnfinished } // before Pivot; *RootError when this method is impossible here: call again with another
func (b *Builder) Pivot() error                             { return errUnfinished }
func (b *Builder) Attach(m Mount) error                     { return errUnfinished }     // in the order of Sort
func (b *Builder) AttachFile(fd int, target string) error   { return errUnfinished }     // after Pivot, before Finish (console)
func (b *Builder) Open(path string, flags int) (int, error) { return -1, errUnfinished } // inside the new root, after Pivot, before Finish (/dev/pts/ptmx)
func (b *Builder) PrivateProc() (int, error)                { return -1, errUnfinished } // detached procfs without masks; belongs to the Builder, closed by Close
func (b *Builder) Finish() error                            { return errUnfinished }
func (b *Builder) Close() error                             { return errUnfinished }

// RootError: the root cannot be made this way on this kernel or file system.
type RootError struct {
	Root Root
	Err  error
}

func (e *RootError) Error() string { return e.Root.String() + ": " + e.Err.Error() }
func (e *RootError) Unwrap() error { return e.Err }

var ErrMaskedProc = errors.New("procfs refused")

func Sort(ms []Mount) ([]Mount, error) { return nil, errUnfinished }
func ProcMasks() []Mount               { return nil }
func Dev(tty bool) []Mount             { return nil }

// Source is a host path looked at by Resolve.
type Source struct {
	Path      string
	Dev, Ino  uint64
	Directory bool
	Mode      uint32 // st_mode
	UID, GID  uint32
}

// tainted: trees that payloads once had read-write; no link is followed below them (C5).
func Resolve(path string, tainted ...string) (Source, error) { return Source{}, errUnfinished }
func ParseBind(s string) (src, dst string, err error)        { return "", "", errUnfinished }

// Socket of power: J2
type PowerfulSocket struct{ Path, Reason string }

func PowerfulSockets() []PowerfulSocket { return nil }

// Guarded is what Guard found below an --rw tree.
type Guarded struct {
	Mounts    []Mount       // binds read-only, and parents bound on themselves; targets below the given target
	Missing   []Placeholder // names that have to be created on the host before they can be over-mounted
	Truncated string        // not empty: the bound that was hit, for the user
}

// Placeholder: p, err = p.Create() on the host (sets Dev, Ino) -> p.Mount() -> afterwards p.Remove().
type Placeholder struct {
	Path, Target, Reason string
	Directory            bool
	Dev, Ino             uint64
}

func (p Placeholder) Create() (Placeholder, error) { return p, errUnfinished }
func (p Placeholder) Mount() Mount                 { return Mount{} }
func (p Placeholder) Remove() error                { return errUnfinished }

func Guard(source, target string) (Guarded, error) { return Guarded{}, errUnfinished }
