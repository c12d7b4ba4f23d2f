package seccomp

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Arch is an architecture that the policy covers.
type Arch uint8

// The architectures of the policy. The zero Arch is none of them.
const (
	AMD64 Arch = iota + 1
	ARM64
)

// Native returns the architecture that this program was built for, or 0 when the policy does not cover it.
func Native() Arch {
	switch runtime.GOARCH {
	case "amd64":
		return AMD64
	case "arm64":
		return ARM64
	}
	return 0
}

// String returns the name that Go, docker and podman use: amd64 or arm64.
func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case ARM64:
		return "arm64"
	}
	return fmt.Sprintf("architecture %d", uint8(a))
}

// audit is the AUDIT_ARCH_ value in seccomp_data.arch, see seccomp(2).
func (a Arch) audit() uint32 {
	if a == ARM64 {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}

func (a Arch) check() error {
	if a != AMD64 && a != ARM64 {
		return fmt.Errorf("building a seccomp filter for %s: only amd64 and arm64 are covered", runtime.GOARCH)
	}
	return nil
}

// call is an index into calls: a system call whatever its number.
type call uint16

// numbered is a system call with its number on each architecture, -1 where it has none.
type numbered struct {
	name         string
	amd64, arm64 int16
}

// number returns the call's number, or -1 when the architecture lacks it.
func (c call) number(a Arch) int {
	if a == ARM64 {
		return int(calls[c].arm64)
	}
	return int(calls[c].amd64)
}

// callNamed finds a call by the name that the kernel gives it.
func callNamed(name string) (call, bool) {
	lo, hi := 0, callCount
	for lo < hi {
		mid := (lo + hi) / 2
		if calls[mid].name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < callCount && calls[lo].name == name {
		return call(lo), true
	}
	return 0, false
}
