package launch

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
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
	process *os.Process
	conn    plan.Conn
	socket  *os.File
}

// newChild clones a re-exec of this binary, as name, into new namespaces. Its
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
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	all := append([]*os.File{stdio[0], stdio[1], stdio[2], theirs}, files...)
	process, err := os.StartProcess(program, []string{name}, &os.ProcAttr{
		Dir: "/",
		// Empty: /proc/1/environ would show whatever is in it (SECURITY B5).
		Env:   []string{},
		Files: all,
		Sys: &syscall.SysProcAttr{
			// Go shares the address space until execve by itself, but not with
			// a user namespace, as its way of writing the maps would wait for
			// ever. Ours does not, and a copy of the address space costs a
			// fault with interrupts to all processors for each page that is
			// written meanwhile: a tenth of the whole start.
			Cloneflags: namespaces | unix.CLONE_NEWUSER | unix.CLONE_VM | unix.CLONE_VFORK,
			// Without them an execve by an unmapped uid would end with no
			// capability at all, and the maps are written after it.
			AmbientCaps: setupCapabilities(),
			Pdeathsig:   unix.SIGKILL,
		},
	})
	if err != nil {
		ours.Close()
		return nil, cloneError(err)
	}
	return &child{process: process, conn: plan.NewConn(pair[0]), socket: ours}, nil
}

// setupCapabilities are what pid 1 does its work with; all are U1's only.
func setupCapabilities() []uintptr {
	return []uintptr{
		unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP,
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID,
		unix.CAP_KILL, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_CHROOT,
	}
}

// writeMaps makes U1 what the plan says.
func (c *child) writeMaps(id plan.Identity) error {
	pid := c.process.Pid
	if id.Direct {
		return userns.WriteDirect(pid, id.Layout.SetupUID, id.Layout.SetupGID, id.Layout.DenySetgroups())
	}
	if err := id.Helpers.Write(pid, id.Layout.SetupUID, id.Layout.SetupGID); err != nil {
		// A container often leaves the helpers no right to do their work.
		return fmt.Errorf("%w; --userns=single needs no helper, and makes the program act as you", err)
	}
	return nil
}

// release lets the child go on, with the descriptors it needs.
func (c *child) release(files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return c.conn.Send(plan.Message{Op: plan.MsgGo}, fds...)
}

// kill ends the child and with it, if it is pid 1, its whole pid namespace.
func (c *child) kill() { _ = c.process.Kill() }

// close waits for the child's end.
//
// It returns what the child and all that it reaped have used.
func (c *child) close() unix.Rusage {
	defer c.socket.Close()
	state, err := c.process.Wait()
	if err != nil {
		return unix.Rusage{}
	}
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return unix.Rusage{}
	}
	return unix.Rusage{
		Utime: unix.Timeval(usage.Utime), Stime: unix.Timeval(usage.Stime), Maxrss: usage.Maxrss,
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
