package launch

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/forkexec"
	"github.com/sbx-run/sbx/userns"
)

// While newuidmap and newgidmap do their work the supervisor has some too. On a machine
// with two processors and something to do the kernel does not spread them: who is woken goes
// where its waker runs, or where it ran last, and waits there, as looking for an idle processor
// is given up early where few are idle (SIS_UTIL in kernel/sched/fair.c, Linux 6.0). A supervisor
// that waits behind newuidmap, with the other processor idle, takes a millisecond longer. So
// they are kept off each other here, which changes nothing where processors abound.

// elsewhere is where this thread may run but for the processor that it runs on now; nil if
// that is nowhere, or not known (more than 1024 processors).
func elsewhere() *unix.CPUSet {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return nil
	}
	set.Clear(int(cpu))
	if set.Count() == 0 {
		return nil
	}
	return &set
}

// besides starts the first helper elsewhere, and the second anywhere, and suspends the caller
// for neither.
func besides() userns.Starter {
	set := elsewhere()
	return func(c userns.Command) (userns.Started, error) {
		list, err := helperSteps(c, set)
		if err != nil {
			return userns.Started{}, err
		}
		set = nil
		child, err := forkexec.Start(list, 0)
		if err != nil {
			return userns.Started{}, err
		}
		return userns.Started{Pid: child.Pid, Executed: child.Wait}, nil
	}
}

// helperSteps are the way to the helper's program. All other descriptors are close-on-exec
// or the caller's own, as for every program that he starts.
func helperSteps(c userns.Command, set *unix.CPUSet) (*forkexec.Program, error) {
	list := new(forkexec.Program)
	if set != nil {
		list.AddStep(forkexec.Step{Text: "run beside the supervisor", Trap: unix.SYS_SCHED_SETAFFINITY, Tolerate: unix.EINVAL},
			0, unsafe.Sizeof(*set), list.Pointer(unsafe.Pointer(set)))
	}
	list.ResetSignals()
	list.UnblockSignals()
	root, err := list.String("/")
	if err != nil {
		return nil, err
	}
	list.Add("go to /", unix.SYS_CHDIR, root)
	for fd, from := range []int{c.Null, c.Null, c.Stderr} {
		list.Add("take the streams", unix.SYS_DUP3, uintptr(from), uintptr(fd), 0)
	}
	return list, list.Execute("execute it", c.Path, c.Args, c.Env)
}
