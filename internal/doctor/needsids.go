package doctor

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-run/sbx/userns"
)

// packages are the names of the package with newuidmap and newgidmap, by the
// words of os-release(5) that a distribution is known by.
type packages struct {
	label   string
	ids     []string
	command string
}

func helperPackages() []packages {
	return []packages{
		{"Debian, Ubuntu", []string{"debian", "ubuntu"}, "apt install uidmap"},
		{"Fedora, RHEL", []string{"fedora", "rhel", "centos"}, "dnf install shadow-utils"},
		{"Arch", []string{"arch"}, "pacman -S shadow"},
		{"Alpine", []string{"alpine"}, "apk add shadow-subids   # older releases: shadow-uidmap"},
		{"openSUSE", []string{"suse", "opensuse"}, "zypper install shadow"},
	}
}

// packageLines lists the commands, with this host's distribution first and the
// others as remarks; all of them are remarks where it is not known.
func packageLines(distribution []string) []string {
	list := helperPackages()
	own := func(p packages) bool {
		return slices.ContainsFunc(distribution, func(id string) bool {
			return slices.ContainsFunc(p.ids, func(want string) bool { return id == want || strings.HasPrefix(id, want+"-") })
		})
	}
	slices.SortStableFunc(list, func(a, b packages) int {
		switch {
		case own(a) && !own(b):
			return -1
		case own(b) && !own(a):
			return 1
		}
		return 0
	})
	var lines []string
	for _, p := range list {
		line := fmt.Sprintf("# %-16s%s", p.label, p.command)
		if own(p) {
			line = p.command
		}
		lines = append(lines, line)
	}
	return lines
}

func needHelpers(f Findings) (Need, bool) {
	n := Need{
		Name: "helpers",
		Safe: "newuidmap and newgidmap belong to the system's own account tools (shadow); they map for a user only the ids that /etc/subuid and /etc/subgid grant to that user",
	}
	if f.Facts.Caller.UID == 0 {
		return n, false
	}
	switch f.Admin.Helpers {
	case HelpersMissing:
		n.Title = "newuidmap and newgidmap are not installed"
		n.Do = packageLines(f.Admin.Distribution)
	case HelpersUnprivileged:
		n.Title = "newuidmap and newgidmap are installed and have no rights"
		n.Do = []string{
			"chown root:root /usr/bin/newuidmap /usr/bin/newgidmap",
			"chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap",
			"# or reinstall their package; their file system must not be mounted nosuid",
		}
	case HelpersUnsafe:
		n.Title = "newuidmap or newgidmap, or the directory they are in, can be changed by others than root"
		n.Do = []string{
			"chown root:root /usr/bin /usr/bin/newuidmap /usr/bin/newgidmap",
			"chmod go-w /usr/bin /usr/bin/newuidmap /usr/bin/newgidmap",
		}
	default:
		return n, false
	}
	return n, true
}

func needSubids(f Findings) (Need, bool) {
	c, sub := f.Facts.Caller, f.Facts.Subordinate
	needUID, needGID := count(sub.UID) < enough, count(sub.GID) < enough
	if c.UID == 0 || !needUID && !needGID || c.Name == "" {
		return Need{}, false
	}
	n := Need{
		Name:  "subids",
		Title: fmt.Sprintf("%s has no subordinate ids, or fewer than %d", c.Name, enough),
		Safe: fmt.Sprintf("these numbers belong to nobody here: they are in no line of /etc/subuid, /etc/subgid, /etc/passwd and /etc/group. "+
			"With them, files and processes of a sandbox of %s's have ids without any rights on this host", c.Name),
	}
	if sub.Source == "getsubids" {
		n.Title += "; this host asks a directory service for them (subid: in /etc/nsswitch.conf), which makes /etc/subuid without effect"
		n.Do = []string{
			fmt.Sprintf("# grant %s %d subordinate uids and gids in the directory, for FreeIPA:", c.Name, enough),
			"ipa subid-generate --owner=" + shellWord(c.Name),
		}
		n.Safe = fmt.Sprintf("the directory gives numbers that belong to nobody else. With them, files and processes of a sandbox of %s's have ids without any rights", c.Name)
		return n, true
	}
	start, found := freeRange(f.Admin)
	if !found {
		n.Do = []string{fmt.Sprintf("# grant %s %d free uids and gids in /etc/subuid and /etc/subgid", c.Name, enough)}
		return n, true
	}
	last := uint64(start) + enough - 1
	command, words := "usermod", ""
	line := fmt.Sprintf("%s:%d:%d", c.Name, start, enough)
	var files []string
	if needUID {
		words += fmt.Sprintf(" --add-subuids %d-%d", start, last)
		files = append(files, "/etc/subuid")
	}
	if needGID {
		words += fmt.Sprintf(" --add-subgids %d-%d", start, last)
		files = append(files, "/etc/subgid")
	}
	n.Do = []string{
		command + words + " " + shellWord(c.Name),
		"# or, the same by hand, in " + strings.Join(files, " and ") + ":",
		"# " + line,
	}
	return n, true
}

func count(ranges []userns.Range) uint64 {
	var n uint64
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return n
}

// span are ids from first on, up to but not including end.
type span struct{ first, end uint64 }

// Where ranges are given out unless login.defs(5) says otherwise: shadow's own
// defaults.
const (
	subidMin = 100_000
	subidMax = 600_100_000
)

// freeRange finds room for a range that is free for uids and for gids alike,
// from the lower bound of login.defs(5) on, so that both lines are the same.
func freeRange(a AdminFinding) (uint32, bool) {
	taken := slices.Concat(subidSpans(a.Subuid), subidSpans(a.Subgid), accountSpans(a.Passwd), accountSpans(a.Group))
	slices.SortFunc(taken, func(x, y span) int {
		switch {
		case x.first < y.first:
			return -1
		case x.first > y.first:
			return 1
		}
		return 0
	})
	start := max(loginDefs(a.LoginDefs, "SUB_UID_MIN", subidMin), loginDefs(a.LoginDefs, "SUB_GID_MIN", subidMin))
	limit := min(loginDefs(a.LoginDefs, "SUB_UID_MAX", subidMax), loginDefs(a.LoginDefs, "SUB_GID_MAX", subidMax))
	for _, t := range taken {
		if t.first < start+enough && t.end > start {
			start = t.end
		}
	}
	if start+enough-1 > limit || start+enough-1 > 1<<32-2 {
		return 0, false
	}
	return uint32(start), true
}

// subidSpans reads lines of subuid(5), "owner:first:count", of all owners.
func subidSpans(text []byte) []span {
	var list []span
	for line := range bytes.Lines(text) {
		fields := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(fields) != 3 {
			continue
		}
		first, err := strconv.ParseUint(fields[1], 10, 32)
		n, err2 := strconv.ParseUint(fields[2], 10, 33)
		if err == nil && err2 == nil && n > 0 {
			list = append(list, span{first, first + n})
		}
	}
	return list
}

// accountSpans reads the ids of passwd(5) and group(5): the third field.
func accountSpans(text []byte) []span {
	var list []span
	for line := range bytes.Lines(text) {
		fields := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			list = append(list, span{id, id + 1})
		}
	}
	return list
}

// loginDefs reads a number of login.defs(5): "NAME VALUE".
func loginDefs(text []byte, name string, otherwise uint64) uint64 {
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) >= 2 && fields[0] == name {
			if n, err := strconv.ParseUint(fields[1], 10, 32); err == nil {
				return n
			}
		}
	}
	return otherwise
}
