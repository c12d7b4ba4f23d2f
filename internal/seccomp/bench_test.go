package seccomp

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A program is built at each start of a sandbox: some ten microseconds are fine, fifty would be felt.
func BenchmarkBuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := BuildFor(AMD64, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseOCI(b *testing.B) {
	profile := `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["` + strings.Join(Table()[0].Names, `", "`) + `"], "action": "SCMP_ACT_ALLOW"}]}`
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParseOCI(strings.NewReader(profile))
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := p.Build(testTarget); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCall measures what the filter adds to a system call: getppid is decided by its number, fchmod by an argument too.
func BenchmarkCall(b *testing.B) {
	for _, profile := range []string{Off, Default, Strict} {
		b.Run("getppid/"+profile, func(b *testing.B) {
			onThread(b, Options{Profile: profile}, func() {
				for b.Loop() {
					unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
				}
			})
		})
		b.Run("fchmod/"+profile, func(b *testing.B) {
			onThread(b, Options{Profile: profile}, func() {
				for b.Loop() {
					unix.RawSyscall(unix.SYS_FCHMOD, ^uintptr(0), 0o755, 0)
				}
			})
		})
	}
}

// BenchmarkInstall measures what the kernel does with the program, once at each start.
func BenchmarkInstall(b *testing.B) {
	for b.Loop() {
		onThread(b, Options{}, func() {})
	}
}
