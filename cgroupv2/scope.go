package cgroupv2

import (
	"context"
	"encoding/hex"
	"fmt"
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

// onManager does something with the first manager that can be reached, which may be a
// direct one.
func (k kernel) onManager(ctx context.Context, do func(c *dbus.Conn, direct bool) error) error {
	var reasons []error
	for _, a := range k.managers() {
		c, err := dial(ctx, a, k.uid)
		if err == nil {
			err = inTime(ctx, do(c, a.direct))
			c.Close()
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
	var value dbus.Variant
	err := k.onManager(ctx, func(c *dbus.Conn, _ bool) error {
		object := c.Object(managerName, managerPath+"/unit/"+dbus.ObjectPath(busEscape(unit)))
		return object.CallWithContext(ctx, getProperty, dbus.FlagNoAutoStart, iface, "Delegate").Store(&value)
	})
	if err != nil {
		return false, fmt.Errorf("ask the service manager about %s: %w", unit, err)
	}
	yes, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("ask the service manager about %s: Delegate is of type %q", unit, value.Signature())
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
	err := k.onManager(ctx, func(c *dbus.Conn, direct bool) error {
		// The job may have ended before its name is known here.
		signals := make(chan *dbus.Signal, 16)
		c.Signal(signals)
		if !direct {
			err := c.AddMatchSignalContext(ctx, dbus.WithMatchSender(managerName),
				dbus.WithMatchInterface(managerIface), dbus.WithMatchMember(jobRemoved))
			if err != nil {
				return err
			}
		}
		var job dbus.ObjectPath
		err := c.Object(managerName, managerPath).CallWithContext(ctx, managerIface+".StartTransientUnit", dbus.FlagNoAutoStart,
			// "fail" rather than replace a job of another unit of that name.
			name, "fail", scopeProperties(), []auxiliaryUnit{}).Store(&job)
		if err != nil {
			return err
		}
		return waitJob(ctx, job, signals)
	})
	if err != nil {
		return fmt.Errorf("start the transient scope %s: %w", name, err)
	}
	return nil
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

// waitJob waits for the manager to report the end of a job.
func waitJob(ctx context.Context, job dbus.ObjectPath, signals <-chan *dbus.Signal) error {
	for {
		var s *dbus.Signal
		select {
		case s = <-signals:
		case <-ctx.Done():
			return ctx.Err()
		}
		if s == nil {
			return dbus.ErrClosed
		}
		if s.Name != managerIface+"."+jobRemoved {
			continue
		}
		var id uint32
		var path dbus.ObjectPath
		var unit, result string
		if err := dbus.Store(s.Body, &id, &path, &unit, &result); err != nil {
			return err
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
