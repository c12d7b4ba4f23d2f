package cgroupv2

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// listen starts the manager on a socket below /run/user/UID.
func (m *manager) listen(t *testing.T, socket string) {
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

func TestFindScope(t *testing.T) {
	for _, c := range []struct {
		name   string
		socket string
		m      manager
		vars   func(*fake) map[string]string
		calls  string
	}{
		{
			name: "by the bus that the environment names", socket: "mybus",
			vars: func(f *fake) map[string]string {
				return map[string]string{"DBUS_SESSION_BUS_ADDRESS": "tcp:host=x;unix:path=" + f.runtime() + "/mybus,guid=1"}
			},
			calls: "Hello AddMatch StartTransientUnit",
		},
		{name: "by the usual bus, without variables", socket: "bus", calls: "Hello AddMatch StartTransientUnit"},
		{
			name: "past a bus that is gone", socket: "bus", calls: "Hello AddMatch StartTransientUnit",
			vars: func(f *fake) map[string]string {
				return map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + f.runtime() + "/gone"}
			},
		},
		{name: "by the manager's own socket", socket: "systemd/private", m: manager{direct: true}, calls: "StartTransientUnit"},
		{name: "whose job ends before the answer", socket: "bus", m: manager{early: true}, calls: "Hello AddMatch StartTransientUnit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newUserHost(t)
			c.m.f, c.m.result = f, "done"
			if c.vars != nil {
				f.vars = c.vars(f)
			}
			c.m.listen(t, c.socket)
			p, err := find(t.Context(), f.kernel(), []string{"memory", "pids"})
			if err != nil {
				t.Fatal(err)
			}
			if p.Rung != Scope || p.Unit != c.m.scope || p.Dir != f.dir(f.userDir()+"/"+c.m.scope) {
				t.Errorf("%+v", p)
			}
			if got := strings.Join(c.m.calls, " "); got != c.calls {
				t.Errorf("called %s", got)
			}
			if len(p.Tried) != 1 || !errors.Is(p.Tried[0].Err, errOccupied) {
				t.Errorf("tried %v", p.Tried)
			}
			if got := f.get(filepath.Join(p.Dir, supervisorDir, "cgroup.procs")); got != strconv.Itoa(fakePid) {
				t.Errorf("processes of the supervisor leaf: %q", got)
			}
			if _, err := p.NewLeaf(t.Context(), "one", Limits{Memory: 1 << 20}); err != nil {
				t.Error(err)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestScopeRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		m    manager
		want string
	}{
		{"by the manager", manager{refuse: "org.freedesktop.DBus.Error.AccessDenied"}, "no, StartTransientUnit"},
		{"a job that fails", manager{result: "failed"}, `the job ended with result "failed"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newUserHost(t)
			c.m.f, c.m.direct = f, true
			c.m.listen(t, "systemd/private")
			_, err := find(t.Context(), f.kernel(), nil)
			got := reasons(t, err)
			if !strings.Contains(got[Scope].Err.Error(), c.want) {
				t.Errorf("%v, not %q", got[Scope].Err, c.want)
			}
			if !strings.Contains(got[Scope].Err.Error(), "bus: no such file or directory") {
				t.Errorf("the other socket is not told of: %v", got[Scope].Err)
			}
		})
	}
}

// A service whose limits hold for what it starts is not left when it is delegated.
func TestDelegatedUnitOfUser(t *testing.T) {
	for _, delegated := range []bool{true, false} {
		f := newUserHost(t)
		f.add(f.userDir() + "/ci.service")
		f.place(f.userDir()+"/ci.service", fakePid)
		m := manager{f: f, delegates: delegated, result: "done"}
		m.listen(t, "bus")
		p, err := find(t.Context(), f.kernel(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]Rung{true: Own, false: Scope}[delegated]; p.Rung != want {
			t.Errorf("delegated %v: %s", delegated, p.Rung)
		}
	}
}

// A manager that does not answer costs no more time than the caller has.
func TestSilentManager(t *testing.T) {
	f := newUserHost(t)
	path := filepath.Join(f.runtime(), "bus")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := find(ctx, f.kernel(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A peer that does not speak the protocol, or stops in the middle, is a reason, and
// leaves no descriptor behind.
func TestBrokenManager(t *testing.T) {
	const greeting = "REJECTED EXTERNAL\r\nOK 0123456789abcdef\r\n"
	for name, said := range map[string]string{
		"closes at once":           "",
		"speaks another protocol":  "HTTP/1.1 400 Bad Request\r\n\r\n",
		"refuses the caller":       "REJECTED EXTERNAL\r\nREJECTED EXTERNAL\r\n",
		"offers no identity":       "REJECTED DBUS_COOKIE_SHA1\r\n",
		"says an empty line":       "\r\n",
		"closes after it greeted":  greeting,
		"sends rubbish":            greeting + strings.Repeat("rubbish", 1000),
		"begins a message":         greeting + "l\x02\x01\x01",
		"promises a large message": greeting + "l\x02\x01\x01\xff\xff\xff\x07\x01\x00\x00\x00\x08\x00\x00\x00",
		"promises an endless one":  greeting + "l\x02\x01\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			f := newUserHost(t)
			path := filepath.Join(f.runtime(), "systemd/private")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, said)
					_ = c.(*net.UnixConn).CloseWrite()
					_, _ = io.Copy(io.Discard, c) // until the other side gives up
					_ = c.Close()
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err = find(ctx, f.kernel(), nil)
			if got := reasons(t, err); !strings.Contains(got[Scope].Err.Error(), "connect to "+path) &&
				!strings.Contains(got[Scope].Err.Error(), "start the transient scope") {
				t.Errorf("%v", got[Scope].Err)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it was waited for: %v", err)
			}
			_ = listener.Close()
			select {
			case <-done:
			case <-ctx.Done():
				t.Error("a connection was left open")
			}
		})
	}
}
