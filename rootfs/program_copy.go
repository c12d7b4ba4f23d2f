package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"

	"golang.org/x/sys/unix"
)

// copyChunk is the size of one read and write in bytes: large enough that the
// calls cost nothing, small enough for the processor's cache.
const copyChunk = 512 << 10

// plainChunk is the size without a hash, where sendfile(2) is not to be had. The
// buffer is new memory, of which each page costs a fault, and larger ones are no
// quicker.
const plainChunk = 128 << 10

// ErrProgramChanged says that a program was written to while it was copied, so
// that the copy is neither the old one nor the new one.
var ErrProgramChanged = errors.New("the file changed while it was copied")

// ProgramFromFile takes over a regular file that is open already, in another
// process than the one that called [OpenProgram], only for [Program.CopyTo]:
// what kind of program it is was judged there. The file must stay open as long
// as the Program is used.
func ProgramFromFile(f *os.File, path string) (*Program, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", shown(path), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("copy %s: it is no regular file any more: %w", shown(path), unix.ESTALE)
	}
	return &Program{File: f, Path: path, Size: st.Size, Dev: st.Dev, Ino: st.Ino, mtime: st.Mtim}, nil
}

// CopyTo writes the program to dst, at its current offset, and returns the
// SHA-256 of the written bytes in hex. It reads by the descriptor that was
// opened, each byte once: what is hashed is what is written. A program whose
// size, time of change or content length is no longer what [OpenProgram] saw is
// [ErrProgramChanged]; dst is then to be thrown away. The mode of dst is left
// to the caller.
func (p *Program) CopyTo(dst *os.File) (sha256hex string, err error) {
	sum := sha256.New()
	if err := p.copyHashed(dst, sum); err != nil {
		return "", fmt.Errorf("copy %s: %w", shown(p.Path), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// CopyUnhashed is [Program.CopyTo] for those who have no use for the hash, which
// costs as much as the copy. dst has to be empty; holes stay holes.
func (p *Program) CopyUnhashed(dst *os.File) error {
	fd := int(p.File.Fd())
	err := p.copyData(dst, fd)
	if err == nil {
		err = p.unchanged(fd)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", shown(p.Path), err)
	}
	return nil
}

func (p *Program) copyData(dst *os.File, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Blocks*512+holeSize <= p.Size {
		return new(dataCopier).copySparse(int(dst.Fd()), fd, p.Size, newBuffer())
	}
	off, err := p.send(dst, fd)
	if err == nil && off < p.Size {
		err = p.copyPlain(dst, fd, off)
	}
	return err
}

// send copies inside of the kernel (sendfile(2)) and returns how far it came: not
// every file system gives its pages away.
func (p *Program) send(dst *os.File, fd int) (off int64, err error) {
	for off < p.Size {
		// The call moves the offset itself.
		n, err := unix.Sendfile(int(dst.Fd()), fd, &off, int(min(p.Size-off, maxSend)))
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			return off, nil
		case err != nil:
			return off, err
		case n == 0:
			return off, ErrProgramChanged
		}
	}
	return off, nil
}

// maxSend is how much one sendfile(2) moves, in bytes: the kernel takes no signal
// meanwhile.
const maxSend = 16 << 20

func (p *Program) copyPlain(dst *os.File, fd int, off int64) error {
	buf := make([]byte, min(plainChunk, p.Size-off))
	for off < p.Size {
		chunk := buf[:min(plainChunk, p.Size-off)]
		if err := p.readChunk(fd, chunk, off); err != nil {
			return err
		}
		if _, err := dst.Write(chunk); err != nil {
			return err
		}
		off += int64(len(chunk))
	}
	return nil
}

func (p *Program) copyHashed(dst *os.File, sum hash.Hash) error {
	fd := int(p.File.Fd())
	if p.Size <= copyChunk {
		buf := make([]byte, p.Size)
		if err := p.readChunk(fd, buf, 0); err != nil {
			return err
		}
		sum.Write(buf)
		if _, err := dst.Write(buf); err != nil {
			return err
		}
		return p.unchanged(fd)
	}

	// Hashing and copying cost about the same, so the hash of a chunk is taken
	// while the chunk is written.
	var bufs [2][]byte
	bufs[0], bufs[1] = make([]byte, copyChunk), make([]byte, copyChunk)
	chunks, hashed := make(chan []byte), make(chan struct{})
	go func() {
		for chunk := range chunks {
			sum.Write(chunk)
			hashed <- struct{}{}
		}
		close(hashed)
	}()
	err := p.copyChunks(fd, dst, bufs, chunks, hashed)
	close(chunks)
	<-hashed
	if err != nil {
		return err
	}
	return p.unchanged(fd)
}

// copyChunks reads each chunk, hands it to the hashing goroutine and writes it
// meanwhile.
func (p *Program) copyChunks(fd int, dst *os.File, bufs [2][]byte, chunks chan<- []byte, hashed <-chan struct{}) error {
	for off, i := int64(0), 0; off < p.Size; i++ {
		chunk := bufs[i%2][:min(copyChunk, p.Size-off)]
		if err := p.readChunk(fd, chunk, off); err != nil {
			return err
		}
		chunks <- chunk
		_, err := dst.Write(chunk)
		<-hashed
		if err != nil {
			return err
		}
		off += int64(len(chunk))
	}
	return nil
}

func (p *Program) readChunk(fd int, buf []byte, off int64) error {
	n, err := fdReader(fd).ReadAt(buf, off)
	if n < len(buf) && (err == nil || !isErrno(err)) {
		return ErrProgramChanged
	}
	return err
}

func isErrno(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno)
}

// unchanged compares the file with what OpenProgram saw.
func (p *Program) unchanged(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Size != p.Size || st.Mtim != p.mtime {
		return ErrProgramChanged
	}
	return nil
}
