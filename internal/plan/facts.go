package plan

import (
	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/userns"
)

// Facts is what this host is, as far as the run in hand needs to know it.
type Facts struct {
	Caller Caller `json:"caller"`

	// Subordinate are the caller's subordinate ids; NoRange is why there are none.
	Subordinate userns.Subordinate `json:"subordinate"`
	Helpers     userns.Helpers     `json:"helpers"`
	// NoHelpers is why newuidmap and newgidmap cannot be used, empty when they can.
	NoHelpers string `json:"noHelpers,omitempty"`

	Kernel Kernel `json:"kernel"`
	Store  string `json:"store"`
	Image  Image  `json:"image"`

	Program Program    `json:"program"`
	Shares  []Shared   `json:"shares,omitempty"`
	CopyIn  []CopyFact `json:"copyIn,omitempty"`

	Environ  map[string]string `json:"environ,omitempty"`  // of the caller's, what is passed on
	AskedEnv []string          `json:"askedEnv,omitempty"` // -e and --env-file, resolved
	// Kept is the sandbox of --in; Image is then what it was made from.
	Kept *KeptFact `json:"kept,omitempty"`
	// Config is what an imported image says about how it is to be run; nil for
	// all other images, and for those that say nothing.
	Config *rootfs.ImageConfig `json:"config,omitempty"`
	// Filled are those of the directories /tmp, /var/tmp, /run, /box and the user's
	// home that stay as an imported image has them: not empty, or the same
	// directory as another one of them.
	Filled []string `json:"filled,omitempty"`
	// Closed are those of them of which the caller cannot know, since a directory above
	// them is closed to him: of an image made from a directory of mode 0700 all.
	Closed []string `json:"closed,omitempty"`
	// NoWorkdir tells that an imported image lacks the working directory, or may lack it.
	NoWorkdir bool `json:"noWorkdir,omitempty"`

	// Passwd and Group are the image's own, at most 1 MiB each.
	Passwd []byte `json:"passwd,omitempty"`
	Group  []byte `json:"group,omitempty"`
	// UsersHidden tells that there is a passwd, which its mode keeps from the
	// caller.
	UsersHidden bool `json:"usersHidden,omitempty"`
	// ResolvConf is the host's, with --network host.
	ResolvConf []byte `json:"resolvConf,omitempty"`

	// SeccompFile is the profile that --seccomp names.
	SeccompFile []byte `json:"seccompFile,omitempty"`

	// Cgroup is what can be expected of the host's cgroups.
	Cgroup cgroupv2.Prospect `json:"cgroup"`

	HardLimits map[int]uint64 `json:"hardLimits,omitempty"`
	Stdio      [3]Stream      `json:"stdio"`
	Memory     int64          `json:"memory"` // bytes of RAM
}

// Caller is the user who runs sbx.
type Caller struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Name string `json:"name"`
	Home string `json:"home,omitempty"`
	// Groups are the supplementary groups; in single mode they stay in force.
	Groups []userns.Group `json:"groups,omitempty"`
}

// Kernel is what was found by asking the kernel, not by its version, except for
// Release, which stands in messages, and what is said at NprocPerUserns.
type Kernel struct {
	Release string `json:"release"`
	// MaxUserNamespaces is /proc/sys/user/max_user_namespaces, -1 if unreadable.
	MaxUserNamespaces int `json:"maxUserNamespaces"`
	// UsernsClone is Debian's kernel.unprivileged_userns_clone: 0 refuses, -1 absent.
	UsernsClone int `json:"usernsClone"`
	// AppArmorUserns is Ubuntu's kernel.apparmor_restrict_unprivileged_userns, -1 absent.
	AppArmorUserns int  `json:"apparmorUserns"`
	Seccomp        bool `json:"seccomp"`
	LandlockABI    int  `json:"landlockABI"`
	// NprocPerUserns: RLIMIT_NPROC counts per user namespace since Linux 5.14.
	// It shows nowhere until it is exceeded, so here the version has to do.
	NprocPerUserns bool `json:"nprocPerUserns"`
	CgroupNS       bool `json:"cgroupNS"`
}

// Image is the root file system that a sandbox is a copy of.
type Image struct {
	Name string `json:"name"`
	// Key tells versions of one image apart; empty for a directory of the user's.
	Key string `json:"key,omitempty"`
	// Tree is the directory that holds the root, empty while it is not built.
	Tree string `json:"tree,omitempty"`
	// Build is true when the tree has to be made first.
	Build bool `json:"build,omitempty"`
	// Binds are host directories that stand over the tree, read-only.
	Binds []mounts.Mount `json:"binds,omitempty"`
	// Foreign marks a tree that sbx did not make: as hostile as the program.
	Foreign bool `json:"foreign,omitempty"`
	// Imported marks a foreign tree that the store keeps under a name or id;
	// Digest is what it is.
	Imported bool   `json:"imported,omitempty"`
	Digest   string `json:"digest,omitempty"`
	// Owned tells that an imported tree belongs to the ids of this run.
	Owned bool `json:"owned,omitempty"`
	// OwnerUID is the host uid that the root of a foreign tree belongs to.
	OwnerUID uint32 `json:"ownerUID,omitempty"`
	// Shell is the best shell in it, empty for none or unknown.
	Shell string `json:"shell,omitempty"`
}

// Program is the file that will be executed.
type Program struct {
	// Host is the file's path outside when it is copied in, else empty: then
	// Inside names a file that the image or a share already has, or a bare name
	// to look up in PATH there.
	Host   string `json:"host,omitempty"`
	Inside string `json:"inside"`
	Kind   string `json:"kind,omitempty"` // elf, script
	Size   int64  `json:"size,omitempty"`
	// Hash asks for the SHA-256 of what is copied in.
	Hash bool `json:"hash,omitempty"`
	// Libraries are copied along because the image lacks them.
	Libraries []rootfs.Library `json:"libraries,omitempty"`
	// MissingLibraries are needed and found nowhere.
	MissingLibraries []rootfs.MissingLibrary `json:"missingLibraries,omitempty"`
	// Interp is a script's interpreter or an executable's loader.
	Interp string `json:"interp,omitempty"`
}

// Shared is a --ro or --rw path after looking at it.
type Shared struct {
	Share
	Resolved  string `json:"resolved"` // free of links
	Dev       uint64 `json:"dev"`
	Ino       uint64 `json:"ino"`
	Directory bool   `json:"directory"`
	// Home and Store: it is, or holds, the caller's home; it holds the store or
	// lies in it. By inode, so also where its path does not say so.
	Home  bool `json:"home,omitempty"`
	Store bool `json:"store,omitempty"`
	// Guard are the mounts that keep files read-only that the host executes.
	Guard []mounts.Mount `json:"guard,omitempty"`
	// Placeholders are made on the host before and taken away after the run.
	Placeholders []mounts.Placeholder `json:"placeholders,omitempty"`
	// Notes are warnings about what is being shared.
	Notes []string `json:"notes,omitempty"`
}

// CopyFact is a --copy-in path after looking at it.
type CopyFact struct {
	PathPair
	Directory bool `json:"directory"`
	// IsProgram: it is the file that will be executed.
	IsProgram bool `json:"isProgram,omitempty"`
}

// Kinds of a [Stream].
const (
	StreamClosed = "closed"
	StreamDir    = "directory" // cannot be read: the program gets an empty input
	StreamTTY    = "tty"
	StreamPipe   = "pipe"
	StreamSocket = "socket"
	StreamFile   = "file"
	StreamNull   = "null"
	StreamDevice = "device"
)

// Stream is what one of the descriptors 0, 1, 2 is.
type Stream struct {
	Kind string `json:"kind"`
	Dev  uint64 `json:"dev,omitempty"`
	Ino  uint64 `json:"ino,omitempty"`
}
