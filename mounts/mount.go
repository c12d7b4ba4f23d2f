package mounts

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind says what a [Mount] puts on its target.
type Kind string

// The kinds of entries. Their fields are described at [Mount].
const (
	Bind     Kind = "bind"     // a file or directory of the host, with everything mounted below it
	Tmpfs    Kind = "tmpfs"    // a tmpfs of its own size
	Shared   Kind = "scratch"  // a directory of the one private tmpfs, see Scratch
	Proc     Kind = "proc"     // a fresh procfs of this pid namespace
	DevPts   Kind = "devpts"   // a devpts instance of its own
	Mqueue   Kind = "mqueue"   // POSIX message queues of this ipc namespace
	Device   Kind = "device"   // one character device of the host
	Mask     Kind = "mask"     // an empty read-only file or directory hides the target
	ReadOnly Kind = "readonly" // the target, bound on itself read-only
	File     Kind = "file"     // a small generated file, kept in the private tmpfs
	Symlink  Kind = "symlink"  // a symbolic link
	Dir      Kind = "dir"      // a directory of the root, no mount
)

// Mount is one entry of the table: plain data that survives JSON and is
// copied, never changed in place. The zero values of fields that a kind does
// not use are ignored.
type Mount struct {
	Kind Kind `json:"kind"`
	// Source is the host's path, free of symbolic links, of a bind or device
	// (see Resolve), or the text of a symlink.
	Source string `json:"source,omitempty"`
	// Dev and Ino are what Source was when it was looked at. A bind whose
	// source is another inode at the time of mounting is an error (ESTALE).
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
	// Target is the absolute, clean path inside.
	Target string `json:"target"`
	// ReadOnly applies to a bind and everything below it, and to a file. A
	// tmpfs or scratch directory becomes read-only in Finish only, after
	// later entries have been made in it.
	ReadOnly bool `json:"readOnly,omitempty"`
	NoExec   bool `json:"noExec,omitempty"`
	// Directory says that the source of a bind, or the target of a mask, is
	// a directory.
	Directory bool `json:"directory,omitempty"`
	// Size in bytes and Inodes bound a tmpfs. 0 means half of the machine's
	// memory, the kernel's default (tmpfs(5)).
	Size   int64 `json:"size,omitempty"`
	Inodes int64 `json:"inodes,omitempty"`
	// Mode (permission bits and sticky, 1 to 01777), UID and GID belong to a
	// tmpfs, scratch, file or dir; ids of the mounting user namespace.
	Mode uint32 `json:"mode,omitempty"`
	UID  uint32 `json:"uid,omitempty"`
	GID  uint32 `json:"gid,omitempty"`
	// Content of a file, at most MaxContent bytes.
	Content []byte `json:"content,omitempty"`
	// Link says that a bind is of a symbolic link itself, on itself: so it can
	// be followed as before, and neither removed nor replaced.
	Link bool `json:"link,omitempty"`
	// Optional entries are skipped when the target (mask, readonly), the
	// source (device) or the file system (mqueue) does not exist.
	Optional bool `json:"optional,omitempty"`
}

// MaxContent is the largest Content of a File entry in bytes.
const MaxContent = 1 << 20

// String is the text of the entry in plans, logs and errors, for example
// "bind /usr on /usr (read-only)". Names with unusual bytes are quoted.
func (m Mount) String() string {
	var b strings.Builder
	b.WriteString(string(m.Kind))
	switch m.Kind {
	case Bind:
		b.WriteString(" " + quote(m.Source) + " on")
	case Symlink:
		return "symlink " + quote(m.Target) + " to " + quote(m.Source)
	case Tmpfs, Shared, Proc, DevPts, Mqueue:
		b.WriteString(" on")
	}
	b.WriteString(" " + quote(m.Target))
	if notes := m.notes(); len(notes) > 0 {
		b.WriteString(" (" + strings.Join(notes, ", ") + ")")
	}
	return b.String()
}

func (m Mount) notes() []string {
	var notes []string
	if m.ReadOnly {
		notes = append(notes, "read-only")
	}
	if m.NoExec {
		notes = append(notes, "noexec")
	}
	if m.Kind == Tmpfs && m.Size > 0 {
		notes = append(notes, "size="+strconv.FormatInt(m.Size, 10))
	}
	return notes
}

// Scratch describes the one private tmpfs that holds every Shared and File
// entry, so that one size and one inode cap bound them all together.
type Scratch struct {
	// Size in bytes; 0 means half of the machine's memory.
	Size int64 `json:"size"`
	// Inodes caps the number of files; 0 means the kernel's default.
	Inodes int64 `json:"inodes"`
	// RootUID and RootGID own the mount points that have to be made: root of
	// the inside, as an id of the mounting user namespace.
	RootUID uint32 `json:"rootUid"`
	RootGID uint32 `json:"rootGid"`
}

// The ways to make a root, see Root.Method.
const (
	MethodOverlay = "overlay"
	MethodTree    = "tree"
)

// Root says what becomes / of the sandbox.
type Root struct {
	// Method is MethodOverlay or MethodTree.
	Method string `json:"method"`
	// Lower lists the overlay's read-only directories, the uppermost first.
	Lower []string `json:"lower,omitempty"`
	// Upper and Work are the overlay's writable directories: siblings on one
	// mount of the host. Both empty means the private tmpfs.
	Upper string `json:"upper,omitempty"`
	Work  string `json:"work,omitempty"`
	// Volatile says that Upper need not survive a crash of the machine: the
	// overlay then ignores fsync and does not write everything out when it
	// ends, which can take seconds on a busy disk. The kernel marks Work, and
	// refuses another mount with it until work/incompat in it is removed.
	Volatile bool `json:"volatile,omitempty"`
	// Tree is the directory that MethodTree binds.
	Tree string `json:"tree,omitempty"`
	// ReadOnly makes the root read-only in Finish, after the mount points.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Frozen says that Tree belongs to more than this sandbox: it is
	// read-only from the start and a missing mount point is an error.
	Frozen bool `json:"frozen,omitempty"`
}

// String is the text of the root in plans, logs and errors.
func (r Root) String() string {
	text := "root: "
	switch r.Method {
	case MethodOverlay:
		quoted := make([]string, len(r.Lower))
		for i, dir := range r.Lower {
			quoted[i] = quote(dir)
		}
		upper := "a private tmpfs"
		if r.Upper != "" {
			upper = quote(r.Upper)
		}
		text += "overlay of " + upper + " over " + strings.Join(quoted, ", ")
	default:
		text += r.Method + " " + quote(r.Tree)
	}
	if r.ReadOnly || r.Frozen {
		text += " (read-only)"
	}
	return text
}

// quote returns s as it is when it can be printed and read back without
// doubt, else in Go's quoted form: a name may hold control characters or
// bidirectional overrides that a terminal would obey.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \"\\'") {
		return fmt.Sprintf("%+q", s)
	}
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '\uFFFD' {
			return fmt.Sprintf("%+q", s)
		}
	}
	return s
}
