package rootfs

import (
	"errors"
	"time"
)

// IDRange is one line of an id map as uid_map(5) has it: Count ids from Inside
// on (numbers in U1) stand for those from Outside on (numbers of the host).
type IDRange struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Count   uint32 `json:"count"`
}

// Ownership says who owns the files of an image or a sandbox.
type Ownership struct {
	// Single is the mode with one id only: every file belongs to the caller
	// and nothing is ever chowned. UID and GID are 0 then.
	Single bool `json:"single,omitempty"`
	// UID and GID are the ids in U1 that stand for root inside: 1 and 1, or 0
	// and 0 with Single.
	UID int `json:"uid"`
	GID int `json:"gid"`
	// HostUID and HostGID are the same ids as the host sees them. An image
	// made for other numbers is of no use, so they are part of its key.
	HostUID uint32 `json:"host_uid"`
	HostGID uint32 `json:"host_gid"`
	// UIDMap and GIDMap are U1's maps. They are only recorded, and handed
	// back by Collect, so that leftovers can be removed by whoever may.
	UIDMap []IDRange `json:"uid_map,omitempty"`
	GIDMap []IDRange `json:"gid_map,omitempty"`
}

// ImageRequest names an image of this host. It is the input of both FindImage
// (outside) and Build (in a worker), and has a JSON form to cross over.
type ImageRequest struct {
	// Store is the path of the store.
	Store string `json:"store"`
	// Name is "base", "host" or "scratch".
	Name string `json:"name"`
	// Host is the root the image is copied from; "" is "/".
	Host string `json:"host,omitempty"`
	// Owner is who will own the files.
	Owner Ownership `json:"owner"`
}

// The names of the images that Build knows how to make.
const (
	ImageBase    = "base"
	ImageHost    = "host"
	ImageScratch = "scratch"
)

// ErrNoImage is what FindImage gives when there is no image, or none that is
// current: time to run Build.
var ErrNoImage = errors.New("no current image")

// ErrNeedsMap is in the chain of an error of a removal that met files of other
// owners: do it again in a worker that has the id map of the Ownership that was
// recorded.
var ErrNeedsMap = errors.New("files of other ids are in the way")

// ImageInfo is what is known of an image without its files; it is stored as
// image.json beside the tree, written last.
type ImageInfo struct {
	Format  int       `json:"format"`
	Maker   uint32    `json:"maker"` // of the lists it was made by
	Name    string    `json:"name"`
	Key     string    `json:"key"`
	Owner   Ownership `json:"owner"`
	Created time.Time `json:"created"`
	Files   int64     `json:"files"` // inodes, directories and links included
	Bytes   int64     `json:"bytes"` // sum of file sizes
	// Binds are the host's directories that are to be bound read-only over
	// the same paths of the tree, which has an empty directory for each.
	// Empty for all images but "host".
	Binds []string `json:"binds,omitempty"`
	// Shell is the best shell in the image, "" when there is none.
	Shell string `json:"shell,omitempty"`
	// Notes tell what the host lacked or what could not be copied.
	Notes []string `json:"notes,omitempty"`

	// The rest is known of imported images only, and was said by strangers: it
	// is quoted where it is printed.

	// Digest is the image's own (ValidDigest): of the config for docker and OCI
	// images, of the tar stream or the tree for others.
	Digest string `json:"digest,omitempty"`
	// Source is what it was made from, for display.
	Source string       `json:"source,omitempty"`
	Layers []LayerInfo  `json:"layers,omitempty"` // lowest first
	Config *ImageConfig `json:"config,omitempty"`
}

// LayerInfo is one layer of an imported image; its files are only in the tree.
type LayerInfo struct {
	Digest    string `json:"digest,omitempty"`  // of the blob as it came, compressed or not
	DiffID    string `json:"diff_id,omitempty"` // of the uncompressed tar
	Size      int64  `json:"size"`              // of the blob, bytes
	MediaType string `json:"media_type,omitempty"`
}

// ImageConfig is what an image says about how it is to be run: the part that is
// used of the OCI image configuration. It is as untrusted as the files.
type ImageConfig struct {
	Env          []string          `json:"env,omitempty"` // NAME=VALUE
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	User         string            `json:"user,omitempty"` // NAME|UID[:GROUP|GID]
	Labels       map[string]string `json:"labels,omitempty"`
	Architecture string            `json:"architecture,omitempty"` // GOARCH
	OS           string            `json:"os,omitempty"`           // GOOS
	Variant      string            `json:"variant,omitempty"`
	Created      time.Time         `json:"created,omitzero"`
}

// Stage is the part of a long work that a Progress tells about.
type Stage string

// The stages in their order. A build that finds another one at work begins
// with StageWait.
const (
	StageWait Stage = "wait" // another process builds the same image
	StageScan Stage = "scan" // finding out what is to be copied
	StageCopy Stage = "copy"
	// StageUnpack is the one of an import.
	StageUnpack Stage = "unpack"
)

// Progress is the state of a build or copy. Totals are 0 while unknown.
type Progress struct {
	Stage      Stage `json:"stage"`
	Files      int64 `json:"files"`
	Bytes      int64 `json:"bytes"`
	TotalFiles int64 `json:"total_files"`
	TotalBytes int64 `json:"total_bytes"`
}

// Method is a way to copy the data of a file.
type Method string

const (
	// CopyReflink shares the blocks until one side writes (FICLONE,
	// ioctl_ficlonerange(2)); a file system that cannot is an error
	// (EOPNOTSUPP, EXDEV or EINVAL).
	CopyReflink Method = "reflink"
	// CopyFull copies every byte, in the kernel where that works.
	CopyFull Method = "full"
)
