package cgroupv2

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
	f.listenOn(t, "bus")
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
			listener := f.listenOn(t, "systemd/private")
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
			_, err := find(ctx, f.kernel(), nil)
			if got := reasons(t, err); !strings.Contains(got[Scope].Err.Error(), "connect to "+listener.Addr().String()) &&
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
