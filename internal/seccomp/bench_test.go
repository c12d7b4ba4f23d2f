package seccomp

import "testing"

func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := BuildFor(AMD64, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
