package mounts

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// PowerfulSocket is a place where a socket lets its user act outside of the
// sandbox.
type PowerfulSocket struct {
	Path   string
	Reason string
	// Whole places matter only when they are shared as a whole.
	Whole bool
}

// PowerfulSockets returns the well-known places; home is the user's home
// directory, or empty.
func PowerfulSockets(home string) []PowerfulSocket {
	list := []PowerfulSocket{
		{Path: "/run/user", Reason: "the user's session: D-Bus and systemd start programs as him, agents sign with his keys, the display reads his input"},
		{Path: "/run/dbus", Reason: "the system bus: services act for its callers"},
		{Path: "/run/systemd", Reason: "systemd's own sockets, among them the manager, the journal and the user database"},
		{Path: "/run/docker.sock", Reason: "docker: root on the host"},
		{Path: "/run/docker", Reason: "docker: root on the host"},
		{Path: "/run/podman", Reason: "podman: starts containers with any of the host's files"},
		{Path: "/run/containerd", Reason: "containerd: root on the host"},
		{Path: "/run/crio", Reason: "CRI-O: root on the host"},
		{Path: "/run/buildkit", Reason: "buildkit: root on the host"},
		{Path: "/run/libvirt", Reason: "libvirt: virtual machines with any of the host's disks"},
		{Path: "/run/lxd.socket", Reason: "LXD: root on the host"},
		{Path: "/var/lib/lxd", Reason: "LXD: root on the host"},
		{Path: "/var/lib/incus", Reason: "Incus: root on the host"},
		{Path: "/run/incus", Reason: "Incus: root on the host"},
		{Path: "/var/snap/lxd", Reason: "LXD: root on the host"},
		{Path: "/run/snapd.socket", Reason: "snapd: installs and starts snaps"},
		{Path: "/run/udev", Reason: "udev: device events"},
		{Path: "/run/screen", Reason: "screen: types into the user's terminals"},
		{Path: "/run/tmux", Reason: "tmux: types into the user's terminals"},
		{Path: "/run/nscd", Reason: "nscd: lookups of the host's users"},
		{Path: "/run/sssd", Reason: "sssd: lookups of the host's users"},
		{Path: "/var/lib/sss/pipes", Reason: "sssd: lookups and logins of the host's users"},
		{Path: "/run/pcscd", Reason: "smart cards of the user"},
		{Path: "/run/munge", Reason: "munge: credentials that the cluster believes"},
		{Path: "/tmp/.X11-unix", Reason: "the X server: reads all input and types into every window"},
		{Path: "/tmp", Reason: "sockets of tmux, X11, ssh-agent and others lie here", Whole: true},
	}
	if home == "" {
		return list
	}
	for _, p := range []PowerfulSocket{
		{Path: "/.docker", Reason: "docker: its socket and the logins to registries"},
		{Path: "/.gnupg", Reason: "gpg-agent: signs and decrypts with the user's keys"},
		{Path: "/.ssh", Reason: "ssh: keys, and connections that are shared over sockets"},
		{Path: "/.screen", Reason: "screen: types into the user's terminals"},
		{Path: "/.colima", Reason: "docker in a virtual machine with the user's files"},
		{Path: "/.lima", Reason: "virtual machines with the user's files"},
	} {
		p.Path = strings.TrimSuffix(home, "/") + p.Path
		list = append(list, p)
	}
	return list
}

// ReachedSockets returns those of the list that a share of path, free of
// links, would show: because it is one, lies in one or contains one.
func ReachedSockets(path string, list []PowerfulSocket) []PowerfulSocket {
	var reached []PowerfulSocket
	for _, p := range list {
		if (!p.Whole && within(path, p.Path)) || within(p.Path, path) {
			reached = append(reached, p)
		}
	}
	return reached
}

// Bounds of FindSocket: it is for a warning, and large trees must not slow a
// start down.
const (
	socketDepth   = 3
	socketEntries = 5000
)

// FindSocket looks for a Unix socket below a directory of the user's, three
// levels deep at the most, and returns the first, or "". Whoever can write to a
// socket talks to the program behind it, also through a read-only share.
func FindSocket(dir string) string {
	left := socketEntries
	return findSocket(dir, socketDepth, &left)
}

func findSocket(dir string, depth int, left *int) string {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	entries, _ := f.ReadDir(min(*left+1, socketEntries))
	f.Close()
	for _, e := range entries {
		if *left--; *left < 0 {
			return ""
		}
		name := dir + "/" + e.Name()
		if e.Type() == os.ModeSocket {
			return name
		}
		if e.IsDir() && depth > 1 {
			if found := findSocket(name, depth-1, left); found != "" {
				return found
			}
		}
	}
	return ""
}
