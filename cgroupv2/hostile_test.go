package cgroupv2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

func wants(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, not %q", err, text)
	}
}

// instead is one way of a manager to do something else.
type instead = map[string]func(net.Conn, *dbus.Message) error

// reply answers a call with values.
func reply(body ...any) func(net.Conn, *dbus.Message) error {
	return func(c net.Conn, call *dbus.Message) error {
		return send(c, dbus.TypeMethodReply, call, nil, body...)
	}
}

// says writes a text, then another one for ever if there is one, and listens until it is left.
func says(text, again string) func(net.Conn, *dbus.Message) error {
	return func(c net.Conn, _ *dbus.Message) error {
		left := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, c)
			left <- err
		}()
		_, err := io.WriteString(c, text)
		for again != "" && err == nil {
			_, err = io.WriteString(c, strings.Repeat(again, 1+1<<16/len(again)))
		}
		if again == "" {
			err = errors.Join(err, c.(*net.UnixConn).CloseWrite())
		}
		return errors.Join(err, <-left, errOver)
	}
}

func refuses(name string, body ...any) func(net.Conn, *dbus.Message) error {
	return func(c net.Conn, call *dbus.Message) error {
		return send(c, dbus.TypeError, call, map[dbus.HeaderField]any{dbus.FieldErrorName: name}, body...)
	}
}

func closes(net.Conn, *dbus.Message) error { return errOver }

// header is the begin of a message that has bodies of any length.
func header(body, fields uint32) string {
	b := []byte{'l', byte(dbus.TypeMethodReply), 0, 1}
	b = binary.LittleEndian.AppendUint32(b, body)
	b = binary.LittleEndian.AppendUint32(b, 1)
	return string(binary.LittleEndian.AppendUint32(b, fields))
}

// Whatever a manager does ends in an error that tells of it, and nothing is left behind.
func TestHostileManager(t *testing.T) {
	const start = "StartTransientUnit"
	then := func(steps ...func(net.Conn, *dbus.Message) error) func(net.Conn, *dbus.Message) error {
		return func(c net.Conn, call *dbus.Message) error {
			for _, step := range steps {
				if err := step(c, call); err != nil {
					return err
				}
			}
			return nil
		}
	}
	ends := func(body ...any) func(net.Conn, *dbus.Message) error {
		return func(c net.Conn, _ *dbus.Message) error { return ofManager(c, body...) }
	}
	for _, c := range []struct {
		name string
		do   instead
		want string
	}{
		{"closes at once", instead{"AUTH": closes}, "/bus: "},
		{"has no way for us", instead{"AUTH": says("REJECTED DBUS_COOKIE_SHA1\r\n", "")}, errRefuse.Error()},
		{"refuses the identity", instead{"AUTH": says("REJECTED EXTERNAL\r\nREJECTED EXTERNAL\r\n", "")}, errRefuse.Error()},
		{"is no bus", instead{"AUTH": says("HTTP/1.1 400 Bad Request\r\n\r\n", "")}, errRefuse.Error()},
		{"says an empty line", instead{"AUTH": says("\r\n", "")}, errRefuse.Error()},
		{"asks without an end", instead{"AUTH": says("REJECTED EXTERNAL\r\nDATA\r\n", strings.Repeat("x", 9000)+"\r\n")}, "longer than"},
		{"has an endless line", instead{"AUTH": says("REJECTED ", "x")}, "longer than"},
		{"closes when greeted", instead{"Hello": closes}, "unexpected EOF"},
		{"says rubbish", instead{"Hello": says("lll", "x")}, "longer than"},
		{"has a message of 100 MiB", instead{"Hello": says(header(100<<20, 0)+"\x00", "\x00")}, "longer than"},
		{"has headers of 100 MiB", instead{"Hello": says(header(0, 60<<20)+"\x01\x01s\x00\x00\x00\x00\x03/", "a")}, "longer than"},
		{"has lengths that wrap around", instead{"Hello": says(header(1<<32-1, 1<<32-1), "\x00")}, "size limitation"},
		{"has a message that is cut", instead{"Hello": says(header(100, 0), "")}, "unexpected EOF"},
		{"gives no name", instead{"Hello": reply()}, "length mismatch"},
		{"gives a list of names", instead{"Hello": reply([]string{"a", "b"})}, "type mismatch"},
		{"refuses with a text", instead{start: refuses("org.a.No", "not today")}, "not today"},
		{"refuses without a text", instead{start: refuses("org.a.No")}, "org.a.No"},
		{"refuses with an empty text", instead{start: refuses("org.a.No", "")}, "org.a.No"},
		{"refuses with numbers", instead{start: refuses("org.a.No", uint32(1))}, "org.a.No"},
		{"refuses and closes", instead{start: then(refuses("org.a.No"), closes)}, "org.a.No"},
		{"closes without an answer", instead{start: closes}, "unexpected EOF"},
		{"answers with nothing", instead{start: reply()}, "no dbus.ObjectPath as value 1 of 1"},
		{"answers with a text", instead{start: reply("/a")}, "no dbus.ObjectPath as value 1 of 1"},
		{"closes after the answer", instead{start: then(reply(theJob), closes)}, "unexpected EOF"},
		{"tells numbers of the job", instead{start: then(reply(theJob), ends(uint32(5)))}, "no dbus.ObjectPath as value 2 of 4"},
		{"has a number as result", instead{start: then(reply(theJob), ends(uint32(5), theJob, "x", uint32(3)))}, "no string as value 4 of 4"},
		{"fails the job and closes", instead{start: then(reply(theJob), ends(uint32(5), theJob, "x", "failed"), closes)}, `result "failed"`},
		{"fails the job before the answer, and closes", instead{start: then(ends(uint32(5), theJob, "x", "failed"), reply(theJob), closes)}, `result "failed"`},
		{"tells of other jobs without an end", instead{start: func(c net.Conn, _ *dbus.Message) error {
			for {
				if err := ofManager(c, uint32(5), dbus.ObjectPath("/other"), strings.Repeat("x", 1<<12), "done"); err != nil {
					return err
				}
			}
		}}, "longer than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newUserHost(t)
			m := manager{f: f, result: "done", instead: c.do}
			over := watchLeaks(t)
			end := m.listen(t, "bus")
			err := f.kernel().newScope(t.Context(), "sbx-1.scope")
			wants(t, err, c.want)
			wants(t, err, "start the transient scope sbx-1.scope: ")
			end()
			over()
		})
	}
}

// What a bus may say besides is passed over: names that are none, at which the library
// panics, calls, descriptors, the ends of very many other jobs.
func TestTalkativeManager(t *testing.T) {
	f := newUserHost(t)
	m := manager{f: f, result: "done"}
	m.instead = instead{
		"Hello": func(c net.Conn, call *dbus.Message) error {
			return errors.Join(
				ofBus(c, "NameAcquired"), ofBus(c, "NameLost", uint32(1)), ofBus(c, "NameAcquired", ":1.7"),
				send(c, dbus.TypeMethodCall, nil, map[dbus.HeaderField]any{
					dbus.FieldPath: dbus.ObjectPath("/"), dbus.FieldMember: "Introspect", dbus.FieldInterface: "org.freedesktop.DBus.Introspectable",
				}),
				reply(":1.7")(c, call),
			)
		},
		"StartTransientUnit": func(c net.Conn, call *dbus.Message) error {
			for i := range 500 {
				if err := jobEnd(c, dbus.ObjectPath("/job/"+strconv.Itoa(i)), "failed"); err != nil {
					return err
				}
			}
			// A descriptor goes with the byte order of the answer.
			var answer bytes.Buffer
			fields := map[dbus.HeaderField]any{}
			if err := send(&answer, dbus.TypeMethodReply, call, fields, theJob); err != nil {
				return err
			}
			if _, _, err := c.(*net.UnixConn).WriteMsgUnix(answer.Bytes()[:1], unix.UnixRights(0), nil); err != nil {
				return err
			}
			if _, err := c.Write(answer.Bytes()[1:]); err != nil {
				return err
			}
			return errors.Join(inherited(), jobEnd(c, theJob, "done"))
		},
	}
	over := watchLeaks(t)
	end := m.listen(t, "bus")
	if err := f.kernel().newScope(t.Context(), "sbx-1.scope"); err != nil {
		t.Error(err)
	}
	end()
	over()
	if got := strings.Join(m.calls, " "); got != "Hello AddMatch StartTransientUnit" {
		t.Errorf("called %s", got)
	}
}

// inherited is an error if a socket of this process would be open in a program that it
// starts.
func inherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		fd, _ := strconv.Atoi(entry.Name())
		target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		flags, failed := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if fd > 2 && strings.HasPrefix(target, "socket:") && failed == nil && flags&unix.FD_CLOEXEC == 0 {
			err = errors.Join(err, fmt.Errorf("descriptor %d is inherited", fd))
		}
	}
	return err
}

// A caller that gives up is heard at every step, whatever the manager waits for.
func TestCancelledManager(t *testing.T) {
	for _, step := range []string{"AUTH", "Hello", "AddMatch", "StartTransientUnit", "the end of the job", "Get"} {
		t.Run(step, func(t *testing.T) {
			f := newUserHost(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := manager{f: f, instead: instead{step: func(c net.Conn, _ *dbus.Message) error {
				cancel()
				_, err := io.Copy(io.Discard, c)
				return err
			}}}
			if step == "the end of the job" {
				m.instead = instead{"StartTransientUnit": func(c net.Conn, call *dbus.Message) error {
					return errors.Join(reply(theJob)(c, call), m.instead["silence"](c, call))
				}, "silence": m.instead[step]}
			}
			over := watchLeaks(t)
			end := m.listen(t, "bus")
			err := f.kernel().newScope(ctx, "sbx-1.scope")
			if step == "Get" {
				_, err = f.kernel().delegates(ctx, "x.service")
			}
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			end()
			over()
		})
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
	over := watchLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := find(ctx, f.kernel(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	over()
}

// watchLeaks returns a function that fails the test when descriptors, or goroutines of
// the library, are there that were not there before. Goroutines have as long as the
// test to come to their end.
func watchLeaks(t *testing.T) func() {
	t.Helper()
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	return func() {
		t.Helper()
		if after := count(); after != before {
			t.Errorf("%d descriptors, and before %d", after, before)
		}
		stacks := make([]byte, 1<<20)
		for limit := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
			now := string(stacks[:runtime.Stack(stacks, true)])
			if !strings.Contains(now, "godbus/dbus/v5.(*") && !strings.Contains(now, "godbus/dbus/v5.new") {
				return
			}
			if time.Now().After(limit) {
				t.Errorf("goroutines are left:\n%s", now)
				return
			}
		}
	}
}
