package cgroupv2

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// manager is a service manager on a socket. It reads and writes messages one by one,
// with what the same library has for that.
type manager struct {
	f *fake
	// direct managers know neither names nor subscriptions.
	direct bool
	// result is that of jobs, refuse an error's name for calls.
	result, refuse string
	// delegates is the answer about units; early has the signal precede the reply.
	delegates, early bool
	// instead is done for a method, or for "AUTH", in place of what a manager does.
	instead map[string]func(c net.Conn, call *dbus.Message) error
	calls   []string
	scope   string
}

// errOver ends a connection that a test is through with.
var errOver = errors.New("over")

// listen starts the manager on a socket below /run/user/UID. The function that it
// returns waits for its end.
func (m *manager) listen(t *testing.T, socket string) (end func()) {
	t.Helper()
	path := filepath.Join(m.f.runtime(), socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if err := m.serve(c); !isEnd(err) {
				t.Errorf("manager: %v", err)
			}
			_ = c.Close()
		}
	}()
	end = func() {
		_ = listener.Close()
		<-done
	}
	t.Cleanup(end)
	return end
}

// isEnd tells whether an error is one of a peer that went away.
func isEnd(err error) bool {
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, errOver)
}

func (m *manager) serve(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // guests are slow
	in := bufio.NewReader(c)
	if do := m.instead["AUTH"]; do != nil {
		return do(c, nil)
	}
	if err := authenticate(c, in); err != nil {
		return err
	}
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return err
		}
		if err := m.answer(c, call); err != nil {
			return err
		}
	}
}

// authenticate is the manager's side, as the D-Bus specification has it.
func authenticate(c io.Writer, in *bufio.Reader) error {
	for _, step := range [][2]string{
		{"\x00AUTH\r\n", "REJECTED EXTERNAL DBUS_COOKIE_SHA1 ANONYMOUS\r\n"},
		{"AUTH EXTERNAL\r\n", "DATA\r\n"},
		{"DATA\r\n", "OK 0123456789abcdef\r\n"},
		{"BEGIN\r\n", ""},
	} {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line != step[0] {
			return fmt.Errorf("%q instead of %q", line, step[0])
		}
		if _, err := io.WriteString(c, step[1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *manager) answer(c net.Conn, call *dbus.Message) error {
	if err := call.IsValid(); err != nil {
		return err
	}
	if call.Type != dbus.TypeMethodCall {
		return errors.New("a " + call.Type.String() + " arrived")
	}
	if call.Headers[dbus.FieldDestination].Value() != "org.freedesktop.DBus" && call.Flags&dbus.FlagNoAutoStart == 0 {
		return errors.New("the call may start a service")
	}
	member := call.Headers[dbus.FieldMember].Value().(string)
	m.calls = append(m.calls, member)
	if do := m.instead[member]; do != nil {
		return do(c, call)
	}
	if m.refuse != "" && member != "Hello" {
		return send(c, dbus.TypeError, call, map[dbus.HeaderField]any{dbus.FieldErrorName: m.refuse}, "no, "+member)
	}
	switch member {
	case "Hello":
		// A bus tells of the new name before it answers.
		return errors.Join(ofBus(c, "NameAcquired", ":1.7"), send(c, dbus.TypeMethodReply, call, nil, ":1.7"))
	case "AddMatch":
		return send(c, dbus.TypeMethodReply, call, nil)
	case "Get":
		return send(c, dbus.TypeMethodReply, call, nil, dbus.MakeVariant(m.delegates))
	case "StartTransientUnit":
		return m.start(c, call)
	}
	return errors.New("called " + member)
}

func (m *manager) start(c io.Writer, call *dbus.Message) error {
	var name, mode string
	var properties []property
	var aux []auxiliaryUnit
	if err := dbus.Store(call.Body, &name, &mode, &properties, &aux); err != nil {
		return err
	}
	values := map[string]any{}
	for _, p := range properties {
		values[p.Name] = p.Value.Value()
	}
	pids, _ := values["PIDs"].([]uint32)
	if mode != "fail" || values["Delegate"] != true || len(pids) != 1 || pids[0] != 0 || len(aux) != 0 {
		return errors.New("asked for another unit than a delegated scope of the sender")
	}
	m.scope = name
	end := func() error {
		if m.result == "done" {
			m.f.add(m.f.userDir() + "/" + name)
			m.f.place(m.f.userDir()+"/"+name, fakePid)
		}
		return errors.Join(
			jobEnd(c, "/org/freedesktop/systemd1/job/4", "failed"), // somebody else's
			jobEnd(c, theJob, m.result),
		)
	}
	if m.early {
		return errors.Join(end(), send(c, dbus.TypeMethodReply, call, nil, theJob))
	}
	return errors.Join(send(c, dbus.TypeMethodReply, call, nil, theJob), end())
}

const theJob = dbus.ObjectPath("/org/freedesktop/systemd1/job/5")

func jobEnd(c io.Writer, job dbus.ObjectPath, result string) error {
	return ofManager(c, uint32(5), job, "x.scope", result)
}

// ofManager sends the signal that a job has ended, with any values.
func ofManager(c io.Writer, body ...any) error {
	return send(c, dbus.TypeSignal, nil, map[dbus.HeaderField]any{
		dbus.FieldPath: dbus.ObjectPath(managerPath), dbus.FieldInterface: managerIface, dbus.FieldMember: jobRemoved,
	}, body...)
}

// ofBus sends a signal of the bus itself.
func ofBus(c io.Writer, member string, body ...any) error {
	return send(c, dbus.TypeSignal, nil, map[dbus.HeaderField]any{
		dbus.FieldPath: dbus.ObjectPath("/org/freedesktop/DBus"), dbus.FieldInterface: "org.freedesktop.DBus",
		dbus.FieldMember: member, dbus.FieldSender: "org.freedesktop.DBus",
	}, body...)
}

// send writes a message, in answer to a call if there is one.
func send(c io.Writer, kind dbus.Type, call *dbus.Message, fields map[dbus.HeaderField]any, body ...any) error {
	m := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{}, Body: body}
	for field, value := range fields {
		m.Headers[field] = dbus.MakeVariant(value)
	}
	if call != nil {
		m.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(call.Serial())
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	return m.EncodeTo(c, binary.BigEndian) // the order that is not sent
}
