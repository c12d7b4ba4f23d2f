package landlock

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rule grants an access to a path and, if it is a directory, to everything below, mounts included. The path is taken when the ruleset is
// made, in the mount namespace and root of the process that makes it; a symbolic link stands for what it points to.
type Rule struct {
	Path   string `json:"path"`
	Access Access `json:"access"`
}

// ABI returns the version of Landlock that the running kernel offers, from 1 on, or 0 when it has none (ENOSYS), has it switched off at boot
// (EOPNOTSUPP), or an outer sandbox refuses the call (EPERM or what it likes). It asks the kernel each time.
func ABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// rulesetAttr is struct landlock_ruleset_attr as far as this package uses it. The kernel takes a shorter structure than its own for one with
// zeros at the end, and a longer one than its own if the rest is zero, so this size fits all versions.
type rulesetAttr struct {
	handledAccessFS  uint64
	handledAccessNet uint64
	scoped           uint64
}

// Ruleset makes a ruleset for the ABI that [ABI] returned and grants the rules. The descriptor is close-on-exec. It takes effect on a thread
// by landlock_restrict_self(fd, 0), which needs no_new_privs or CAP_SYS_ADMIN in the thread's user namespace; from then on it holds for the
// thread, its children and what they exec, whatever their user. The caller closes the descriptor.
//
// Signals and abstract sockets stay within what was started under the same restriction: two processes that restrict themselves separately,
// with equal rulesets even, cannot signal each other.
//
// The error is ErrAbsent, ErrTooOld (see [Check]) or names the path and carries the errno: ENOENT for a rule's path that does not exist,
// E2BIG for too many rules.
func Ruleset(abi int, rules []Rule) (fd int, err error) {
	if err := Check(abi); err != nil {
		return -1, err
	}
	var attr rulesetAttr
	attr.handledAccessFS, attr.scoped = handled(abi)
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, fmt.Errorf("making a landlock ruleset (ABI %d): %w", abi, errno)
	}
	fd = int(r)
	for _, rule := range rules {
		if err := add(fd, abi, rule); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("adding a landlock rule for %q: %w", rule.Path, err)
		}
	}
	return fd, nil
}

func add(ruleset, abi int, rule Rule) error {
	fd, err := unix.Open(rule.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	rights := granted(abi, rule.Access, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if rights == 0 {
		return nil // Socket alone on a kernel that does not handle it: an empty rule would be ENOMSG
	}
	// The kernel's structure is packed, 12 bytes, and Go's has four more at the end, which it does not look at.
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
