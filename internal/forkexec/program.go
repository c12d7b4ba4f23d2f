package forkexec

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Step is one system call of the child, made in the order of the list. A step
// that fails ends the child before it has become another program.
type Step struct {
	// Text says what the step does, in the words of a log line: "clear the groups".
	Text string
	// Trap is the number of the system call, unix.SYS_….
	Trap uintptr
	// Args are its arguments. Pointers among them come from [Program.Pointer]
	// and its siblings, which keep what they point to alive.
	Args [6]uintptr
	// Want is the least result that counts as success; 1 for the read(2) that
	// waits for the parent's go-ahead, since end of file (0) means that the
	// parent died.
	Want uintptr
	// Tolerate is an errno that counts as success: the call does not exist on
	// an older kernel, or there is nothing left to do.
	Tolerate unix.Errno
}

// Program is the list of steps together with the memory they point to.
// The zero value is an empty program.
type Program struct {
	steps []Step
	keep  []any
}

// Add appends a step that succeeds with any result.
func (p *Program) Add(text string, trap uintptr, args ...uintptr) {
	p.AddStep(Step{Text: text, Trap: trap}, args...)
}

// AddStep appends a step whose Args are given behind it.
func (p *Program) AddStep(s Step, args ...uintptr) {
	if len(args) > len(s.Args) {
		panic(fmt.Sprintf("forkexec: step %q has %d arguments", s.Text, len(args)))
	}
	copy(s.Args[:], args)
	p.steps = append(p.steps, s)
}

// ResetSignals appends what gives every signal its default action. A signal that the caller
// ignores stays ignored through execve: SIGHUP under nohup, SIGPIPE under some shells, SIGCHLD
// (bwrap 0.11.1).
func (p *Program) ResetSignals() {
	type sigaction struct{ handler, flags, restorer, mask uintptr }
	byDefault := p.Pointer(unsafe.Pointer(&sigaction{}))
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			p.Add("reset a signal", unix.SYS_RT_SIGACTION, sig, byDefault, 0, 8)
		}
	}
}

// lastSignal is SIGRTMAX of the kernel's.
const lastSignal = 64

// UnblockSignals appends what lets the signals in that are blocked from before the clone. With
// handlers of the runtime's in place they would run in the child: see [Program.ResetSignals].
func (p *Program) UnblockSignals() {
	none := p.Pointer(unsafe.Pointer(new(uint64)))
	p.Add("unblock the signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, none, 0, 8)
}

// Execute appends the execve(2) of the program at path.
func (p *Program) Execute(text, path string, argv, env []string) error {
	name, err := p.String(path)
	if err != nil {
		return err
	}
	args, err := p.Strings(argv)
	if err != nil {
		return err
	}
	envs, err := p.Strings(env)
	if err != nil {
		return err
	}
	p.Add(text, unix.SYS_EXECVE, name, args, envs)
	return nil
}

// Steps returns the texts in order; an index in a [StepError] counts from them.
func (p *Program) Steps() []string {
	texts := make([]string, len(p.steps))
	for i, s := range p.steps {
		texts[i] = s.Text
	}
	return texts
}

// String returns the address of a NUL-terminated copy of s that lives as long
// as the program.
func (p *Program) String(s string) (uintptr, error) {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		return 0, fmt.Errorf("use %q as an argument: %w", s, err)
	}
	return p.Pointer(unsafe.Pointer(b)), nil
}

// Strings returns the address of a NULL-terminated array of strings: an argv
// or an environment.
func (p *Program) Strings(list []string) (uintptr, error) {
	array := make([]*byte, len(list)+1)
	for i, s := range list {
		b, err := unix.BytePtrFromString(s)
		if err != nil {
			return 0, fmt.Errorf("use %q as an argument: %w", s, err)
		}
		array[i] = b
	}
	p.keep = append(p.keep, array)
	return uintptr(unsafe.Pointer(&array[0])), nil
}

// Pointer returns the address of what ptr points to and keeps it alive. It has
// to be on the heap: Go moves stacks, never the heap.
func (p *Program) Pointer(ptr unsafe.Pointer) uintptr {
	p.keep = append(p.keep, ptr)
	return uintptr(ptr)
}

// StepError says which step of the child failed and with which errno. The
// child is gone by then.
type StepError struct {
	Index int
	Text  string
	Errno unix.Errno
}

// Error gives the step's text and the errno's.
func (e *StepError) Error() string { return e.Text + ": " + e.Errno.Error() }

// Unwrap makes errors.Is(err, unix.EPERM) work.
func (e *StepError) Unwrap() error { return e.Errno }
