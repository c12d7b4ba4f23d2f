package cgroupv2

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		want   []string
		need   string
	}{
		{"none", Limits{}, []string{"memory.oom.group=1?"}, ""},
		{
			"memory comes without swap",
			Limits{Memory: 64 << 20},
			[]string{"memory.oom.group=1?", "memory.swap.max=0?", "memory.max=67108864"},
			"memory",
		},
		{
			"swap that was asked for must be there",
			Limits{Memory: 64 << 20, Swap: 1 << 20},
			[]string{"memory.oom.group=1?", "memory.swap.max=1048576", "memory.max=67108864"},
			"memory",
		},
		{
			"unlimited swap",
			Limits{Memory: 64 << 20, Swap: Unlimited},
			[]string{"memory.oom.group=1?", "memory.swap.max=max?", "memory.max=67108864"},
			"memory",
		},
		{
			"everything",
			Limits{
				Memory: 1 << 30, MemoryHigh: 1 << 29, Pids: 512, CPU: Quota{150000, 100000},
				CPUWeight: 50, CPUs: "0-1", IOWeight: 20,
			},
			[]string{
				"memory.oom.group=1?", "memory.high=536870912", "memory.swap.max=0?", "memory.max=1073741824",
				"pids.max=512", "cpu.max=150000 100000", "cpu.weight=50", "cpuset.cpus=0-1", "io.weight=default 20",
			},
			"cpu cpuset io memory pids",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, s := range c.limits.Settings() {
				text := s.File + "=" + s.Value
				if s.Optional {
					text += "?"
				}
				if !strings.HasPrefix(s.File, s.Controller+".") {
					t.Errorf("%s is of %s", s.File, s.Controller)
				}
				got = append(got, text)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
			if need := strings.Join(c.limits.Controllers(), " "); need != c.need {
				t.Errorf("needs %q, not %q", need, c.need)
			}
			if err := c.limits.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		want   string
	}{
		{Limits{Memory: 100}, "memory limit 100: out of range: 4096 to 4611686018427387904"},
		{Limits{Memory: -1}, "memory limit -1: out of range"},
		{Limits{MemoryHigh: 1}, "high memory mark 1: out of range"},
		{Limits{Swap: -2}, "swap limit -2: out of range"},
		{Limits{Pids: 1}, "process limit 1: out of range: 2 to 4194304"},
		{Limits{CPUWeight: 10001}, "cpu weight 10001: out of range: 1 to 10000"},
		{Limits{IOWeight: -1}, "io weight -1: out of range"},
		{Limits{CPU: Quota{Quota: 1000}}, "cpu period 0: out of range: 1000 to 1000000"},
		{Limits{CPU: Quota{10, 1000}}, "cpu quota 10: out of range"},
		{Limits{CPUs: "a"}, `list of CPUs "a": malformed`},
	} {
		err := c.limits.Check()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, not %q", c.limits, err, c.want)
		}
		if !errors.Is(err, ErrRange) && !errors.Is(err, ErrForm) {
			t.Errorf("%v wraps neither", err)
		}
	}
}

func TestLimitsJSON(t *testing.T) {
	text, err := json.Marshal(Limits{Memory: 1 << 20, Swap: Unlimited, CPU: Quota{1000, 2000}})
	if want := `{"memory":1048576,"swap":-1,"cpu":{"quota":1000,"period":2000}}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestParseCPUs(t *testing.T) {
	for _, c := range []struct {
		text string
		want Quota
		err  error
	}{
		{"1", Quota{100000, 100000}, nil},
		{"1.5", Quota{150000, 100000}, nil},
		{"0.5", Quota{50000, 100000}, nil},
		{"0.01", Quota{1000, 100000}, nil},
		{"0.009", Quota{9000, 1000000}, nil},
		{"0.001", Quota{1000, 1000000}, nil},
		{"2.123456", Quota{212346, 100000}, nil},
		{"8192", Quota{819200000, 100000}, nil},
		{"0", Quota{}, ErrRange},
		{"0.0001", Quota{}, ErrRange},
		{"8193", Quota{}, ErrRange},
		{"", Quota{}, ErrForm},
		{".5", Quota{}, ErrForm},
		{"1.", Quota{}, ErrForm},
		{"-1", Quota{}, ErrForm},
		{"1e3", Quota{}, ErrForm},
		{"NaN", Quota{}, ErrForm},
		{"1.0000001", Quota{}, ErrForm},
		{" 1", Quota{}, ErrForm},
	} {
		got, err := ParseCPUs(c.text)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	for _, text := range []string{"1.5", "0.001", "8192", "1e3"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ParseCPUs(text)
		if err != nil {
			return
		}
		if err := (Limits{CPU: q}).Check(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestParseCPUSet(t *testing.T) {
	for _, c := range []struct {
		text, want string
		err        error
	}{
		{"0", "0", nil},
		{"0-3,7", "0-3,7", nil},
		{"7,0-3", "0-3,7", nil},
		{"0-2,1-4,5", "0-5", nil},
		{"63,64", "63-64", nil},
		{"0,8191", "0,8191", nil},
		{"3-1", "", ErrRange},
		{"8192", "", ErrRange},
		{"", "", ErrForm},
		{",", "", ErrForm},
		{"1-", "", ErrForm},
		{"-1", "", ErrForm},
		{"0-3/2", "", ErrForm},
		{"0 1", "", ErrForm},
	} {
		got, err := ParseCPUSet(c.text)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %q, %v", c.text, got, err)
		}
	}
}

func FuzzParseCPUSet(f *testing.F) {
	for _, text := range []string{"0-3,7", "63-64,8191", "3-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseCPUSet(text)
		if err != nil {
			return
		}
		if again, err := ParseCPUSet(got); again != got || err != nil {
			t.Errorf("%q is %q, and that %q, %v", text, got, again, err)
		}
	})
}
