package cgroupv2

import (
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStats(t *testing.T) {
	f, p := fakeParent(t, nil)
	l, err := p.NewLeaf(t.Context(), "one", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for file, text := range map[string]string{
		"memory.current":      "4096",
		"memory.peak":         "8192",
		"memory.swap.current": "512",
		"memory.events":       "low 0\nhigh 3\nmax 4\noom 5\noom_kill 6\noom_group_kill 1\nnew_thing 9",
		"pids.current":        "3",
		"pids.peak":           "7",
		"pids.events":         "max 2",
		"cpu.stat":            "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 900",
		"io.stat":             "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=10 wbytes=20 rios=30 wios=40",
	} {
		f.put(filepath.Join(l.Dir, file), text+"\n")
	}
	got, err := l.Stats()
	want := Stats{
		Memory: MemoryStats{Current: 4096, Peak: 8192, SwapCurrent: 512, Max: 4, OOM: 5, OOMKill: 6, OOMGroupKill: 1},
		Pids:   PidsStats{Current: 3, Peak: 7, Refused: 2},
		CPU: CPUStats{
			Usage: 5 * time.Millisecond, User: 3 * time.Millisecond, System: 2 * time.Millisecond,
			Periods: 10, Throttled: 4, ThrottledTime: 900 * time.Microsecond,
		},
		IO: IOStats{ReadBytes: 11, WriteBytes: 22, Reads: 33, Writes: 44},
	}
	if err != nil || got != want {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if !l.KeepsPeaks() {
		t.Error("the kernel keeps peaks")
	}
	if err := l.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Stats(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("of a leaf that is gone: %v", err)
	}
}

// Linux 5.10 keeps no peaks, and not every controller is there everywhere.
func TestStatsOfOldKernel(t *testing.T) {
	f, p := fakeParent(t, func(f *fake) {
		f.absent = append(f.absent, "memory.peak", "pids.peak", "io.stat", "memory.swap.current", "cpu.stat")
	})
	l, err := p.NewLeaf(t.Context(), "one", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, current := range []string{"100", "300", "200"} {
		f.put(filepath.Join(l.Dir, "memory.current"), current)
		f.put(filepath.Join(l.Dir, "pids.current"), current)
		l.Sample()
	}
	got, err := l.Stats()
	if err != nil || got.Memory.Peak != 300 || !got.Memory.Sampled || got.Pids.Peak != 300 || !got.Pids.Sampled {
		t.Errorf("%+v, %v", got, err)
	}
	if l.KeepsPeaks() {
		t.Error("the kernel keeps no peaks")
	}
}

func TestVerdict(t *testing.T) {
	memory := Limits{Memory: 64 << 20}
	for _, c := range []struct {
		name          string
		before, after Stats
		limits        Limits
		want          []string
		cause         Cause
	}{
		{name: "nothing happened", limits: memory},
		{
			name: "the limit was met and memory given back", limits: memory,
			after: Stats{Memory: MemoryStats{Max: 10, Peak: 64 << 20}},
		},
		{
			name: "memory limit", limits: memory, cause: MemoryLimit,
			after: Stats{Memory: MemoryStats{Max: 10, OOM: 1, OOMKill: 4, Peak: 64 << 20}},
			want:  []string{"killed: memory limit 64 MiB reached, peak 64 MiB"},
		},
		{
			name: "a sampled peak cannot be below the limit", limits: memory, cause: MemoryLimit,
			after: Stats{Memory: MemoryStats{OOM: 1, OOMKill: 4, Peak: 3 << 20, Sampled: true}},
			want:  []string{"killed: memory limit 64 MiB reached, peak 64 MiB"},
		},
		{
			name: "the host ran out of memory", limits: memory, cause: MemoryOutside,
			after: Stats{Memory: MemoryStats{OOMKill: 4, Peak: 3 << 20}},
			want:  []string{"killed: memory ran out outside of the sandbox, which had used 3 MiB"},
		},
		{
			name: "events from before", limits: memory,
			before: Stats{Memory: MemoryStats{OOM: 1, OOMKill: 4}},
			after:  Stats{Memory: MemoryStats{OOM: 1, OOMKill: 4}},
		},
		{
			name: "processes", limits: Limits{Pids: 10}, cause: PidsLimit,
			after: Stats{Pids: PidsStats{Refused: 1, Peak: 10}},
			want:  []string{"process limit 10 reached, 1 fork refused"},
		},
		{
			name: "a process limit above the leaf, with one of its own that is far", limits: Limits{Pids: 100}, cause: PidsLimit,
			after: Stats{Pids: PidsStats{Refused: 7, Peak: 20}},
			want:  []string{"a process limit above the sandbox was reached, 7 forks refused"},
		},
		{
			name: "processes, with a sampled peak", limits: Limits{Pids: 100}, cause: PidsLimit,
			after: Stats{Pids: PidsStats{Refused: 7, Peak: 20, Sampled: true}},
			want:  []string{"process limit 100 reached, 7 forks refused"},
		},
		{
			name: "processes above the leaf", cause: PidsLimit,
			after: Stats{Pids: PidsStats{Refused: 7}},
			want:  []string{"a process limit above the sandbox was reached, 7 forks refused"},
		},
		{
			name: "cpu", limits: Limits{CPU: Quota{150000, 100000}}, cause: CPULimit,
			after: Stats{CPU: CPUStats{Periods: 40, Throttled: 30}},
			want:  []string{"slowed: limit of 1.5 CPUs used up in 75% of the time"},
		},
		{
			name: "hardly any cpu", limits: Limits{CPU: Quota{150000, 100000}},
			after: Stats{CPU: CPUStats{Periods: 40, Throttled: 3}},
		},
		{
			name:   "the gravest comes first",
			limits: Limits{Memory: 1 << 30, Pids: 10, CPU: Quota{50000, 100000}}, cause: MemoryLimit,
			after: Stats{
				Memory: MemoryStats{OOM: 1, OOMKill: 1, Peak: 1 << 30}, Pids: PidsStats{Refused: 2, Peak: 10},
				CPU: CPUStats{Periods: 10, Throttled: 10},
			},
			want: []string{
				"killed: memory limit 1 GiB reached, peak 1 GiB",
				"process limit 10 reached, 2 forks refused",
				"slowed: limit of 0.5 CPUs used up in 100% of the time",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Verdict(c.before, c.after, c.limits)
			if len(got) != len(c.want) {
				t.Fatalf("%+v, not %q", got, c.want)
			}
			for i, f := range got {
				if f.Text != c.want[i] {
					t.Errorf("%q, not %q", f.Text, c.want[i])
				}
			}
			if len(got) > 0 && got[0].Cause != c.cause {
				t.Errorf("cause %s", got[0].Cause)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB",
		1<<20 - 1: "1 MiB", 50335744: "48 MiB", math.MaxUint64: "16 EiB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("%d is %s, not %s", bytes, got, want)
		}
	}
}

func FuzzFlatKeyed(f *testing.F) {
	f.Add("low 0\nmax 4\noom_kill 6\n")
	f.Add("8:0 rbytes=1 wbytes=2\n")
	f.Fuzz(func(t *testing.T, text string) {
		_ = cpuStats(flatKeyed(text))
		_ = ioStats(text)
		_ = kilobytes(text, "Pss:")
	})
}
