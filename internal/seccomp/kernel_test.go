package seccomp

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ones are arguments that nearly every call refuses: no descriptor, no address, no such flags, too long a size.
var ones = [6]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}

// harmless are the arguments of calls for which ones would do something or say nothing.
var harmless = map[string][6]uint64{
	"futex":  {1, 1},          // FUTEX_WAKE at an odd address; an unknown operation would be ENOSYS
	"kill":   {0x7fffffff},    // asks about a process that does not exist; -1 would be all of them
	"msgget": {0xabcdef01, 0}, // no IPC_CREAT
	"semget": {0xabcdef01, 0, 0},
	"shmget": {0xabcdef01, 0, 0},
}

// The kernel lets these pass without asking a filter, since Linux 6.14 and 6.18, and fails them itself.
var unfiltered = map[string]bool{"uretprobe": true, "uprobe": true}

// vfork's child would run on its parent's stack, here as anywhere in Go; sync waits for all that the machine has to write.
var untried = map[string]bool{"vfork": true, "sync": true}

// Every number from 0 to 600, on the running kernel: a refused call fails with the errno of the policy, an allowed one ends as it does
// without a filter.
func TestEveryNumberOnTheKernel(t *testing.T) {
	for _, o := range []Options{{}, {Profile: Strict}, {Fakeroot: true, AllowDebug: true}} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			program := buildNative(t, o)
			for nr := range 601 {
				ans, name := answerFor(Native(), o, nr)
				args, ok := harmless[name]
				if !ok {
					args = ones
				}
				if untried[name] {
					continue
				}
				checkOnKernel(t, program, ans, name, nr, args)
			}
		})
	}
}

// The same for each rule on arguments, with garbage where the kernel does not look.
func TestPromisesOnTheKernel(t *testing.T) {
	for _, p := range promises {
		c, _ := callNamed(p.name)
		if nr := c.number(Native()); nr >= 0 {
			checkOnKernel(t, buildNative(t, p.options), answer{verdict: p.want}, p.name, nr, p.args)
		}
	}
}

func checkOnKernel(t *testing.T, program []unix.SockFilter, ans answer, name string, nr int, args [6]uint64) {
	t.Helper()
	patience := 5 * time.Second
	if name == "pause" {
		patience = 20 * time.Millisecond // dies of SIGALRM: it was let through
	}
	want := ans.expect(args)
	got := makeCall(t, program, patience, uintptr(nr), args)
	switch {
	case want == allow || unfiltered[name] && got.errno != unix.ENOSYS:
		if without := makeCall(t, nil, patience, uintptr(nr), args); !got.same(without) {
			t.Errorf("%s (%d) with %#x: %s, without a filter: %s", name, nr, args, got, without)
		}
	default:
		if errno := unix.Errno(want & unix.SECCOMP_RET_DATA); got.died != "" || got.errno != errno || errno == 0 && got.value != 0 {
			t.Errorf("%s (%d) with %#x: %s, the policy says %s", name, nr, args, got, want)
		}
	}
}

func TestX32OnTheKernel(t *testing.T) {
	if Native() != AMD64 {
		needs(t, false, "x86-64")
	}
	program := buildNative(t, Options{})
	for _, nr := range []uintptr{0, unix.SYS_GETPID, unix.SYS_EXIT_GROUP, 512, 547} {
		if got := makeCall(t, program, time.Second, nr|0x40000000, [6]uint64{}); got.errno != unix.ENOSYS {
			t.Errorf("x32 number %d: %s", nr, got)
		}
	}
}

// The installed program is the whole of the policy: the limit on core dumps that a process starts with is the one that it keeps, even though
// it is told otherwise.
func TestCoreLimitStays(t *testing.T) {
	onThread(t, Options{}, func() {
		var before, after unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
			t.Fatal(err)
		}
		lower := unix.Rlimit{Cur: 0, Max: before.Max}
		if before.Cur == 0 {
			lower.Cur = before.Max // the soft limit may go up to the hard one
		}
		if err := unix.Prlimit(0, unix.RLIMIT_CORE, &lower, nil); err != nil {
			t.Errorf("prlimit64 of RLIMIT_CORE: %v, want a pretended success", err)
		}
		if err := unix.Prlimit(0, unix.RLIMIT_CORE, &lower, &after); err != unix.EPERM {
			t.Errorf("prlimit64 of RLIMIT_CORE that asks for the old value: %v", err)
		}
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &after); err != nil || after != before {
			t.Errorf("RLIMIT_CORE was %+v and is %+v, %v", before, after, err)
		}
		if err := unix.Prlimit(0, unix.RLIMIT_CORE, nil, &after); err != nil || after != before {
			t.Errorf("reading RLIMIT_CORE: %+v, %v", after, err)
		}
	})
}

func buildNative(tb testing.TB, o Options) []unix.SockFilter {
	tb.Helper()
	program, err := Build(o)
	if err != nil {
		tb.Fatal(err)
	}
	return program
}
