package cgroupv2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Watchdog bounds memory where no cgroup can be had. It is weaker: a program that
// allocates fast gets beyond the limit for the length of an interval, and what no
// process has mapped (memfd, System V segments, pipe buffers) is not seen, but for
// files that Files knows of.
type Watchdog struct {
	// Pids returns the processes of the sandbox, as [Descendants] does.
	Pids func() []int
	// Files returns how many bytes lie in the sandbox's file systems in memory; nil when
	// there are none.
	Files func() uint64
	// Limit is in bytes, swap included.
	Limit uint64
	// Over is called when a sample is above the limit; it is to kill the sandbox.
	// It is called again with each sample until the sum is below.
	Over func(Sample)
	// Interval is the time between samples, 100 ms when 0. A fifth of it is taken
	// when more than half of the limit is in use.
	Interval time.Duration
}

// Sample is the memory of a set of processes at one moment, in bytes.
type Sample struct {
	Bytes     uint64
	Processes int
	// Shared says that memory which processes share was counted for each of them, as
	// the kernel denied the proportional value.
	Shared bool
}

const watchInterval = 100 * time.Millisecond

// Watch samples until the context ends and returns the highest sample. An error means
// that the watchdog is blind: proc(5) cannot be read.
func (w Watchdog) Watch(ctx context.Context) (Sample, error) { return w.watch(ctx, "/proc") }

func (w Watchdog) watch(ctx context.Context, proc string) (Sample, error) {
	interval := w.Interval
	if interval == 0 {
		interval = watchInterval
	}
	var peak Sample
	for {
		if _, err := os.Lstat(filepath.Join(proc, "self")); err != nil {
			return peak, fmt.Errorf("watch memory: %w", err)
		}
		s := w.sample(ctx, proc)
		if s.Bytes > peak.Bytes {
			peak = s
		}
		if s.Bytes > w.Limit {
			w.Over(s)
		}
		next := interval
		if s.Bytes > w.Limit/2 {
			next = interval / 5
		}
		if pause(ctx, next) != nil {
			return peak, nil
		}
	}
}

// confirmAfter is longer than a new process shares all memory with the one that made it
// by vfork(2), until it executes its program. It is counted twice as long.
const confirmAfter = 5 * time.Millisecond

// sample looks twice when the limit seems crossed and takes the lower sum.
func (w Watchdog) sample(ctx context.Context, proc string) Sample {
	s := w.sampleOnce(proc)
	if s.Bytes <= w.Limit || pause(ctx, confirmAfter) != nil {
		return s
	}
	if again := w.sampleOnce(proc); again.Bytes < s.Bytes {
		return again
	}
	return s
}

func (w Watchdog) sampleOnce(proc string) Sample {
	var files uint64
	if w.Files != nil {
		files = w.Files()
	}
	return sample(proc, w.Pids(), files, w.Limit)
}

// sample adds up the resident memory, which is quickly read and counts shared pages for
// each process. Only where that is above the limit are page tables walked for the
// proportional share.
//
// What is mapped of files in memory is in files as well, and told apart from other
// shared memory by nobody: the larger of the two counts.
func sample(proc string, pids []int, files, limit uint64) Sample {
	s := Sample{Bytes: files, Processes: len(pids), Shared: true}
	for _, pid := range pids {
		s.Bytes += resident(proc, pid)
	}
	if s.Bytes <= limit {
		return s
	}
	exact := Sample{Processes: len(pids)}
	var mapped uint64
	for _, pid := range pids {
		n, shmem, err := proportional(proc, pid)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue // ended
		}
		if err != nil {
			n, exact.Shared = resident(proc, pid), true
		}
		exact.Bytes += n - shmem
		mapped += shmem
	}
	exact.Bytes += max(mapped, files)
	return exact
}

// resident reads VmRSS and VmSwap of /proc/PID/status; 0 for a process that ended.
func resident(proc string, pid int) uint64 {
	text, err := readFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	return kilobytes(text, "VmRSS:", "VmSwap:")
}

// proportional reads Pss and SwapPss of /proc/PID/smaps_rollup (Linux 4.14), and how
// much of that is shared memory and files in memory (Linux 5.4).
func proportional(proc string, pid int) (all, shmem uint64, err error) {
	text, err := readFile(filepath.Join(proc, strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, 0, err
	}
	all = kilobytes(text, "Pss:", "SwapPss:")
	return all, min(kilobytes(text, "Pss_Shmem:"), all), nil
}

// kilobytes adds up lines "KEY: N kB" and returns bytes.
func kilobytes(text string, keys ...string) uint64 {
	var sum uint64
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !slices.Contains(keys, fields[0]) {
			continue
		}
		if n, err := strconv.ParseUint(fields[1], 10, 54); err == nil {
			sum += n << 10
		}
	}
	return sum
}

// Descendants returns a process and everything below it. For pid 1 of a pid namespace
// that is all of the namespace, since orphans become its children. Processes that are
// born meanwhile may be missing.
func Descendants(pid int) []int { return descendants("/proc", pid) }

func descendants(proc string, pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		found, err := childrenOf(proc, all[i])
		if errors.Is(err, errors.ErrUnsupported) {
			return byParent(proc, pid)
		}
		all = append(all, found...)
	}
	return all
}

// childrenOf reads /proc/PID/task/*/children: a child belongs to the thread that made
// it. Kernels may be built without that file (CONFIG_PROC_CHILDREN).
func childrenOf(proc string, pid int) ([]int, error) {
	task := filepath.Join(proc, strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(task)
	if err != nil {
		return nil, nil // ended
	}
	var found []int
	for _, thread := range threads {
		text, err := readFile(filepath.Join(task, thread.Name(), "children"))
		if errors.Is(err, unix.ENOENT) && isDir(filepath.Join(task, thread.Name())) {
			return nil, errors.ErrUnsupported
		}
		for _, word := range strings.Fields(text) {
			if n, err := strconv.Atoi(word); err == nil {
				found = append(found, n)
			}
		}
	}
	return found, nil
}

// byParent finds descendants by the parent that each process of the host names.
func byParent(proc string, root int) []int {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return []int{root}
	}
	of := make(map[int][]int)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := readFile(filepath.Join(proc, entry.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			of[parent] = append(of[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, of[all[i]]...)
	}
	return all
}
