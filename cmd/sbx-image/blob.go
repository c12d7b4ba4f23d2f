package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/pull"
)

// parallel is how many blobs are fetched at once.
const parallel = 4

// stallTime is how long a body may send nothing before the connection is given up for dead.
const stallTime = 60 * time.Second

var errStalled = errors.New("nothing was sent for a long time")

// progress that earns a broken download another round of tries, in bytes: a server that sends a byte and breaks off shall not
// keep us for ever.
const worthwhile = 256 << 10

// part is a blob on its way: a file in the pool that has its first bytes, and their hash.
type part struct {
	file   *os.File
	want   v1.Descriptor
	offset int64
	top    int64 // the highest offset so far
	sum    hash.Hash
	done   *atomic.Int64 // of all blobs together
}

// blob fetches a blob into the pool, or the rest of it when a part is there, and calls ready while the file is locked: later
// it may be removed. Another process that fetches the same one is waited for. It returns the bytes that were there before.
func (c *client) blob(ctx context.Context, pool *os.File, want v1.Descriptor, done *atomic.Int64, ready func(*os.File) error) (resumed int64, err error) {
	file, err := openPart(ctx, pool, blobName(want))
	if err != nil {
		return 0, fmt.Errorf("write the download: %w", err)
	}
	defer file.Close() // and with it the lock
	p := &part{file: file, want: want, sum: sha256.New(), done: done}
	if err := p.readBack(ctx); err != nil {
		return 0, err
	}
	resumed = p.offset
	for {
		if err := c.complete(ctx, p); err != nil {
			return 0, err
		}
		if p.matches() {
			return resumed, ready(file)
		}
		if err := p.restart(); err != nil {
			return 0, err
		}
		if resumed == 0 {
			_ = unix.Unlinkat(int(pool.Fd()), blobName(want), 0)
			return 0, &pull.Failure{Kind: pull.Digest, Text: fmt.Sprintf("%s sends something else than the blob %s", c.repository.RegistryStr(), want.Digest)}
		}
		resumed = 0 // what was there was wrong: once more from the beginning
	}
}

// blobName is the name of a blob in the pool.
func blobName(d v1.Descriptor) string { return d.Digest.Algorithm + "-" + d.Digest.Hex }

// openPart opens the file of a blob and locks it. While one waits for the lock, the file may go: the other one had all of it,
// made the image, and removed it.
func openPart(ctx context.Context, pool *os.File, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(pool.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		file := os.NewFile(uintptr(fd), name)
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		var own, there unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &own)
		}
		if err == nil && unix.Fstatat(int(pool.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil && own.Ino == there.Ino {
			if own.Mode&unix.S_IFMT == unix.S_IFREG {
				return file, nil
			}
			err = unix.EINVAL
		}
		file.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// readBack hashes what is there from an earlier try.
func (p *part) readBack(ctx context.Context) error {
	size, err := p.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the download: %w", unwrapPath(err))
	}
	if size > p.want.Size {
		return p.restart()
	}
	buffer := make([]byte, 256<<10)
	for p.offset < size {
		n, err := p.file.ReadAt(buffer[:min(int64(len(buffer)), size-p.offset)], p.offset)
		if n == 0 {
			return fmt.Errorf("read the download: %w", unwrapPath(err))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.take(buffer[:n])
	}
	p.top = p.offset
	return nil
}

func (p *part) take(data []byte) {
	p.sum.Write(data)
	p.offset += int64(len(data))
	p.done.Add(int64(len(data)))
}

// restart forgets what was there.
func (p *part) restart() error {
	p.done.Add(-p.offset)
	p.offset = 0
	p.sum.Reset()
	if err := p.file.Truncate(0); err != nil {
		return fmt.Errorf("write the download: %w", unwrapPath(err))
	}
	return nil
}

func (p *part) matches() bool {
	return p.offset == p.want.Size && hex.EncodeToString(p.sum.Sum(nil)) == p.want.Digest.Hex
}

// complete fetches until the blob has its size. The tries are counted anew each time that some real part has come.
func (c *client) complete(ctx context.Context, p *part) error {
	for p.offset < p.want.Size {
		err := c.retry(ctx, underWay, func() error {
			before := p.top
			err := c.rest(ctx, p)
			p.top = max(p.top, p.offset)
			if err != nil && p.top-before >= worthwhile && transient(err, underWay) {
				return nil
			}
			return err
		})
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return c.explain(err, fmt.Sprintf("the blob %s of %s", p.want.Digest, c.repository.RepositoryStr()))
		}
	}
	return nil
}

// rest asks once for what is missing. The file keeps what has come, whatever happens.
func (c *client) rest(ctx context.Context, p *part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{}
	if p.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", p.offset))
	}
	response, err := c.get(ctx, "/v2/"+c.repository.RepositoryStr()+"/blobs/"+p.want.Digest.String(), header)
	if err != nil {
		return c.rangeRefused(err, p)
	}
	defer response.Body.Close()
	if p.offset > 0 && !continues(response, p.offset) {
		if err := p.restart(); err != nil {
			return err
		}
	}
	if length := response.ContentLength; length >= 0 && p.offset+length != p.want.Size {
		return &pull.Failure{Kind: pull.Digest, Text: fmt.Sprintf("%s sends %d bytes of the blob %s, which has %d",
			c.repository.RegistryStr(), p.offset+length, p.want.Digest, p.want.Size)}
	}
	dead := time.AfterFunc(c.stall, func() { cancel(errStalled) })
	defer dead.Stop()
	err = p.receive(response.Body, func() { dead.Reset(c.stall) })
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// continues says whether an answer begins where the part ends. A server may not know ranges, and sends all of it.
func continues(response *http.Response, offset int64) bool {
	return response.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(response.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(offset, 10)+"-")
}

// rangeRefused begins anew where the server has no bytes from there on.
func (c *client) rangeRefused(err error, p *part) error {
	if statusOf(err) != http.StatusRequestedRangeNotSatisfiable || p.offset == 0 {
		return err
	}
	if e := p.restart(); e != nil {
		return e
	}
	return errStalled // counts as a try
}

// receive writes a body behind what is there, and not a byte more than the blob has.
func (p *part) receive(body io.Reader, alive func()) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := body.Read(buffer)
		alive()
		if n > 0 && p.offset+int64(n) > p.want.Size {
			return &pull.Failure{Kind: pull.Digest, Text: fmt.Sprintf("the registry sends more than the %d bytes of the blob %s", p.want.Size, p.want.Digest)}
		}
		if n > 0 {
			if _, err := p.file.WriteAt(buffer[:n], p.offset); err != nil {
				return &pull.Failure{Kind: pull.Local, Text: fmt.Sprintf("write the download to the store: %v", unwrapPath(err)), Errno: errnoOf(err)}
			}
			p.take(buffer[:n])
		}
		switch {
		case errors.Is(err, io.EOF) && p.offset < p.want.Size:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// statusOf is the status of an answer that is an error, or 0.
func statusOf(err error) int {
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}
