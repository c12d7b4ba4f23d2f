package archive

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// members reads the members of gzip data, one behind the other. Unlike
// compress/gzip it takes zeros behind the last one, with which some programs fill
// up a block, as gzip(1) does.
type members struct {
	in  *bufio.Reader
	one *gzip.Reader
}

func newMembers(in *bufio.Reader) (*members, error) {
	one, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	one.Multistream(false)
	return &members{in, one}, nil
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.one.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			if errors.Is(err, io.EOF) {
				err = nil // told by the next call
			}
			return n, err
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}

// next begins with the next member; io.EOF is that there is none.
func (m *members) next() error {
	zeros := false
	for {
		head, err := m.in.Peek(1)
		switch {
		case err != nil:
			return err
		case head[0] == 0:
			zeros = true
			_, _ = m.in.Discard(1) // it is in the buffer
		case zeros || head[0] != 0x1f:
			return fault(unix.EINVAL, "its gzip data is followed by something else")
		default:
			if err := m.one.Reset(m.in); err != nil {
				return err
			}
			m.one.Multistream(false)
			return nil
		}
	}
}
