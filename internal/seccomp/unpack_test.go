package seccomp

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// The lists are what the processes that unpack and fetch need, and nothing
// beside it: any other call is refused, whatever its arguments.
func TestListIsTheList(t *testing.T) {
	for name, list := range map[string][]group{"unpacker": unpackable, "fetcher": fetchable} {
		for _, arch := range bothArchs {
			program, err := buildList(arch, 4711, goProcess, list)
			if err != nil {
				t.Fatal(err)
			}
			checkList(t, name, arch, program, slices.Concat(goProcess, list))
		}
	}
}

func checkList(t *testing.T, name string, arch Arch, program []unix.SockFilter, list []group) {
	t.Helper()
	for c := range calls {
		nr := call(c).number(arch)
		if nr < 0 || ruled(list, call(c)) {
			continue
		}
		want := eperm
		if call(c) == sysClone3 {
			want = enosys
		}
		for _, g := range list {
			if slices.Contains(g.calls, call(c)) {
				want = allow
			}
		}
		got, err := interpret(program, data{nr: uint32(nr), arch: arch.audit(), args: [6]uint64{1, 2, 3, 4, 5, 6}})
		if err != nil || got.verdict != want {
			t.Errorf("%s, %s, %s: %v %v, want %v", name, arch, calls[c].name, got.verdict, err, want)
		}
	}
	got, err := interpret(program, data{nr: 511, arch: arch.audit()})
	if err != nil || got.verdict != enosys {
		t.Errorf("%s, %s: an unknown number gives %v %v", name, arch, got.verdict, err)
	}
}

// ruled tells whether the answer depends on arguments.
func ruled(list []group, c call) bool {
	for _, g := range list {
		if slices.Contains(g.calls, c) && len(g.answer.rules) > 0 {
			return true
		}
	}
	return c == sysTgkill
}

func TestFetcherArguments(t *testing.T) {
	const pid = 4711
	program, err := buildList(AMD64, pid, goProcess, fetchable)
	if err != nil {
		t.Fatal(err)
	}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	for _, test := range []struct {
		name string
		call call
		args [6]uint64
		want verdict
	}{
		{"TCP", sysSocket, [6]uint64{unix.AF_INET, unix.SOCK_STREAM | flags, unix.IPPROTO_TCP}, allow},
		{"UDP over IPv6", sysSocket, [6]uint64{unix.AF_INET6, unix.SOCK_DGRAM | flags, 0}, allow},
		{"the bus of the session", sysSocket, [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM | flags, 0}, noFamily},
		{"a raw socket", sysSocket, [6]uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, noFamily},
		{"netlink", sysSocket, [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, noFamily},
		{"a server", sysListen, [6]uint64{3, 128}, eperm},
		{"a program", sysExecve, [6]uint64{}, eperm},
		{"kernel TLS", sysSetsockopt, [6]uint64{3, unix.IPPROTO_TCP, unix.TCP_ULP}, noOption},
		{"an option", sysSetsockopt, [6]uint64{3, unix.IPPROTO_TCP, unix.TCP_NODELAY}, allow},
		{"executable memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, eperm},
		{"memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}, allow},
		{"shared memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_SHARED | unix.MAP_ANONYMOUS}, eperm},
		{"shared memory, checked flags", sysMmap, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_SHARED_VALIDATE | unix.MAP_ANONYMOUS}, eperm},
	} {
		got, err := interpret(program, data{nr: uint32(test.call.number(AMD64)), arch: AMD64.audit(), args: test.args})
		if err != nil || got.verdict != test.want {
			t.Errorf("%s: %v %v, want %v", test.name, got.verdict, err, test.want)
		}
	}
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
		{"memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}, allow},
		{"shared memory", sysMmap, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_SHARED | unix.MAP_ANONYMOUS}, eperm},
		{"shared memory, checked flags", sysMmap, [6]uint64{0, 4096, unix.PROT_READ, unix.MAP_SHARED_VALIDATE | unix.MAP_ANONYMOUS}, eperm},
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
