package archive

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/unpack"
)

// digest is one of the form that rootfs.ValidDigest asks for. No string becomes
// a digest, and no digest a path, without parseDigest.
type digest string

func parseDigest(what, s string) (digest, error) {
	if !rootfs.ValidDigest(s) {
		return "", fault(unix.EINVAL, "%s has the digest %s, which is not sha256: with 64 or sha512: with 128 hexadecimal digits", what, shown(s))
	}
	return digest(s), nil
}

// path is where a layout keeps the blob.
func (d digest) path() string { return "blobs/" + strings.Replace(string(d), ":", "/", 1) }

// digits are what stands behind the colon.
func (d digest) digits() string {
	_, digits, _ := strings.Cut(string(d), ":")
	return digits
}

// short is for messages.
func (d digest) short() string {
	kind, digits, _ := strings.Cut(string(d), ":")
	return kind + ":" + digits[:12]
}

// hasher makes a hash of the digest's kind; sha256 without one.
func (d digest) hasher() hash.Hash {
	if strings.HasPrefix(string(d), "sha512:") {
		return sha512.New()
	}
	return sha256.New()
}

// sumOf is the digest of what h was fed, in the form of the digest like.
func sumOf(h hash.Hash, like digest) digest {
	kind := "sha256:"
	if strings.HasPrefix(string(like), "sha512:") {
		kind = "sha512:"
	}
	return digest(kind + hex.EncodeToString(h.Sum(nil)))
}

// meter hashes and counts what is read through it. The count may be asked for
// from another goroutine.
type meter struct {
	in    io.Reader
	hash  hash.Hash // nil: only counted
	count atomic.Int64
	total *atomic.Int64 // of the image's compressed data; nil: not bounded
	max   int64         // bytes of total
}

// bound adds what was read, and will be, to total, which may come up to max.
func (m *meter) bound(total *atomic.Int64, max int64) {
	total.Add(m.count.Load())
	m.total, m.max = total, max
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.in.Read(p)
	if n > 0 && m.hash != nil {
		m.hash.Write(p[:n])
	}
	m.count.Add(int64(n))
	if m.total != nil && m.total.Add(int64(n)) > m.max {
		return 0, &unpack.LimitError{Limit: unpack.LimitCompressed, Max: m.max}
	}
	return n, err
}
