package mounts

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ordinary is the table of a usual run.
func ordinary() []Mount {
	list := append(Dev(true, 0, 0), Mount{Kind: Proc, Target: "/proc"},
		Mount{Kind: Shared, Target: "/tmp", Mode: 0o1777},
		Mount{Kind: Shared, Target: "/run", Mode: 0o755},
		Mount{Kind: Shared, Target: "/var/tmp", Mode: 0o1777},
		Mount{Kind: Shared, Target: "/home/sbx", Mode: 0o700},
		Mount{Kind: Shared, Target: "/box", Mode: 0o755},
		Mount{Kind: File, Target: "/etc/hostname", Content: []byte("box\n"), Mode: 0o644, ReadOnly: true},
		Mount{Kind: File, Target: "/etc/hosts", Content: []byte("127.0.0.1 localhost\n"), Mode: 0o644, ReadOnly: true},
	)
	return append(list, ProcMasks()...)
}

// ordinaryTree has the mount points of ordinary, as an image would.
var ordinaryTree = []string{
	"dir lower/dev", "dir lower/proc", "dir lower/tmp", "dir lower/run", "dir lower/var/tmp", "dir lower/home/sbx",
	"dir lower/box", "file lower/etc/hostname", "file lower/etc/hosts", "dir s/upper", "dir s/work",
}

// costBody prints the microseconds that each step of an ordinary run takes.
func costBody(dir string) error {
	var steps []string
	last := time.Now()
	first := last
	lap := func(name string) {
		now := time.Now()
		steps = append(steps, name+" "+strconv.FormatInt(now.Sub(last).Microseconds(), 10))
		last = now
	}
	b, err := Begin(Scratch{Size: 1 << 20, Inodes: 200})
	if err != nil {
		return err
	}
	lap("begin")
	sorted, err := Sort(ordinary())
	if err != nil {
		return err
	}
	lap("sort")
	for _, m := range sorted {
		if err := b.Take(m); err != nil {
			return err
		}
	}
	lap("take")
	root := Root{Method: MethodOverlay, Lower: []string{dir + "/lower"}, Upper: dir + "/s/upper", Work: dir + "/s/work"}
	if err := makeRoot(b, root); err != nil {
		return err
	}
	lap("root")
	if err := b.Pivot(); err != nil {
		return err
	}
	lap("pivot")
	masks := false
	for _, m := range sorted {
		if isMask := m.Kind == Mask || m.Kind == ReadOnly; isMask && !masks {
			lap("attach")
			masks = true
		} else if !isMask && masks {
			lap("masks")
			masks = false
		}
		if err := b.Attach(m); err != nil {
			return err
		}
	}
	if masks {
		lap("masks")
	} else {
		lap("attach")
	}
	if err := b.Finish(); err != nil {
		return err
	}
	lap("finish")
	steps = append(steps, "all "+strconv.FormatInt(last.Sub(first).Microseconds(), 10))
	fmt.Println(strings.Join(steps, "\n"))
	return b.Close()
}

// TestCost prints where the time of an ordinary run goes. It holds no bound:
// the machine may be busy.
func TestCost(t *testing.T) {
	runs := 3
	if n, err := strconv.Atoi(os.Getenv("MOUNTS_TEST_RUNS")); err == nil {
		runs = n
	}
	dir := t.TempDir()
	tree(t, dir, ordinaryTree...)
	times := map[string][]int{}
	var names []string
	for range runs {
		sum := map[string]int{}
		for line := range strings.Lines(inside(t, "cost", dir)) {
			name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			sum[name] += n
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		for name, n := range sum {
			times[name] = append(times[name], n)
		}
	}
	for _, name := range names {
		slices.Sort(times[name])
		t.Logf("%-8s %5d µs (median of %d, least %d)", name, times[name][runs/2], runs, times[name][0])
	}
}
