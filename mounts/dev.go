package mounts

// device is a character device of the host that the inside may have.
type device struct {
	path         string
	major, minor uint32
}

// devices lists the nodes by the numbers that the kernel's
// Documentation/admin-guide/devices.txt gives them.
var devices = [...]device{
	{"/dev/null", 1, 3},
	{"/dev/zero", 1, 5},
	{"/dev/full", 1, 7},
	{"/dev/random", 1, 8},
	{"/dev/urandom", 1, 9},
	{"/dev/tty", 5, 0}, // the process's own controlling terminal
}

// Dev returns the entries of a minimal /dev: a directory of the private
// tmpfs that becomes read-only in Finish, the harmless devices (tty only with a terminal of its
// own), an own devpts instance, shm, mqueue and the usual links. rootUID and
// rootGID own the directory. /dev/console is left to AttachFile, since the
// terminal is made inside later. Left out on purpose, as each is an interface
// to the host's kernel or hardware: kvm, fuse, net/tun, dri, snd, input, loop,
// vhost, userfaultfd, hidraw, kmsg, mem, port, serial lines.
func Dev(tty bool, rootUID, rootGID uint32) []Mount {
	list := []Mount{{
		Kind: Shared, Target: "/dev", ReadOnly: true, NoExec: true,
		Mode: 0o755, UID: rootUID, GID: rootGID,
	}}
	for _, d := range devices {
		if d.path != "/dev/tty" || tty {
			list = append(list, Mount{Kind: Device, Source: d.path, Target: d.path})
		}
	}
	return append(
		list,
		Mount{Kind: DevPts, Target: "/dev/pts"},
		Mount{Kind: Shared, Target: "/dev/shm", NoExec: true, Mode: 0o1777, UID: rootUID, GID: rootGID},
		Mount{Kind: Mqueue, Target: "/dev/mqueue", Optional: true},
		Mount{Kind: Symlink, Source: "pts/ptmx", Target: "/dev/ptmx"},
		Mount{Kind: Symlink, Source: "/proc/self/fd", Target: "/dev/fd"},
		Mount{Kind: Symlink, Source: "/proc/self/fd/0", Target: "/dev/stdin"},
		Mount{Kind: Symlink, Source: "/proc/self/fd/1", Target: "/dev/stdout"},
		Mount{Kind: Symlink, Source: "/proc/self/fd/2", Target: "/dev/stderr"},
	)
}
