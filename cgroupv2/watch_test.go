package cgroupv2

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// putProcess makes a process in a plain directory that stands for /proc.
func (f *fake) putProcess(pid, parent int, kilobytes, pss string) {
	dir := filepath.Join(f.proc, strconv.Itoa(pid))
	f.put(filepath.Join(dir, "status"), "Name:\tx\nVmRSS:\t "+kilobytes+" kB\nVmSwap:\t 1 kB\nThreads:\t1\n")
	f.put(filepath.Join(dir, "stat"), strconv.Itoa(pid)+" (a) b) S "+strconv.Itoa(parent)+" 1 1\n")
	if pss != "" {
		f.put(filepath.Join(dir, "smaps_rollup"), "1000-2000 ---p 0 0 0 [rollup]\nRss: 9999 kB\nPss:  "+pss+" kB\nPss_Shmem: 10 kB\nSwapPss: 1 kB\n")
	}
}

// Resident memory is looked at first; only above the limit the shared part is divided.
func TestSample(t *testing.T) {
	f := newFake(t, "/box")
	f.putProcess(10, 1, "100", "40")
	f.putProcess(11, 10, "100", "40")
	f.putProcess(12, 10, "100", "")
	for _, c := range []struct {
		pids  []int
		files uint64
		limit uint64
		want  Sample
	}{
		{[]int{10, 11}, 0, 1 << 20, Sample{Bytes: 202 << 10, Processes: 2, Shared: true}},
		{[]int{10, 11}, 0, 100 << 10, Sample{Bytes: 82 << 10, Processes: 2}},
		{[]int{10, 99}, 0, 50 << 10, Sample{Bytes: 41 << 10, Processes: 2}}, // 99 ended
		{[]int{10, 11}, 1 << 20, 4 << 20, Sample{Bytes: 1<<20 + 202<<10, Processes: 2, Shared: true}},
		{[]int{10, 11}, 1 << 20, 1 << 20, Sample{Bytes: 1<<20 + 62<<10, Processes: 2}}, // what is mapped is among the files
		{[]int{10, 11}, 5 << 10, 100 << 10, Sample{Bytes: 82 << 10, Processes: 2}},
		{nil, 1 << 20, 100 << 10, Sample{Bytes: 1 << 20}},
	} {
		if got := sample(f.proc, c.pids, c.files, c.limit); got != c.want {
			t.Errorf("%v with %d, files %d: %+v", c.pids, c.limit, c.files, got)
		}
	}
}

func TestDescendantsByParent(t *testing.T) {
	f := newFake(t, "/box")
	for pid, parent := range map[int]int{10: 1, 11: 10, 12: 11, 20: 1} {
		f.putProcess(pid, parent, "1", "")
		f.put(filepath.Join(f.proc, strconv.Itoa(pid), "task", strconv.Itoa(pid), "comm"), "x")
	}
	got := descendants(f.proc, 10)
	if slices.Sort(got); !slices.Equal(got, []int{10, 11, 12}) {
		t.Errorf("%v", got)
	}
}

func TestWatchIsBlind(t *testing.T) {
	w := Watchdog{Pids: func() []int { return nil }}
	if _, err := w.watch(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// The watchdog finds a program that eats memory among the descendants of this process
// and ends it.
func TestWatch(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=hoard", "GOMAXPROCS=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var over Sample
	w := Watchdog{
		Pids:     func() []int { return Descendants(cmd.Process.Pid) },
		Limit:    96 << 20,
		Interval: 10 * time.Millisecond,
		Over: func(s Sample) {
			over = s
			_ = cmd.Process.Kill()
			cancel()
		},
	}
	peak, err := w.Watch(ctx)
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); !killed(err) {
		t.Errorf("not killed: %v", err)
	}
	t.Logf("%+v", over)
	if over.Bytes <= w.Limit || over.Processes < 2 || over.Shared || peak != over {
		t.Errorf("over %+v, peak %+v", over, peak)
	}
}

// Two processes that map the same memory are below a limit that both alone would meet.
func TestWatchCountsSharedMemoryOnce(t *testing.T) {
	cmd := started(t, "share", nil)
	// Until the second process has mapped it all, the first is charged for more. On an
	// emulated processor that was seen to take eight seconds.
	ok := func(s Sample) bool { return s.Processes == 2 && s.Bytes > 64<<20 && s.Bytes < 100<<20 }
	var s Sample
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if s = sample("/proc", Descendants(cmd.Process.Pid), 0, 1); ok(s) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !ok(s) {
		t.Errorf("%+v of 64 MiB in two processes", s)
	}
}
