package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Survivor is a process that did not die.
type Survivor struct {
	Pid   int
	Name  string // as in /proc/PID/stat
	State string // its letter there: D waits for a device, T is stopped, …
}

// Stuck says that a leaf was killed and still has processes. They hold on to it, so
// its removal has to be tried again later.
type Stuck struct {
	Dir  string
	Left []Survivor
	Err  error // why no longer was waited
}

// Error names the processes.
func (e *Stuck) Error() string {
	var texts []string
	for _, s := range e.Left {
		texts = append(texts, fmt.Sprintf("%d %s (%s)", s.Pid, s.Name, s.State))
	}
	return fmt.Sprintf("end the processes of %s: still there: %s: %v", e.Dir, strings.Join(texts, ", "), e.Err)
}

// Unwrap returns the end of the wait, such as context.DeadlineExceeded.
func (e *Stuck) Unwrap() error { return e.Err }

// Populated says whether any process is in the leaf or below it. A leaf that is gone
// has none.
func (l *Leaf) Populated() (bool, error) {
	text, err := readFile(filepath.Join(l.Dir, "cgroup.events"))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the events of %s: %w", l.Dir, err)
	}
	return flatKeyed(text)["populated"] != 0, nil
}

// Wait waits until no process is left in the leaf. The kernel tells of that through
// cgroup.events, at most every 10 ms.
func (l *Leaf) Wait(ctx context.Context) error {
	return l.waitEvent(ctx, "populated", 0)
}

// waitEvent waits until a key of cgroup.events has a value.
func (l *Leaf) waitEvent(ctx context.Context, key string, want uint64) error {
	fd, err := open(filepath.Join(l.Dir, "cgroup.events"), unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", l.Dir, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(fd, buf, 0)
		if errors.Is(err, unix.ENODEV) {
			return nil // removed
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for %s: %w", l.Dir, err)
		}
		if err == nil && flatKeyed(string(buf[:n]))[key] == want {
			return nil
		}
		if err := waitFor(ctx, fd, unix.POLLPRI); err != nil {
			return err
		}
	}
}

// Kill kills every process of the leaf, helpers included, and waits until none is
// left: by cgroup.kill (Linux 5.14), else by stopping them all, so that none can be
// born meanwhile, and SIGKILL to each. Nothing may be started in the leaf afterwards; its
// descriptors are closed for that.
//
// When the context ends before the last process does, the error is a [Stuck].
func (l *Leaf) Kill(ctx context.Context) error {
	l.Close()
	err := l.k.write(filepath.Join(l.Dir, "cgroup.kill"), "1")
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil // removed
	case errors.Is(err, unix.ENOENT):
		err = l.killEach(ctx)
	case err == nil:
		err = l.Wait(ctx)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		return fmt.Errorf("end the processes of %s: %w", l.Dir, err)
	}
	pids, _ := l.Pids()
	if len(pids) == 0 {
		return nil
	}
	stuck := &Stuck{Dir: l.Dir, Err: err}
	for _, pid := range pids {
		stuck.Left = append(stuck.Left, l.k.survivor(pid))
	}
	return stuck
}

// killEach is Kill for kernels before 5.14.
func (l *Leaf) killEach(ctx context.Context) error {
	err := l.k.write(filepath.Join(l.Dir, "cgroup.freeze"), "1")
	if errors.Is(err, unix.ENOENT) && !isDir(l.Dir) {
		return nil // removed
	}
	if err != nil {
		return err
	}
	// A process in state D does not freeze, and must not keep the others alive.
	frozen, cancel := context.WithTimeout(ctx, time.Second)
	_ = l.waitEvent(frozen, "frozen", 1)
	cancel()
	for {
		pids, err := l.Pids()
		if err != nil {
			return err
		}
		if err := l.signal(pids); err != nil {
			return err
		}
		// SIGKILL ends frozen processes too, but one that was born in between by a
		// process that had not frozen yet is found in the next round only.
		round, cancel := context.WithTimeout(ctx, 4*slice)
		err = l.Wait(round)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// signal kills processes by descriptors that are taken before their membership is read
// once more: a number that was given to another process meanwhile is not in the second
// list.
func (l *Leaf) signal(pids []int) error {
	held := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.EMFILE) {
			break // the next round has the rest
		}
		if err == nil {
			held[pid] = fd
		}
	}
	again, err := l.Pids()
	if err != nil {
		return err
	}
	for _, pid := range again {
		if fd, ok := held[pid]; ok {
			err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
	}
	return nil
}

// survivor describes a process by /proc/PID/stat: "PID (NAME) STATE …".
func (k kernel) survivor(pid int) Survivor {
	s := Survivor{Pid: pid, Name: "?", State: "?"}
	text, err := readFile(filepath.Join(k.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return s
	}
	// A name may contain anything, so the last parenthesis counts.
	if start, end := strings.IndexByte(text, '('), strings.LastIndex(text, ") "); start >= 0 && end > start {
		s.Name = text[start+1 : end]
		s.State = text[end+2:][:min(1, len(text)-end-2)]
	}
	return s
}

// Remove removes the leaf's directories, which must be empty of processes. A leaf that
// is gone already is no error. Its peaks and events are gone then: read them before.
func (l *Leaf) Remove(ctx context.Context) error {
	l.Close()
	for {
		err := l.k.removeAll(l.Dir)
		if err == nil {
			return nil
		}
		// Emptiness is told a moment before the kernel has let go of the last process.
		populated, _ := l.Populated()
		if !errors.Is(err, unix.EBUSY) || populated || pause(ctx, time.Millisecond) != nil {
			return fmt.Errorf("remove the cgroup %s: %w", l.Dir, err)
		}
	}
}

// removeAll removes a cgroup and those below it.
func (k kernel) removeAll(dir string) error {
	for _, d := range subtree(dir) {
		if err := k.rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
