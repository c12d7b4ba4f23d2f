package cgroupv2

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Attempt tells how one rung was tried and what stood against it.
type Attempt struct {
	Rung Rung   `json:"rung"`
	Dir  string `json:"dir,omitempty"`
	// Fix is what the user or the administrator can do about it; "" for nothing.
	Fix string `json:"fix,omitempty"`
	// Err is the reason. It is nil for the rung that was taken.
	Err error `json:"-"`
}

// NotDelegated says that no part of the tree can be had, with the reason per rung.
type NotDelegated struct {
	Host  Host
	Tried []Attempt
}

// Error names every rung with its reason, on one line and without the remedies.
func (e *NotDelegated) Error() string {
	texts := make([]string, len(e.Tried))
	for i, a := range e.Tried {
		texts[i] = string(a.Rung)
		if a.Dir != "" {
			texts[i] += " " + a.Dir
		}
		texts[i] += ": " + a.Err.Error()
	}
	return "find a cgroup for limits: " + strings.Join(texts, "; ")
}

// Unwrap makes errors.Is find the errno of each rung.
func (e *NotDelegated) Unwrap() []error {
	errs := make([]error, len(e.Tried))
	for i, a := range e.Tried {
		errs[i] = a.Err
	}
	return errs
}

// Fix returns the most useful remedy, "" when there is none.
func (e *NotDelegated) Fix() string {
	// The service manager comes first: it is what an ordinary host lacks least.
	for _, rung := range []Rung{Scope, Own, Shared} {
		for _, a := range e.Tried {
			if a.Rung == rung && a.Fix != "" {
				return a.Fix
			}
		}
	}
	return ""
}

// undelegated says that a unit lacks Delegate=yes.
type undelegated struct{ unit string }

func (e *undelegated) Error() string { return "the unit " + e.unit + " is not delegated" }

// inJob says why a scope is out of the question.
type inJob struct{ job Job }

func (e *inJob) Error() string {
	return fmt.Sprintf("the %s job %s would be left, and its limits with it", e.job.System, e.job.ID)
}

// hidden says why no cgroup v2 directory of the caller can be seen.
type hidden struct{ host Host }

func (e *hidden) Error() string {
	switch {
	case e.host.Hierarchy == Legacy:
		return "this host has cgroup v1 only"
	case e.host.Hierarchy == NoCgroup:
		return "no cgroup file system is mounted"
	case e.host.Path == "":
		return "the process is in no cgroup of version 2"
	default:
		return "the own cgroup " + e.host.Path + " is not below what is mounted"
	}
}

const (
	fixUnified = "boot with the kernel parameter systemd.unified_cgroup_hierarchy=1"
	fixLinger  = "log in, or have the administrator run: loginctl enable-linger USER"
	fixMount   = "give the container a writable cgroup tree of its own"
)

// attempt tells of a rung that was refused. A reason that no controller arrives gets the
// place where they are lost.
func (h Host) attempt(rung Rung, dir string, err error) Attempt {
	if errors.Is(err, errEmpty) {
		if lack := h.Lack(dir, "memory"); lack != nil {
			err = fmt.Errorf("%w: %w", err, lack)
		}
	}
	return Attempt{Rung: rung, Dir: dir, Err: err, Fix: h.fix(err)}
}

// fix returns what can be done about the reason of one rung.
func (h Host) fix(err error) string {
	var unit *undelegated
	var noManager *unreachable
	var notSeen *hidden
	var job *inJob
	var lack *Lack
	switch {
	case h.Hierarchy == Legacy:
		return fixUnified
	case errors.Is(err, errNoManager), errors.As(err, &noManager) && errors.Is(err, unix.ENOENT):
		return fixLinger
	case errors.As(err, &job):
		return "outside of the job unset " + job.job.Variable
	case errors.As(err, &unit):
		if strings.HasPrefix(unit.unit, "session-") || strings.HasPrefix(unit.unit, "user@") {
			return "" // nobody delegates a login session
		}
		return "set Delegate=yes in the unit " + unit.unit
	case errors.As(err, &notSeen), errors.Is(err, unix.EROFS):
		return fixMount
	case errors.Is(err, errThreaded), errors.Is(err, errInvalid), errors.Is(err, errRoot):
		return "start it outside of the threaded cgroup"
	case errors.As(err, &lack):
		return lack.Fix
	case errors.Is(err, unix.EAGAIN):
		return "raise cgroup.max.descendants above the cgroup, or end what uses it up"
	}
	return ""
}

// Lack says why a controller does not reach a directory.
type Lack struct {
	Controller string `json:"controller"`
	// Dir is the directory that does not pass it on; "" when the host lacks it.
	Dir string `json:"dir,omitempty"`
	// Text completes "the controller is missing: …", Fix is a remedy or "".
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

// Error names the controller and where it is lost.
func (l *Lack) Error() string { return "the controller " + l.Controller + " is missing: " + l.Text }

// Lack walks from the mount down to a directory and returns where a controller is lost
// on the way, nil when it arrives.
func (h Host) Lack(dir, controller string) *Lack {
	l := &Lack{Controller: controller}
	rest, below := strings.CutPrefix(dir, h.Mount)
	switch {
	case h.Mount == "" || !below:
		l.Text = "no cgroup tree of version 2 can be seen"
		return l
	case slices.Contains(h.Available, controller):
	case slices.Contains(h.Legacy, controller):
		l.Text, l.Fix = "it is bound to cgroup v1", fixUnified
		return l
	case h.Root == "/":
		l.Text = "the kernel lacks it"
		l.Fix = "remove cgroup_disable=" + controller + " from the kernel parameters, if it is there"
		return l
	default:
		l.Dir, l.Text = h.Mount, "it is not given to "+h.Root
		return l
	}
	at := h.Mount
	for part := range strings.SplitSeq(strings.Trim(rest, "/"), "/") {
		next := filepath.Join(at, part)
		if part != "" && !slices.Contains(readWords(filepath.Join(next, "cgroup.controllers")), controller) {
			l.Dir, l.Text, l.Fix = at, at+" does not pass it on", h.passOn(next, controller)
			return l
		}
		at = next
	}
	return nil
}

// passOn returns how a controller is brought into a directory.
func (h Host) passOn(dir, controller string) string {
	// The manager of a user passes on what was delegated to it, once asked to.
	if uid, ok := userManager(h.Manager); ok && strings.HasPrefix(h.Manager+"/", dir+"/") {
		return fmt.Sprintf("have the administrator run: systemctl edit user@%s.service, with the lines "+
			"[Service] and Delegate=cpu cpuset io memory pids, and log in again", uid)
	}
	if unit := filepath.Base(dir); strings.Contains(unit, ".") {
		return "set Delegate=" + controller + " in the unit " + unit
	}
	return "write +" + controller + " to " + filepath.Join(filepath.Dir(dir), "cgroup.subtree_control")
}
