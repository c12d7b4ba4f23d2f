package plan

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a control socket; they are closed with the test.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

func TestMessagesArriveAsSent(t *testing.T) {
	a, b := pair(t)
	sent := []Message{
		{Op: MsgKill},
		{Op: MsgSignal, Signal: 15},
		{Op: MsgFailed, Stage: 7, Text: "mount \xff\n", Errno: int(unix.EPERM), NotFound: true, NotRunnable: true},
		{Op: MsgStarted, SHA256: "abc", Copy: CopyOverlay},
		{Op: MsgExited, Status: 255, Signal: 9, Leftover: true},
	}
	for _, m := range sent {
		if err := NewConn(a).Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range sent { // packets keep their borders
		got, fds, err := NewConn(b).Receive()
		if err != nil || got != want || len(fds) != 0 {
			t.Errorf("%+v, %v, %v; want %+v", got, fds, err, want)
		}
	}
}

func TestDescriptorsComeAlong(t *testing.T) {
	a, b := pair(t)
	var files [goDescriptors]*os.File
	var fds []int
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(strings.Repeat("x", i)); err != nil {
			t.Fatal(err)
		}
		files[i], fds = f, append(fds, int(f.Fd()))
	}
	if err := NewConn(a).Send(Message{Op: MsgGo}, fds...); err != nil {
		t.Fatal(err)
	}
	_, got, err := NewConn(b).Receive()
	if err != nil || len(got) != goDescriptors {
		t.Fatalf("%d descriptors, %v", len(got), err)
	}
	for i, fd := range got {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Size != int64(i) {
			t.Errorf("descriptor %d has size %d, %v", i, st.Size, err)
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d would survive execve (flags %d, %v)", i, flags, err)
		}
		unix.Close(fd)
	}
}

func TestDeathIsEndOfFile(t *testing.T) {
	for _, unread := range []bool{false, true} {
		a, b := pair(t)
		if unread { // then the kernel says ECONNRESET instead
			if err := NewConn(b).Send(Message{Op: MsgKill}); err != nil {
				t.Fatal(err)
			}
		}
		dup, err := unix.Dup(b)
		if err != nil {
			t.Fatal(err)
		}
		// The pair's cleanup closes what then has this number again.
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup3(null, b, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Close(null)
		unix.Close(dup)
		if unread {
			_, _, _ = NewConn(a).Receive() // what was sent still comes first
		}
		if _, _, err := NewConn(a).Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("unread %t: %v, want end of file", unread, err)
		}
		if err := NewConn(a).Send(Message{Op: MsgKill}); !errors.Is(err, unix.EPIPE) {
			t.Errorf("unread %t: sending to nobody gives %v, want EPIPE and no signal", unread, err)
		}
	}
}

func TestForeignPacketsAreErrors(t *testing.T) {
	for name, data := range map[string][]byte{
		"not ours":       []byte(`{"op":"go"}`),
		"cut short":      Encode(&Message{Op: MsgExited})[:3],
		"with a tail":    append(Encode(&Message{Op: MsgExited}), 0),
		"a huge length":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"over the bound": bytes.Repeat([]byte{1}, maxMessage+1),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			if err := unix.Sendmsg(a, data, nil, nil, 0); err != nil {
				t.Fatal(err)
			}
			if m, _, err := NewConn(b).Receive(); err == nil {
				t.Errorf("was taken for %+v", m)
			}
		})
	}
}

// What a hostile program can make long in a message is an error's text. It must
// arrive as an error and not be lost.
func TestLongTextsArrive(t *testing.T) {
	a, b := pair(t)
	long := strings.Repeat("x", 40<<10)
	if err := NewConn(a).Send(Message{Op: MsgFailed, Text: long}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := NewConn(b).Receive(); err != nil || m.Text != long {
		t.Errorf("%d bytes, %v", len(m.Text), err)
	}
}
