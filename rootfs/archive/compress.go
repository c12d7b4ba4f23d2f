package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/rootfs/unpack"
)

// compression is how a stream is compressed.
type compression string

const (
	plain      compression = ""
	gzipped    compression = "gzip"
	xzipped    compression = "xz"
	zstandard  compression = "zstd"
	bzipped    compression = "bzip2"
	maxWindow              = 128 << 20 // what zstd itself and xz -9 ask for at most
	readBuffer             = 256 << 10 // bytes
)

// name is for messages.
func (c compression) name() string {
	if c == plain {
		return "uncompressed"
	}
	return string(c)
}

// compressionOf looks at the first bytes of a stream.
func compressionOf(head []byte) compression {
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case has("\x1f\x8b\x08"):
		return gzipped
	case has("\xfd7zXZ\x00"):
		return xzipped
	case has("\x28\xb5\x2f\xfd"), len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.HasPrefix(head[1:], []byte("\x2a\x4d\x18")):
		return zstandard // a frame, or a skippable one before it
	case has("BZh") && len(head) >= 10 && head[3] >= '1' && head[3] <= '9' &&
		(bytes.Equal(head[4:10], []byte("\x31\x41\x59\x26\x53\x59")) || bytes.Equal(head[4:10], []byte("\x17\x72\x45\x38\x50\x90"))):
		return bzipped
	}
	return plain
}

// decompress wraps a stream. Each decoder goes on over several members that
// stand behind each other, as pigz, pixz and zstd write them.
//
// None of them has anything to be closed: zstd's has no goroutines with a
// concurrency of 1.
func decompress(in *bufio.Reader, how compression) (io.Reader, error) {
	var r io.Reader
	var err error
	switch how {
	case plain:
		r = in
	case gzipped:
		r, err = newMembers(in)
	case bzipped:
		r = bzip2.NewReader(in)
	case xzipped:
		if err = checkXZ(in); err == nil {
			r, err = xz.NewReader(in)
		}
	case zstandard:
		r, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxWindow))
	default:
		err = errors.New("unknown compression (please report this)")
	}
	if err != nil {
		return nil, explainDecoder(how, err)
	}
	return &decoder{r, how}, nil
}

// decoder says in its errors what was being decoded.
type decoder struct {
	io.Reader
	how compression
}

func (d *decoder) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && err != io.EOF && d.how != plain { //nolint:errorlint // io.Reader's contract
		err = explainDecoder(d.how, err)
	}
	return n, err
}

// explainDecoder tells a stream that ends early from one that is damaged, and
// from an error of the disk or the pipe, which has an errno.
func explainDecoder(how compression, err error) error {
	var errno unix.Errno
	var p *problem
	var limit *unpack.LimitError
	switch {
	case errors.As(err, &p):
		return err
	case errors.As(err, &limit):
		return limit
	case errors.As(err, &errno):
		return fmt.Errorf("read it: %w", errno)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return fault(unix.EINVAL, "its %s data ends too early: it was cut off", how.name())
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fault(unix.EFBIG, "its zstd data asks for a window of more than %d MiB; compress it again without --ultra or --long", maxWindow>>20)
	default:
		return fault(unix.EINVAL, "its %s data is damaged: %v", how.name(), err)
	}
}

// checkXZ looks at the dictionary size of the first block: the decoder takes as
// much memory as it says, up to 4 GiB. Later blocks are only bounded by the
// limit on the process. The layout is that of xz-file-format.txt 1.2, sections
// 2.1.1 and 3.1: 12 bytes of stream header, then header size, flags, two optional
// numbers, and the filters.
func checkXZ(in *bufio.Reader) error {
	head, _ := in.Peek(64)
	if len(head) < 24 || head[12] == 0 { // an empty stream has an index there
		return nil
	}
	flags, rest := head[13], head[14:]
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size
		for flags&bit != 0 && len(rest) > 0 {
			more := rest[0]&0x80 != 0
			rest = rest[1:]
			if !more {
				break
			}
		}
	}
	if len(rest) < 3 || flags&0x03 != 0 || rest[0] != 0x21 || rest[1] != 1 {
		return fault(unix.EINVAL, "its xz data uses a filter for programs (BCJ, delta), which is not supported; compress it again with plain xz")
	}
	if bits := rest[2]; bits > 40 || xzDictionary(bits) > maxWindow {
		return fault(unix.EFBIG, "its xz data asks for a dictionary of more than %d MiB; compress it again with xz -9 or less", maxWindow>>20)
	}
	return nil
}

// xzDictionary is section 5.3.1 of the format.
func xzDictionary(bits byte) int64 {
	return (2 | int64(bits&1)) << (bits/2 + 11)
}
