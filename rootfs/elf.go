package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The numbers of elf(5) that are used here.
const (
	elfClass32, elfClass64 = 1, 2
	elfLittle, elfBig      = 1, 2

	elfTypeRel, elfTypeExec, elfTypeDyn, elfTypeCore = 1, 2, 3, 4

	elfLoad, elfDynamic, elfInterp = 1, 2, 3

	dtNull, dtNeeded, dtStrTab, dtStrSize, dtSoName, dtRPath = 0, 1, 5, 10, 14, 15
	dtRunPath, dtFlags1                                      = 29, 0x6ffffffb

	df1NoDefaultLibs = 0x800
	df1Pie           = 0x08000000

	elfHeaderSize64 = 64
	elfPhdrSize64   = 56
	elfDynSize64    = 16
)

// Limits on what a header may ask to be read. The kernel refuses program
// headers of more than 64 KiB itself; the largest dynamic sections of real
// programs have a few hundred entries.
const (
	maxPhdrBytes    = 64 << 10
	maxDynamicBytes = 256 << 10
	maxELFString    = 4096 // PATH_MAX; also the kernel's limit for PT_INTERP
	maxELFTexts     = 4096
	elfFirstRead    = 1024 // header and program headers of nearly every file
	strTabAtOnce    = 16 << 10
)

var (
	// ErrNotELF says that a file does not begin with the ELF magic.
	ErrNotELF = errors.New("not an ELF file")
	// ErrBadELF says that an ELF file is cut short or contradicts itself. The
	// wrapping error has the detail.
	ErrBadELF = errors.New("damaged ELF file")
)

// ELF is what the headers of an ELF file say about loading it; see elf(5). All
// text in it comes from the file and may be hostile.
type ELF struct {
	// Bits is 32 or 64. Of a 32-bit file nothing but Machine, Type and OSABI is
	// read.
	Bits int
	// BigEndian is true for the byte order EI_DATA = ELFDATA2MSB.
	BigEndian bool
	// Machine is e_machine.
	Machine uint16
	// Type is e_type.
	Type uint16
	// OSABI is EI_OSABI, 0 or 3 for Linux.
	OSABI byte
	// Interp is PT_INTERP, the dynamic loader; empty for a static program and
	// for a library.
	Interp string
	// Needed are the DT_NEEDED in their order.
	Needed []string
	// SoName, RPath and RunPath are DT_SONAME, DT_RPATH and DT_RUNPATH as they
	// stand, not expanded.
	SoName, RPath, RunPath string
	// NoDefaultLibs is DF_1_NODEFLIB: the default directories are not searched
	// for the needs of this object.
	NoDefaultLibs bool
	// Entry is e_entry.
	Entry uint64
	// PIE is DF_1_PIE: a position independent program, which is no library
	// although its Type says so.
	PIE bool
}

// ReadELF reads the headers of an ELF file, at most about 350 KiB of it, and
// never follows them outside the file. Errors are [ErrNotELF], [ErrBadELF]
// (wrapped) or what r returned.
func ReadELF(r io.ReaderAt) (*ELF, error) {
	head := make([]byte, elfFirstRead)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	head = head[:n]
	if !bytes.HasPrefix(head, []byte("\x7fELF")) {
		return nil, ErrNotELF
	}
	if len(head) < 20 {
		return nil, badELF("the header is cut short")
	}
	order, err := elfOrder(head[5])
	if err != nil {
		return nil, err
	}
	e := &ELF{
		BigEndian: head[5] == elfBig,
		OSABI:     head[7],
		Type:      order.Uint16(head[16:]),
		Machine:   order.Uint16(head[18:]),
	}
	switch head[4] {
	case elfClass32:
		e.Bits = 32
		return e, nil
	case elfClass64:
		e.Bits = 64
	default:
		return nil, badELF("neither 32 nor 64 bits")
	}
	f := elfFile{r: r, head: head, order: order}
	if err := f.readSegments(); err != nil {
		return nil, err
	}
	if err := f.fill(e); err != nil {
		return nil, err
	}
	return e, nil
}

func elfOrder(data byte) (binary.ByteOrder, error) {
	switch data {
	case elfLittle:
		return binary.LittleEndian, nil
	case elfBig:
		return binary.BigEndian, nil
	}
	return nil, badELF("neither byte order")
}

func badELF(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadELF, fmt.Sprintf(format, args...))
}

// elfFile is a 64-bit ELF file while it is read.
type elfFile struct {
	r     io.ReaderAt
	head  []byte // the first bytes, already read
	order binary.ByteOrder
	segs  []elfSegment
}

// elfSegment is a program header.
type elfSegment struct {
	kind             uint32
	off, vaddr, size uint64 // size in the file
}

// at returns n bytes of the file from off on. Little is read twice, since most
// files have everything that counts on their first page.
func (f *elfFile) at(off, n uint64) ([]byte, error) {
	if off+n >= off && off+n <= uint64(len(f.head)) {
		return f.head[off : off+n], nil
	}
	if off > 1<<62 {
		return nil, badELF("an offset lies outside of any file")
	}
	buf := make([]byte, n)
	got, err := f.r.ReadAt(buf, int64(off))
	switch {
	case got == len(buf):
		return buf, nil
	case err == io.EOF:
		return nil, badELF("the file ends before offset %d", off+n)
	default:
		return nil, err
	}
}

func (f *elfFile) readSegments() error {
	if len(f.head) < elfHeaderSize64 {
		return badELF("the header is cut short")
	}
	off := f.order.Uint64(f.head[32:])
	size, count := f.order.Uint16(f.head[54:]), f.order.Uint16(f.head[56:])
	if count == 0 {
		return nil // an object file that is not linked yet
	}
	total := uint64(count) * elfPhdrSize64
	if size != elfPhdrSize64 || total > maxPhdrBytes {
		return badELF("%d program headers of %d bytes", count, size)
	}
	table, err := f.at(off, total)
	if err != nil {
		return err
	}
	f.segs = make([]elfSegment, 0, count)
	for ; len(table) > 0; table = table[elfPhdrSize64:] {
		f.segs = append(f.segs, elfSegment{
			kind:  f.order.Uint32(table),
			off:   f.order.Uint64(table[8:]),
			vaddr: f.order.Uint64(table[16:]),
			size:  f.order.Uint64(table[32:]),
		})
	}
	return nil
}

// offset translates an address in memory to a place in the file by the segments
// that are loaded.
func (f *elfFile) offset(vaddr uint64) (off, rest uint64, ok bool) {
	for _, s := range f.segs {
		if s.kind == elfLoad && vaddr >= s.vaddr && vaddr-s.vaddr < s.size {
			return s.off + (vaddr - s.vaddr), s.size - (vaddr - s.vaddr), true
		}
	}
	return 0, 0, false
}

// fill reads PT_INTERP and the dynamic section into e. Of several, the kernel
// takes the first PT_INTERP and the loader the last PT_DYNAMIC.
func (f *elfFile) fill(e *ELF) error {
	e.Entry = f.order.Uint64(f.head[24:])
	var dynamic *elfSegment
	for i, s := range f.segs {
		switch {
		case s.kind == elfDynamic:
			dynamic = &f.segs[i]
		case s.kind == elfInterp && e.Interp == "":
			if err := f.readInterp(s, e); err != nil {
				return err
			}
		}
	}
	if dynamic == nil {
		return nil
	}
	return f.readDynamic(*dynamic, e)
}

func (f *elfFile) readInterp(s elfSegment, e *ELF) error {
	if s.size < 2 || s.size > maxELFString {
		return badELF("the name of the dynamic loader has %d bytes", s.size)
	}
	name, err := f.at(s.off, s.size)
	if err != nil {
		return err
	}
	text, _, ended := bytes.Cut(name, []byte{0})
	if !ended || len(text) == 0 {
		return badELF("the name of the dynamic loader has no end")
	}
	e.Interp = string(text)
	return nil
}
