package plan

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// The supervisor and pid 1 talk over one SOCK_SEQPACKET pair, a message a
// packet. End of file is the other side's death.
//
//	supervisor                             pid 1
//	    │   (clone)                            │
//	    ├── go +fds ──────────────────────────►│ the id maps are written; the plan
//	    │◄───────────────────── terminal +fd ──┤ the pty's master, with a terminal only
//	    ├── terminal ────────────────────────►│ it has its size and modes
//	    │◄────────── failed {stage, errno} ────┤ or
//	    │◄────────────────── started {…} ──────┤ execve succeeded
//	    ├── signal {n} ───────────────────────►│ to the payload's process group
//	    │◄────────────────────────── stopped ──┤ the payload was stopped (Ctrl-Z)
//	    ├── kill ─────────────────────────────►│ end everything
//	    │◄────────────────────── exited {…} ───┤ then pid 1 kills what is left and exits
//
// "started" is explicit: a pipe that closes is what a death looks like too.
type Message struct {
	Op string

	Signal int // signal, exited, stopped

	// failed: the index in Plan.Stages, the text that stands before the errno
	// where it is finer than the stage's, and the errno, 0 when there is none.
	Stage int
	Text  string
	Errno int
	// NotFound and NotRunnable tell why the program itself could not be executed.
	NotFound    bool
	NotRunnable bool

	// started
	SHA256 string // of the program, when it was copied in
	Copy   string // how the root was copied

	// exited
	Status int
	// Leftover is set when pid 1 could not empty the sandbox's directory.
	Leftover bool
}

// The operations of a [Message].
const (
	MsgGo       = "go"
	MsgSignal   = "signal"
	MsgKill     = "kill"
	MsgTerminal = "terminal"
	MsgFailed   = "failed"
	MsgStarted  = "started"
	MsgStopped  = "stopped"
	MsgExited   = "exited"
	MsgView     = "view" // of a worker: the descriptor of a root
)

// The descriptors that come with go, in this order: the payload's 0, 1 and 2, a
// memfd with the plan, the sandbox's directory, and the program. What there is
// none of is /dev/null.
const (
	GoStdin = iota
	GoStdout
	GoStderr
	GoPlan
	GoSandbox
	GoProgram
	goDescriptors
)

// FDControl is the socket, the one descriptor behind 0, 1 and 2 that pid 1 is
// born with. A worker has two more, see [FDJob].
const FDControl = 3

// maxMessage bounds a packet in bytes; what exceeds it is an error of sbx.
const maxMessage = 64 << 10

// Conn is one end of the socket.
type Conn struct{ fd int }

// NewConn wraps the descriptor, which stays the caller's to close.
func NewConn(fd int) Conn { return Conn{fd: fd} }

// Send writes one message, and descriptors with it.
func (c Conn) Send(m Message, fds ...int) error {
	data := Encode(&m)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var err error
	for {
		err = unix.Sendmsg(c.fd, data, rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("send message %s: %w", m.Op, err)
	}
	return nil
}

// Receive blocks for the next message; io.EOF when the other side is gone. The
// descriptors that came along are close-on-exec and the caller's.
func (c Conn) Receive() (m Message, fds []int, err error) {
	data := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*goDescriptors))
	var n, rn int
	for {
		n, rn, _, _, err = unix.Recvmsg(c.fd, data, rights, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) {
		return m, nil, io.EOF
	}
	if err != nil {
		return m, nil, fmt.Errorf("receive: %w", err)
	}
	if n == 0 {
		return m, nil, io.EOF
	}
	fds = receivedFDs(rights[:rn])
	if err := Decode(data[:n], &m); err != nil {
		return m, fds, fmt.Errorf("decode message: %w", err)
	}
	return m, fds, nil
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
