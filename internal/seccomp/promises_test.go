package seccomp

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type promise struct {
	options Options
	name    string
	args    [6]uint64
	want    verdict
}

// garbage fills the upper half of an argument of which the kernel reads the lower half only.
const garbage = 0xdeadbeef << 32

// promises are what the policy must do by name and argument. The table could be wrong and the program still be the table. Each call is also
// made for real, so the allowed ones have arguments with which nothing happens.
var promises = []promise{
	{name: "clone", args: [6]uint64{unix.CLONE_NEWUSER | garbage}, want: eperm},
	{name: "clone", args: [6]uint64{unix.CLONE_NEWNET}, want: eperm},
	{name: "clone", args: [6]uint64{unix.CLONE_NEWCGROUP}, want: eperm},
	{name: "clone", args: [6]uint64{uint64(unix.SIGCHLD) | garbage}, want: allow},
	{name: "clone3", want: enosys},
	{name: "unshare", want: eperm},
	{name: "setns", want: eperm},
	{name: "openat2", want: enosys},
	{options: Options{Fakeroot: true}, name: "openat2", want: allow},
	{name: "socket", args: [6]uint64{unix.AF_ALG | garbage, 5, 0}, want: noFamily},
	{name: "socket", args: [6]uint64{unix.AF_VSOCK}, want: noFamily},
	{name: "socket", args: [6]uint64{unix.AF_PACKET}, want: noFamily},
	{name: "socket", args: [6]uint64{unix.AF_INET6 | garbage}, want: allow},
	{name: "socket", args: [6]uint64{unix.AF_NETLINK, 3, unix.NETLINK_ROUTE | garbage}, want: allow},
	{name: "socket", args: [6]uint64{unix.AF_NETLINK, 3, unix.NETLINK_XFRM}, want: noFamily},
	{name: "socketpair", args: [6]uint64{unix.AF_TIPC}, want: noFamily},
	{name: "ioctl", args: [6]uint64{0, unix.TIOCSTI | garbage}, want: eperm},
	{name: "ioctl", args: [6]uint64{0, 0x541C}, want: eperm},
	{name: "ioctl", args: [6]uint64{0, unix.TIOCSETD}, want: eperm},
	{name: "ioctl", args: [6]uint64{0, unix.TIOCCONS | garbage}, want: eperm},
	{name: "ioctl", args: [6]uint64{0, unix.TCGETS}, want: allow},
	{name: "personality", args: [6]uint64{0x40000}, want: eperm}, // ADDR_NO_RANDOMIZE
	{name: "personality", args: [6]uint64{0xffffffff}, want: allow},
	{name: "setrlimit", args: [6]uint64{unix.RLIMIT_CORE | garbage}, want: pretended},
	{name: "setrlimit", args: [6]uint64{unix.RLIMIT_NOFILE}, want: allow},
	{name: "prlimit64", args: [6]uint64{0, unix.RLIMIT_CORE, 0, 1 << 40}, want: allow},
	{name: "prlimit64", args: [6]uint64{0, unix.RLIMIT_CORE, 1 << 40, 0}, want: pretended},
	{name: "prlimit64", args: [6]uint64{0, unix.RLIMIT_CORE, 1 << 40, 1 << 40}, want: eperm},
	{name: "setsockopt", args: [6]uint64{3, unix.IPPROTO_TCP, unix.TCP_ULP | garbage}, want: noOption},
	{name: "setsockopt", args: [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, want: allow},
	{options: Options{Profile: Strict}, name: "setsockopt", args: [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, want: noOption},
	{options: Options{Profile: Strict}, name: "prctl", args: [6]uint64{unix.PR_SET_MM}, want: eperm},
	{options: Options{Profile: Strict}, name: "shmget", want: enosys},
	{options: Options{Profile: Strict}, name: "io_setup", want: enosys},
	{options: Options{Profile: Strict}, name: "inotify_init1", want: enosys},
	{options: Options{Profile: Strict}, name: "sendmsg", args: [6]uint64{0, 0, unix.MSG_OOB | unix.MSG_DONTWAIT}, want: noOperation},
	{name: "chmod", args: [6]uint64{0, 0o4755 | garbage}, want: eperm},
	{name: "chmod", args: [6]uint64{0, 0o755 | garbage}, want: allow},
	{name: "fchmod", args: [6]uint64{0xffffffff, 0o2000}, want: eperm},
	{name: "fchmod", args: [6]uint64{0xffffffff, 0o1777}, want: allow},
	{name: "creat", args: [6]uint64{0, 0o4755}, want: eperm},
	{name: "mkdir", args: [6]uint64{0, 0o2755}, want: eperm},
	{name: "mknod", args: [6]uint64{0, unix.S_IFREG | 0o4755}, want: eperm},
	{name: "mknodat", args: [6]uint64{0, 0, unix.S_IFREG | 0o4755}, want: eperm},
	{name: "fchmodat", args: [6]uint64{0, 0, 0o4755 | garbage}, want: eperm},
	{name: "fchmodat", args: [6]uint64{0, 0, 0o1777}, want: allow},
	{name: "fchmodat2", args: [6]uint64{0, 0, 0o2755}, want: eperm},
	{options: Options{Fakeroot: true}, name: "fchmodat2", args: [6]uint64{0, 0, 0o2755}, want: allow},
	{name: "mkdirat", args: [6]uint64{0, 0, 0o2755}, want: eperm},
	{name: "open", args: [6]uint64{0, unix.O_CREAT | unix.O_EXCL, 0o4755}, want: eperm},
	{name: "open", args: [6]uint64{0, unix.O_CREAT | unix.O_EXCL, 0o755}, want: allow},
	{name: "open", args: [6]uint64{0, unix.O_RDONLY, 0o4755}, want: allow},
	{name: "openat", args: [6]uint64{0, 0, unix.O_RDONLY, 0o6777}, want: allow},
	{name: "openat", args: [6]uint64{0, 0, unix.O_DIRECTORY, 0o6777}, want: allow},
	{name: "openat", args: [6]uint64{0, 0, unix.O_CREAT | garbage, 0o4755 | garbage}, want: eperm},
	{name: "openat", args: [6]uint64{0, 0, unix.O_TMPFILE | unix.O_RDWR, 0o2755}, want: eperm},
	{options: Options{Fakeroot: true}, name: "openat", args: [6]uint64{0, 0, unix.O_CREAT, 0o4755}, want: allow},
	{name: "ptrace", want: eperm},
	{options: Options{AllowDebug: true}, name: "ptrace", want: allow},
	{options: Options{AllowDebug: true}, name: "kcmp", want: eperm},
	{name: "vmsplice", want: eperm},
	{name: "bpf", want: eperm},
	{name: "keyctl", want: enosys},
	{name: "io_uring_setup", want: enosys},
	{name: "execve", want: allow},
}

func TestPromises(t *testing.T) {
	for _, arch := range bothArchs {
		for _, tt := range promises {
			program, err := BuildFor(arch, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			c, ok := callNamed(tt.name)
			if !ok {
				t.Fatalf("no call %s", tt.name)
			}
			if c.number(arch) < 0 {
				continue
			}
			got := mustInterpret(t, program, data{nr: uint32(c.number(arch)), arch: arch.audit(), args: tt.args})
			if got.verdict != tt.want {
				t.Errorf("%s %+v: %s(%#x): %s, want %s", arch, tt.options, tt.name, tt.args, got.verdict, tt.want)
			}
		}
	}
}

// Calls that no option short of another profile opens, and what they get.
func TestAlwaysRefused(t *testing.T) {
	tests := []struct {
		want  verdict
		names string
	}{
		{enosys, "clone3 io_uring_setup io_uring_enter io_uring_register add_key keyctl request_key userfaultfd open_tree move_mount fsopen " +
			"fsconfig fsmount fspick mount_setattr open_tree_attr pidfd_getfd process_madvise memfd_secret remap_file_pages listmount statmount " +
			"uretprobe lookup_dcookie"},
		{eperm, "mount umount2 pivot_root chroot unshare setns bpf perf_event_open open_by_handle_at name_to_handle_at kexec_load " +
			"kexec_file_load init_module finit_module delete_module reboot swapon swapoff acct quotactl quotactl_fd syslog iopl ioperm " +
			"clock_settime settimeofday clock_adjtime adjtimex sethostname setdomainname fanotify_init fanotify_mark kcmp move_pages mbind " +
			"set_mempolicy migrate_pages lsm_set_self_attr uselib ustat sysfs vhangup modify_ldt vmsplice process_mrelease"},
	}
	for _, arch := range bothArchs {
		for _, o := range everyOptions {
			program, err := BuildFor(arch, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, tt := range tests {
				for _, name := range strings.Fields(tt.names) {
					c, ok := callNamed(name)
					if !ok {
						t.Fatalf("no call %s", name)
					}
					if c.number(arch) < 0 {
						continue
					}
					if got := mustInterpret(t, program, data{nr: uint32(c.number(arch)), arch: arch.audit()}); got.verdict != tt.want {
						t.Errorf("%s %+v: %s: %s, want %s", arch, o, name, got.verdict, tt.want)
					}
				}
			}
		}
	}
}
