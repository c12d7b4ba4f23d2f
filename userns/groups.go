package userns

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const groupFile = "/etc/group"

// Group is a group that this process is a member of.
type Group struct {
	GID uint32 `json:"gid"`
	// Name is empty where /etc/group does not name the number, as for groups of a
	// directory service.
	Name string `json:"name,omitempty"`
	// Power says that membership is worth as much as root, or reads what only root
	// should. It is known by name, so false is no promise: a site can hang
	// anything on a group of its own.
	Power bool `json:"power,omitempty"`
	// Why is what the power is, a few words, empty without.
	Why string `json:"why,omitempty"`
}

// String is the name, or the number where there is none.
func (g Group) String() string {
	if g.Name == "" {
		return fmt.Sprint(g.GID)
	}
	return g.Name
}

// SurvivingGroups returns the supplementary groups of this process, by number: those
// that stay in force in a user namespace in which setgroups(2) is denied, although
// they show as 65534 there, since the kernel checks files against host ids. The
// primary group is among them only if it has power, for its own number is mapped
// anyway.
//
// Dropping groups, where it can be done, may also grant access: to files whose group
// has less rights than others have.
//
// With an error about /etc/group the groups are returned all the same, unnamed.
func SurvivingGroups() ([]Group, error) {
	gids, err := unix.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("read own groups: %w", err)
	}
	text, err := readCapped(groupFile, maxConfigBytes)
	return describeGroups(gids, unix.Getegid(), text), err
}

func describeGroups(gids []int, primary int, groupText []byte) []Group {
	all := slices.Compact(slices.Sorted(slices.Values(append([]int{primary}, gids...))))
	names := parseGroup(groupText)
	var groups []Group
	for _, gid := range all {
		g := Group{GID: uint32(gid), Name: names[uint32(gid)]}
		g.Why = groupPower(g)
		g.Power = g.Why != ""
		if gid != primary || g.Power {
			groups = append(groups, g)
		}
	}
	return groups
}

// parseGroup reads lines of group(5), "name:password:gid:members". A line that is
// none is skipped, and of two names for one number the first counts, as for
// getgrgid(3).
func parseGroup(text []byte) map[uint32]string {
	names := make(map[uint32]string)
	for line := range bytes.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 4)
		if len(fields) != 4 || fields[0] == "" {
			continue
		}
		gid, err := parseID(fields[2])
		if err != nil {
			continue
		}
		if _, ok := names[gid]; !ok {
			names[gid] = fields[0]
		}
	}
	return names
}

// groupPower says what a group can do to the host, by the names that distributions
// and the programs themselves use.
func groupPower(g Group) string {
	if g.GID == 0 {
		return "root's own group"
	}
	switch g.Name {
	case "docker", "lxd", "incus", "incus-admin", "podman":
		return "may start containers as root"
	case "libvirt", "libvirtd", "libvirt-qemu", "vboxusers":
		return "may start virtual machines with any disk"
	case "kvm":
		return "may use /dev/kvm"
	case "disk", "kmem", "tape", "floppy":
		return "may read raw devices"
	case "sudo", "wheel", "admin", "google-sudoers":
		return "may become root"
	case "shadow":
		return "may read password hashes"
	case "adm", "systemd-journal":
		return "may read the system's logs"
	case "staff":
		return "may change /usr/local"
	case "input", "tty", "video", "wireshark":
		return "may reach other users' input, screen or network"
	}
	return ""
}
