package rootfs

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ImageInUseError says who needs the image that was to be removed.
type ImageInUseError struct {
	// Image is how the caller called it.
	Image string
	// Running is true while a run, or a command, holds the image.
	Running bool
	// Sandboxes are the ids of sandboxes made of it, Kept those of them that
	// stay after their run (--keep). A run whose changes are in memory has none.
	Sandboxes, Kept []string
	// PIDs are processes that hold the image, as far as they can be seen.
	PIDs []int
}

// Error gives the text "remove image NAME: it is in use by WHO".
func (e *ImageInUseError) Error() string {
	var who []string
	if len(e.Kept) > 0 {
		who = append(who, "the kept sandbox "+strings.Join(e.Kept, ", "))
	}
	if len(e.Sandboxes) > 0 {
		who = append(who, "the sandbox "+strings.Join(e.Sandboxes, ", "))
	}
	if len(e.PIDs) > 0 {
		who = append(who, "process "+strings.Trim(fmt.Sprint(e.PIDs), "[]"))
	}
	if len(who) == 0 {
		who = []string{"a run that is not of this pid namespace"}
	}
	return fmt.Sprintf("remove image %s: it is in use by %s", shown(e.Image), strings.Join(who, ", "))
}

// Unwrap makes errors.Is(err, unix.EBUSY) work.
func (e *ImageInUseError) Unwrap() error { return unix.EBUSY }

// usersOf finds out who needs the image; nil for nobody.
func (s *Store) usersOf(shelf, key string, lock *os.File, running bool) (*ImageInUseError, error) {
	states, err := s.Sandboxes()
	if err != nil {
		return nil, err
	}
	use := &ImageInUseError{Image: key, Running: running}
	for _, st := range states {
		switch {
		case st.Shelf != shelf || st.Key != key:
		case st.Keep:
			use.Kept = append(use.Kept, st.ID)
		case running:
			use.Sandboxes = append(use.Sandboxes, st.ID)
		}
	}
	if !running && len(use.Kept) == 0 {
		return nil, nil
	}
	if running {
		use.PIDs = holders(lock)
	}
	return use, nil
}

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
