package cgroupv2

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

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
