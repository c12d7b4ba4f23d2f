package seccomp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rule reads an element of "syscalls".
func (o object) rule() (fileRule, error) {
	var r fileRule
	if err := o.only("name", "names", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"); err != nil {
		return r, err
	}
	name, err := o.str("name")
	if err != nil {
		return r, err
	}
	if r.names, err = o.strings("names"); err != nil {
		return r, err
	}
	switch {
	case name != "" && len(r.names) > 0:
		return r, errors.New("name and names exclude each other")
	case name != "":
		r.names = []string{name}
	case len(r.names) == 0:
		return r, errors.New("no names")
	}
	if r.then, err = o.verdict("action", "errnoRet", "errno"); err != nil {
		return r, err
	}
	if r.alternatives, err = o.conditions(); err != nil {
		return r, err
	}
	if r.includes, err = o.scope("includes"); err != nil {
		return r, err
	}
	r.excludes, err = o.scope("excludes")
	return r, err
}

// verdict reads an action with the errno that belongs to it, as a number or (podman) as a name or both.
func (o object) verdict(action, number, name string) (verdict, error) {
	text, err := o.str(action)
	if err != nil {
		return 0, err
	}
	errno, given, err := o.number(number, 4095) // the kernel's MAX_ERRNO
	if err != nil {
		return 0, err
	}
	word, err := o.str(name)
	if err != nil {
		return 0, err
	}
	if word != "" {
		named := errnoNamed(word)
		if named == 0 || given && errno != named {
			return 0, fmt.Errorf("%s %q does not go with %s or is unknown", name, word, number)
		}
		errno, given = named, true
	}
	if text == "SCMP_ACT_ERRNO" {
		if !given {
			errno = uint64(unix.EPERM)
		}
		return refused | verdict(errno), nil
	}
	if given {
		return 0, fmt.Errorf("%s goes with SCMP_ACT_ERRNO only", number)
	}
	switch text {
	case "SCMP_ACT_ALLOW":
		return allow, nil
	case "SCMP_ACT_LOG":
		return verdict(unix.SECCOMP_RET_LOG), nil
	case "SCMP_ACT_TRAP":
		return verdict(unix.SECCOMP_RET_TRAP), nil
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return verdict(unix.SECCOMP_RET_KILL_THREAD), nil
	case "SCMP_ACT_KILL_PROCESS":
		return kill, nil
	case "":
		return 0, fmt.Errorf("no %s", action)
	case "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE":
		return 0, fmt.Errorf("%s %s needs a supervisor, and there is none", action, text)
	}
	return 0, fmt.Errorf("unknown %s %q", action, text)
}

func errnoNamed(name string) uint64 {
	for e := unix.Errno(1); e < 256; e++ {
		if unix.ErrnoName(e) == name {
			return uint64(e)
		}
	}
	return 0
}

var operators = [...]string{
	opEqual: "SCMP_CMP_EQ", opNotEqual: "SCMP_CMP_NE", opLess: "SCMP_CMP_LT", opLessEqual: "SCMP_CMP_LE", opGreater: "SCMP_CMP_GT",
	opGreaterEqual: "SCMP_CMP_GE", opMasked: "SCMP_CMP_MASKED_EQ",
}

// conditions reads "args". They all must hold, except when two of them are about one argument: container runtimes take each condition as a
// rule of its own then, and profiles rely on it.
func (o object) conditions() ([][]cond, error) {
	args, err := o.objects("args")
	if err != nil {
		return nil, err
	}
	var conds []cond
	sameArgument := false
	for i, arg := range args {
		c, err := arg.condition()
		if err != nil {
			return nil, fmt.Errorf("args[%d]: %w", i, err)
		}
		sameArgument = sameArgument || slices.ContainsFunc(conds, func(other cond) bool { return other.arg == c.arg })
		conds = append(conds, c)
	}
	if !sameArgument {
		return [][]cond{conds}, nil
	}
	var alternatives [][]cond
	for _, c := range conds {
		alternatives = append(alternatives, []cond{c})
	}
	return alternatives, nil
}

func (o object) condition() (cond, error) {
	c := cond{wide: true}
	if err := o.only("index", "value", "valueTwo", "op"); err != nil {
		return c, err
	}
	index, given, err := o.number("index", 5)
	if err != nil {
		return c, err
	}
	value, given2, err := o.number("value", math.MaxUint64)
	if err != nil {
		return c, err
	}
	if !given || !given2 {
		return c, errors.New("index and value are needed")
	}
	second, _, err := o.number("valueTwo", math.MaxUint64)
	if err != nil {
		return c, err
	}
	text, err := o.str("op")
	if err != nil {
		return c, err
	}
	i := slices.Index(operators[:], text)
	if i < 0 || text == "" {
		return c, fmt.Errorf("unknown op %q", text)
	}
	c.arg, c.op, c.val = uint8(index), op(i), value
	if c.op == opMasked {
		c.mask, c.val = value, second
		if c.val&^c.mask != 0 {
			return c, fmt.Errorf("valueTwo %#x has bits that value %#x masks out", c.val, c.mask)
		}
	}
	return c, nil
}

func (o object) scope(name string) (scope, error) {
	var s scope
	m, err := o.object(name)
	if err != nil || m == nil {
		return s, err
	}
	if err := m.only("arches", "caps", "minKernel"); err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	if s.arches, err = m.strings("arches"); err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	if s.caps, err = m.strings("caps"); err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	for _, a := range s.arches {
		if !slices.Contains(strings.Fields(archNames), a) {
			return s, fmt.Errorf("%s: unknown architecture %q", name, a)
		}
	}
	for _, c := range s.caps {
		if !slices.Contains(strings.Fields(capNames), strings.TrimPrefix(c, "CAP_")) || !strings.HasPrefix(c, "CAP_") {
			return s, fmt.Errorf("%s: unknown capability %q", name, c)
		}
	}
	version, err := m.str("minKernel")
	if err == nil && version != "" {
		s.minKernel, err = parseKernel(version)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// parseKernel reads "4.8". Profiles name no patch level.
func parseKernel(s string) (Kernel, error) {
	major, minor, ok := strings.Cut(s, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	b, err2 := strconv.ParseUint(minor, 10, 16)
	if !ok || err != nil || err2 != nil || a == 0 {
		return Kernel{}, fmt.Errorf("minKernel %q is not a version like 4.8", s)
	}
	return Kernel{int(a), int(b)}, nil
}

// archNames are the architectures that rules of docker's and podman's profiles name.
const archNames = "amd64 x86 x32 arm64 arm loong64 loongarch64 mips mipsel mips64 mips64n32 mipsel64 mipsel64n32 mips3l64n32 ppc ppc64 " +
	"ppc64le parisc parisc64 riscv64 s390 s390x"

// capNames are the capabilities of capabilities(7) up to Linux 5.9, the last that brought one.
const capNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST " +
	"NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE " +
	"SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND " +
	"AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
