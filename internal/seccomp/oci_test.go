package seccomp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var testTarget = Target{Arch: AMD64, Kernel: Kernel{6, 1}}

// verdictOf builds the profile and asks it about one call.
func verdictOf(t *testing.T, profile string, target Target, name string, args ...uint64) verdict {
	t.Helper()
	p, err := ParseOCI(strings.NewReader(profile))
	if err != nil {
		t.Fatalf("%s: %v", profile, err)
	}
	program, _, err := p.Build(target)
	if err != nil {
		t.Fatalf("%s: %v", profile, err)
	}
	if err := check(program); err != nil {
		t.Fatal(err)
	}
	c, ok := callNamed(name)
	if !ok {
		t.Fatalf("no call %s", name)
	}
	d := data{nr: uint32(c.number(target.Arch)), arch: target.Arch.audit()}
	copy(d.args[:], args)
	return mustInterpret(t, program, d).verdict
}

func TestProfileActions(t *testing.T) {
	tests := []struct {
		action string
		want   verdict
	}{
		{`"action": "SCMP_ACT_ALLOW"`, allow},
		{`"action": "SCMP_ACT_ERRNO"`, eperm},
		{`"action": "SCMP_ACT_ERRNO", "errnoRet": 38`, enosys},
		{`"action": "SCMP_ACT_ERRNO", "errnoRet": 0`, pretended},
		{`"action": "SCMP_ACT_ERRNO", "errno": "ENOSYS"`, enosys},
		{`"action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "errnoRet": 38`, enosys},
		{`"action": "SCMP_ACT_ERRNO", "errnoRet": null`, eperm},
		{`"action": "SCMP_ACT_KILL"`, verdict(unix.SECCOMP_RET_KILL_THREAD)},
		{`"action": "SCMP_ACT_KILL_THREAD"`, verdict(unix.SECCOMP_RET_KILL_THREAD)},
		{`"action": "SCMP_ACT_KILL_PROCESS"`, kill},
		{`"action": "SCMP_ACT_TRAP"`, verdict(unix.SECCOMP_RET_TRAP)},
		{`"action": "SCMP_ACT_LOG"`, verdict(unix.SECCOMP_RET_LOG)},
	}
	for _, tt := range tests {
		for _, arch := range bothArchs {
			profile := `{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99, "syscalls": [{"names": ["getpid", "mount"], ` + tt.action + `}]}`
			target := Target{Arch: arch}
			if got := verdictOf(t, profile, target, "mount"); got != tt.want {
				t.Errorf("%s: %s", tt.action, got)
			}
			if got := verdictOf(t, profile, target, "read"); got != refused|99 {
				t.Errorf("a call that no rule names: %s", got)
			}
		}
	}
}

// Arguments are compared in all their 64 bits, unsigned.
func TestProfileOperators(t *testing.T) {
	const big = 1<<40 + 5
	tests := []struct {
		op         string
		value, two uint64
		matching   []uint64
		others     []uint64
	}{
		{"SCMP_CMP_EQ", 5, 0, []uint64{5}, []uint64{4, 6, big, 0}},
		{"SCMP_CMP_EQ", big, 0, []uint64{big}, []uint64{5, 1 << 40, big + 1}},
		{"SCMP_CMP_NE", 5, 0, []uint64{4, 6, big, 0}, []uint64{5}},
		{"SCMP_CMP_LT", big, 0, []uint64{0, big - 1, 1<<32 - 1}, []uint64{big, big + 1, 1 << 63, 2 << 40}},
		{"SCMP_CMP_LE", big, 0, []uint64{0, big, big - 1}, []uint64{big + 1, 2 << 40, ^uint64(0)}},
		{"SCMP_CMP_GT", big, 0, []uint64{big + 1, 2 << 40, ^uint64(0)}, []uint64{0, big, big - 1, 1<<32 - 1}},
		{"SCMP_CMP_GE", big, 0, []uint64{big, big + 1, 2 << 40}, []uint64{0, big - 1, 1<<32 - 1}},
		{"SCMP_CMP_MASKED_EQ", 0x7e020000, 0, []uint64{0, 0x11, 1 << 40}, []uint64{0x10000000, 1<<40 | 0x20000}},
		{"SCMP_CMP_MASKED_EQ", 0xff << 32, 1 << 32, []uint64{1 << 32, 1<<32 | 7, 1<<32 | 1<<40}, []uint64{0, 1, 2 << 32}},
	}
	for _, tt := range tests {
		profile := fmt.Sprintf(`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "ioctl", "action": "SCMP_ACT_ALLOW",
			"args": [{"index": 2, "value": %d, "valueTwo": %d, "op": %q}]}]}`, tt.value, tt.two, tt.op)
		for _, arg := range tt.matching {
			if got := verdictOf(t, profile, testTarget, "ioctl", 0, 0, arg); got != allow {
				t.Errorf("%#x %s %#x: %s", arg, tt.op, tt.value, got)
			}
		}
		for _, arg := range tt.others {
			if got := verdictOf(t, profile, testTarget, "ioctl", 0, 0, arg); got != eperm {
				t.Errorf("%#x %s %#x: %s", arg, tt.op, tt.value, got)
			}
		}
	}
}

func TestProfileRulesTogether(t *testing.T) {
	const (
		head  = `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [`
		tail  = `]}`
		allow = `"action": "SCMP_ACT_ALLOW"`
		errno = `"action": "SCMP_ACT_ERRNO", "errnoRet": 13`
		arg0  = `"args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]`
		arg1  = `"args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]`
	)
	tests := []struct {
		name  string
		rules string
		args  []uint64
		want  string
	}{
		{"several rules are alternatives", `{"name": "socket", ` + allow + `, ` + arg0 + `}, {"name": "socket", ` + allow + `, ` + arg1 + `}`, []uint64{0, 1}, "allowed"},
		{"no rule matches", `{"name": "socket", ` + allow + `, ` + arg0 + `}`, []uint64{2}, "EPERM"},
		{"conditions on two arguments must both hold", `{"name": "socket", ` + allow + `, "args": [
			{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]}`, []uint64{1, 3}, "EPERM"},
		{"conditions on one argument are alternatives", `{"name": "socket", ` + allow + `, "args": [
			{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}`, []uint64{2}, "allowed"},
		{"the strictest wins when it stands last", `{"name": "socket", ` + allow + `}, {"name": "socket", ` + errno + `, ` + arg0 + `}`, []uint64{1}, "EACCES"},
		{"the strictest wins when it stands first", `{"name": "socket", ` + errno + `, ` + arg0 + `}, {"name": "socket", ` + allow + `}`, []uint64{1}, "EACCES"},
		{"and only where it matches", `{"name": "socket", ` + errno + `, ` + arg0 + `}, {"name": "socket", ` + allow + `}`, []uint64{2}, "allowed"},
		{"without conditions it covers the rest", `{"name": "socket", ` + allow + `, ` + arg0 + `}, {"name": "socket", ` + errno + `}`, []uint64{1}, "EACCES"},
		{"of two errnos the first", `{"name": "socket", ` + errno + `}, {"name": "socket", "action": "SCMP_ACT_ERRNO"}`, nil, "EACCES"},
	}
	for _, tt := range tests {
		if got := verdictOf(t, head+tt.rules+tail, testTarget, "socket", tt.args...); got.String() != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestProfileScope(t *testing.T) {
	tests := []struct {
		scope  string
		target Target
		want   verdict
	}{
		{`"includes": {}, "excludes": {}`, testTarget, allow},
		{`"includes": {"arches": ["amd64", "x32"]}`, testTarget, allow},
		{`"includes": {"arches": ["arm64"]}`, testTarget, eperm},
		{`"includes": {"arches": ["arm64"]}`, Target{Arch: ARM64}, allow},
		{`"includes": {"minKernel": "4.8"}`, testTarget, allow},
		{`"includes": {"minKernel": "6.2"}`, testTarget, eperm},
		{`"includes": {"minKernel": "6.1"}`, testTarget, allow},
		{`"includes": {"caps": ["CAP_SYS_ADMIN"]}`, testTarget, eperm},
		{`"includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}`, Target{Arch: AMD64, Caps: []string{"CAP_CHOWN"}}, eperm},
		{`"includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}`, Target{Arch: AMD64, Caps: []string{"CAP_KILL", "CAP_CHOWN"}}, allow},
		{`"includes": {"caps": ["CAP_CHOWN"], "arches": ["arm64"]}`, Target{Arch: AMD64, Caps: []string{"CAP_CHOWN"}}, eperm},
		{`"excludes": {"caps": ["CAP_SYS_ADMIN"]}`, testTarget, allow},
		{`"excludes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}`, Target{Arch: AMD64, Caps: []string{"CAP_KILL"}}, eperm},
		{`"excludes": {"arches": ["amd64"]}`, testTarget, eperm},
		{`"excludes": {"minKernel": "5.0"}`, testTarget, eperm},
		{`"excludes": {"minKernel": "7.0"}`, testTarget, allow},
		{`"includes": {"arches": ["amd64"]}, "excludes": {"minKernel": "5.0"}`, testTarget, eperm},
	}
	for _, tt := range tests {
		profile := `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "comment": "", ` + tt.scope + `}]}`
		if got := verdictOf(t, profile, tt.target, "ptrace"); got != tt.want {
			t.Errorf("%s for %+v: %s", tt.scope, tt.target, got)
		}
	}
}

// Whatever a profile's default is, numbers that have no name here do not get through, and neither do other architectures.
func TestProfileUnknownNumbers(t *testing.T) {
	p, err := ParseOCI(strings.NewReader(`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [
		{"names": ["mount", "mount_from_the_future", "stat64", "moutn"], "action": "SCMP_ACT_ERRNO"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	program, unknown, err := p.Build(testTarget)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"mount_from_the_future", "moutn"}; !slices.Equal(unknown, want) {
		t.Errorf("unknown names %q, want %q", unknown, want)
	}
	for nr, want := range map[uint32]verdict{
		0: allow, unix.SYS_MOUNT: eperm, 400: enosys, 600: enosys, 0x40000000: enosys, 0xffffffff: enosys,
	} {
		if got := mustInterpret(t, program, data{nr: nr, arch: AMD64.audit()}); got.verdict != want {
			t.Errorf("number %d: %s, want %s", nr, got.verdict, want)
		}
	}
	if got := mustInterpret(t, program, data{arch: unix.AUDIT_ARCH_I386}); got.verdict != kill {
		t.Errorf("i386: %s", got.verdict)
	}
}

func TestProfileForOtherArchitecture(t *testing.T) {
	for _, profile := range []string{
		`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]}`,
	} {
		p, err := ParseOCI(strings.NewReader(profile))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Build(Target{Arch: AMD64}); err != nil {
			t.Errorf("amd64: %v", err)
		}
		if _, _, err := p.Build(Target{Arch: ARM64}); err == nil || !strings.Contains(err.Error(), "SCMP_ARCH_AARCH64") {
			t.Errorf("arm64: %v", err)
		}
	}
}

func TestProfileStarts(t *testing.T) {
	for profile, want := range map[string]string{
		`{"defaultAction": "SCMP_ACT_ALLOW"}`: "",
		`{"defaultAction": "SCMP_ACT_ERRNO"}`: "refuses read,",
		`{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}`:           "refuses execve,",
		`{"defaultAction": "SCMP_ACT_TRAP", "syscalls": [{"names": ["read", "execve"], "action": "SCMP_ACT_LOG"}]}`:   "",
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}]}`: "refuses execve,",
		`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW",
			"args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]}]}`: "", // who knows
		`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_AARCH64"]}`: "cover",
	} {
		p, err := ParseOCI(strings.NewReader(profile))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Starts(Target{Arch: AMD64}, "read", "execve")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", profile, err, want)
		}
	}
}

func TestProfileRefused(t *testing.T) {
	rule := func(s string) string {
		return `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}, ` + s + `]}`
	}
	arg := func(s string) string {
		return rule(`{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [` + s + `]}`)
	}
	tests := []struct{ profile, want string }{
		{``, "unexpected EOF"},
		{`[]`, "not a JSON object"},
		{`{} {}`, "more text"},
		{`{"defaultAction"}`, "invalid character"},
		{`{}`, "no defaultAction"},
		{`{"syscalls": []}`, "no defaultAction"},
		{`{"defaultAction": "allow"}`, `unknown defaultAction "allow"`},
		{`{"defaultAction": 1}`, "defaultAction is not a string"},
		{`{"DefaultAction": "SCMP_ACT_ERRNO"}`, `unknown field "DefaultAction"`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}`, "stands twice"},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": null}`, "stands twice"},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}`, "defaultErrnoRet goes with SCMP_ACT_ERRNO only"},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}`, "from 0 to 4095"},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"}`, `"EWHAT"`},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}`, "SPEC_ALLOW"},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "flags": "SECCOMP_FILTER_FLAG_LOG"}`, "flags is not a list"},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}`, `unknown field "listenerPath"`},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["A"], "archMap": [{"architecture": "A"}]}`, "exclude each other"},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"arch": "A"}]}`, `archMap[0]: unknown field "arch"`},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}`, "syscalls is not a list"},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}`, "not an object"},
		{rule(`{"action": "SCMP_ACT_ERRNO"}`), "syscalls[1]: no names"},
		{rule(`{"name": "a", "names": ["b"], "action": "SCMP_ACT_ERRNO"}`), "exclude each other"},
		{rule(`{"names": ["a"]}`), "syscalls[1]: no action"},
		{rule(`{"names": ["a", 1], "action": "SCMP_ACT_ERRNO"}`), "not a string"},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}`), "needs a supervisor"},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_TRACE"}`), "needs a supervisor"},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_REFUSE"}`), `unknown action "SCMP_ACT_REFUSE"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1}`), "errnoRet is -1"},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": "1"}`), "errnoRet is not a number"},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "ENOSYS"}`), "does not go with errnoRet"},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "priority": 1}`), `unknown field "priority"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["amd46"]}}`), `includes: unknown architecture "amd46"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["SYS_ADMIN"]}}`), `excludes: unknown capability "SYS_ADMIN"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_GOD"]}}`), `"CAP_SYS_GOD"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "new"}}`), `minKernel "new"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "includes": {"kernel": "4.8"}}`), `unknown field "kernel"`},
		{rule(`{"names": ["a"], "action": "SCMP_ACT_ERRNO", "includes": []}`), "includes is not an object"},
		{arg(`{"index": 0, "value": 1, "op": "SCMP_CMP_IN"}`), `args[0]: unknown op "SCMP_CMP_IN"`},
		{arg(`{"index": 0, "value": 1}`), `unknown op ""`},
		{arg(`{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}`), "index is 6"},
		{arg(`{"value": 1, "op": "SCMP_CMP_EQ"}`), "index and value are needed"},
		{arg(`{"index": 0, "op": "SCMP_CMP_EQ"}`), "index and value are needed"},
		{arg(`{"index": 0, "value": 1.5, "op": "SCMP_CMP_EQ"}`), "value is 1.5"},
		{arg(`{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}`), "value is 18446744073709551616"},
		{arg(`{"index": 0, "value": 2, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}`), "masks out"},
		{arg(`{"index": 0, "value": 2, "op": "SCMP_CMP_EQ", "width": 32}`), `unknown field "width"`},
		{`{"comment": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "nested deeper"},
		{`{"comment": "` + strings.Repeat("x", MaxProfileSize) + `"}`, "larger than"},
	}
	for _, tt := range tests {
		if _, err := ParseOCI(strings.NewReader(tt.profile)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.200s: %v, want %q in it", tt.profile, err, tt.want)
		}
	}
}

func TestProfileLogFlag(t *testing.T) {
	for flags, want := range map[string]bool{
		`[]`: false, `["SECCOMP_FILTER_FLAG_TSYNC"]`: false, `["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]`: true,
	} {
		p, err := ParseOCI(strings.NewReader(`{"defaultAction": "SCMP_ACT_ALLOW", "flags": ` + flags + `}`))
		if err != nil || p.Log != want {
			t.Errorf("%s: %+v, %v", flags, p, err)
		}
	}
}

// A profile of thousands of conditions needs jumps further than a conditional jump goes, and at some point more than the kernel takes.
func TestProfileSizes(t *testing.T) {
	build := func(rules int) ([]unix.SockFilter, error) {
		var b strings.Builder
		b.WriteString(`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "read", "action": "SCMP_ACT_ALLOW"}`)
		for i := range rules {
			fmt.Fprintf(&b, `, {"name": "ioctl", "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": %d, "op": "SCMP_CMP_EQ"}]}`, i*7)
		}
		b.WriteString("]}")
		p, err := ParseOCI(strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		program, _, err := p.Build(testTarget)
		return program, err
	}
	for _, rules := range []int{1, 50, 63, 64, 65, 127, 128, 300, 900} {
		program, err := build(rules)
		if err != nil {
			t.Errorf("%d rules: %v", rules, err)
			continue
		}
		if err := check(program); err != nil {
			t.Fatal(err)
		}
		for i := range rules * 7 {
			want := eperm
			if i%7 == 0 {
				want = allow
			}
			d := data{nr: unix.SYS_IOCTL, arch: AMD64.audit(), args: [6]uint64{0, uint64(i)}}
			if got := mustInterpret(t, program, d); got.verdict != want {
				t.Fatalf("%d rules, ioctl(0, %d): %s", rules, i, got.verdict)
			}
		}
	}
	if _, err := build(1100); err == nil || !strings.Contains(err.Error(), "the kernel takes 4096") {
		t.Errorf("1100 rules: %v", err)
	}
}

// Random profiles mean what their rules say when these are read one by one.
func TestProfileIsItsRules(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	actions := []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"}
	names := []string{"ioctl", "socket", "read", "prctl", "clone", "bpf"}
	values := []uint64{0, 1, 5, 0xffffffff, 1 << 32, 1<<32 | 5, 1 << 63, ^uint64(0), 0xff00ff00ff00ff00}
	pick := func() uint64 { return values[rng.IntN(len(values))] + uint64(rng.IntN(3)) - 1 }
	for range 300 {
		p := &Profile{otherwise: allow}
		var rules []string
		for range rng.IntN(12) {
			var args []string
			for range rng.IntN(3) {
				op := operators[rng.IntN(len(operators))]
				value, two := pick(), uint64(0)
				if op == operators[opMasked] {
					two = value & pick()
				}
				args = append(args, fmt.Sprintf(`{"index": %d, "value": %d, "valueTwo": %d, "op": %q}`, rng.IntN(3), value, two, op))
			}
			rules = append(rules, fmt.Sprintf(`{"names": [%q, %q], "action": %q, "args": [%s]}`,
				names[rng.IntN(len(names))], names[rng.IntN(len(names))], actions[rng.IntN(len(actions))], strings.Join(args, ", ")))
		}
		text := fmt.Sprintf(`{"defaultAction": %q, "syscalls": [%s]}`, actions[rng.IntN(len(actions))], strings.Join(rules, ", "))
		p, err := ParseOCI(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		program, _, err := p.Build(testTarget)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, name := range names {
			c, _ := callNamed(name)
			for range 60 {
				d := data{nr: uint32(c.number(AMD64)), arch: AMD64.audit(), args: [6]uint64{pick(), pick(), pick()}}
				if got, want := mustInterpret(t, program, d), p.read(name, d.args); got.verdict != want {
					t.Fatalf("%s\n%s(%#x): %s, want %s", text, name, d.args[:3], got.verdict, want)
				}
			}
		}
	}
}

// read applies the strictest of the rules that match, the plain way.
func (p *Profile) read(name string, args [6]uint64) verdict {
	best, found := p.otherwise, false
	for _, r := range p.rules {
		if !slices.Contains(r.names, name) {
			continue
		}
		for _, when := range r.alternatives {
			ans := answer{rules: []rule{{when, r.then}}, verdict: ^verdict(0)}
			if got := ans.expect(args); got != ^verdict(0) && (!found || got.rank() < best.rank()) {
				best, found = got, true
			}
		}
	}
	return best
}

func TestParseRelease(t *testing.T) {
	for release, want := range map[string]Kernel{
		"6.12.43+deb13-amd64": {6, 12}, "3.12-1-amd64": {3, 12}, "5.10": {5, 10}, "4.18.0-553.el8": {4, 18}, "7.0-rc1": {7, 0},
	} {
		if got, err := parseRelease(release); err != nil || got != want {
			t.Errorf("%s: %v, %v", release, got, err)
		}
	}
	for _, release := range []string{"", "6", "six.one", "6."} {
		if got, err := parseRelease(release); err == nil {
			t.Errorf("%q: %v", release, got)
		}
	}
	if _, err := runningKernel(); err != nil {
		t.Error(err)
	}
}

func FuzzParseOCI(f *testing.F) {
	for _, seed := range []string{
		`{"defaultAction": "SCMP_ACT_ALLOW"}`,
		`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "flags": ["SECCOMP_FILTER_FLAG_LOG"], "architectures": ["SCMP_ARCH_X86_64"],
		"syscalls": [{"name": "read", "action": "SCMP_ACT_ALLOW", "args": []},
		{"names": ["ioctl", "x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{"index": 1, "value": 5, "valueTwo": 4, "op": "SCMP_CMP_MASKED_EQ"}]}]}`,
		`{"defaultAction": "SCMP_ACT_KILL", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null}],
		"syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"}, "excludes": {"arches": ["s390"]}}]}`,
		`{"a": [[{"b": 1e999}]]}`,
		`{"defaultAction": "SCMP_ACT_TRAP", "syscalls": [{"names": ["a\u0000b", "\ud800"], "action": "SCMP_ACT_LOG"}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseOCI(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, arch := range bothArchs {
			program, _, err := p.Build(Target{Arch: arch, Kernel: Kernel{6, 1}})
			if err != nil {
				continue
			}
			if err := check(program); err != nil {
				t.Fatal(err)
			}
			for nr := range uint32(500) {
				got, err := interpret(program, data{nr: nr, arch: arch.audit(), args: [6]uint64{uint64(nr), 1 << 40}})
				if err != nil {
					t.Fatal(err)
				}
				if _, name := answerFor(arch, Options{}, int(nr)); name == "unknown" && got.verdict != enosys {
					t.Fatalf("unknown number %d: %s", nr, got.verdict)
				}
			}
		}
	})
}
