package seccomp

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// The list is what the process that unpacks needs, and nothing beside it: any
// other call is refused, whatever its arguments.
func TestUnpackerIsTheList(t *testing.T) {
	const pid = 4711
	for _, arch := range bothArchs {
		program, err := buildUnpacker(arch, pid)
		if err != nil {
			t.Fatal(err)
		}
		for c := range calls {
			nr := call(c).number(arch)
			if nr < 0 {
				continue
			}
			want := eperm
			if call(c) == sysClone3 {
				want = enosys
			}
			for _, g := range unpackable {
				if slices.Contains(g.calls, call(c)) && len(g.answer.rules) == 0 {
					want = allow
				}
			}
			if ruled(call(c)) {
				continue
			}
			got, err := interpret(program, data{nr: uint32(nr), arch: arch.audit(), args: [6]uint64{1, 2, 3, 4, 5, 6}})
			if err != nil || got.verdict != want {
				t.Errorf("%s, %s: %v %v, want %v", arch, calls[c].name, got.verdict, err, want)
			}
		}
		got, err := interpret(program, data{nr: 511, arch: arch.audit()})
		if err != nil || got.verdict != enosys {
			t.Errorf("%s: an unknown number gives %v %v", arch, got.verdict, err)
		}
	}
}

// ruled tells whether the answer depends on arguments.
func ruled(c call) bool {
	for _, g := range unpackable {
		if slices.Contains(g.calls, c) && len(g.answer.rules) > 0 {
			return true
		}
	}
	return c == sysTgkill
}

func TestUnpackerArguments(t *testing.T) {
	const pid = 4711
	program, err := buildUnpacker(AMD64, pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		call call
		args [6]uint64
		want verdict
	}{
		{"a thread of Go", sysClone, [6]uint64{goThread}, allow},
		{"a process", sysClone, [6]uint64{uint64(unix.SIGCHLD)}, eperm},
		{"a thread in a new user namespace", sysClone, [6]uint64{goThread | unix.CLONE_NEWUSER}, eperm},
		{"memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"executable memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, eperm},
		{"memory made executable", sysMprotect, [6]uint64{0, 4096, unix.PROT_EXEC}, eperm},
		{"a clone of a file", sysIoctl, [6]uint64{3, unix.FICLONE}, allow},
		{"a key press", sysIoctl, [6]uint64{0, unix.TIOCSTI}, eperm},
		{"a fifo", sysMknodat, [6]uint64{3, 0, unix.S_IFIFO | 0o644}, allow},
		{"a device", sysMknodat, [6]uint64{3, 0, unix.S_IFCHR | 0o644}, eperm},
		{"a disk", sysMknodat, [6]uint64{3, 0, unix.S_IFBLK | 0o644}, eperm},
		{"a signal to itself", sysTgkill, [6]uint64{pid, pid + 1, uint64(unix.SIGURG)}, allow},
		{"a signal to another", sysTgkill, [6]uint64{pid + 1, pid + 1, uint64(unix.SIGKILL)}, eperm},
		{"a name for memory", sysPrctl, [6]uint64{unix.PR_SET_VMA}, allow},
		{"ptrace for all", sysPrctl, [6]uint64{unix.PR_SET_PTRACER}, eperm},
	} {
		got, err := interpret(program, data{nr: uint32(test.call.number(AMD64)), arch: AMD64.audit(), args: test.args})
		if err != nil || got.verdict != test.want {
			t.Errorf("%s: %v %v, want %v", test.name, got.verdict, err, test.want)
		}
	}
}
