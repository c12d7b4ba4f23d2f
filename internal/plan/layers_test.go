package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/userns"
)

func layer(t *testing.T, p *Plan, name string) Layer {
	t.Helper()
	i := slices.IndexFunc(p.Layers, func(l Layer) bool { return l.Name == name })
	if i < 0 {
		t.Fatalf("no layer %s", name)
	}
	return p.Layers[i]
}

func TestEveryLayerIsNamedOnce(t *testing.T) {
	p, err := Build(Spec{Program: "x"}, alice())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range p.Layers {
		names = append(names, l.Name)
	}
	if !slices.Equal(names, LayerNames()) {
		t.Errorf("%q, want %q", names, LayerNames())
	}
}

func TestLayerStates(t *testing.T) {
	docker := func(f *Facts) {
		f.Caller.Groups = []userns.Group{{GID: 998, Name: "docker", Power: true}, {GID: 44, Name: "games"}}
	}
	cgroups := func(f *Facts) {
		f.Cgroup = cgroupv2.Prospect{Rung: cgroupv2.Own, Controllers: []string{"cpu", "memory", "pids"}}
	}
	for _, c := range []struct {
		name  string
		spec  Spec
		facts func(*Facts)
		layer string
		state State
		text  string // in Detail
	}{
		{"a stranger", Spec{}, nil, "nomap", Enforced, "uid 1000 inside is 101000 outside"},
		{"oneself on shared paths", Spec{Userns: userns.KeepID}, nil, "nomap", Weaker, "alice"},
		{"one id", Spec{Userns: userns.Single}, nil, "nomap", Weaker, "single"},
		{"one id for want of a range", Spec{}, func(f *Facts) { f.NoHelpers = "no newuidmap here" }, "nomap", Weaker, "no newuidmap here"},
		{"groups are dropped", Spec{}, docker, "groups", Enforced, ""},
		{"groups survive", Spec{Userns: userns.Single}, docker, "groups", Weaker, "power over the host: docker"},
		{"groups survive, all are named", Spec{Userns: userns.Single}, docker, "groups", Weaker, "games"},
		{"no groups to survive", Spec{Userns: userns.Single}, nil, "groups", Enforced, ""},
		{"own network", Spec{}, nil, "net", Enforced, "loopback"},
		{"the host's network", Spec{Network: NetworkHost}, nil, "net", Missing, "abstract sockets"},
		{"no capabilities", Spec{}, nil, "caps", Enforced, "none"},
		{"a fake root's", Spec{User: "0"}, nil, "caps", Enforced, "10 for a fake root"},
		{"the filter", Spec{Seccomp: "strict"}, nil, "seccomp", Enforced, "strict"},
		{"the filter off", Spec{Seccomp: "off"}, nil, "seccomp", Missing, "--seccomp off"},
		{"no filter", Spec{AllowDegraded: []string{"seccomp"}}, func(f *Facts) { f.Kernel.Seccomp = false }, "seccomp", Missing, "CONFIG_SECCOMP_FILTER"},
		{"landlock", Spec{}, nil, "landlock", Enforced, "ABI 6"},
		{"landlock that forbids renames", Spec{}, func(f *Facts) { f.Kernel.LandlockABI = 1 }, "landlock", Missing, "rename"},
		{"no landlock", Spec{}, func(f *Facts) { f.Kernel.LandlockABI = 0 }, "landlock", Missing, "none"},
		{"processes by rlimit", Spec{}, nil, "pids", Enforced, "512"},
		{"processes before 5.14", Spec{}, func(f *Facts) { f.Kernel.NprocPerUserns = false }, "pids", Weaker, "5.14"},
		{"processes by cgroup", Spec{Limits: LimitSpec{Pids: 9}}, cgroups, "pids", Enforced, "9 processes"},
		{"memory without a cgroup", Spec{}, nil, "memory", Missing, "no cgroup here"},
		{"memory watched", Spec{Limits: LimitSpec{Memory: 1 << 20}}, nil, "memory", Weaker, "watched"},
		{"memory by cgroup", Spec{}, cgroups, "memory", Enforced, "4"},
		{"cpu without a quota", Spec{}, cgroups, "cpu", Enforced, "fair share"},
		{"cpu with one", Spec{Limits: LimitSpec{CPUs: "1.5"}}, cgroups, "cpu", Enforced, "1.5 CPUs"},
		{"cpu not delegated", Spec{}, func(f *Facts) {
			f.Cgroup = cgroupv2.Prospect{Rung: cgroupv2.Own, Controllers: []string{"memory", "pids"}}
		}, "cpu", Missing, "not delegated"},
		{"no cgroup namespaces", Spec{AllowDegraded: []string{"cgroup-ns"}}, func(f *Facts) { f.Kernel.CgroupNS = false }, "cgroup-ns", Missing, "kernel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := alice()
			if c.facts != nil {
				c.facts(&f)
			}
			c.spec.Program = "x"
			p, err := Build(c.spec, f)
			if err != nil {
				t.Fatal(err)
			}
			if l := layer(t, p, c.layer); l.State != c.state || !strings.Contains(l.Detail, c.text) {
				t.Errorf("%+v, want %s with %q", l, c.state, c.text)
			}
		})
	}
}

// Nothing is dropped without a word: what is not enforced was asked away, may
// be lacking by the design, or ends in a refusal.
func TestLayersAreNotDroppedSilently(t *testing.T) {
	for _, name := range LayerNames() {
		for _, state := range []State{Weaker, Missing} {
			layers := []Layer{{Name: name, State: state, Detail: "the cause", Fix: "the fix"}}

			err := checkLayers(layers, Spec{})
			var missing *MissingLayer
			if mayLack := slices.Contains(optional(), name); mayLack != (err == nil) {
				t.Errorf("%s %s: error %v", name, state, err)
			} else if err != nil && (!errors.As(err, &missing) || missing.Asked ||
				!strings.Contains(err.Error(), "--allow-degraded="+name) || !strings.Contains(err.Error(), "the cause; the fix")) {
				t.Errorf("%s %s: %v", name, state, err)
			}
			if err := checkLayers(layers, Spec{AllowDegraded: []string{name}}); err != nil {
				t.Errorf("%s %s allowed: %v", name, state, err)
			}
			// What is required beats what is allowed.
			err = checkLayers(layers, Spec{Require: []string{name}, AllowDegraded: []string{name}})
			if !errors.As(err, &missing) || !missing.Asked || !strings.Contains(err.Error(), "--require="+name) {
				t.Errorf("%s %s required: %v", name, state, err)
			}
		}
		if err := checkLayers([]Layer{{Name: name, State: Enforced}}, Spec{Require: []string{name}}); err != nil {
			t.Errorf("%s enforced and required: %v", name, err)
		}
	}
}

func TestAskedAwayIsNotMissing(t *testing.T) {
	for name, spec := range map[string]Spec{
		"net":     {Network: NetworkHost},
		"seccomp": {Seccomp: "off"},
		"nomap":   {Userns: userns.Single},
	} {
		layers := []Layer{{Name: name, State: Missing}}
		if err := checkLayers(layers, spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		spec.Require = []string{name}
		if err := checkLayers(layers, spec); err == nil {
			t.Errorf("%s is asked away and required, and nobody minds", name)
		}
	}
}

func TestWithoutSeccompNoFilterIsInstalled(t *testing.T) {
	f := alice()
	f.Kernel.Seccomp = false
	p, err := Build(Spec{Program: "x", AllowDegraded: []string{"seccomp"}}, f)
	if err != nil {
		t.Fatal(err)
	}
	if p.Process.Seccomp.Profile != "off" {
		t.Errorf("pid 1 would install %q and fail", p.Process.Seccomp.Profile)
	}
}
