package plan

import (
	"strings"
	"testing"
)

func TestParseUlimit(t *testing.T) {
	for _, c := range []struct {
		arg  string
		want Rlimit
		err  string // in the message; empty for none
	}{
		{"nofile=1024:4096", Rlimit{"nofile", rlimitNofile, 1024, 4096}, ""},
		{"nofile=1024", Rlimit{"nofile", rlimitNofile, 1024, 1024}, ""},
		{"NOFILE=7", Rlimit{}, "NOFILE"}, // as in docker
		{"stack=-1", Rlimit{"stack", rlimitStack, Unlimited, Unlimited}, ""},
		{"cpu=1:-1", Rlimit{"cpu", rlimitCPU, 1, Unlimited}, ""},
		{"fsize=0", Rlimit{"fsize", rlimitFSize, 0, 0}, ""},
		{"nofile=2:1", Rlimit{}, "NAME=SOFT[:HARD]"}, // soft above hard
		{"nofile=-1:1", Rlimit{}, "NAME=SOFT[:HARD]"},
		{"nofile", Rlimit{}, "NAME=SOFT[:HARD]"},
		{"nofile=", Rlimit{}, "NAME=SOFT[:HARD]"},
		{"nofile=1k", Rlimit{}, "NAME=SOFT[:HARD]"},
		{"nofile=1:2:3", Rlimit{}, "NAME=SOFT[:HARD]"},
		{"nofile=99999999999999999999", Rlimit{}, "NAME=SOFT[:HARD]"},
		{"as=1", Rlimit{}, "as"}, // docker has none of that name
		{"", Rlimit{}, "NAME=SOFT[:HARD]"},
	} {
		got, err := parseUlimit(c.arg)
		if c.err != "" {
			if !IsMisuse(err) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want misuse that says %q", c.arg, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q is %v, %v; want %v", c.arg, got, err, c.want)
		}
	}
}

func limitOf(list []Rlimit, resource int) Rlimit {
	for _, r := range list {
		if r.Resource == resource {
			return r
		}
	}
	return Rlimit{}
}

func TestRlimits(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    []string
		pids     int64
		own      ownHard
		resource int
		soft     uint64
		hard     uint64
	}{
		{"no dumps, and not 0 (core(5))", nil, 0, nil, rlimitCore, 1, 1},
		{"no real-time", nil, 0, nil, rlimitRtprio, 0, 0},
		{"no negative nice", nil, 0, nil, rlimitNice, 0, 0},
		{"processes", nil, 0, nil, rlimitNproc, DefaultProcesses, DefaultProcesses},
		{"--pids-limit", nil, 30, nil, rlimitNproc, 30, 30},
		{"a flag wins over it", []string{"nproc=20"}, 30, nil, rlimitNproc, 20, 20},
		{"the last of two flags", []string{"nofile=10", "nofile=20"}, 0, nil, rlimitNofile, 20, 20},
		{"one without a default", []string{"cpu=9"}, 0, nil, rlimitCPU, 9, 9},
		{"a default is cut to the caller's own", nil, 0, ownHard{rlimitNofile: 100}, rlimitNofile, 100, 100},
		{"the caller may have more", nil, 0, ownHard{rlimitNofile: Unlimited}, rlimitNofile, 1024, 65536},
		{"a caller without any", nil, 0, ownHard{rlimitNproc: 0}, rlimitNproc, 0, 0},
		{"exactly his own", []string{"nofile=100"}, 0, ownHard{rlimitNofile: 100}, rlimitNofile, 100, 100},
		{"unlimited, where he is", []string{"stack=-1"}, 0, ownHard{rlimitStack: Unlimited}, rlimitStack, Unlimited, Unlimited},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := rlimits(c.flags, c.pids, c.own)
			if err != nil {
				t.Fatal(err)
			}
			if r := limitOf(list, c.resource); r.Soft != c.soft || r.Hard != c.hard {
				t.Errorf("%+v, want %d:%d", r, c.soft, c.hard)
			}
			seen := map[int]bool{}
			for _, r := range list {
				if seen[r.Resource] {
					t.Errorf("%s is set twice", r.Name)
				}
				seen[r.Resource] = true
			}
		})
	}
}

func TestRlimitsRefused(t *testing.T) {
	for _, c := range []struct{ flag, want string }{
		{"core=0", "always off"},
		{"core=-1", "always off"},
		{"nofile=101", "your own hard limit is 100"},
		{"nofile=1:-1", "your own hard limit is 100"},
	} {
		_, err := rlimits([]string{c.flag}, 0, ownHard{rlimitNofile: 100})
		if !IsMisuse(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.flag, err, c.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for arg, want := range map[string]int64{
		"1": 1, "1024": 1024, "64k": 64 << 10, "512m": 512 << 20, "512M": 512 << 20, "512mb": 512 << 20,
		"512MiB": 512 << 20, "1.5g": 3 << 29, "4g": 4 << 30,
		"": 0, "0": 0, "-1": 0, "-5m": 0, "m": 0, "5x": 0, "1 2": 0, "0x10": 0, "nan": 0, "inf": 0, "99999999999g": 0,
	} {
		got, err := ParseSize("--memory", arg)
		if want == 0 {
			if !IsMisuse(err) || !strings.Contains(err.Error(), "--memory") {
				t.Errorf("%q: %d, %v; want misuse that names the flag", arg, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", arg, got, err, want)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	for _, c := range []struct {
		arg  string
		want TmpfsSpec
		err  bool
	}{
		{"/cache", TmpfsSpec{Target: "/cache"}, false},
		{"/cache:size=64m", TmpfsSpec{Target: "/cache", Size: 64 << 20}, false},
		{"/with,comma", TmpfsSpec{Target: "/with,comma"}, false},
		{"/cache:", TmpfsSpec{}, true},
		{"/cache:size=", TmpfsSpec{}, true},
		{"/cache:size=-1", TmpfsSpec{}, true},
		{"/cache:size=1m,mode=777", TmpfsSpec{}, true},
		{"/cache:mode=777", TmpfsSpec{}, true},
		{"/cache:SIZE=1m", TmpfsSpec{}, true},
		{"/a:/b:size=1m", TmpfsSpec{}, true},
	} {
		got, err := ParseTmpfs(c.arg)
		if c.err != (err != nil) || c.err && !IsMisuse(err) {
			t.Errorf("%q: error %v", c.arg, err)
		}
		if !c.err && got != c.want {
			t.Errorf("%q is %+v, want %+v", c.arg, got, c.want)
		}
	}
}

func FuzzParseUlimit(f *testing.F) {
	for _, s := range []string{"nofile=1024:4096", "core=0", "=", "nproc=-1", "cpu=1:", "a=b=c", "nofile=-2:0", "nofile=-1:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseUlimit(s)
		switch {
		case err != nil && !IsMisuse(err):
			t.Errorf("%q: error of type %T", s, err)
		case err == nil && r.Soft > r.Hard:
			t.Errorf("%q has a soft limit above the hard one: %+v", s, r)
		case err == nil && resources()[r.Name] != r.Resource:
			t.Errorf("%q became %+v", s, r)
		}
	})
}
