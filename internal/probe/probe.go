// Package probe looks at the process it runs in and says which promises of the
// sandbox hold there.
//
// It is the inside half of the tests: a small static program calls [Run] as
// the payload of sbx and prints the findings. Each one carries the id of the
// requirement it checks (A3, B5 …), the promise in one sentence and what was
// seen. The checks only try what a hostile program would try first; they are
// harmless where they succeed, but they are attempts all the same.
//
// Do not run it outside of a sandbox to learn about a host: nearly everything
// is then reported as broken, and that is no finding. It is no proof either.
// A promise that holds here was kept against these attempts only.
package probe

import "fmt"

// State says how a promise was kept.
type State string

// The states of a finding.
const (
	// Held means that every attempt against the promise was refused.
	Held State = "held"
	// Broken means that an attempt succeeded.
	Broken State = "broken"
	// Weaker means that the promise is not kept because the user chose a
	// weaker mode, or the kernel gives no more; see [Facts].
	Weaker State = "weaker"
	// Unknown means that it could not be tried here; Detail says why.
	Unknown State = "unknown"
)

// Finding is the result of one check.
type Finding struct {
	// ID is the requirement, a letter and a number.
	ID string `json:"id"`
	// Name tells the checks of one requirement apart: "groups".
	Name string `json:"name"`
	// Promise is what should hold, in one sentence.
	Promise string `json:"promise"`
	State   State  `json:"state"`
	// Detail is what was seen: the errno of a refusal, the value found.
	Detail string `json:"detail"`
}

// String gives one line: "A3 groups: broken: [27 1001]".
func (f Finding) String() string {
	return fmt.Sprintf("%s %s: %s: %s", f.ID, f.Name, f.State, f.Detail)
}

// Facts is what the outside knows and the inside needs for a comparison. The
// zero value is valid: checks that lack a fact report [Unknown].
type Facts struct {
	// Userns is the identity mode in force: nomap, keep-id or single.
	Userns string `json:"userns"`
	// FakeRoot is set when the payload runs as uid 0 of its namespace.
	FakeRoot bool `json:"fake_root"`
	// HostNetwork is set when the payload shares the host's network.
	HostNetwork bool `json:"host_network"`
	// HostImage is set when the host's system directories are bound
	// read-only instead of copied.
	HostImage bool `json:"host_image"`
	// ReadOnly is set when the root itself cannot be written.
	ReadOnly bool `json:"read_only"`
	// Terminal is set when the payload has a pty of its own.
	Terminal bool `json:"terminal"`
	// Namespaces are the host's links by name, "uts" → "uts:[4026531838]".
	Namespaces map[string]string `json:"namespaces"`
	// Hostname and UserName are the host's; neither may be seen inside.
	Hostname string `json:"hostname"`
	UserName string `json:"user_name"`
	// Canary is a file of the user on the host with Secret in it.
	Canary string `json:"canary"`
	Secret string `json:"secret"`
	// Port is a TCP port on which the host listens on 127.0.0.1, and
	// Abstract the name of an abstract socket, without the leading NUL.
	Port     int    `json:"port"`
	Abstract string `json:"abstract"`
	// Key is the description of a "user" key in the caller's session keyring.
	Key string `json:"key"`
	// Env are names of variables that the caller passed on purpose.
	Env []string `json:"env"`
}

// outcome is what a check says; Finding adds the names.
type outcome struct {
	state  State
	detail string
}

func held(format string, args ...any) outcome { return outcome{Held, fmt.Sprintf(format, args...)} }

func broken(format string, args ...any) outcome {
	return outcome{Broken, fmt.Sprintf(format, args...)}
}

func weaker(format string, args ...any) outcome {
	return outcome{Weaker, fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) outcome {
	return outcome{Unknown, fmt.Sprintf(format, args...)}
}

// check is one row of the table.
type check struct {
	id, name, promise string
	run               func(*Facts) outcome
}

// Run makes every check, in an order in which none disturbs a later one, and
// returns one finding for each.
func Run(facts Facts) []Finding {
	var findings []Finding
	for _, list := range [][]check{
		// Descriptors first: later checks open some of their own.
		inheritedChecks(), identityChecks(), initChecks(), filesystemChecks(),
		mountChecks(), networkChecks(), terminalChecks(), privilegeChecks(), kernelChecks(),
	} {
		for _, c := range list {
			o := c.run(&facts)
			findings = append(findings, Finding{ID: c.id, Name: c.name, Promise: c.promise, State: o.state, Detail: o.detail})
		}
	}
	return findings
}
