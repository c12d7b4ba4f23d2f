package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The names of the built-in profiles, for Options.Profile.
const (
	Default = "default" // what the table says; the empty name means the same
	Strict  = "strict"  // less: see the groups of Table whose Option is "strict"
	Off     = "off"     // no filter at all
)

// Options chooses a built-in policy.
type Options struct {
	// Profile is Default, Strict, Off or empty for Default.
	Profile string
	// Fakeroot is for a payload with user id 0 inside: package managers and archivers set setuid bits and expect openat2. It is safe to lift
	// these two rules only where the payload's ids are strangers on the host and other users cannot reach the files.
	Fakeroot bool
	// AllowDebug lets debuggers work on the payload's own processes: ptrace and process_vm_readv and process_vm_writev.
	AllowDebug bool
}

// option is one of the things that change the answer to a group of calls.
type option uint8

const (
	onStrict option = iota + 1
	onFakeroot
	onDebug
)

func (o option) String() string {
	return [...]string{"", "strict", "user 0", "debug"}[o]
}

func (o Options) has(opt option) bool {
	switch opt {
	case onStrict:
		return o.Profile == Strict
	case onFakeroot:
		return o.Fakeroot
	case onDebug:
		return o.AllowDebug
	}
	return false
}

// group is a row of the policy: calls that get the same answer for the same reason.
type group struct {
	name   string
	reason string
	calls  []call
	answer answer
	when   option // with this option …
	then   answer // … the answer is this one
}

func (g *group) answerWith(o Options) answer {
	if o.has(g.when) {
		return g.then
	}
	return g.answer
}

// Build returns the program of a built-in policy for the architecture that it runs on, or nil for Off. The errors are those of [BuildFor].
func Build(o Options) ([]unix.SockFilter, error) { return BuildFor(Native(), o) }

// BuildFor returns the program of a built-in policy for an architecture, ready for seccomp(2): about 250 instructions, or nil for Off. It
// fails for a profile without such a name and for an architecture that the policy does not cover.
func BuildFor(arch Arch, o Options) ([]unix.SockFilter, error) {
	switch o.Profile {
	case "", Default, Strict:
	case Off:
		return nil, nil
	default:
		return nil, fmt.Errorf("building seccomp profile %q: there is %s, %s, %s, or a file", o.Profile, Default, Strict, Off)
	}
	if err := arch.check(); err != nil {
		return nil, err
	}
	d := newDispatch(arch, enosys)
	for _, groups := range [...][]group{allowed, refusals} {
		for i := range groups {
			index := d.index(groups[i].answerWith(o))
			for _, c := range groups[i].calls {
				d.set(c, index)
			}
		}
	}
	return d.build()
}

// Entry is a row of the policy for people to read.
type Entry struct {
	Group  string   `json:"group"`
	Reason string   `json:"reason"`
	Names  []string `json:"names"`  // of the calls on either architecture; none where the row is about numbers
	Answer string   `json:"answer"` // what a call gets: "allowed", "ENOSYS", "if argument 1 …: EPERM; else allowed"
	// Option names what changes the answer, if anything does: "strict" (the profile), "user 0" (Fakeroot) or "debug" (AllowDebug).
	Option string `json:"option,omitempty"`
	// OptionAnswer is the answer with that option.
	OptionAnswer string `json:"optionAnswer,omitempty"`
}

// Table lists the whole policy with its reasons, what is allowed first. Each system call that the policy knows stands in exactly one row.
func Table() []Entry {
	var table []Entry
	for _, groups := range [...][]group{allowed, refusals} {
		for _, g := range groups {
			e := Entry{Group: g.name, Reason: g.reason, Answer: g.answer.String(), Option: g.when.String()}
			if g.when != 0 {
				e.OptionAnswer = g.then.String()
			}
			for _, c := range g.calls {
				e.Names = append(e.Names, calls[c].name)
			}
			table = append(table, e)
		}
	}
	return append(table,
		Entry{
			Group:  "unknown numbers",
			Reason: "A kernel newer than this table may give the number any meaning. Programs that try a new call take ENOSYS as \"not here\". x32 numbers on x86-64 are among these.",
			Answer: enosys.String(),
		},
		Entry{
			Group:  "other architectures",
			Reason: "Numbers mean something else there, and i386's socketcall hides the socket family behind a pointer. No program of the native architecture gets here by accident.",
			Answer: kill.String(),
		})
}
