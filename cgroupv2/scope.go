package cgroupv2

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	managerName  = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = "org.freedesktop.systemd1.Manager"
	jobRemoved   = "JobRemoved"
	scopePrefix  = "sbx-"
	scopeSuffix  = ".scope"
	getProperty  = "org.freedesktop.DBus.Properties.Get"
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

// delegates asks a manager whether a unit has Delegate=yes. The kernel cannot tell: a
// user's manager marks its delegated units by no attribute, and owns the others too.
func (k kernel) delegates(ctx context.Context, unit string) (bool, error) {
	iface := managerName + ".Service"
	if strings.HasSuffix(unit, scopeSuffix) {
		iface = managerName + ".Scope"
	}
	yes := false
	err := k.onManager(ctx, func(c *conn) error {
		call := c.call(managerPath+"/unit/"+busEscape(unit), getProperty, iface, "Delegate")
		<-call.Done
		if call.Err != nil {
			return c.reason(call.Err)
		}
		property, err := value[dbus.Variant](call.Body, 0, 1)
		if err != nil {
			return err
		}
		yes, err = value[bool]([]any{property.Value()}, 0, 1)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("ask the service manager about %s: %w", unit, err)
	}
	return yes, nil
}

// call calls a method of the manager without a wait, and starts no manager.
func (c *conn) call(path, method string, args ...any) *dbus.Call {
	return c.Object(managerName, dbus.ObjectPath(path)).GoWithContext(c.ctx, method, dbus.FlagNoAutoStart, nil, args...)
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
	if err := k.onManager(ctx, func(c *conn) error { return c.newScope(name) }); err != nil {
		return fmt.Errorf("start the transient scope %s: %w", name, err)
	}
	return nil
}

func (c *conn) newScope(name string) error {
	ended := make(chan *dbus.Signal, 16)
	c.Signal(ended)
	if !c.direct {
		if err := c.AddMatchSignalContext(c.ctx, dbus.WithMatchSender(managerName), dbus.WithMatchInterface(managerIface), dbus.WithMatchMember(jobRemoved)); err != nil {
			return c.reason(err)
		}
	}
	return c.waitJob(c.startScope(name), ended)
}

// startScope calls StartTransientUnit.
func (c *conn) startScope(name string) *dbus.Call {
	return c.call(managerPath, managerIface+".StartTransientUnit",
		// "fail" rather than replace a job of another unit of that name.
		name, "fail", scopeProperties(), []auxiliaryUnit{})
}

// property and auxiliaryUnit are arguments of StartTransientUnit, see
// org.freedesktop.systemd1(5).
type (
	property struct {
		Name  string
		Value dbus.Variant
	}
	auxiliaryUnit struct {
		Name       string
		Properties []property
	}
)

// scopeProperties have fixed names and typed values: text that somebody chose never
// becomes one (CVE-2024-3154).
func scopeProperties() []property {
	return []property{
		{"Description", dbus.MakeVariant("sandbox")},
		{"Delegate", dbus.MakeVariant(true)},
		// A scope whose processes were killed counts as failed and would stay listed.
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
		// 0 is the sender, as the kernel names it to the peer: it is right in a
		// pid namespace, where the own number is somebody else's outside.
		{"PIDs", dbus.MakeVariant([]uint32{0})},
	}
}

// waitJob waits for the answer to the start of a job, and for the manager to report its
// end, which may come first.
func (c *conn) waitJob(start *dbus.Call, ended <-chan *dbus.Signal) error {
	var job dbus.ObjectPath
	results := map[dbus.ObjectPath]string{}
	for {
		select {
		case <-start.Done:
			if start.Err != nil {
				return c.reason(start.Err)
			}
			var err error
			if job, err = value[dbus.ObjectPath](start.Body, 0, 1); err != nil {
				return err
			}
			if !job.IsValid() {
				return fmt.Errorf("%w: a job without a path", errMessage)
			}
		case end, open := <-ended:
			if !open {
				// The answer may be there: it came before the end of the connection.
				ended = nil
				break
			}
			path, err := value[dbus.ObjectPath](end.Body, 1, 4)
			if err != nil {
				return err
			}
			if results[path], err = value[string](end.Body, 3, 4); err != nil {
				return err
			}
		}
		switch result, known := results[job]; {
		case job == "":
		case known && result == "done":
			return nil
		case known:
			return fmt.Errorf("the job ended with result %q", result)
		case ended == nil:
			return c.reason(io.ErrUnexpectedEOF)
		}
	}
}
