package cgroupv2

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// manager is a service manager on a socket. A real one is asked in the guests.
type manager struct {
	f *fake
	// direct managers know neither names nor subscriptions.
	direct bool
	// result is that of jobs, refuse an error's name for calls.
	result, refuse string
	// delegates is the answer about units; early has the signal precede the reply.
	delegates, early bool
	calls            []string
	scope            string
}

// userDir is where the fake user's scopes are.
func (f *fake) userDir() string {
	uid := strconv.Itoa(f.uid)
	return "/user.slice/user-" + uid + ".slice/user@" + uid + ".service/app.slice"
}

// newUserHost makes a host on which a shell shares a terminal's scope with the caller.
func newUserHost(t *testing.T) *fake {
	t.Helper()
	f := newFake(t, "/init.scope", "cpu", "memory", "pids")
	f.add(f.userDir() + "/terminal.scope")
	f.place(f.userDir()+"/terminal.scope", fakePid)
	f.place(f.userDir()+"/terminal.scope", 17)
	return f
}

func (f *fake) runtime() string { return filepath.Join(f.run, "user", strconv.Itoa(f.uid)) }

// listenOn opens a socket below /run/user/UID, until the end of the test.
func (f *fake) listenOn(t *testing.T, socket string) net.Listener {
	t.Helper()
	path := filepath.Join(f.runtime(), socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// listen starts the manager on such a socket.
func (m *manager) listen(t *testing.T, socket string) {
	t.Helper()
	listener := m.f.listenOn(t, socket)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if err := m.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("manager: %v", err)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
}

func (m *manager) serve(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	for _, line := range [][2]string{
		{"\x00AUTH\r\n", "REJECTED KERBEROS_V4 EXTERNAL\r\n"},
		{"AUTH EXTERNAL\r\n", "DATA\r\n"},
		{"DATA\r\n", "OK 0123456789abcdef\r\n"}, // whom the kernel names
		{"BEGIN\r\n", ""},
	} {
		if said, err := in.ReadString('\n'); said != line[0] {
			return errors.Join(errors.New("greeted with "+strconv.Quote(said)), err)
		}
		if _, err := io.WriteString(c, line[1]); err != nil {
			return err
		}
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

func (m *manager) answer(c io.Writer, call *dbus.Message) error {
	if err := call.IsValid(); err != nil {
		return err
	}
	if call.Flags&dbus.FlagNoAutoStart == 0 && call.Headers[dbus.FieldDestination].Value() == managerName {
		return errors.New("the call may start a service")
	}
	member := call.Headers[dbus.FieldMember].Value().(string)
	m.calls = append(m.calls, member)
	if m.refuse != "" && member != "Hello" {
		return send(c, dbus.TypeError, call, map[dbus.HeaderField]any{dbus.FieldErrorName: m.refuse}, "no, "+member)
	}
	switch member {
	case "Hello":
		// A bus tells of the new name before it answers.
		err := send(c, dbus.TypeSignal, nil, map[dbus.HeaderField]any{
			dbus.FieldPath: dbus.ObjectPath("/org/freedesktop/DBus"), dbus.FieldInterface: "org.freedesktop.DBus",
			dbus.FieldMember: "NameAcquired",
		}, ":1.7")
		return errors.Join(err, send(c, dbus.TypeMethodReply, call, nil, ":1.7"))
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
	var properties []struct {
		Name  string
		Value dbus.Variant
	}
	var aux []struct {
		Name       string
		Properties []struct {
			Name  string
			Value dbus.Variant
		}
	}
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
	job := dbus.ObjectPath("/org/freedesktop/systemd1/job/5")
	end := func() error {
		if m.result == "done" {
			m.f.add(m.f.userDir() + "/" + name)
			m.f.place(m.f.userDir()+"/"+name, fakePid)
		}
		return errors.Join(
			m.jobRemoved(c, "/org/freedesktop/systemd1/job/4", "failed"), // somebody else's
			m.jobRemoved(c, job, m.result),
		)
	}
	if m.early {
		return errors.Join(end(), send(c, dbus.TypeMethodReply, call, nil, job))
	}
	return errors.Join(send(c, dbus.TypeMethodReply, call, nil, job), end())
}

func (m *manager) jobRemoved(c io.Writer, job dbus.ObjectPath, result string) error {
	return send(c, dbus.TypeSignal, nil, map[dbus.HeaderField]any{
		dbus.FieldPath: dbus.ObjectPath(managerPath), dbus.FieldInterface: managerIface, dbus.FieldMember: jobRemoved,
	}, uint32(5), job, "x.scope", result)
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
