package seccomp

import "golang.org/x/sys/unix"

// fetchable are the calls that a process which asks a registry has beside those
// of goProcess: names below directories that Landlock leaves it, and TCP and UDP
// to others. A Unix socket would lead to the session's bus, which runs programs.
var fetchable = []group{
	{
		name:   "names",
		reason: "Certificates and the files of name resolution; the download, by descriptor.",
		calls: []call{
			sysOpenat, sysNewfstatat, sysFstat, sysStatx, sysFstatfs, sysGetdents64, sysReadlinkat, sysMkdirat, sysUnlinkat, sysLinkat,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "socket",
		reason: "TCP and UDP.",
		calls:  []call{sysSocket},
		answer: answer{[]rule{
			{[]cond{oneOf(0, unix.AF_INET, unix.AF_INET6), {arg: 1, op: opMasked, mask: socketType, val: unix.SOCK_STREAM}}, allow},
			{[]cond{oneOf(0, unix.AF_INET, unix.AF_INET6), {arg: 1, op: opMasked, mask: socketType, val: unix.SOCK_DGRAM}}, allow},
		}, noFamily},
	},
	{
		name:   "sockets",
		reason: "A client's; Go binds one to find out whether there is IPv6.",
		calls: []call{
			sysBind, sysConnect, sysShutdown, sysGetsockname, sysGetpeername, sysGetsockopt,
			sysSendto, sysRecvfrom, sysSendmsg, sysRecvmsg,
		},
		answer: answer{verdict: allow},
	},
	{
		name:   "setsockopt",
		reason: "Not TCP_ULP, which puts kernel TLS or ESP-in-TCP on a socket.",
		calls:  []call{sysSetsockopt},
		answer: answer{[]rule{tcpULP()}, allow},
	},
}

// socketType is the part of socket(2)'s type that is no flag.
const socketType = 0xf

// BuildFetcher returns the program for the process that asks a registry, as
// [BuildUnpacker] for the one that unpacks.
func BuildFetcher(pid int) ([]unix.SockFilter, error) {
	return buildList(Native(), pid, goProcess, fetchable)
}
