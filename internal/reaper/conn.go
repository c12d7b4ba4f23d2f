package reaper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Op says what a packet means.
type Op uint32

// The conversation of the supervisor and pid 1. End of file is the other side's
// death.
//
//	supervisor                             pid 1
//	    │   (clone)                            │
//	    ├── Go +fds ──────────────────────────►│ the id maps are written
//	    │◄───────────────────── Terminal +fd ──┤ the pty's master, with a terminal only
//	    ├── Terminal ────────────────────────►│ it has its size and modes
//	    │   (pid 1 becomes this program)       │
//	    ├── Reap {pid} ───────────────────────►│ the payload has been executed
//	    ├── Signal {n} ───────────────────────►│ to the payload's process group, or to it alone if it has left that
//	    │◄────────────────────── Stopped {n} ──┤ the payload was stopped (Ctrl-Z)
//	    ├── Kill ─────────────────────────────►│ end everything
//	    │◄─────────────────── Exited {status} ─┤ nothing else runs; pid 1 exits
//
// What pid 1 cannot do before it is this program needs no packet: until then it
// runs in the supervisor's memory, see package vfork.
const (
	Go       Op = 1
	Terminal Op = 2
	Reap     Op = 3
	Signal   Op = 4
	Kill     Op = 5
	Stopped  Op = 6
	Exited   Op = 7

	View Op = 8 // of a worker, which begins with Go as well: the descriptor of a root
)

// Packet is one message: an operation and its number, 0 where it has none.
type Packet struct {
	Op    Op
	Value uint32
}

// maxFDs is how many descriptors come with a packet at most.
const maxFDs = 8

// Conn is one end of a SOCK_SEQPACKET pair.
type Conn struct{ fd int }

// NewConn wraps the descriptor, which stays the caller's to close.
func NewConn(fd int) Conn { return Conn{fd: fd} }

// Send writes one packet, and descriptors with it.
func (c Conn) Send(p Packet, fds ...int) error {
	data := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(p.Op)), p.Value)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(c.fd, data, rights, nil, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("send to pid 1: %w", err)
		default:
			return nil
		}
	}
}

// Receive blocks for the next packet; io.EOF when the other side is gone. The
// descriptors that came along are close-on-exec and the caller's.
func (c Conn) Receive() (p Packet, fds []int, err error) {
	var data [packetSize + 1]byte
	rights := make([]byte, unix.CmsgSpace(4*maxFDs))
	var n, rn int
	for {
		n, rn, _, _, err = unix.Recvmsg(c.fd, data[:], rights, unix.MSG_CMSG_CLOEXEC)
		// ECONNRESET says, once, that the other side has left an order unread
		// when it ended. What it has said before that is still to come.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNRESET) {
			break
		}
	}
	switch {
	case err == nil && n == 0:
		return p, nil, io.EOF
	case err != nil:
		return p, nil, fmt.Errorf("receive from pid 1: %w", err)
	}
	fds = receivedFDs(rights[:rn])
	if n != packetSize {
		return p, fds, fmt.Errorf("receive from pid 1: a packet of %d bytes: %w", n, unix.EPROTO)
	}
	return Packet{Op(binary.NativeEndian.Uint32(data[:])), binary.NativeEndian.Uint32(data[4:])}, fds, nil
}

func receivedFDs(rights []byte) []int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	return fds
}
