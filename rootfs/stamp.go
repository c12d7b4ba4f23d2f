package rootfs

import (
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A stamp is the state of those files and directories of the host that change
// when the host's programs and libraries do: a digest of their inodes, sizes and
// times of modification and change, and the path of each. It is compared at each
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

// maxStamped bounds the number of paths, and with them the time.
const maxStamped = 100

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
	slices.SortFunc(out, func(a, b string) int { // by directory, see digestOf
		if c := strings.Compare(parentOf(a), parentOf(b)); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return out
}

// makeStamp writes the stamp of these paths below the host root.
func makeStamp(host *Root, names []string) string {
	list := strings.Join(names, "\n")
	return strconv.FormatUint(digestOf(host, list), 16) + "\n" + list
}

// sameStamp reports whether the host is as it was when stamp was made.
func sameStamp(host *Root, stamp string) bool {
	digest, list, _ := strings.Cut(stamp, "\n")
	return list != "" && digest == strconv.FormatUint(digestOf(host, list), 16)
}

// digestOf looks at each path of the list. It keeps the directory of the last
// one open, since most are of one directory and a short lookup is half the time.
// The paths have no links on the way, so plain system calls stay in the root;
// who could change that is root on the host.
func digestOf(host *Root, list string) uint64 {
	defer runtime.KeepAlive(host)
	sum := uint64(fnvOffset)
	dir, fd := "", -1
	for name := range strings.SplitSeq(list, "\n") {
		slash := strings.LastIndexByte(name, '/')
		if name[:slash+1] != dir {
			dir = name[:slash+1]
			closeIfOpen(fd)
			fd = -1 // stays so when it is gone, and so are the files
			if f, err := unix.Openat(host.FD(), "."+dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
				fd = f
			}
		}
		var st unix.Stat_t
		if fd < 0 || unix.Fstatat(fd, name[slash+1:], &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			st = unix.Stat_t{}
		}
		for _, n := range [...]int64{
			int64(st.Ino), st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec,
		} {
			sum = mix(sum, uint64(n))
		}
	}
	closeIfOpen(fd)
	return sum
}

// The offset and prime of 64-bit FNV-1a. Nobody forges a stamp: who can change
// these files can change the programs themselves.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// mix is FNV-1a over whole words, with the upper half folded down so that every
// bit of a word reaches every bit of the sum.
func mix(sum, word uint64) uint64 {
	sum = (sum ^ word) * fnvPrime
	return sum ^ sum>>32
}

func closeIfOpen(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}
