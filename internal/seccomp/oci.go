package seccomp

import (
	"errors"
	"fmt"
	"io"
)

// MaxProfileSize is the largest profile file that ParseOCI reads, in bytes. Docker's own profile has about 16 KiB.
const MaxProfileSize = 1 << 20

// Profile is a system call policy from a file, checked but not yet fitted to an architecture. Use ParseOCI to make one.
type Profile struct {
	// Log says that the file asks for the flag SECCOMP_FILTER_FLAG_LOG: what is refused shall stand in the audit log.
	Log bool

	otherwise     verdict
	architectures []string // SCMP_ARCH_ names; empty means the native one
	rules         []fileRule
}

// fileRule is an element of "syscalls". The verdict is for calls with one of the names for which every condition of one of the
// alternatives holds.
type fileRule struct {
	names        []string
	then         verdict
	alternatives [][]cond
	includes     scope
	excludes     scope
}

// scope is docker's "includes" or "excludes": where a rule is for.
type scope struct {
	arches, caps []string
	minKernel    Kernel
}

// Kernel is the version of a kernel as far as profiles look at it, {4, 8} for 4.8.
type Kernel struct{ Major, Minor int }

// ParseOCI reads a profile as in "linux.seccomp" of an OCI runtime configuration, or in the format of docker and podman, which adds archMap
// and for each rule includes and excludes.
//
// What it cannot do exactly as written it refuses, since the program would then run with more than the author of the profile meant:
// unknown fields, actions, operators, capabilities or architectures of a rule; SCMP_ACT_NOTIFY and SCMP_ACT_TRACE, which need a supervisor
// that does not exist here; the flag SECCOMP_FILTER_FLAG_SPEC_ALLOW; the same field twice in an object; files above MaxProfileSize. Names of
// unknown system calls are fine, see [Profile.Build]. The errors say where in the file the trouble is and leave the file's name to the caller.
func ParseOCI(r io.Reader) (*Profile, error) {
	o, err := readJSON(r, MaxProfileSize)
	if err != nil {
		return nil, err
	}
	if err := o.only("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags", "syscalls", "comment"); err != nil {
		return nil, err
	}
	p := &Profile{}
	if p.otherwise, err = o.verdict("defaultAction", "defaultErrnoRet", "defaultErrno"); err != nil {
		return nil, err
	}
	if err := p.readFlags(o); err != nil {
		return nil, err
	}
	if err := p.readArchitectures(o); err != nil {
		return nil, err
	}
	syscalls, err := o.objects("syscalls")
	if err != nil {
		return nil, err
	}
	for i, s := range syscalls {
		rule, err := s.rule()
		if err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		p.rules = append(p.rules, rule)
	}
	return p, nil
}

func (p *Profile) readFlags(o object) error {
	flags, err := o.strings("flags")
	for _, f := range flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_LOG":
			p.Log = true
		case "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
			// One is about the threads of the installing process, which has a single one; the other about notifications.
		default:
			return fmt.Errorf("flag %q cannot be granted", f)
		}
	}
	return err
}

func (p *Profile) readArchitectures(o object) error {
	var err error
	if p.architectures, err = o.strings("architectures"); err != nil {
		return err
	}
	archMap, err := o.objects("archMap")
	if err != nil {
		return err
	}
	if len(archMap) > 0 && len(p.architectures) > 0 {
		return errors.New("architectures and archMap exclude each other")
	}
	for i, m := range archMap {
		if err := m.only("architecture", "subArchitectures"); err != nil {
			return fmt.Errorf("archMap[%d]: %w", i, err)
		}
		arch, err := m.str("architecture")
		if err != nil {
			return fmt.Errorf("archMap[%d]: %w", i, err)
		}
		if _, err := m.strings("subArchitectures"); err != nil {
			return fmt.Errorf("archMap[%d]: %w", i, err)
		}
		p.architectures = append(p.architectures, arch)
	}
	return nil
}
