package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// filesystemChecks looks at what can be read and written by name.
func filesystemChecks() []check {
	return []check{
		{"C9", "host-file", "a file of the user on the host does not exist here", hostFile},
		{"C9", "host-home", "no home directory of the host is shown", hostHome},
		{"C9", "old-root", "the old root is out of reach", oldRoot},
		{"C2", "writable", "the places that should be writable are, and are private", writablePlaces},
		{"C9", "system-readonly", "the host's own directories cannot be written", systemReadOnly},
		{"C7", "dev-list", "/dev holds only the minimal set of devices", devList},
		{"C7", "dev-numbers", "null, zero, full, random and urandom are the real devices", devNumbers},
		{"C7", "dev-fixed", "nothing can be added to /dev", devFixed},
		{"C7", "dev-pts", "/dev/ptmx gives a terminal of the sandbox's own instance", ownPty},
		{"D7", "mknod", "no device node can be made", noMknod},
		{"J3", "setuid", "no file can be made setuid or setgid", noSetuid},
		{"I6", "tmpfs-limits", "every writable tmpfs has a size and a cap on files", tmpfsLimits},
	}
}

func hostFile(facts *Facts) outcome {
	if facts.Canary == "" {
		return unknown("no file was named")
	}
	data, err := os.ReadFile(facts.Canary)
	if err == nil && strings.Contains(string(data), facts.Secret) {
		return broken("%s can be read", facts.Canary)
	}
	if _, err := os.Lstat(facts.Canary); err == nil {
		return broken("%s exists", facts.Canary)
	}
	return held("%v", err)
}

func hostHome(facts *Facts) outcome {
	if facts.UserName == "" {
		return unknown("the caller's name was not told")
	}
	if !facts.recognisable() {
		return held("%q is a name that every sandbox has", facts.UserName)
	}
	for _, dir := range []string{"/home", "/root", "/run/user", "/var/spool", "/var/mail", "/media", "/mnt"} {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if facts.names(entry.Name()) {
				return broken("%s/%s", dir, entry.Name())
			}
		}
	}
	return held("not below /home, /root, /run/user, /var")
}

// oldRoot walks up with raw descriptors: a root that was left mounted beneath
// shows as a directory with another identity above "/".
func oldRoot(*Facts) outcome {
	var root, above unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return broken("%v", err)
	}
	if err := unix.Stat("/"+strings.Repeat("../", 64), &above); err != nil {
		return broken("%v", err)
	}
	if root.Dev != above.Dev || root.Ino != above.Ino {
		return broken("/ is %d:%d, above it stands %d:%d", root.Dev, root.Ino, above.Dev, above.Ino)
	}
	for _, name := range []string{"/oldroot", "/old_root", "/.old", "/newroot", "/put_old", "/.pivot_root"} {
		if _, err := os.Lstat(name); err == nil {
			return broken("%s exists", name)
		}
	}
	return held("/ is its own parent")
}

func writablePlaces(facts *Facts) outcome {
	dirs := []string{"/tmp", "/var/tmp", "/run", os.Getenv("HOME"), "/box", "/dev/shm"}
	var failed []string
	for _, dir := range dirs {
		if err := tryWrite(dir); err != nil {
			failed = append(failed, err.Error())
		}
	}
	if len(failed) > 0 {
		return broken("%s", strings.Join(failed, "; "))
	}
	return held("%s", strings.Join(dirs, " "))
}

func tryWrite(dir string) error {
	file, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString("x"); err != nil {
		return err
	}
	// Directories, links and renames have to work too.
	sub := file.Name() + ".d"
	if err := os.Mkdir(sub, 0o755); err != nil {
		return err
	}
	defer os.Remove(sub)
	if err := os.Rename(file.Name(), filepath.Join(sub, "x")); err != nil {
		return err
	}
	return os.Remove(filepath.Join(sub, "x"))
}

// systemReadOnly matters where the host's directories are bound; in a copy the
// payload may change what it likes and harms only itself.
func systemReadOnly(facts *Facts) outcome {
	if !facts.HostImage && !facts.ReadOnly {
		return held("the root is a copy")
	}
	// The generated root may lack one of them; then there is nothing to write.
	var attempts []attempt
	dirs := []string{"/usr", "/usr/bin", "/usr/lib", "/bin", "/lib", "/opt", "/usr/share"}
	if facts.ReadOnly {
		dirs = append(dirs, "/", "/etc", "/var")
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		attempts = append(attempts, attempt{"create in " + dir, nil, func() unix.Errno {
			name := filepath.Join(dir, ".probe")
			fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if err != nil {
				errno, _ := err.(unix.Errno)
				return errno
			}
			unix.Close(fd)
			unix.Unlink(name)
			return 0
		}})
	}
	return refused(attempts...)
}

// devices are the names /dev may hold and the numbers that five of them must
// have; 0 stands for a name that is no device of its own or whose number
// varies.
var devices = map[string]uint64{
	"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "full": unix.Mkdev(1, 7),
	"random": unix.Mkdev(1, 8), "urandom": unix.Mkdev(1, 9),
	"tty": 0, "pts": 0, "ptmx": 0, "console": 0, "shm": 0, "mqueue": 0,
	"fd": 0, "stdin": 0, "stdout": 0, "stderr": 0,
}

func devList(*Facts) outcome {
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return broken("%v", err)
	}
	var names, wrong []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		if _, known := devices[entry.Name()]; !known {
			wrong = append(wrong, entry.Name())
		}
	}
	if len(wrong) > 0 {
		return broken("also there: %s", strings.Join(wrong, " "))
	}
	return held("%s", strings.Join(names, " "))
}

func devNumbers(*Facts) outcome {
	for name, number := range devices {
		if number == 0 {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != number {
			return broken("/dev/%s: mode %o, number %d:%d, %v", name, st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev), err)
		}
		if errno := opens("/dev/"+name, unix.O_RDWR); errno != 0 && !(name == "random" || name == "urandom") {
			return broken("/dev/%s cannot be opened: %s", name, errnoName(errno))
		}
	}
	return held("each has its own number and opens")
}

func devFixed(*Facts) outcome {
	return refused(
		attempt{"create /dev/x", nil, func() unix.Errno {
			fd, err := unix.Open("/dev/x", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			if err == nil {
				unix.Close(fd)
				unix.Unlink("/dev/x")
			}
			errno, _ := err.(unix.Errno)
			return errno
		}},
		attempt{"unlink /dev/null", nil, func() unix.Errno { errno, _ := unix.Unlink("/dev/null").(unix.Errno); return errno }},
		attempt{"rename /dev/null", nil, func() unix.Errno {
			errno, _ := unix.Rename("/dev/null", "/dev/nil").(unix.Errno)
			return errno
		}},
	)
}

func ownPty(*Facts) outcome {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return broken("open /dev/ptmx: %v", err)
	}
	defer unix.Close(fd)
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return broken("TIOCGPTN: %v", err)
	}
	// A fresh instance counts from 0; the host's would go on from its own.
	if number > 4 {
		return broken("the new terminal is number %d: not an instance of its own", number)
	}
	if _, err := os.Stat(fmt.Sprintf("/dev/pts/%d", number)); err != nil {
		return broken("%v", err)
	}
	return held("/dev/pts/%d", number)
}

func noMknod(*Facts) outcome {
	return refused(
		attempt{"mknod b 8:0", nil, func() unix.Errno {
			errno, _ := unix.Mknod("/tmp/probe-disk", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))).(unix.Errno)
			return errno
		}},
		attempt{"mknod c 1:1", nil, func() unix.Errno {
			errno, _ := unix.Mknod("/tmp/probe-mem", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))).(unix.Errno)
			return errno
		}},
	)
}

func tmpfsLimits(*Facts) outcome {
	var seen []string
	for _, dir := range []string{"/tmp", "/var/tmp", "/run", "/dev", "/dev/shm", "/box"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return broken("%s: %v", dir, err)
		}
		if st.Type != unix.TMPFS_MAGIC {
			continue
		}
		if st.Blocks == 0 || st.Files == 0 {
			return broken("%s: %d blocks, %d files", dir, st.Blocks, st.Files)
		}
		seen = append(seen, fmt.Sprintf("%s %d MiB %d files", dir, st.Blocks*uint64(st.Bsize)>>20, st.Files))
	}
	return held("%s", strings.Join(seen, ", "))
}
