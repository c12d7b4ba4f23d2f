package launch

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/reaper"
)

// self is the binary to execute again. The link leads to the file that runs
// now, even when its name has been given to another one meanwhile.
const self = "/proc/self/exe"

// CloneError says that the kernel refused the new namespaces.
type CloneError struct {
	Errno syscall.Errno
	// Hint is the cause on this host and what to do, where they are known.
	Hint string
}

func (e *CloneError) Error() string {
	text := "start a process in new namespaces: " + e.Errno.Error()
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap makes errors.Is(err, unix.EPERM) work.
func (e *CloneError) Unwrap() error { return e.Errno }

// child is a process of U1 that waits for its id maps.
type child struct {
	pid    int
	conn   reaper.Conn
	socket int // our end
	// theirs is pid 1's end, which it got by the clone; -1 when it is closed.
	theirs int
	reaped bool
	mu     sync.Mutex
}

// newFirst is pid 1. It has its end of the socket from the clone; our copy of
// that is closed by [child.detach].
func newFirst(pid, ours, theirs int) *child {
	return &child{pid: pid, conn: reaper.NewConn(ours), socket: ours, theirs: theirs}
}

// detach closes our copy of pid 1's end: with it open, pid 1's death would not
// be the end of the conversation. It is for the supervisor's goroutines only.
func (c *child) detach() {
	if c.theirs >= 0 {
		_ = unix.Close(c.theirs)
		c.theirs = -1
	}
}

// newChild starts a re-exec of this binary, as name, in new namespaces. Its
// descriptors are 0, 1 and 2, FDControl, and then files.
func newChild(name string, namespaces uintptr, stdio [3]*os.File, files ...*os.File) (*child, error) {
	return newChildOf(self, name, namespaces, stdio, files...)
}

// newChildOf is newChild of another program.
func newChildOf(program, name string, namespaces uintptr, stdio [3]*os.File, files ...*os.File) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	defer unix.Close(pair[1])
	fds := []uintptr{stdio[0].Fd(), stdio[1].Fd(), stdio[2].Fd(), uintptr(pair[1])}
	for _, f := range files {
		fds = append(fds, f.Fd())
	}
	// Not os.StartProcess, which at its first use starts another process to
	// find out whether pidfds work.
	pid, err := syscall.ForkExec(program, []string{name}, &syscall.ProcAttr{
		Dir: "/",
		// Empty: /proc/PID/environ would show whatever is in it (SECURITY B5).
		Env:   []string{},
		Files: fds,
		Sys: &syscall.SysProcAttr{
			// Go shares the address space until execve by itself, but not with
			// a user namespace, as its way of writing the maps would wait for
			// ever. Ours does not, and a copy of the address space costs a
			// fault with interrupts to all processors for each page that is
			// written meanwhile.
			Cloneflags: namespaces | unix.CLONE_NEWUSER | unix.CLONE_VM | unix.CLONE_VFORK,
			// Without them an execve by an unmapped uid would end with no
			// capability at all, and the maps are written after it.
			AmbientCaps: setupCapabilities(),
			Pdeathsig:   unix.SIGKILL,
		},
	})
	if err != nil {
		_ = unix.Close(pair[0])
		return nil, cloneError(err)
	}
	return &child{pid: pid, conn: reaper.NewConn(pair[0]), socket: pair[0], theirs: -1}, nil
}

// setupCapabilities are what pid 1 does its work with; all are U1's only.
func setupCapabilities() []uintptr {
	return []uintptr{
		unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP,
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID,
		unix.CAP_KILL, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_CHROOT,
	}
}

// release lets it go on, with the descriptors it needs.
func (c *child) release(files ...*os.File) error {
	err := sendGo(c.conn, files...)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrInitDied
	}
	return err
}

// sendGo lets a process that waits for its id maps go on.
func sendGo(conn reaper.Conn, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return conn.Send(reaper.Packet{Op: reaper.Go}, fds...)
}

// kill ends the child and with it, if it is pid 1, its whole pid namespace.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Until it is waited for, its number is nobody else's.
	if !c.reaped {
		_ = unix.Kill(c.pid, unix.SIGKILL)
	}
}

// close waits for the child's end and closes the socket.
//
// It returns what the child and all that it reaped have used.
func (c *child) close() unix.Rusage {
	c.detach()
	defer unix.Close(c.socket)
	c.awaitEnd()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped = true
	var usage unix.Rusage
	if _, err := unix.Wait4(c.pid, nil, 0, &usage); err != nil {
		return unix.Rusage{}
	}
	return usage
}

// awaitEnd waits for the child's end and leaves it unreaped: a kill beside us must
// not hit the next process of its number.
func (c *child) awaitEnd() {
	for {
		err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// memoryFile puts data into a memfd: no path, no length limit of a pipe, and
// nothing that another process of the user could find.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file for the %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the %s: %w", name, err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("rewind the %s: %w", name, err)
	}
	return f, nil
}
