package reaper

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The descriptors that it is executed with, behind 0, 1 and 2.
const (
	// Control is its end of a SOCK_SEQPACKET pair. It ends when the other end
	// is closed.
	Control = 3
	// Children is a signalfd(2) for SIGCHLD, without blocking.
	Children = 4
	// Mounts is the payload's mount namespace, and Lock the sandbox's lock. They
	// are only held, for as long as anything runs in the sandbox.
	Mounts = 5
	Lock   = 6
)

// maxCode is more than the code has, in bytes.
const maxCode = 4096

// text returns the instructions.
func text() []byte {
	// The address is the linker's, in the text segment; nothing moves it. By way
	// of a variable, as vet takes a number for a pointer only then.
	at := entry()
	memory := unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), maxCode)
	mark := []byte{endMark0, endMark1, endMark2, endMark3, endMark0, endMark1, endMark2, endMark3}
	n := bytes.Index(memory, mark)
	return bytes.Clone(memory[:max(n, 0)])
}

// Image is the program as a file: an ELF header, one segment, and the code.
func Image() []byte {
	const (
		address    = 0x400000
		headerSize = 64
		entrySize  = 56
		page       = 0x10000 // the largest of any arm64 kernel
	)
	body := text()
	begin := uint64(headerSize + entrySize)
	size := begin + uint64(len(body))
	order := binary.NativeEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0} // 64 bits, little-endian, version 1
	for _, v := range []uint16{2, machine} {                             // ET_EXEC
		b = order.AppendUint16(b, v)
	}
	b = order.AppendUint32(b, 1)
	for _, v := range []uint64{address + begin, headerSize, 0} { // entry, program headers, no sections
		b = order.AppendUint64(b, v)
	}
	b = order.AppendUint32(b, 0)
	for _, v := range []uint16{headerSize, entrySize, 1, 0, 0, 0} {
		b = order.AppendUint16(b, v)
	}
	for _, v := range []uint32{1, 5} { // PT_LOAD, readable and executable
		b = order.AppendUint32(b, v)
	}
	for _, v := range []uint64{0, address, address, size, size, page} {
		b = order.AppendUint64(b, v)
	}
	return append(b, body...)
}

// Open returns a descriptor of the program, close-on-exec, that nobody can write
// to, for execveat(2).
func Open() (int, error) {
	fd, err := unix.MemfdCreate("sbx-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3, where every memfd could be executed
		fd, err = unix.MemfdCreate("sbx-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err == unix.EACCES {
		return -1, fmt.Errorf("make pid 1's program: %w; the sysctl vm.memfd_noexec is 2 on this host, and has to be 1 or 0", err)
	}
	if err != nil {
		return -1, fmt.Errorf("make pid 1's program: %w", err)
	}
	image := Image()
	n, err := unix.Write(fd, image)
	if err == nil && n < len(image) {
		err = unix.ENOSPC
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("write pid 1's program: %w", err)
	}
	return fd, nil
}
