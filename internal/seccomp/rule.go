package seccomp

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// verdict is what a filter returns for a call: a SECCOMP_RET_ action in the upper half, its data (an errno) in the lower.
type verdict uint32

const (
	allow = verdict(unix.SECCOMP_RET_ALLOW)
	kill  = verdict(unix.SECCOMP_RET_KILL_PROCESS)

	refused     = verdict(unix.SECCOMP_RET_ERRNO)
	pretended   = refused // errno 0: the call returns 0 and does nothing
	eperm       = refused | verdict(unix.EPERM)
	enosys      = refused | verdict(unix.ENOSYS)
	noFamily    = refused | verdict(unix.EAFNOSUPPORT)
	noOption    = refused | verdict(unix.ENOPROTOOPT)
	noOperation = refused | verdict(unix.EOPNOTSUPP)
)

// String says the verdict in a word: "allowed", "EPERM", "success pretended", "process killed" and the like.
func (v verdict) String() string {
	data := unix.Errno(v & unix.SECCOMP_RET_DATA)
	switch v & unix.SECCOMP_RET_ACTION_FULL {
	case allow:
		return "allowed"
	case unix.SECCOMP_RET_LOG:
		return "allowed and logged"
	case kill:
		return "process killed"
	case unix.SECCOMP_RET_KILL_THREAD:
		return "thread killed"
	case unix.SECCOMP_RET_TRAP:
		return "SIGSYS"
	case refused:
		if data == 0 {
			return "success pretended"
		}
		if name := unix.ErrnoName(data); name != "" {
			return name
		}
		return fmt.Sprintf("errno %d", int(data))
	}
	return fmt.Sprintf("verdict %#x", uint32(v))
}

// answer is what a call gets: the verdict of the first rule that matches, or else the verdict of the answer itself.
type answer struct {
	rules []rule
	verdict
}

// rule gives its verdict to a call for which all conditions hold.
type rule struct {
	when []cond
	then verdict
}

// cond compares one argument of a call with numbers. Pointers can only be compared with NULL in a useful way.
type cond struct {
	arg  uint8 // 0 to 5
	wide bool  // compares all 64 bits, else the low 32
	op   op
	val  uint64
	mask uint64   // of opMasked
	set  []uint32 // of opOneOf, at least one, low 32 bits only
}

// op is a comparison of the argument (left) with val (right), both unsigned.
type op uint8

const (
	opEqual op = iota
	opNotEqual
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opMasked // arg&mask == val
	opAnyBit // arg&val != 0, low 32 bits only
	opOneOf  // arg is in set
)

// The low 32 bits of an argument: what the kernel reads of an int, an unsigned int or a mode.

func equals(arg uint8, val uint32) cond { return cond{arg: arg, op: opEqual, val: uint64(val)} }

func anyBit(arg uint8, bits uint32) cond {
	return cond{arg: arg, op: opAnyBit, val: uint64(bits)}
}
func oneOf(arg uint8, set ...uint32) cond { return cond{arg: arg, op: opOneOf, set: set} }

// notNull looks at a pointer as a whole: one below 4 GiB has an empty upper half, one above may have an empty lower half.
func notNull(arg uint8) cond { return cond{arg: arg, wide: true, op: opNotEqual} }

// String renders the condition with arguments counted from 1, as a person counts them.
func (c cond) String() string {
	arg := fmt.Sprintf("argument %d", c.arg+1)
	switch c.op {
	case opMasked:
		return fmt.Sprintf("%s & %#x = %#x", arg, c.mask, c.val)
	case opAnyBit:
		return fmt.Sprintf("%s has a bit of %#x", arg, c.val)
	case opOneOf:
		parts := make([]string, len(c.set))
		for i, v := range c.set {
			parts[i] = fmt.Sprintf("%#x", v)
		}
		return fmt.Sprintf("%s is one of %s", arg, strings.Join(parts, " "))
	case opNotEqual:
		if c.wide && c.val == 0 {
			return arg + " is not NULL"
		}
	}
	sign := [...]string{opEqual: "=", opNotEqual: "≠", opLess: "<", opLessEqual: "≤", opGreater: ">", opGreaterEqual: "≥"}[c.op]
	return fmt.Sprintf("%s %s %#x", arg, sign, c.val)
}

// String renders the answer as a sentence without a full stop, the rules in their order.
func (a answer) String() string {
	var b strings.Builder
	for _, r := range a.rules {
		for i, c := range r.when {
			if i == 0 {
				b.WriteString("if ")
			} else {
				b.WriteString(" and ")
			}
			b.WriteString(c.String())
		}
		fmt.Fprintf(&b, ": %s; ", r.then)
	}
	if len(a.rules) > 0 {
		b.WriteString("else ")
	}
	b.WriteString(a.verdict.String())
	return b.String()
}
