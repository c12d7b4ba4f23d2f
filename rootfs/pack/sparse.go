package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// region is a part of a file that has data, from one offset up to another.
type region struct{ from, to int64 }

// sparseFrom is the size in bytes from which on holes are looked for.
const sparseFrom = 64 << 10

// maxRegions bounds the map of one file: readers of archives take 1 MiB. The
// rest of a file with more holes is written in full.
const maxRegions = 16384

// regions finds the data of a file with holes; nil means that it has none, or
// that the file system does not tell (lseek(2), SEEK_DATA).
func regions(fd int, st *unix.Stat_t) ([]region, error) {
	if st.Size < sparseFrom || st.Blocks*512 >= st.Size {
		return nil, nil
	}
	list := []region{}
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		hole := st.Size
		if len(list) < maxRegions-1 {
			if hole, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
				return nil, err
			}
		}
		list = append(list, region{data, min(hole, st.Size)})
		at = hole
	}
	if len(list) == 1 && list[0] == (region{0, st.Size}) {
		return nil, nil
	}
	return list, nil
}

// sparse writes a file with holes in the sparse format 1.0 of GNU tar: a map of
// the data as decimal numbers, one a line, and then the data, one region after
// the other. archive/tar reads this format and does not write it, so both headers
// are made here.
//
// The format is in the manual of GNU tar, "Storing Sparse Files".
func (w *Writer) sparse(ctx context.Context, fd int, hdr *tar.Header, data []region) error {
	if len(data) == 0 || data[len(data)-1].to < hdr.Size {
		data = append(data, region{hdr.Size, hdr.Size}) // as GNU tar marks a hole at the end
	}
	var list strings.Builder
	stored := int64(0)
	fmt.Fprintf(&list, "%d\n", len(data))
	for _, r := range data {
		fmt.Fprintf(&list, "%d\n%d\n", r.from, r.to-r.from)
		stored += r.to - r.from
	}
	list.WriteString(strings.Repeat("\x00", int(-list.Len()&511)))
	stored += int64(list.Len())

	dir, base := path.Split(hdr.Name)
	records := map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": hdr.Name,
		"GNU.sparse.realsize": strconv.FormatInt(hdr.Size, 10),
		"size":                strconv.FormatInt(stored, 10),
		"uid":                 strconv.Itoa(hdr.Uid),
		"gid":                 strconv.Itoa(hdr.Gid),
		"mtime":               paxTime(hdr),
	}
	maps.Copy(records, hdr.PAXRecords)
	stand := path.Join(dir, "GNUSparseFile.0", base) // the name for readers that know no sparse files
	if err := w.raw('x', stand, 0o644, paxRecords(records)); err != nil {
		return err
	}
	w.stats.Entries++
	if err := w.rawHeader(tar.TypeReg, stand, hdr.Mode, stored); err != nil {
		return err
	}
	// archive/tar goes on from here as if the file were one of its own.
	return w.rawData(ctx, fd, list.String(), data)
}

// paxRecords is the body of an extended header: "LENGTH KEY=VALUE\n" each, the
// length with its own digits.
func paxRecords(records map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(records)) {
		rest := " " + key + "=" + records[key] + "\n"
		size := len(rest) + len(strconv.Itoa(len(rest)))
		if len(rest)+len(strconv.Itoa(size)) > size {
			size++
		}
		b.WriteString(strconv.Itoa(size) + rest)
	}
	return b.String()
}

// paxTime is a time as seconds with nine digits behind the point.
func paxTime(hdr *tar.Header) string {
	sec, nsec := hdr.ModTime.Unix(), hdr.ModTime.Nanosecond()
	if sec < 0 && nsec > 0 {
		sec, nsec = sec+1, 1_000_000_000-nsec
		if sec == 0 {
			return fmt.Sprintf("-0.%09d", nsec)
		}
	}
	return fmt.Sprintf("%d.%09d", sec, nsec)
}

// raw writes an entry of a few bytes.
func (w *Writer) raw(kind byte, name string, mode int64, body string) error {
	if err := w.rawHeader(kind, name, mode, int64(len(body))); err != nil {
		return err
	}
	_, err := w.out.WriteString(body + strings.Repeat("\x00", -len(body)&511))
	return err
}

// rawHeader writes one block in the form of POSIX.1-1988 (ustar). What does not
// fit into it is in the extended header before it.
func (w *Writer) rawHeader(kind byte, name string, mode, size int64) error {
	if err := w.tar.Flush(); err != nil { // the padding of the entry before
		return err
	}
	var block [512]byte
	field := func(at, length int, text string) { copy(block[at:at+length], text) }
	octal := func(at, length int, n int64) {
		if s := fmt.Sprintf("%0*o", length-1, n); len(s) < length {
			field(at, length, s)
		} else {
			field(at, length, strings.Repeat("7", length-1))
		}
	}
	field(0, 100, name)
	octal(100, 8, mode)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, size)
	octal(136, 12, 0)
	field(148, 8, "        ")
	block[156] = kind
	field(257, 8, "ustar\x0000")
	sum := int64(0)
	for _, b := range block {
		sum += int64(b)
	}
	field(148, 8, fmt.Sprintf("%06o\x00 ", sum))
	_, err := w.out.Write(block[:])
	return err
}

// rawData writes the map and the regions behind a header of rawHeader.
func (w *Writer) rawData(ctx context.Context, fd int, list string, data []region) error {
	if _, err := w.out.WriteString(list); err != nil {
		return err
	}
	size := int64(0)
	for _, r := range data {
		if err := w.copyRegion(ctx, w.out, fd, r); err != nil {
			return err
		}
		size += r.to - r.from
	}
	_, err := w.out.WriteString(strings.Repeat("\x00", int(-size&511)))
	return err
}
