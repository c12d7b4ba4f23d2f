package cgroupv2

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel is the boundary to the running system. Three calls have effects in a cgroup
// file system that they lack in a plain directory; tests replace those and keep the
// rest as it is.
type kernel struct {
	proc  string // proc(5)
	run   string // where the sockets of service managers are
	pid   int
	uid   int
	env   func(string) string
	mkdir func(path string, mode uint32) error
	rmdir func(path string) error
	write func(path, value string) error
	// genuine says that a cgroup file system must prove to be one by its magic.
	genuine bool
}

func host() kernel {
	return kernel{
		proc: "/proc", run: "/run", pid: os.Getpid(), uid: os.Getuid(), env: os.Getenv,
		mkdir: mkdir, rmdir: rmdir, write: writeFile, genuine: true,
	}
}

func mkdir(path string, mode uint32) error {
	return noEINTR(func() error { return unix.Mkdir(path, mode) })
}

func rmdir(path string) error {
	return noEINTR(func() error { return unix.Rmdir(path) })
}

func noEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func open(path string, flags int) (int, error) {
	fd := -1
	err := noEINTR(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return err
	})
	return fd, err
}

// writeFile writes a value in one call, as the files of a cgroup want it. It is not
// done through os.File: the files are pollable, so that a write answered with EAGAIN
// (cgroup.procs during a fork storm, memory.reclaim) would wait for ever.
func writeFile(path, value string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return noEINTR(func() error {
		n, err := unix.Write(fd, []byte(value))
		if err == nil && n != len(value) {
			return io.ErrShortWrite
		}
		return err
	})
}

// maxFile bounds what is read from one file. cgroup.procs of a full tree is the
// largest: 4 million pids of 8 bytes.
const maxFile = 32 << 20

// readFile returns a file's text without the final newline.
func readFile(path string) (string, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var buf []byte
	for len(buf) < maxFile {
		buf = slices.Grow(buf, 4096)
		n := 0
		err := noEINTR(func() (err error) {
			n, err = unix.Read(fd, buf[len(buf):cap(buf)])
			return err
		})
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		buf = buf[:len(buf)+n]
	}
	return strings.TrimRight(string(buf), "\n"), nil
}

// readWords returns the words of a file such as cgroup.controllers; nil when there is
// no such file.
func readWords(path string) []string {
	text, err := readFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(text)
}

// flatKeyed parses "KEY VALUE\n…", the form of memory.events and cpu.stat. Lines of
// another form are passed over, for every kernel adds some.
func flatKeyed(text string) map[string]uint64 {
	values := make(map[string]uint64)
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			values[key] = n
		}
	}
	return values
}

// number parses a file of one number; "max" is [math.MaxUint64].
func number(text string) (uint64, bool) {
	if text == "max" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// pidsOf reads the processes that are directly in a cgroup. A process of a foreign pid
// namespace is 0.
func pidsOf(dir string) ([]int, error) {
	text, err := readFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("list the processes of %s: %w", dir, err)
	}
	var pids []int
	for _, word := range strings.Fields(text) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("list the processes of %s: %q is not a number", dir, word)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// children returns the directories in a cgroup; none when it is gone.
func children(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, filepath.Join(dir, entry.Name()))
		}
	}
	return names
}

// subtree returns a cgroup and everything below it, children before their parents.
func subtree(dir string) []string {
	var dirs []string
	for _, child := range children(dir) {
		dirs = append(dirs, subtree(child)...)
	}
	return append(dirs, dir)
}
