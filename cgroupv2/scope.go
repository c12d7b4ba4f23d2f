package cgroupv2

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	busName       = "org.freedesktop.DBus"
	managerName   = "org.freedesktop.systemd1"
	managerPath   = "/org/freedesktop/systemd1"
	managerIface  = "org.freedesktop.systemd1.Manager"
	jobRemoved    = "JobRemoved"
	scopePrefix   = "sbx-"
	scopeSuffix   = ".scope"
	propertyIface = "org.freedesktop.DBus.Properties"
)

// managers returns where the caller's service manager may be reached, in the order to
// try: the bus that the environment names, the bus in its usual place, which is there
// even when sudo, cron or a cleaned environment lost the variables, and the manager's
// own socket, which needs no bus at all. Root has the system's manager.
func (k kernel) managers() []address {
	if k.uid == 0 {
		return []address{
			{path: filepath.Join(k.run, "systemd/private"), direct: true},
			{path: filepath.Join(k.run, "dbus/system_bus_socket")},
		}
	}
	runtime := filepath.Join(k.run, "user", strconv.Itoa(k.uid))
	list := parseAddress(k.env("DBUS_SESSION_BUS_ADDRESS"))
	if bus := (address{path: filepath.Join(runtime, "bus")}); len(list) == 0 || list[0] != bus {
		list = append(list, bus)
	}
	return append(list, address{path: filepath.Join(runtime, "systemd/private"), direct: true})
}

// onManager does something with the first manager that can be reached.
func (k kernel) onManager(ctx context.Context, do func(*conn) error) error {
	var reasons []error
	for _, a := range k.managers() {
		c, err := dial(ctx, a, k.uid)
		if err == nil {
			err = do(c)
			c.close()
		}
		if err == nil {
			return nil
		}
		reasons = append(reasons, err)
		if ctx.Err() != nil {
			break
		}
	}
	return &unreachable{reasons}
}

// unreachable joins the reasons of several addresses on one line.
type unreachable struct{ reasons []error }

func (e *unreachable) Error() string {
	texts := make([]string, len(e.reasons))
	for i, err := range e.reasons {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e *unreachable) Unwrap() []error { return e.reasons }

func managerCall(path, iface, member, signature string, fill func(*encoder)) message {
	e := &encoder{}
	fill(e)
	return message{
		destination: managerName, path: path, iface: iface, member: member,
		signature: signature, body: e.buf,
	}
}

// hello returns the calls that have to come first on a bus: the one that gives the
// connection its name, and the subscription to ends of jobs.
func (c *conn) hello() []message {
	if c.direct {
		return nil
	}
	rule := &encoder{}
	rule.string("type='signal',sender='" + managerName + "',interface='" + managerIface + "',member='" + jobRemoved + "'")
	return []message{
		{destination: busName, path: "/org/freedesktop/DBus", iface: busName, member: "Hello"},
		{destination: busName, path: "/org/freedesktop/DBus", iface: busName, member: "AddMatch", signature: "s", body: rule.buf},
	}
}

// delegates asks a manager whether a unit has Delegate=yes. The kernel cannot tell: a
// user's manager marks its delegated units by no attribute, and owns the others too.
func (k kernel) delegates(ctx context.Context, unit string) (bool, error) {
	iface := managerName + ".Service"
	if strings.HasSuffix(unit, scopeSuffix) {
		iface = managerName + ".Scope"
	}
	yes := false
	err := k.onManager(ctx, func(c *conn) error {
		get := managerCall(managerPath+"/unit/"+busEscape(unit), propertyIface, "Get", "ss", func(e *encoder) {
			e.string(iface)
			e.string("Delegate")
		})
		answer, err := c.call(ctx, func(message) {}, append(c.hello(), get)...)
		if err != nil {
			return err
		}
		d, err := answer.values("v")
		if err != nil {
			return err
		}
		if signature := d.signature(); signature != "b" {
			return fmt.Errorf("%w: Delegate is of type %q", errMessage, signature)
		}
		yes = d.uint32() != 0
		return d.err
	})
	if err != nil {
		return false, fmt.Errorf("ask the service manager about %s: %w", unit, err)
	}
	return yes, nil
}

// busEscape writes a unit's name as one element of an object path: what is neither
// letter nor digit, and a digit in front, is _ and two hexadecimal digits.
func busEscape(name string) string {
	var b strings.Builder
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// scopeName returns a name that no unit has: names of crashed runs must not be met.
func (k kernel) scopeName() string {
	random := make([]byte, 6)
	// Cannot fail for so few bytes, see getrandom(2).
	_ = noEINTR(func() error { _, err := unix.Getrandom(random, 0); return err })
	return scopePrefix + strconv.Itoa(k.pid) + "-" + hex.EncodeToString(random) + scopeSuffix
}

// newScope has the manager make a transient scope that is delegated to the caller, and
// move the calling process there. It returns when that is done.
func (k kernel) newScope(ctx context.Context, name string) error {
	err := k.onManager(ctx, func(c *conn) error {
		var ended []message
		answer, err := c.call(ctx, func(m message) { ended = append(ended, m) }, append(c.hello(), startScope(name))...)
		if err != nil {
			return err
		}
		d, err := answer.values("o")
		if err != nil {
			return err
		}
		job := d.string()
		if d.err != nil {
			return d.err
		}
		return c.waitJob(ctx, job, ended)
	})
	if err != nil {
		return fmt.Errorf("start the transient scope %s: %w", name, err)
	}
	return nil
}

// startScope builds the call StartTransientUnit. Properties have fixed names and typed
// values: text that somebody chose never becomes one (CVE-2024-3154).
func startScope(name string) message {
	return managerCall(managerPath, managerIface, "StartTransientUnit", "ssa(sv)a(sa(sv))", func(e *encoder) {
		e.string(name)
		e.string("fail") // rather than replace a job of another unit of that name
		e.array(8, func() {
			property := func(key, signature string, value func()) {
				e.align(8)
				e.string(key)
				e.signature(signature)
				value()
			}
			property("Description", "s", func() { e.string("sandbox") })
			property("Delegate", "b", func() { e.bool(true) })
			// A scope whose processes were killed counts as failed and would stay listed.
			property("CollectMode", "s", func() { e.string("inactive-or-failed") })
			// 0 is the sender, as the kernel names it to the peer: it is right in a
			// pid namespace, where the own number is somebody else's outside.
			property("PIDs", "au", func() { e.array(4, func() { e.uint32(0) }) })
		})
		e.array(8, func() {})
	})
}

// waitJob waits for the manager to report the end of a job. Signals that came before
// the answer are looked at first.
func (c *conn) waitJob(ctx context.Context, job string, ended []message) error {
	for {
		if len(ended) == 0 {
			m, err := c.next(ctx)
			if err != nil {
				return err
			}
			ended = append(ended, m)
		}
		m := ended[0]
		ended = ended[1:]
		if m.kind != typeSignal || m.member != jobRemoved || m.iface != managerIface {
			continue
		}
		d, err := m.values("uoss")
		if err != nil {
			return err
		}
		d.uint32()
		path, _, result := d.string(), d.string(), d.string()
		if d.err != nil {
			return d.err
		}
		if path != job {
			continue
		}
		if result != "done" {
			return fmt.Errorf("the job ended with result %q", result)
		}
		return nil
	}
}
