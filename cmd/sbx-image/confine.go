package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/landlock"
	"github.com/sbx-run/sbx/internal/pull"
	"github.com/sbx-run/sbx/internal/seccomp"
)

// task is what the first half leaves to the second.
type task struct {
	Request pull.Request
	Login   login
	CAs     []byte
	// Unconfined is what could not be given up on this kernel.
	Unconfined []string
}

// readable are the places that name resolution and TLS read; what Go's own packages look at on the distributions in use.
// Links in them lead to others of them.
var readable = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/static/ssl",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki", "/usr/share/ssl", "/usr/local/share/certs",
	"/var/lib/ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem", "/dev/null",
}

// kept are the variables that the second half still needs.
var kept = []string{
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// become gives up what is not needed any more and executes this program again. Landlock holds for the thread that asks for it
// and for what that executes, so this is the way to have it on all threads; and memory that has seen other credentials is not
// there any more.
func become(t task) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := restrictFiles(); err != nil {
		if !errors.Is(err, landlock.ErrAbsent) && !errors.Is(err, landlock.ErrTooOld) {
			return fmt.Errorf("confine %s: %w", pull.Name, err)
		}
		t.Unconfined = append(t.Unconfined, err.Error())
	}
	memory, err := handOver(t)
	if err != nil {
		return err
	}
	err = unix.Exec("/proc/self/exe", []string{pull.Name, secondHalf, strconv.Itoa(memory)}, keep(os.Environ()))
	return fmt.Errorf("execute %s again: %w", pull.Name, err)
}

// restrictFiles leaves reading certificates and executing this program, and writing the download.
func restrictFiles() error {
	rules := []landlock.Rule{
		{Path: "/proc/self/exe", Access: landlock.Read},
		{Path: fmt.Sprintf("/proc/self/fd/%d", pull.PoolFD), Access: landlock.Write},
	}
	for _, path := range append(certificatePlaces(), readable...) {
		if _, err := os.Stat(path); err == nil {
			rules = append(rules, landlock.Rule{Path: path, Access: landlock.Read})
		}
	}
	fd, err := landlock.Ruleset(landlock.ABI(), rules)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(fd), 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}

// certificatePlaces are those that the user names in place of the system's.
func certificatePlaces() []string {
	var paths []string
	for _, list := range []string{os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR")} {
		for path := range strings.SplitSeq(list, ":") {
			if filepath.IsAbs(path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// filterCalls installs the filter for every thread of the second half: files, TCP and UDP, and nothing that executes, signals
// or confines others. Landlock does not keep a process from connecting to Unix sockets that have a name, before Linux 7.1; the
// filter does.
func filterCalls() error {
	filter, err := seccomp.BuildFetcher(os.Getpid())
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Not 0 and no errno: the number of a thread that could not be given it.
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	switch {
	case errno != 0:
		return fmt.Errorf("confine %s: install the system call filter: %w", pull.Name, errno)
	case thread != 0:
		return fmt.Errorf("confine %s: install the system call filter: thread %d has another one (please report this)", pull.Name, thread)
	}
	return nil
}

// handOver puts the task into a file in memory, since other processes can read arguments and variables, and it holds
// credentials. The descriptor is inherited.
func handOver(t task) (int, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return -1, fmt.Errorf("encode the task: %w", err)
	}
	fd, err := unix.MemfdCreate("task", 0)
	if err != nil {
		return -1, fmt.Errorf("make a file in memory: %w", err)
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return -1, fmt.Errorf("write a file in memory: %w", err)
		}
		data = data[max(n, 0):]
	}
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return -1, fmt.Errorf("rewind a file in memory: %w", err)
	}
	return fd, nil
}

func readTask(memory string) (task, error) {
	var t task
	fd, err := strconv.Atoi(memory)
	if err != nil || fd <= pull.LayoutFD {
		return t, fmt.Errorf("read the task: %q is none of its descriptors", memory)
	}
	f := os.NewFile(uintptr(fd), "task")
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&t); err != nil {
		return t, fmt.Errorf("read the task: %w", err)
	}
	return t, nil
}

func keep(environment []string) []string {
	var list []string
	for _, variable := range environment {
		for _, name := range kept {
			if strings.HasPrefix(variable, name+"=") {
				list = append(list, variable)
			}
		}
	}
	return list
}
