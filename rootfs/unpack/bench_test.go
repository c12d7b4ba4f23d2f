package unpack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkBesideTar unpacks the same archive with GNU tar and with this package
// in turn, and reports how long the latter takes for each unit of the former: the
// median of all pairs, which tells something on a busy machine too.
//
// SBX_BENCH_TAR names an archive to take instead of 20,000 small files, and
// SBX_BENCH_DIR a directory instead of one in memory.
func BenchmarkBesideTar(b *testing.B) {
	if _, err := exec.LookPath("tar"); err != nil {
		b.Skip("no tar here")
	}
	base := os.Getenv("SBX_BENCH_DIR")
	if base == "" {
		base = memory(b)
	}
	name := os.Getenv("SBX_BENCH_TAR")
	if name == "" {
		name = base + "/archive.tar"
		must(b, os.WriteFile(name, archive(b, smallTree()...), 0o600))
	}
	var ratios []float64
	for b.Loop() {
		first := timed(b, base, func(dir string) {
			must(b, exec.Command("tar", "--numeric-owner", "-xpf", name, "-C", dir).Run())
		})
		second := timed(b, base, func(dir string) {
			in, err := os.Open(name)
			must(b, err)
			defer in.Close()
			tree, err := os.Open(dir)
			must(b, err)
			defer tree.Close()
			must(b, Layer(context.Background(), tree, in, Options{UIDCount: 1 << 20, GIDCount: 1 << 20}, &State{}))
		})
		ratios = append(ratios, float64(second)/float64(first))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "of-tar")
	b.ReportMetric(ratios[0], "best-of-tar")
}

func smallTree() []item {
	var items []item
	for i := range 20_000 {
		if i%100 == 0 {
			items = append(items, dir(fmt.Sprintf("d%d", i/100)))
		}
		items = append(items, file(fmt.Sprintf("d%d/file%d", i/100, i), strings.Repeat("x", i*7919%6000)))
	}
	return items
}

func timed(b *testing.B, base string, fn func(dir string)) time.Duration {
	b.Helper()
	dir, err := os.MkdirTemp(base, "bench-")
	must(b, err)
	start := time.Now()
	fn(dir)
	took := time.Since(start)
	must(b, os.RemoveAll(dir))
	return took
}

// BenchmarkHeaders is the work for entries alone, in memory.
func BenchmarkHeaders(b *testing.B) {
	data := archive(b, smallTree()...)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		dir, err := os.MkdirTemp(memory(b), "bench-")
		must(b, err)
		tree, err := os.Open(dir)
		must(b, err)
		must(b, Layer(context.Background(), tree, bytes.NewReader(data), Options{UIDCount: 1 << 20, GIDCount: 1 << 20}, &State{}))
		must(b, tree.Close())
		must(b, os.RemoveAll(dir))
	}
}
