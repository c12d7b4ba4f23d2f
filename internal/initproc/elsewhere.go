package initproc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
)

// copyElsewhere copies a tree by a process of its own, a child of pid 1 that is a
// worker. [rootfs.CopyTree] has several goroutines make system calls, and here
// only one of them is pid 1.
func (p *process) copyElsewhere(from, to int, job plan.TreeJob) error {
	text, err := json.Marshal(plan.Job{CopyTree: &job})
	if err != nil {
		return fmt.Errorf("encode the job: %w", err)
	}
	var fds descriptors
	defer fds.close()
	data, err := fds.add(unix.MemfdCreate("job", unix.MFD_CLOEXEC))
	if err == nil {
		_, err = unix.Pwrite(data, text, 0)
	}
	var pipe [2]int
	if err == nil {
		err = unix.Pipe2(pipe[:], unix.O_CLOEXEC)
		fds = append(fds, pipe[:]...)
	}
	var pair [2]int
	if err == nil {
		pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		fds = append(fds, pair[:]...)
	}
	if err == nil {
		err = reaper.NewConn(pair[0]).Send(reaper.Packet{Op: reaper.Go})
	}
	if err != nil {
		return fmt.Errorf("prepare a helper process: %w", err)
	}
	pid, err := p.startWorker(map[int]int{
		plan.FDControl: pair[1], plan.FDJob: data, plan.FDReport: pipe[1], plan.FDFrom: from, plan.FDTo: to,
	})
	if err != nil {
		return fmt.Errorf("start a helper process: %w", err)
	}
	_ = unix.Close(pipe[1])
	fds[2] = -1
	err = readReport(pipe[0])
	for {
		_, waitErr := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(waitErr, unix.EINTR) {
			return err
		}
	}
}

// descriptors are closed together.
type descriptors []int

func (d *descriptors) add(fd int, err error) (int, error) {
	if err == nil {
		*d = append(*d, fd)
	}
	return fd, err
}

func (d *descriptors) close() {
	for _, fd := range *d {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// startWorker executes this program anew, with files by the descriptors that they
// are to be.
func (p *process) startWorker(files map[int]int) (pid int, err error) {
	const above = plan.FDTo + 1 // the places that are going to be taken
	var list forkexec.Program
	var copies descriptors
	defer copies.close()
	for place, fd := range files {
		fd, err := copies.add(unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, above))
		if err != nil {
			return 0, err
		}
		list.Add("place a descriptor", unix.SYS_DUP3, uintptr(fd), uintptr(place), 0)
	}
	self, err := copies.add(unix.FcntlInt(uintptr(p.self), unix.F_DUPFD_CLOEXEC, above))
	if err != nil {
		return 0, err
	}
	proc, err := copies.add(unix.FcntlInt(uintptr(p.proc), unix.F_DUPFD_CLOEXEC, above))
	if err != nil {
		return 0, err
	}
	list.Add("go to the procfs of its own", unix.SYS_FCHDIR, uintptr(proc))
	// By a path, since execveat(2) has the kernel look for /dev/fd/N, with some security
	// modules (Linux 5.10 with TOMOYO, as in Debian 11), and where pid 1 is now there is no
	// such thing. The procfs is pid 1's own, so nobody else has a say in where this leads.
	if err := list.Execute("execute this program anew", fmt.Sprintf("self/fd/%d", self), []string{plan.WorkerName}, nil); err != nil {
		return 0, err
	}
	child, err := forkexec.Start(&list, 0)
	if err != nil {
		return 0, err
	}
	return child.Pid, child.Wait()
}

// readReport reads what a worker has to say: its last line is the result.
func readReport(fd int) error {
	in := json.NewDecoder(fdReader(fd))
	for {
		var rep plan.Report
		if err := in.Decode(&rep); errors.Is(err, io.EOF) {
			return errors.New("the helper process was killed")
		} else if err != nil {
			return fmt.Errorf("read the helper process's report: %w", err)
		}
		if rep.Progress == nil {
			return rep.Err()
		}
	}
}

// fdReader reads a bare descriptor, see [process].
type fdReader int

func (fd fdReader) Read(buf []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(buf) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
