package archive

import "io"

// ahead reads a stream in another goroutine, so that decompressing and hashing
// go on while files are written.
type ahead struct {
	full, free chan []byte
	stop       chan struct{}
	err        error // of the stream; read after full is closed
	rest, buf  []byte
}

// The chunks are few, and no larger than what the tar reader asks for.
const (
	chunks    = 4
	chunkSize = 256 << 10
)

func readAhead(in io.Reader) *ahead {
	a := &ahead{full: make(chan []byte, chunks), free: make(chan []byte, chunks), stop: make(chan struct{})}
	for range chunks {
		a.free <- make([]byte, chunkSize)
	}
	go a.fill(in)
	return a
}

func (a *ahead) fill(in io.Reader) {
	defer close(a.full)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.stop:
			return
		}
		n, err := io.ReadFull(in, buf)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF // a short last chunk; a stream that was cut off comes as another error
		}
		select {
		case a.full <- buf[:n]:
		case <-a.stop:
			return
		}
		if err != nil {
			a.err = err
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.buf != nil {
			a.free <- a.buf[:chunkSize]
			a.buf = nil
		}
		chunk, ok := <-a.full
		if !ok {
			if a.err == nil {
				return 0, io.ErrClosedPipe
			}
			return 0, a.err
		}
		a.buf, a.rest = chunk, chunk
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine, or has it end after the read that it is in: that of
// a pipe may take for ever, and nobody waits for it after an error.
func (a *ahead) Close() { close(a.stop) }
