package unpack

import (
	"context"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// smallFile is the size in bytes up to which a file is handed over to a
	// writer.
	smallFile = 64 << 10
	// Small files go to the writers in batches: to wake another thread costs
	// as much as to write one. batchFiles bounds the open files as well.
	batchFiles = 32
	batchBytes = 256 << 10
	// fileWriters is how many write, and batches how many are on their way.
	fileWriters = 2
	batches     = 4
)

// written is an open file that is to get its data and attributes.
type written struct {
	name string
	fd   int
	a    attributes
	data []byte
}

// batch is a number of files with their data in one buffer.
type batch struct {
	files []written
	buf   []byte
}

// writers are the goroutines that write small files while the archive is read
// on. Names are made in the order of the archive by the reader; data and
// attributes go through descriptors, so it does not matter when.
type writers struct {
	jobs chan *batch
	free chan *batch
	open *batch // being filled
	wg   sync.WaitGroup
}

func (f *writers) start(ctx context.Context, u *unpacker) {
	f.jobs, f.free = make(chan *batch, batches), make(chan *batch, batches)
	for range batches {
		f.free <- &batch{files: make([]written, 0, batchFiles), buf: make([]byte, 0, batchBytes)}
	}
	for range fileWriters {
		f.wg.Go(func() {
			for b := range f.jobs {
				for _, w := range b.files {
					if err := u.write(ctx, w); err != nil {
						u.fail(wrapEntry(w.name, err))
					}
				}
				b.files, b.buf = b.files[:0], b.buf[:0]
				f.free <- b
			}
		})
	}
}

// write gives one file all it lacks, unless the layer has failed, and closes it.
func (u *unpacker) write(ctx context.Context, w written) error {
	defer unix.Close(w.fd)
	if ctx.Err() != nil {
		return nil
	}
	if err := writeAt(w.fd, w.data, 0); err != nil {
		return err
	}
	return u.finish(w)
}

// add reads the data of a small file and has it written at some time. It owns
// the descriptor.
func (f *writers) add(ctx context.Context, w written, size int, in io.Reader) error {
	if f.open != nil && (len(f.open.files) == batchFiles || len(f.open.buf)+size > batchBytes) {
		f.flush()
	}
	if f.open == nil {
		f.open = <-f.free
	}
	b := f.open
	from := len(b.buf)
	b.buf = b.buf[:from+size]
	w.data = b.buf[from:]
	if _, err := io.ReadFull(in, w.data); err != nil {
		unix.Close(w.fd)
		return explainRead(err)
	}
	b.files = append(b.files, w)
	return context.Cause(ctx)
}

func (f *writers) flush() {
	if f.open != nil {
		f.jobs <- f.open
		f.open = nil
	}
}

// stop hands over the rest and waits for the writers.
func (f *writers) stop() {
	f.flush()
	close(f.jobs)
	f.wg.Wait()
}
