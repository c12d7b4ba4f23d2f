package pull

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Protocol is the version of the exchange. Both programs are built from one tree; the number catches an old sbx-image that
// was left beside a new sbx.
const Protocol = 1

// The helper's descriptors, see the package comment.
const (
	PoolFD   = 3
	LayoutFD = 4
)

// maxLine bounds one line of the exchange in bytes.
const maxLine = 64 << 10

// Platform is one of those that an image is made for, in the words of Go: linux, amd64, v8.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// String is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT.
func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Limits bound what is fetched. Each must be above 0.
type Limits struct {
	// Bytes is the sum of the sizes of all layers as they are sent, compressed that is.
	Bytes int64 `json:"bytes"`
	// Layers is their number.
	Layers int `json:"layers"`
	// MinFree is what must stay free on the disk of the store, in bytes.
	MinFree int64 `json:"min_free"`
}

// DefaultLimits are those of a pull without flags. Those that an import has too are the same as there.
func DefaultLimits() Limits { return Limits{Bytes: 32 << 30, Layers: 128, MinFree: 256 << 20} }

// Request is what sbx asks of the helper.
type Request struct {
	Protocol int      `json:"protocol"`
	Source   Source   `json:"source"`
	Platform Platform `json:"platform"`
	// PlainHTTP asks for http in place of https, SkipVerify for https without a look at the certificate. Neither follows
	// from the address of the registry.
	PlainHTTP  bool `json:"plain_http,omitempty"`
	SkipVerify bool `json:"skip_verify,omitempty"`
	// CAFile is the absolute path of certificates in PEM that are trusted beside the system's, AuthFile the one of a file of
	// credentials that is used in place of all others.
	CAFile   string `json:"ca_file,omitempty"`
	AuthFile string `json:"auth_file,omitempty"`
	Limits   Limits `json:"limits"`
	// Have are the digests of the configurations of images that need not be fetched: some of those, if they are many.
	Have []string `json:"have,omitempty"`
}

// maxHave keeps the request's line within its bound.
const maxHave = 400

// Event is one thing that the helper says. Exactly one field is set.
type Event struct {
	Progress *Progress `json:"progress,omitempty"`
	Result   *Result   `json:"result,omitempty"`
	Failure  *Failure  `json:"failure,omitempty"`
}

// Progress is the state of a download. Totals are 0 before the manifest is known.
type Progress struct {
	Bytes       int64 `json:"bytes"` // those of earlier tries included
	TotalBytes  int64 `json:"total_bytes"`
	Layers      int   `json:"layers"` // that are complete
	TotalLayers int   `json:"total_layers"`
	// Waiting says why nothing moves: a pause before another try.
	Waiting string `json:"waiting,omitempty"`
}

// Result is what was fetched.
type Result struct {
	// Top is the digest of what the registry has under the name: of the image's manifest, or of an index of several
	// platforms' manifests.
	Top string `json:"top"`
	// Manifest is the digest of the image's manifest, which is the only one in the layout's index.
	Manifest string   `json:"manifest"`
	Platform Platform `json:"platform"`
	Bytes    int64    `json:"bytes"`   // sum of the layers' sizes
	Resumed  int64    `json:"resumed"` // of which were there from an earlier try
	Layers   int      `json:"layers"`
	// Known is the one of the request's digests that the image turned out to have. Its layers were not fetched.
	Known string `json:"known,omitempty"`
	// Unconfined names what the helper could not put on itself on this kernel.
	Unconfined []string `json:"unconfined,omitempty"`
}

// Kind tells what went wrong.
type Kind string

// The kinds of failures.
const (
	Unauthorized Kind = "unauthorized" // the registry wants other credentials, or none of them may do this
	NotFound     Kind = "not-found"    // the registry has no such image, tag or digest
	Network      Kind = "network"      // the registry, or the proxy, cannot be reached
	TLS          Kind = "tls"          // no encrypted connection that can be trusted
	RateLimit    Kind = "rate-limit"   // the registry answers with 429 for too long
	Registry     Kind = "registry"     // the registry answers with an error, or with what is no answer
	Digest       Kind = "digest"       // what was sent is not what was asked for
	NoPlatform   Kind = "platform"     // the image is not made for this platform
	Unsupported  Kind = "unsupported"  // the image is of a kind that sbx does not know, or must not follow
	TooLarge     Kind = "limit"        // more than a limit allows
	Credentials  Kind = "credentials"  // a file of credentials, or a credential helper, cannot be used
	Local        Kind = "local"        // the store, a file of certificates, or the machine
)

// Failure is why nothing was fetched. Its text may hold words of the registry: quote it before it is printed.
type Failure struct {
	Kind  Kind       `json:"kind"`
	Text  string     `json:"text"`
	Errno unix.Errno `json:"errno,omitempty"`
}

// Error is the text.
func (f *Failure) Error() string { return f.Text }

// Unwrap makes errors.Is work with an errno across the border of processes.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// ReadRequest reads the request line, of at most 64 KiB.
func ReadRequest(r io.Reader) (Request, error) {
	line, err := readLine(r)
	if err != nil {
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	var q Request
	if err := json.Unmarshal(line, &q); err != nil {
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	if q.Protocol != Protocol {
		return Request{}, fmt.Errorf("sbx speaks version %d of the exchange and sbx-image version %d: build both from one tree", q.Protocol, Protocol)
	}
	return q, nil
}

// readLine reads byte by byte: what follows the line belongs to someone else.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
		if line = append(line, one[0]); len(line) > maxLine {
			return nil, fmt.Errorf("more than %d bytes", maxLine)
		}
	}
}

// errNoEnd: the helper's output ended before it said how it went.
var errNoEnd = errors.New("the output of the helper ends early")

// follow reads events until a result or a failure. The helper handles what strangers send, so nothing it says is taken
// unchecked.
func follow(r io.Reader, progress func(Progress)) (Result, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return Result{}, fmt.Errorf("read what the helper says: %w", err)
		}
		switch {
		case e.Progress != nil:
			if progress != nil {
				progress(*e.Progress)
			}
		case e.Failure != nil:
			return Result{}, e.Failure
		case e.Result != nil:
			for _, digest := range []string{e.Result.Top, e.Result.Manifest} {
				if err := CheckDigest(digest); err != nil {
					return Result{}, fmt.Errorf("read what the helper says: %w", err)
				}
			}
			return *e.Result, nil
		default:
			return Result{}, errors.New("read what the helper says: a line without a meaning")
		}
	}
	if err := lines.Err(); err != nil {
		return Result{}, fmt.Errorf("read what the helper says: %w", err)
	}
	return Result{}, errNoEnd
}
