package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/trial"
	"github.com/sbx-run/sbx/userns"
)

// Findings are what was read and tried on a host. They hold no live thing.
type Findings struct {
	Facts plan.Facts
	// Look and Build are why no plan of a run could be made, empty otherwise.
	Look, Build string
	// Plan are the layers and the mode of a run without flags.
	Plan []plan.Layer
	Mode userns.Mode
	Why  string // set when the mode is not the best one

	Namespaces trial.Results
	Modes      []ModeFinding
	Locks      trial.Results // without namespaces, where none can be had
	Cgroup     cgroupv2.Host
	Limits     trial.Results

	Store    StoreFinding
	Values   Values
	Uname    [2]string // release and version
	Tun      string    // mode of /dev/net/tun, empty without
	TunOpens bool
	Admin    AdminFinding
}

// ModeFinding is how the set-up went under one identity mode.
type ModeFinding struct {
	Mode    userns.Mode
	Results trial.Results
	// Refused is why it was not even tried.
	Refused string
}

// Examine looks at the host and tries what a sandbox needs. It changes nothing:
// what it makes it removes, also when ctx ends. binary is the path of sbx.
func Examine(ctx context.Context, binary string) Findings {
	f := Findings{Values: readValues()}
	f.look(ctx)
	f.Uname = uname()
	f.lookTun()
	f.Namespaces = trial.Namespaces(ctx)
	parent := f.lookStore(os.Getenv)
	for _, mode := range modes(f.Facts.Caller.UID) {
		f.Modes = append(f.Modes, f.tryMode(ctx, mode, parent))
	}
	if !f.anyWorks() {
		f.Locks = trial.Locks(ctx, f.Facts.Kernel.LandlockABI)
	}
	f.Cgroup, f.Limits = trial.Cgroup(ctx)
	f.Admin = lookAdmin(binary)
	return f
}

// look asks for a run of a program that needs nothing, without holding or
// making anything.
func (f *Findings) look(ctx context.Context) {
	spec := plan.Spec{Program: "true"}
	facts, held, err := plan.Look(ctx, spec, plan.LookOptions{})
	held.Close()
	f.Facts = facts
	if f.Facts.Kernel.LandlockABI == 0 {
		f.Facts.Kernel.LandlockABI = landlock.ABI() // the look may have ended early
	}
	if err != nil {
		f.Look = err.Error()
		return
	}
	p, err := plan.Build(spec, facts)
	if err != nil {
		f.Build = refusal(err)
		return
	}
	f.Plan, f.Mode, f.Why = p.Layers, p.Identity.Mode, p.Identity.Why
}

// refusal is why no plan could be made, without what concerns flags.
func refusal(err error) string {
	var missing *plan.MissingLayer
	if !errors.As(err, &missing) {
		return err.Error()
	}
	text := fmt.Sprintf("a run does not start: the layer %s is %s: %s", missing.Layer.Name, missing.Layer.State, missing.Layer.Detail)
	if missing.Layer.Fix != "" {
		text += "; " + missing.Layer.Fix
	}
	return text
}

// modes are the identity modes that there are for a user; root cannot keep an
// id that is 0.
func modes(uid uint32) []userns.Mode {
	if uid == 0 {
		return []userns.Mode{userns.NoMap, userns.Single}
	}
	return []userns.Mode{userns.NoMap, userns.KeepID, userns.Single}
}

func (f *Findings) tryMode(ctx context.Context, mode userns.Mode, parent string) ModeFinding {
	m := ModeFinding{Mode: mode}
	id, err := plan.StoreIdentity(plan.Spec{Userns: mode}, f.Facts)
	if err != nil {
		m.Refused = plainly(err.Error())
		return m
	}
	request := trial.Request{Identity: id, CgroupNS: f.Facts.Kernel.CgroupNS, LandlockABI: f.Facts.Kernel.LandlockABI}
	if parent != "" {
		dir, remove, err := trial.NewDir(parent, id)
		if err != nil {
			m.Refused = err.Error()
			return m
		}
		defer func() {
			if err := remove(); err != nil {
				f.Store.Leftover = err.Error()
			}
		}()
		request.Dir = dir
	}
	m.Results = trial.Setup(ctx, request)
	return m
}

// plainly takes from a refusal what is said to somebody who gave --userns.
func plainly(text string) string {
	if _, rest, found := strings.Cut(text, ": "); found && strings.HasPrefix(text, "--userns=") {
		text = rest
	}
	text, _, _ = strings.Cut(text, "; `sbx doctor")
	return text
}

// works says whether a sandbox can be had under the mode.
func (m ModeFinding) works() bool {
	for _, t := range []trial.Try{
		trial.CloneAll, trial.Maps, trial.Tmpfs, trial.Proc, trial.Limit, trial.Nested,
		trial.Caps, trial.NNP, trial.Root,
	} {
		if !m.Results.OK(t) {
			return false
		}
	}
	return true
}

func (f *Findings) anyWorks() bool {
	for _, m := range f.Modes {
		if m.works() {
			return true
		}
	}
	return false
}

func readValues() Values {
	v := Values{}
	for _, name := range sysctls() {
		data, err := os.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")))
		if err == nil {
			v[name] = strings.TrimSpace(string(data))
		}
	}
	return v
}

func uname() [2]string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return [2]string{}
	}
	return [2]string{unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:])}
}

// tun is the device that user-mode networks are made with.
const tun = "/dev/net/tun"

func (f *Findings) lookTun() {
	var st unix.Stat_t
	if unix.Stat(tun, &st) != nil {
		return
	}
	f.Tun = os.FileMode(st.Mode & 0o777).String()
	f.TunOpens = unix.Access(tun, unix.R_OK|unix.W_OK) == nil
}
