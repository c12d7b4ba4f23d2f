package probe

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// call makes a system call and returns its errno, 0 for success.
func call(number uintptr, args ...uintptr) unix.Errno {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	return errno
}

// errnoName gives the symbolic name, "EPERM", and "success" for 0.
func errnoName(errno unix.Errno) string {
	if errno == 0 {
		return "success"
	}
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(errno))
}

// attempt is one system call and the errnos with which it may be refused.
type attempt struct {
	text string
	want []unix.Errno
	try  func() unix.Errno
}

// refused makes all attempts; the promise holds when each was refused with one
// of its errnos. A list without errnos accepts any refusal.
func refused(attempts ...attempt) outcome {
	var seen, wrong []string
	for _, a := range attempts {
		errno := a.try()
		text := a.text + " " + errnoName(errno)
		ok := errno != 0 && len(a.want) == 0
		for _, want := range a.want {
			ok = ok || errno == want
		}
		if !ok {
			wrong = append(wrong, text)
		}
		seen = append(seen, text)
	}
	if len(wrong) > 0 {
		return broken("%s", strings.Join(wrong, ", "))
	}
	return held("%s", strings.Join(seen, ", "))
}

// opens returns the errno of opening path.
func opens(path string, flags int) unix.Errno {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		errno, _ := err.(unix.Errno)
		return errno
	}
	unix.Close(fd)
	return 0
}

// statusFields reads the lines of /proc/self/status: "CapEff" → "0000…".
func statusFields() (map[string]string, error) {
	file, err := os.Open("/proc/thread-self/status")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fields := map[string]string{}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if name, value, found := strings.Cut(scanner.Text(), ":"); found {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields, scanner.Err()
}

// listFds lists the open descriptors of this process by descriptor number,
// without the one used for the listing. It uses raw calls, since the os
// package would open an epoll descriptor on the way.
func listFds() ([]string, error) {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var names []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Getdents(dir, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	own := fmt.Sprint(dir)
	kept := names[:0]
	for _, name := range names {
		if name != own {
			kept = append(kept, name)
		}
	}
	return kept, nil
}

// linkOf reads a symbolic link and returns the error's text in its place.
func linkOf(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return target
}
