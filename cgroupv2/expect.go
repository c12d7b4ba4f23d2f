package cgroupv2

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Prospect is what [Find] is going to do, as far as can be seen without trying.
type Prospect struct {
	// Rung is "" when nothing can be had, for the reason in Text.
	Rung        Rung     `json:"rung,omitempty"`
	Controllers []string `json:"controllers,omitempty"`
	Text        string   `json:"text,omitempty"`
	Fix         string   `json:"fix,omitempty"`
}

// expect foresees the rung. It errs on the side of hope: what the service manager allows,
// and whether other processes are in the way, shows only when tried.
func (k kernel) expect(h Host, need []string) Prospect {
	own := Prospect{Rung: Own, Controllers: offered(h.Own)}
	scope := Prospect{Rung: Scope, Controllers: offered(h.Manager)}
	known, ownReason := k.ownReason(h)
	if h.Own != "" && len(own.Controllers) == 0 {
		ownReason = errEmpty
	}
	var scopeReason error
	switch {
	case h.Job != nil:
		scopeReason = &inJob{*h.Job}
	case h.Mount == "":
		scopeReason = &hidden{h}
	case h.Manager == "" || !k.managerListens():
		scopeReason = errNoManager
	case len(scope.Controllers) == 0:
		scopeReason = errEmpty
	}
	fewer := len(missing(need, own.Controllers)) > len(missing(need, scope.Controllers))
	switch {
	case ownReason == nil && known && (scopeReason != nil || !fewer):
		return own
	case scopeReason == nil:
		return scope
	case ownReason == nil && (known || k.managerListens()):
		return own // a unit of the user's manager: few are delegated, and Find asks
	case ownReason == nil:
		ownReason = &undelegated{filepath.Base(h.Unit)}
	}
	e := &NotDelegated{Host: h, Tried: []Attempt{
		h.attempt(Own, h.Own, ownReason),
		h.attempt(Scope, h.Manager, scopeReason),
	}}
	return Prospect{Text: e.Error(), Fix: e.Fix()}
}

// ownReason is why the own cgroup is out of the question, as far as can be seen. known is
// as in [finder.delegated].
func (k kernel) ownReason(h Host) (known bool, err error) {
	known, err = (&finder{k: k, host: h}).delegated()
	if err != nil {
		return known, err
	}
	return known, unix.Access(h.Own, unix.W_OK)
}

func (k kernel) managerListens() bool {
	return slices.ContainsFunc(k.managers(), func(a address) bool {
		return a.path[0] == '@' || unix.Access(a.path, unix.W_OK) == nil
	})
}
