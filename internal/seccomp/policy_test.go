package seccomp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var everyOptions = []Options{
	{}, {Profile: Default}, {Profile: Strict}, {Fakeroot: true}, {AllowDebug: true}, {Profile: Strict, Fakeroot: true, AllowDebug: true},
}

var bothArchs = []Arch{AMD64, ARM64}

// answerFor looks a number up in the table the slow way.
func answerFor(a Arch, o Options, nr int) (answer, string) {
	for _, g := range slices.Concat(allowed, refusals) {
		for _, c := range g.calls {
			if c.number(a) == nr {
				return g.answerWith(o), calls[c].name
			}
		}
	}
	return answer{verdict: enosys}, "unknown"
}

// someArguments are argument values near everything that a rule compares with, with and without bits in the upper half.
func someArguments(ans answer, rng *rand.Rand) [][6]uint64 {
	values := []uint64{0, 1, 0xffffffff, ^uint64(0), 1 << 32, 0xdeadbeef << 32}
	for _, r := range ans.rules {
		for _, c := range r.when {
			values = append(values, c.val, c.val+1, c.val-1, c.val|1<<40, c.val|1<<63, ^c.val, c.mask, c.val|^c.mask, c.val^(c.mask&-c.mask))
			for _, v := range c.set {
				values = append(values, uint64(v), uint64(v)+1, uint64(v)|0xabcd<<32)
			}
		}
	}
	var all [][6]uint64
	for range 400 {
		var args [6]uint64
		for i := range args {
			args[i] = values[rng.IntN(len(values))]
			if rng.IntN(8) == 0 {
				args[i] = rng.Uint64()
			}
		}
		all = append(all, args)
	}
	return all
}

// For every number and arguments near everything that the rules look at, the program says what the table says.
func TestProgramIsTheTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, arch := range bothArchs {
		for _, o := range everyOptions {
			t.Run(fmt.Sprintf("%s %+v", arch, o), func(t *testing.T) {
				program, err := BuildFor(arch, o)
				if err != nil {
					t.Fatal(err)
				}
				if err := check(program); err != nil {
					t.Fatal(err)
				}
				for nr := range 601 {
					ans, name := answerFor(arch, o, nr)
					for _, args := range someArguments(ans, rng) {
						got := mustInterpret(t, program, data{nr: uint32(nr), arch: arch.audit(), args: args})
						if want := ans.expect(args); got.verdict != want {
							t.Fatalf("%s(%#x), number %d: %s, the table says %s", name, args, nr, got.verdict, want)
						}
					}
				}
			})
		}
	}
}

// A call that is decided by its number alone takes few steps and never looks at an argument, so that the kernel may answer it from a bitmap.
func TestDispatchIsShort(t *testing.T) {
	for _, arch := range bothArchs {
		for _, o := range everyOptions {
			program, err := BuildFor(arch, o)
			if err != nil {
				t.Fatal(err)
			}
			for nr := range 601 {
				ans, name := answerFor(arch, o, nr)
				got := mustInterpret(t, program, data{nr: uint32(nr), arch: arch.audit()})
				if looked := len(ans.rules) > 0; got.looked != looked {
					t.Errorf("%s %+v: %s: looks at arguments: %t, want %t", arch, o, name, got.looked, looked)
				}
				if len(ans.rules) == 0 && got.steps > 12 {
					t.Errorf("%s %+v: %s takes %d steps", arch, o, name, got.steps)
				}
			}
			if len(program) > 300 {
				t.Errorf("%s %+v: %d instructions", arch, o, len(program))
			}
		}
	}
}

func TestNumbersOutside(t *testing.T) {
	const x32 = 0x40000000
	for _, arch := range bothArchs {
		for _, o := range everyOptions {
			program, err := BuildFor(arch, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, nr := range []uint32{601, 1000, 0x7fffffff, 0x80000000, 0xffffffff} {
				if got := mustInterpret(t, program, data{nr: nr, arch: arch.audit()}); got.verdict != enosys {
					t.Errorf("%s: number %#x: %s", arch, nr, got.verdict)
				}
			}
			for nr := range uint32(601) {
				if got := mustInterpret(t, program, data{nr: x32 | nr, arch: arch.audit()}); got.verdict != enosys {
					t.Errorf("%s: x32 number %d: %s", arch, nr, got.verdict)
				}
				for _, other := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_RISCV64, 0, arch.audit() ^ 1<<31} {
					if got := mustInterpret(t, program, data{nr: nr, arch: other}); got.verdict != kill {
						t.Errorf("%s: number %d of architecture %#x: %s", arch, nr, other, got.verdict)
					}
				}
			}
		}
	}
}

func TestEveryCallHasOnePlace(t *testing.T) {
	groups := map[call][]string{}
	for _, g := range slices.Concat(allowed, refusals) {
		if g.name == "" || !strings.HasSuffix(g.reason, ".") || len(g.calls) == 0 {
			t.Errorf("group %q: reason %q, %d calls", g.name, g.reason, len(g.calls))
		}
		if (g.when != 0) != (g.then.verdict != 0) {
			t.Errorf("group %q: an option without an answer, or the reverse", g.name)
		}
		for _, c := range g.calls {
			groups[c] = append(groups[c], g.name)
		}
	}
	for c := range call(callCount) {
		if len(groups[c]) != 1 {
			t.Errorf("%s stands in %d groups: %q", calls[c].name, len(groups[c]), groups[c])
		}
	}
	for _, g := range refusals {
		if g.answer.verdict == allow || len(g.answer.rules) > 0 {
			t.Errorf("%q stands among the refusals and is not one", g.name)
		}
	}
}

func TestTable(t *testing.T) {
	table := Table()
	names := map[string]string{}
	for _, e := range table {
		if e.Reason == "" || e.Answer == "" || (e.Option == "") != (e.OptionAnswer == "") {
			t.Errorf("incomplete: %+v", e)
		}
		for _, name := range e.Names {
			names[name] = e.Answer
		}
	}
	if len(names) != callCount {
		t.Errorf("%d names, %d calls", len(names), callCount)
	}
	for name, want := range map[string]string{
		"read":      "allowed",
		"mount":     "EPERM",
		"clone3":    "ENOSYS",
		"setrlimit": "if argument 1 = 0x4: success pretended; else allowed",
		"prlimit64": "if argument 2 = 0x4 and argument 3 is not NULL and argument 4 is not NULL: EPERM; " +
			"if argument 2 = 0x4 and argument 3 is not NULL: success pretended; else allowed",
		"socketpair": "if argument 1 = 0x1: allowed; else EAFNOSUPPORT",
		"chmod":      "if argument 2 has a bit of 0xc00: EPERM; else allowed",
	} {
		if names[name] != want {
			t.Errorf("%s: %q, want %q", name, names[name], want)
		}
	}
}

func TestBuildErrors(t *testing.T) {
	if program, err := Build(Options{Profile: Off}); program != nil || err != nil {
		t.Errorf("off: %d instructions, %v", len(program), err)
	}
	if _, err := Build(Options{Profile: "lax"}); err == nil || !strings.Contains(err.Error(), `"lax"`) {
		t.Errorf("a profile that does not exist: %v", err)
	}
	if _, err := BuildFor(0, Options{}); err == nil {
		t.Error("built for no architecture")
	}
}

func TestCallNamed(t *testing.T) {
	for c := range call(callCount) {
		if got, ok := callNamed(calls[c].name); !ok || got != c {
			t.Errorf("%s: %d, %t", calls[c].name, got, ok)
		}
	}
	for _, name := range []string{"", "a", "zzz", "openat3", "socketcall"} {
		if _, ok := callNamed(name); ok {
			t.Errorf("%q was found", name)
		}
	}
}
