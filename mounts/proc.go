package mounts

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrMaskedProc says that the kernel refuses a new procfs because the outer
// one is partly covered or read-only, which is how containers hide parts of
// it: a fresh one would reveal them (mount_too_revealing in the kernel's
// fs/namespace.c). There is no way round it from inside, and the outer /proc
// is no replacement, since it shows the outer processes.
var ErrMaskedProc = errors.New("the kernel refuses a new /proc because parts of the outer /proc are covered or read-only, " +
	"as is usual inside a container; start that container with --security-opt unmask=ALL (podman) or " +
	"--security-opt systempaths=unconfined (docker)")

// newProc mounts the procfs of the calling process's pid namespace, in which
// a process sees only those that it may trace (hidepid, Linux 5.8 per mount).
func newProc() (int, error) {
	// The value has had a name since Linux 5.8; "2" is what it was before.
	fs, err := newFS("proc", []option{{"hidepid", "invisible"}})
	if errors.Is(err, unix.EINVAL) {
		fs, err = newFS("proc", []option{{"hidepid", "2"}})
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	attrs := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err == unix.EPERM {
		// The kernel also compares the locked access time flags.
		fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs|outerAtime())
	}
	if err == unix.EPERM {
		return -1, fmt.Errorf("%w: %w", ErrMaskedProc, err)
	}
	if err != nil {
		return -1, fmt.Errorf("fsmount proc: %w", err)
	}
	return fd, nil
}

// outerAtime returns the access time flags of the outer /proc.
func outerAtime() int {
	var fs unix.Statfs_t
	if err := unix.Statfs("/proc", &fs); err != nil {
		return 0
	}
	attrs := 0
	switch {
	case fs.Flags&unix.ST_NOATIME != 0:
		attrs |= unix.MOUNT_ATTR_NOATIME
	case fs.Flags&unix.ST_RELATIME == 0:
		attrs |= unix.MOUNT_ATTR_STRICTATIME
	}
	if fs.Flags&unix.ST_NODIRATIME != 0 {
		attrs |= unix.MOUNT_ATTR_NODIRATIME
	}
	return attrs
}

// attachProc shows the procfs, which the Builder keeps for itself as well,
// to the inside.
func (b *Builder) attachProc(m Mount) error {
	fd, err := cloneTree(b.proc, "")
	if err != nil {
		return err
	}
	inside, err := unix.Dup(fd)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("dup: %w", err)
	}
	unix.CloseOnExec(inside)
	if err := b.place(m, fd, wantDir, placed{foreign: true}); err != nil || m.Target != "/proc" {
		unix.Close(inside)
		return err
	}
	b.inside, b.procID = inside, b.placed[len(b.placed)-1].id
	return nil
}

// ProcGroup is a set of files of /proc that are hidden or read-only inside,
// for one reason.
type ProcGroup struct {
	Reason string
	Files  []string
	Dirs   []string
	// ReadOnly groups stay readable.
	ReadOnly bool
}

// ProcGroups returns the table behind ProcMasks. Not each name exists on each
// kernel.
func ProcGroups() []ProcGroup {
	return []ProcGroup{
		{
			Reason: "memory and addresses of the kernel",
			Files:  []string{"kcore", "kallsyms", "slabinfo", "vmallocinfo", "kpagecount", "kpageflags", "kpagecgroup", "modules", "iomem", "ioports"},
		},
		{
			Reason: "the kernel's log and the keys of the user's session",
			Files:  []string{"kmsg", "keys", "key-users"},
		},
		{
			Reason: "timing and activity of other processes, a side channel (GHSA-6fw5-f8r9-fgfm for interrupts)",
			Files:  []string{"interrupts", "timer_list", "timer_stats", "sched_debug", "latency_stats", "diskstats"},
			Dirs:   []string{"pressure"},
		},
		{
			Reason: "how this host was built, booted and equipped",
			Files:  []string{"config.gz", "bootconfig", "cmdline", "partitions", "swaps", "mtrr"},
			Dirs:   []string{"acpi", "asound", "scsi", "driver", "tty"},
		},
		{
			Reason: "settings of the host that root of the inside could write",
			Files:  []string{"sysrq-trigger"}, Dirs: []string{"bus", "fs", "irq", "sys"}, ReadOnly: true,
		},
	}
}

// ProcMasks returns the entries that hide or write-protect parts of /proc,
// all of them optional. They hold because the payload lives in a further user
// namespace, where they cannot be unmounted (mount_namespaces(7)).
func ProcMasks() []Mount {
	var masks []Mount
	add := func(names []string, kind Kind, dir bool) {
		for _, name := range names {
			masks = append(masks, Mount{Kind: kind, Target: "/proc/" + name, Directory: dir, Optional: true})
		}
	}
	for _, g := range ProcGroups() {
		kind := Mask
		if g.ReadOnly {
			kind = ReadOnly
		}
		add(g.Files, kind, false)
		add(g.Dirs, kind, true)
	}
	return masks
}

// belowProc returns the path of a target relative to the inside's own procfs.
// There the names are the kernel's, so that masks, the bulk of the table, can
// do without the careful walk of find.
func (b *Builder) belowProc(target string) (string, bool) {
	if b.inside < 0 {
		return "", false
	}
	return strings.CutPrefix(target, "/proc/")
}
