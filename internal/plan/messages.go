package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// The supervisor and pid 1 talk over one SOCK_SEQPACKET pair, a JSON object a
// packet. End of file is the other side's death.
//
//	supervisor                             pid 1
//	    │   (clone; the plan lies in a memfd)  │
//	    ├── go ───────────────────────────────►│ the id maps are written
//	    │◄───────────────────── terminal +fd ──┤ the pty's master, with a terminal only
//	    │◄────────── failed {stage, errno} ────┤ or
//	    │◄────────────────── started {…} ──────┤ execve succeeded
//	    ├── signal {n} ───────────────────────►│ to the payload's process group
//	    │◄────────────────────────── stopped ──┤ the payload was stopped (Ctrl-Z)
//	    ├── kill ─────────────────────────────►│ end everything
//	    │◄────────────────────── exited {…} ───┤ then pid 1 kills what is left and exits
//
// "started" is explicit: a pipe that closes is what a death looks like too.
type Message struct {
	Op string `json:"op"`

	Signal int `json:"signal,omitempty"` // signal, exited, stopped

	// failed: the index in Plan.Stages, the text that stands before the errno
	// where it is finer than the stage's, and the errno, 0 when there is none.
	Stage int    `json:"stage,omitempty"`
	Text  string `json:"text,omitempty"`
	Errno int    `json:"errno,omitempty"`
	// NotFound and NotRunnable tell why the program itself could not be executed.
	NotFound    bool `json:"notFound,omitempty"`
	NotRunnable bool `json:"notRunnable,omitempty"`

	// started
	SHA256 string `json:"sha256,omitempty"` // of the program, when it was copied in
	Copy   string `json:"copy,omitempty"`   // how the root was copied

	// exited
	Status int `json:"status,omitempty"`
	// Leftover is set when pid 1 could not empty the sandbox's directory.
	Leftover bool `json:"leftover,omitempty"`
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
)

// The descriptors that pid 1 is born with, behind 0, 1 and 2 of the payload.
const (
	FDControl = 3 + iota // the socket
	FDPlan               // a memfd with the Plan as JSON
	FDSandbox            // the sandbox's directory in the store
	FDProgram            // the program, or /dev/null when it is inside already
)

// maxMessage bounds a packet in bytes; what exceeds it is an error of sbx.
const maxMessage = 64 << 10

// Conn is one end of the socket.
type Conn struct{ fd int }

// NewConn wraps the descriptor, which stays the caller's to close.
func NewConn(fd int) Conn { return Conn{fd: fd} }

// Send writes one message, with a descriptor when fd is not negative.
func (c Conn) Send(m Message, fd int) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message %s: %w", m.Op, err)
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
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
// descriptor that came along is -1 for none.
func (c Conn) Receive() (m Message, fd int, err error) {
	data := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4))
	var n, rn int
	for {
		n, rn, _, _, err = unix.Recvmsg(c.fd, data, rights, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) {
		return m, -1, io.EOF
	}
	if err != nil {
		return m, -1, fmt.Errorf("receive: %w", err)
	}
	if n == 0 {
		return m, -1, io.EOF
	}
	fd = receivedFD(rights[:rn])
	if err := json.Unmarshal(data[:n], &m); err != nil {
		return m, fd, fmt.Errorf("decode message: %w", err)
	}
	return m, fd, nil
}

func receivedFD(rights []byte) int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}
