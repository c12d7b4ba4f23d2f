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
	slices.SortFunc(out, func(a, b string) int { // see stampWriter
		if c := strings.Compare(parentOf(a), parentOf(b)); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return out
}

// makeStamp writes the stamp of these paths below the host root.
func makeStamp(host *Root, names []string) string {
	w := stampWriter{root: host.FD(), fd: -1}
	defer w.close()
	for _, name := range names {
		w.add(name)
	}
	return string(w.buf)
}

// sameStamp reports whether the host is as it was when stamp was made.
func sameStamp(host *Root, stamp string) bool {
	w := stampWriter{root: host.FD(), fd: -1}
	defer w.close()
	for line := range strings.Lines(stamp) {
		i := strings.IndexByte(line, '/')
		if i < 0 {
			return false
		}
		w.buf = w.buf[:0]
		w.add(strings.TrimSuffix(line[i:], "\n"))
		if string(w.buf) != line {
			return false
		}
	}
	return stamp != ""
}

// stampWriter writes lines. It keeps the directory of the last one open, since
// most lines are of one directory and a short lookup is half the time. The
// paths have no links on the way, so plain system calls stay in the root; who
// could change that is root on the host.
type stampWriter struct {
	root int
	dir  string
	fd   int // of dir; -1 at first and when it cannot be opened
	buf  []byte
}

// add writes one line. Something that is missing has a line as well.
func (w *stampWriter) add(name string) {
	slash := strings.LastIndexByte(name, '/')
	if dir := name[:slash+1]; dir != w.dir {
		w.close()
		w.dir, w.fd = dir, -1
		if fd, err := unix.Openat(w.root, "."+dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			w.fd = fd
		}
	}
	var st unix.Stat_t
	if w.fd < 0 || unix.Fstatat(w.fd, name[slash+1:], &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		st = unix.Stat_t{}
	}
	for _, n := range [...]int64{
		int64(st.Ino), st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec,
	} {
		w.buf = strconv.AppendInt(w.buf, n, 36)
		w.buf = append(w.buf, ' ')
	}
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '\n')
}

func (w *stampWriter) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}
