package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountLine is what the checks need of a line of /proc/PID/mountinfo.
type mountLine struct {
	id, parent uint64
	point      string // as seen from the process's root, unescaped
	options    string // of the mount, not of its file system
}

var errMountLine = errors.New("mountinfo is not as proc_pid_mountinfo(5) describes it")

// mountTable reads this namespace's mounts from the private procfs. It reads
// all of it at once and cuts out four fields: this is on the way of each
// start, and there are some sixty lines.
func (b *Builder) mountTable() ([]mountLine, error) {
	fd, err := unix.Openat(b.proc, "self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open mountinfo: %w", err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 32<<10)
	for {
		if cap(buf)-len(buf) < 4<<10 {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read mountinfo: %w", err)
		}
		if n == 0 {
			return parseMountinfo(buf)
		}
		buf = buf[:len(buf)+n]
	}
}

// parseMountinfo reads lines such as
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//	id parent  root  point options
func parseMountinfo(data []byte) ([]mountLine, error) {
	lines := make([]mountLine, 0, bytes.Count(data, []byte{'\n'})+1)
	for line := range bytes.Lines(data) {
		var fields [6][]byte
		rest := bytes.TrimSuffix(line, []byte{'\n'})
		ok := true
		for i := range fields {
			fields[i], rest, ok = bytes.Cut(rest, []byte{' '})
			if len(fields[i]) == 0 {
				return nil, errMountLine
			}
		}
		id, err1 := strconv.ParseUint(string(fields[0]), 10, 64)
		parent, err2 := strconv.ParseUint(string(fields[1]), 10, 64)
		if err1 != nil || err2 != nil || !ok {
			return nil, errMountLine
		}
		lines = append(lines, mountLine{id, parent, unescape(fields[4]), string(fields[5])})
	}
	return lines, nil
}

// place is where a mount is attached.
type place struct {
	parent uint64
	point  string
}

// covered returns the mounts that no path leads to, because another one is
// mounted over them or over a directory on the way. They cannot be changed by
// path, and never be uncovered by a payload for which all mounts are locked.
func covered(table []mountLine) map[uint64]bool {
	byID := make(map[uint64]mountLine, len(table))
	at := make(map[place]bool, len(table))
	for _, m := range table {
		byID[m.id] = m
		at[place{m.parent, m.point}] = true
	}
	hidden := map[uint64]bool{}
	for _, m := range table {
		if at[place{m.id, m.point}] || isBehind(m, byID, at) {
			hidden[m.id] = true
		}
	}
	return hidden
}

// isBehind goes from m to the root as a path would.
func isBehind(m mountLine, byID map[uint64]mountLine, at map[place]bool) bool {
	for range len(byID) {
		parent, known := byID[m.parent]
		if !known {
			return false
		}
		if m.point != parent.point {
			for dir := m.point; len(dir) > len(parent.point) && dir != "/"; dir = path.Dir(dir) {
				if dir != m.point && at[place{parent.id, dir}] {
					return true
				}
			}
			if at[place{parent.id, parent.point}] {
				return true
			}
		}
		m = parent
	}
	return false
}

// unescape undoes the octal escapes of blanks and backslashes in a path.
func unescape(field []byte) string {
	if bytes.IndexByte(field, '\\') < 0 {
		return string(field)
	}
	out := make([]byte, 0, len(field))
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) {
			if n, err := strconv.ParseUint(string(field[i+1:i+4]), 8, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, field[i])
	}
	return string(out)
}
