package rootfs

import (
	"fmt"
	"runtime"
)

// machineNames are the names that uname -m and file(1) have for e_machine; see
// elf(5) and the registry of the System V ABI.
func machineName(machine uint16, bits int) string {
	switch machine {
	case 2, 18:
		return "sparc"
	case 3:
		return "i386"
	case 4:
		return "m68k"
	case 8:
		return pick(bits, "mips", "mips64")
	case 15:
		return "parisc"
	case 20:
		return "ppc"
	case 21:
		return "ppc64"
	case 22:
		return pick(bits, "s390", "s390x")
	case 40:
		return "arm"
	case 42:
		return "sh4"
	case 43:
		return "sparc64"
	case 50:
		return "ia64"
	case 62:
		return pick(bits, "x32", "x86_64")
	case 183:
		return "aarch64"
	case 243:
		return pick(bits, "riscv32", "riscv64")
	case 247:
		return "bpf"
	case 258:
		return "loongarch64"
	case 0x9026:
		return "alpha"
	default:
		return fmt.Sprintf("machine %d", machine)
	}
}

func pick(bits int, narrow, wide string) string {
	if bits == 32 {
		return narrow
	}
	return wide
}

// nativeELF is the e_machine of this build of sbx. The user space of Linux can
// be narrower than its kernel, never wider; sbx itself is 64-bit everywhere it
// is built for.
func nativeELF() uint16 {
	switch runtime.GOARCH {
	case "amd64":
		return 62
	case "arm64":
		return 183
	case "riscv64":
		return 243
	case "ppc64le", "ppc64":
		return 21
	case "s390x":
		return 22
	case "loong64":
		return 258
	case "mips64", "mips64le":
		return 8
	default:
		return 0
	}
}

// platform is what $PLATFORM stands for in DT_RPATH and DT_RUNPATH
// (AT_PLATFORM, getauxval(3)).
func platform() string { return machineName(nativeELF(), 64) }

// libDirs are what $LIB can stand for (ld.so(8)); which of them was chosen is
// compiled into the loader, so each is tried.
func libDirs() []string {
	if t := multiarch(); t != "" {
		return []string{"lib/" + t, "lib64", "lib"}
	}
	return []string{"lib64", "lib"}
}

// multiarch is Debian's name of this architecture in library paths, empty when
// it has none here.
func multiarch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64-linux-gnu"
	case "arm64":
		return "aarch64-linux-gnu"
	case "riscv64":
		return "riscv64-linux-gnu"
	case "ppc64le":
		return "powerpc64le-linux-gnu"
	case "s390x":
		return "s390x-linux-gnu"
	case "loong64":
		return "loongarch64-linux-gnu"
	default:
		return ""
	}
}

// nativeBigEndian is the byte order of this machine.
func nativeBigEndian() bool { return nativeCacheEndian() == cacheBigEndian }

// native is true for an ELF file that the loader of this machine accepts: same
// class, byte order and machine.
func (e *ELF) native() bool {
	return e.Bits == 64 && e.Machine == nativeELF() && e.BigEndian == nativeBigEndian()
}

// foreign says in words why the kernel of this machine cannot run e, or nothing.
func (e *ELF) foreign() string {
	own := platform()
	name := machineName(e.Machine, e.Bits)
	switch {
	case e.native():
	case e.Bits == 32 && (e.Machine == nativeELF() || e.Machine == 3 && nativeELF() == 62 || e.Machine == 40 && nativeELF() == 183):
		return fmt.Sprintf("a 32-bit program (%s); sbx runs 64-bit programs (%s) only", name, own)
	case e.Bits == 32:
		return fmt.Sprintf("a 32-bit program for %s, this machine is %s", name, own)
	case e.Machine == nativeELF():
		return fmt.Sprintf("for %s with the other byte order", name)
	default:
		return fmt.Sprintf("for %s, this machine is %s", name, own)
	}
	return ""
}

// foreignSystem names the operating system of a program that is marked for
// another one than Linux (EI_OSABI), or nothing. The kernel does not look, and
// such a program would crash at its first system call.
func (e *ELF) foreignSystem() string {
	switch e.OSABI {
	case 1:
		return "HP-UX"
	case 2:
		return "NetBSD"
	case 6:
		return "Solaris"
	case 7:
		return "AIX"
	case 9:
		return "FreeBSD"
	case 12:
		return "OpenBSD"
	}
	return ""
}
