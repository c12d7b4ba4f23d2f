package rootfs

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kind is how the kernel starts a program.
type Kind string

// The kinds of programs.
const (
	// KindStatic is an ELF program without PT_INTERP (also static-pie): it
	// needs nothing but itself.
	KindStatic Kind = "elf-static"
	// KindDynamic is an ELF program that a dynamic loader starts.
	KindDynamic Kind = "elf-dynamic"
	// KindScript is a file with a "#!" line.
	KindScript Kind = "script"
)

// Program is a program file of the user, opened once. What is shown, hashed and
// copied is always this descriptor, never the name again.
type Program struct {
	// File is open for reading, close-on-exec.
	File *os.File
	// Path is the path as the user gave it.
	Path string
	// Base is the last component of Path: the name that the program has inside.
	Base string
	// Kind says which of ELF and Script is set.
	Kind Kind
	// ELF are the headers of an ELF program, else nil.
	ELF *ELF
	// Script is the "#!" line of a script, else nil.
	Script *Shebang
	// Size is in bytes; Mode are the permission bits.
	Size int64
	Mode fs.FileMode
	// Dev and Ino name the file as stat(2) does.
	Dev, Ino uint64

	mtime unix.Timespec
}

// Interp is the PT_INTERP of an ELF program or the interpreter of a script;
// empty for a static program.
func (p *Program) Interp() string {
	switch {
	case p.ELF != nil:
		return p.ELF.Interp
	case p.Script != nil:
		return p.Script.Interp
	}
	return ""
}

// Close closes the descriptor.
func (p *Program) Close() error { return p.File.Close() }

// OpenProgram opens the file at path, a path of the calling process, and finds
// out how to start it. Links are followed as the user would follow them. The
// file has to be regular, readable and executable for the caller, and something
// that the kernel of this machine can start. Every refusal is a
// [*ProgramError].
func OpenProgram(path string) (*Program, error) {
	fd, st, err := openProgramFile(path)
	if err != nil {
		return nil, err
	}
	p := &Program{
		Path: path, Base: filepath.Base(path),
		Size: st.Size, Mode: fs.FileMode(st.Mode & 0o777), Dev: st.Dev, Ino: st.Ino, mtime: st.Mtim,
	}
	if err := p.identify(fdReader(fd)); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	p.File = os.NewFile(uintptr(fd), path)
	return p, nil
}
