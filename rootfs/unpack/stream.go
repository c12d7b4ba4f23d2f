package unpack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readAhead is the size in bytes of the buffer over the archive: a header
	// is 512 bytes, and a system call for each would be felt.
	readAhead = 256 << 10
	// freeEvery is after how many bytes of the stream the disk is looked at.
	freeEvery = 64 << 20
	// progressEvery is how often the caller hears of progress.
	progressEvery = 100 * time.Millisecond
)

// stream counts what is read of a layer and ends it at a limit or when the
// context ends.
type stream struct {
	ctx   context.Context // of one call of Layer, in which the stream lives
	in    io.Reader
	opt   *Options
	lim   *Limits
	st    *State
	read  int64 // of this layer
	since int64 // since the disk was looked at
	fd    int   // on the disk
	told  time.Time
}

// Read is io.Reader's.
func (s *stream) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	n, err := s.in.Read(p)
	s.read += int64(n)
	s.since += int64(n)
	s.st.Stream += int64(n)
	if s.st.Stream > s.lim.Bytes {
		return 0, &LimitError{LimitBytes, s.lim.Bytes}
	}
	if s.opt.Compressed != nil && s.read > ratioFrom {
		if s.read/s.lim.Ratio > s.opt.Compressed() {
			return 0, &LimitError{LimitRatio, s.lim.Ratio}
		}
	}
	if s.since > freeEvery {
		if err := s.wantFree(0); err != nil {
			return 0, err
		}
	}
	s.tell()
	return n, err
}

// wantFree refuses to take size bytes more when MinFree would not stay free, or
// when there are next to no inodes left.
func (s *stream) wantFree(size int64) error {
	s.since = 0
	return WantFree(s.fd, s.lim.MinFree, size)
}

// WantFree refuses to take size bytes more on the file system of the descriptor
// fd when minFree bytes would not stay free ([LimitMinFree]), or when it has next
// to no inodes left.
func WantFree(fd int, minFree, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("look at the free space: %w", err)
	}
	// Bavail may be more than an int64 of bytes on file systems of the network.
	free := fs.Bavail
	if need := uint64(max(minFree, 0)) + uint64(size); free < need/uint64(fs.Bsize)+1 {
		return &LimitError{LimitMinFree, minFree}
	}
	if fs.Files > 0 && fs.Ffree < 64 {
		return refuse(unix.ENOSPC, "the file system has no inodes left")
	}
	return nil
}

func (s *stream) tell() {
	if s.opt.Progress == nil {
		return
	}
	if now := time.Now(); now.Sub(s.told) >= progressEvery {
		s.told = now
		s.opt.Progress(s.st.Entries, s.st.Stream)
	}
}

// blockSize is the unit of a tar stream in bytes.
const blockSize = 512

// blocks notices whether what was read last was a whole block of zeros, of
// which two end an archive.
type blocks struct {
	in   *bufio.Reader
	zero bool
}

// Read is io.Reader's. Blocks are not torn by the chunks in which they come.
func (b *blocks) Read(p []byte) (int, error) {
	if len(p) > blockSize {
		b.zero = false
		return b.in.Read(p)
	}
	n, err := io.ReadFull(b.in, p)
	if n > 0 {
		b.zero = n == blockSize && isZero(p)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil // told by the next call
		}
	}
	return n, err
}
