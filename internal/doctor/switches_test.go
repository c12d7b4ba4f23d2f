package doctor

import (
	"strings"
	"testing"
)

func TestJudgeSwitches(t *testing.T) {
	tests := []struct {
		name, value string
		want        Concern
	}{
		{"user.max_user_namespaces", "0", Bad},
		{"user.max_user_namespaces", "1", Bad},
		{"user.max_user_namespaces", "10", Note},
		{"user.max_user_namespaces", "95000", Fine},
		{"kernel.unprivileged_userns_clone", "0", Bad},
		{"kernel.unprivileged_userns_clone", "1", Fine},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", Note},
		{"kernel.unprivileged_bpf_disabled", "0", Note},
		{"kernel.unprivileged_bpf_disabled", "2", Fine},
		{"kernel.core_pattern", "|/usr/share/apport/apport %p", Fine},
		{"fs.protected_symlinks", "0", Note},
		{"fs.suid_dumpable", "1", Bad},
		{"fs.suid_dumpable", "2", Fine},
	}
	for _, test := range tests {
		list := judgeSwitches(Values{test.name: test.value})
		if len(list) != 1 || list[0].Concern != test.want || list[0].Value != test.value {
			t.Errorf("%s = %s: %+v, want %s", test.name, test.value, list, test.want)
			continue
		}
		if list[0].Concern != Fine && list[0].Means == "" {
			t.Errorf("%s = %s: no word on what it means", test.name, test.value)
		}
	}
	if list := judgeSwitches(nil); len(list) != 0 {
		t.Errorf("switches that the host does not have: %v", list)
	}
}

func TestJudgeKernel(t *testing.T) {
	tests := []struct {
		release, version string
		want             Concern
	}{
		{"6.18.44-fc", "#1 SMP PREEMPT_DYNAMIC @0", Fine},
		{"6.18.20", "#1 SMP", Bad},
		{"6.12.90", "#1 SMP PREEMPT_DYNAMIC", Fine},
		{"6.12.38+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.38-1 (2025-07-16)", Bad},
		{"6.1.0-50-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.180-1 (2026-08-02)", Fine},
		{"6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", Bad},
		{"5.14.0-611.el9.x86_64", "#1 SMP PREEMPT_DYNAMIC Fri Oct  2 11:12:13 EDT 2026", Fine},
		{"5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023", Bad},
		{"7.2.12", "#1 SMP", Fine},
		{"4.4.0", "#1 SMP PREEMPT", Bad},
		{"", "", Fine}, // uname(2) failed: no verdict
	}
	for _, test := range tests {
		if s := judgeKernel(test.release, test.version); s.Concern != test.want || (s.Concern == Bad) != (s.Fix != "") {
			t.Errorf("%s %s: %+v, want %s", test.release, test.version, s, test.want)
		}
	}
}

func TestBuildDate(t *testing.T) {
	tests := []struct {
		version string
		want    date
		ok      bool
	}{
		{"#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", date{2024, 2}, true},
		{"#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023", date{2023, 11}, true},
		{"#1 SMP PREEMPT_DYNAMIC @0", date{}, false},
		{"#1 SMP Thu Jan  1 00:00:00 UTC 1970", date{1970, 1}, false}, // a reproducible build
		{"", date{}, false},
		{"(2024-13-01)", date{2024, 13}, false},
	}
	for _, test := range tests {
		if got, ok := buildDate(test.version); ok != test.ok || ok && got != test.want {
			t.Errorf("%q: %v %v", test.version, got, ok)
		}
	}
}

func FuzzBuildDate(f *testing.F) {
	f.Add("#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)")
	f.Add("#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023")
	f.Add("Jan")
	f.Fuzz(func(t *testing.T, version string) {
		if d, ok := buildDate(version); ok && !plausible(d) {
			t.Errorf("%q gave %v", version, d)
		}
	})
}

// Only what matters is in the text; the rest is counted.
func TestSwitchesInText(t *testing.T) {
	f := goodHost()
	f.Values["fs.suid_dumpable"] = "1"
	text := Judge(f).Text(100)
	if !strings.Contains(text, "fs.suid_dumpable = 1") || strings.Contains(text, "max_user_namespaces = 95000") {
		t.Errorf("%s", text)
	}
}
