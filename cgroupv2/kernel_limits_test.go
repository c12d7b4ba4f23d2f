package cgroupv2

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Limits are read back by NewLeaf; here they are compared with the files once more.
func TestLimitsInTheKernel(t *testing.T) {
	l := leaf(t, Limits{Memory: 64<<20 + 100, Pids: 32})
	for file, want := range map[string]string{"memory.max": "67108864", "pids.max": "32", "memory.oom.group": "1"} {
		if got, err := readFile(filepath.Join(l.Dir, file)); got != want {
			t.Errorf("%s is %q (%v), not %q", file, got, err, want)
		}
	}
	if got, err := readFile(filepath.Join(l.Dir, "memory.swap.max")); err == nil && got != "0" {
		t.Errorf("memory.swap.max is %s", got)
	}
	t.Logf("applied %v, skipped %v", l.Applied, l.Skipped)
}

func TestMemoryLimit(t *testing.T) {
	for _, kind := range []string{"anonymous", "memfd", "shm", "pipes"} {
		t.Run(kind, func(t *testing.T) {
			limits := Limits{Memory: 48 << 20, Pids: 64}
			l := leaf(t, limits)
			before := stats(t, l)
			other := born(t, l, "sleep")
			cmd := born(t, l, kind)
			if kind == "pipes" {
				// Root's pipes are not bounded; a user's fill 64 MiB at most.
				t.Log("pipe buffers are charged")
			}
			err := cmd.Wait()
			if !killed(err) {
				t.Fatalf("not killed: %v, %+v", err, stats(t, l))
			}
			if err := other.Wait(); !killed(err) {
				t.Errorf("the rest of the sandbox lives on: %v", err)
			}
			findings := Verdict(before, stats(t, l), limits)
			if len(findings) == 0 || findings[0].Cause != MemoryLimit {
				t.Fatalf("%+v from %+v", findings, stats(t, l))
			}
			t.Logf("%s; %+v", findings[0].Text, stats(t, l).Memory)
			if findings[0].Peak > 50<<20 || findings[0].Peak < 40<<20 {
				t.Errorf("peak %d", findings[0].Peak)
			}
		})
	}
}

func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

func TestMemoryComesBack(t *testing.T) {
	l := leaf(t, Limits{Memory: 128 << 20})
	available := memAvailable(t)
	if err := born(t, l, "shm").Wait(); !killed(err) {
		t.Fatal(err)
	}
	var now uint64
	for range 50 {
		if now = memAvailable(t); now+64<<20 > available {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%s of memory were available before, %s are now", Size(available), Size(now))
}

func memAvailable(t *testing.T) uint64 {
	t.Helper()
	text, err := readFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes(text, "MemAvailable:")
}

func TestForkBomb(t *testing.T) {
	for _, way := range []string{"kill", "freeze"} {
		t.Run(way, func(t *testing.T) {
			limits := Limits{Pids: 60, Memory: 512 << 20}
			l := leaf(t, limits)
			if way == "freeze" {
				withoutKill(l)
			}
			before := stats(t, l)
			born(t, l, "fork")
			for after := before; after.Pids.Refused == before.Pids.Refused; after = stats(t, l) {
				if after.Pids.Current > 60 {
					t.Fatalf("%d processes", after.Pids.Current)
				}
				time.Sleep(20 * time.Millisecond)
			}
			after := stats(t, l)
			t.Logf("%+v", Verdict(before, after, limits))
			start := time.Now()
			if err := l.Kill(deadline(t)); err != nil {
				t.Fatal(err)
			}
			t.Logf("ended in %s", time.Since(start))
			if populated, err := l.Populated(); populated || err != nil {
				t.Errorf("populated %v, %v", populated, err)
			}
		})
	}
}

// withoutKill makes a kernel look like one before 5.14.
func withoutKill(l *Leaf) {
	write := l.k.write
	l.k.write = func(path, value string) error {
		if filepath.Base(path) == "cgroup.kill" {
			return unix.ENOENT
		}
		return write(path, value)
	}
}

func TestCPUQuota(t *testing.T) {
	half, err := ParseCPUs("0.5")
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{CPU: half, CPUWeight: 50}
	l := leaf(t, limits)
	born(t, l, "spin")
	born(t, l, "spin")
	before, start := stats(t, l), time.Now()
	time.Sleep(3 * time.Second)
	after, wall := stats(t, l), time.Since(start)
	share := float64(after.CPU.Usage-before.CPU.Usage) / float64(wall)
	t.Logf("%.2f CPUs; %+v", share, Verdict(before, after, limits))
	if share > 0.6 {
		t.Errorf("%.2f CPUs of 0.5", share)
	}
	if f := Verdict(before, after, limits); len(f) != 1 || f[0].Cause != CPULimit {
		t.Errorf("%+v", f)
	}
}

// Few hosts pass these controllers on to users; root has them.
func TestCPUSet(t *testing.T) {
	l := leaf(t, Limits{CPUs: "0"})
	cmd := born(t, l, "sleep")
	status, err := readFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
	if err != nil || !strings.Contains(status, "Cpus_allowed_list:\t0\n") {
		t.Errorf("it may run elsewhere: %v: %s", err, status)
	}
	var wrong *NotTaken
	if _, err := parent(t).NewLeaf(deadline(t), "wrong", Limits{CPUs: "0,4000"}); !errors.As(err, &wrong) && !errors.Is(err, unix.ERANGE) {
		t.Errorf("a CPU that is not there: %v", err)
	}
}

func TestIOWeight(t *testing.T) {
	l := leaf(t, Limits{IOWeight: 50})
	t.Logf("%v", l.Applied)
}

// With swap on the host a limit on memory is one on both.
func TestSwap(t *testing.T) {
	swaps, err := readFile("/proc/swaps")
	if err != nil || !strings.Contains(swaps, "\n") {
		t.Skip("cannot: no swap on this machine")
	}
	for _, swap := range []int64{0, 24 << 20} {
		limits := Limits{Memory: 32 << 20, Swap: swap, Pids: 64}
		l, err := parent(t).NewLeaf(deadline(t), "swap", limits)
		if err != nil {
			t.Fatal(err)
		}
		cmd := born(t, l, "anonymous")
		var peak uint64
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for done := false; !done; {
			select {
			case err := <-ended:
				if done = true; !killed(err) {
					t.Errorf("swap %d: not killed: %v", swap, err)
				}
			case <-time.After(5 * time.Millisecond):
				peak = max(peak, stats(t, l).Memory.SwapCurrent)
			}
		}
		t.Logf("limit %d, peak %d, %+v", swap, peak, Verdict(Stats{}, stats(t, l), limits))
		if peak > uint64(swap) || swap > 0 && peak == 0 {
			t.Errorf("swap of %d used up to %d", swap, peak)
		}
		if err := errors.Join(l.Kill(deadline(t)), l.Remove(deadline(t))); err != nil {
			t.Error(err)
		}
	}
}
