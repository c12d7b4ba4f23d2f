package rootfs

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holders lists the processes that hold a flock(2) on the file, as proc_locks(5)
// shows them. Only such are named of which a descriptor of the file can be seen,
// as the inode numbers of two file systems may be the same. It is for messages:
// what cannot be read is left out.
func holders(lock *os.File) []int {
	var st unix.Stat_t
	if unix.Fstat(int(lock.Fd()), &st) != nil {
		return nil
	}
	table, err := os.Open("/proc/locks")
	if err != nil {
		return nil
	}
	defer table.Close()
	var pids []int
	// 1: FLOCK  ADVISORY  READ 2144 fe:01:131 0 EOF
	for lines := bufio.NewScanner(table); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], ":"+strconv.FormatUint(st.Ino, 10)) {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err == nil && pid > 0 && pid != os.Getpid() && hasOpen(pid, &st) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// hasOpen tells whether the process has a descriptor of the file.
func hasOpen(pid int, want *unix.Stat_t) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	names, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(e os.DirEntry) bool {
		var st unix.Stat_t
		return unix.Stat(dir+e.Name(), &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino
	})
}
