package mounts

import (
	"fmt"
	"os"
	"testing"
	"time"
)

var bodies = map[string]body{
	"smoke": func(dir string) error {
		list := append(Dev(true, 0, 0), Mount{Kind: Proc, Target: "/proc"},
			bind("/usr", "/usr", true), bind("/etc/passwd", "/etc/passwd", true),
			Mount{Kind: Shared, Target: "/tmp", Mode: 0o1777},
			Mount{Kind: Shared, Target: "/run", Mode: 0o755},
			Mount{Kind: Shared, Target: "/var/tmp", Mode: 0o1777},
			Mount{Kind: Shared, Target: "/box", Mode: 0o755},
			Mount{Kind: File, Target: "/etc/hostname", Content: []byte("x\n"), Mode: 0o644, ReadOnly: true},
		)
		list = append(list, ProcMasks()...)
		t0 := time.Now()
		b, err := Begin(Scratch{Size: 1 << 20, Inodes: 200})
		if err != nil {
			return err
		}
		t1 := time.Now()
		sorted, err := Sort(list)
		if err != nil {
			return err
		}
		t2 := time.Now()
		for _, m := range sorted {
			if err := b.Take(m); err != nil {
				return err
			}
		}
		t3 := time.Now()
		if err := b.MakeRoot(Root{Method: MethodOverlay, Lower: []string{dir + "/lower"}, Upper: dir + "/s/upper", Work: dir + "/s/work"}); err != nil {
			return err
		}
		t4 := time.Now()
		if err := b.Pivot(); err != nil {
			return err
		}
		t5 := time.Now()
		var masks time.Duration
		for _, m := range sorted {
			t := time.Now()
			if err := b.Attach(m); err != nil {
				return err
			}
			if m.Kind == Mask || m.Kind == ReadOnly {
				masks += time.Since(t)
			}
		}
		t6 := time.Now()
		if err := b.Finish(); err != nil {
			return err
		}
		t7 := time.Now()
		if os.Getenv("X") == "" {
			data, _ := os.ReadFile("/proc/self/mountinfo")
			fmt.Println(string(data))
		}
		fmt.Println("begin", t1.Sub(t0), "sort", t2.Sub(t1), "take", t3.Sub(t2), "root", t4.Sub(t3), "pivot", t5.Sub(t4), "attach", t6.Sub(t5), "of it masks", masks, "finish", t7.Sub(t6), "all", t7.Sub(t0))
		return nil
	},
}

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "dir lower/etc", "dir s/upper", "dir s/work")
	for range 4 {
		t.Log(inside(t, "smoke", dir))
	}
}
