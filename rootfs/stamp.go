package rootfs

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A stamp is the state of those files and directories of the host that change
// when the host's programs and libraries do: one line for each, with inode,
// size, times of modification and change, and the path. It is compared at each
// run, which must take less than 100 microseconds; so it has the directories of
// programs and libraries (a package manager renames into them), the libraries
// themselves, and the indices of loader and package managers, but not the
// thousands of other files. A difference only means that all must be compared.

// indices change whenever packages do; most hosts have one or two of them.
var indices = [...]string{
	"/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/ca-trust/extracted/pem",
	"/etc/localtime", "/etc/os-release", "/var/lib/dpkg/status", "/var/lib/rpm", "/usr/lib/sysimage/rpm",
	"/var/lib/pacman/local", "/lib/apk/db/installed", "/etc/protocols", "/etc/services",
}

// maxStamped bounds the number of lines, and with them the time.
const maxStamped = 150

// stamped lists what the stamp of this plan looks at, without links on the way.
func (p *planner) stamped() []string {
	names := slices.Concat(p.binDirs, p.libDirs, p.bound)
	for _, name := range indices {
		if chain, err := p.walk(name); err == nil && len(chain) > 0 {
			for _, e := range chain {
				if e.kind == unix.S_IFLNK {
					names = append(names, e.path)
				}
			}
			names = append(names, chain[len(chain)-1].path)
		}
	}
	names = append(names, p.tops...)
	var out []string
	for _, name := range names {
		if len(out) < maxStamped && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// makeStamp writes the stamp of these paths below the host root.
func makeStamp(host *Root, names []string) string {
	var buf []byte
	fd := host.FD()
	for _, name := range names {
		buf = appendStamp(buf, fd, name)
	}
	return string(buf)
}

// sameStamp reports whether the host is as it was when stamp was made.
func sameStamp(host *Root, stamp string) bool {
	var buf []byte
	fd := host.FD()
	for stamp != "" {
		line, rest, _ := strings.Cut(stamp, "\n")
		i := strings.IndexByte(line, '/')
		if i < 0 {
			return false
		}
		buf = appendStamp(buf[:0], fd, line[i:])
		if string(buf[:len(buf)-1]) != line {
			return false
		}
		stamp = rest
	}
	return true
}

// appendStamp adds one line. Something that is missing has a line as well. The
// path has no links on the way, so the plain system call stays in the root; an
// attacker who could change that is root on the host.
func appendStamp(buf []byte, rootfd int, name string) []byte {
	var st unix.Stat_t
	if err := unix.Fstatat(rootfd, name[1:], &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		st = unix.Stat_t{}
	}
	for _, n := range [...]int64{
		int64(st.Ino), st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec,
	} {
		buf = strconv.AppendInt(buf, n, 36)
		buf = append(buf, ' ')
	}
	buf = append(buf, name...)
	return append(buf, '\n')
}
