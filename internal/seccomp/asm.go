package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// maxInstructions is BPF_MAXINSNS: seccomp(2) takes no longer program.
const maxInstructions = 4096

// Where seccomp_data has its fields, see seccomp(2). Both architectures are little-endian: the low half of an argument comes first.
const (
	dataNumber    = 0
	dataArch      = 4
	dataArguments = 16
)

// assembler writes a program from its last instruction to its first. Jumps of classic BPF only go forward, so each jump's target stands
// already when the jump is written: its distance is known, and one that needs more than the eight bits of a conditional jump gets an
// unconditional one beside it. Code is therefore asked for by what comes after it: each method takes the labels where control goes next.
type assembler struct {
	reversed []unix.SockFilter
	returns  []returned
}

// label names an instruction by how many stand from it to the end of the program, itself counted.
type label int

type returned struct {
	verdict
	at label
}

// nearest is how far a conditional jump may go here. It leaves room below 255 for two unconditional jumps between it and its target.
const nearest = 253

func (a *assembler) emit(code uint16, jt, jf uint8, k uint32) label {
	a.reversed = append(a.reversed, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	return a.here()
}

// here is the instruction that was written last, the one that follows the next to be written.
func (a *assembler) here() label { return label(len(a.reversed)) }

// skip counts the instructions between the next one to be written and the target.
func (a *assembler) skip(target label) int { return int(a.here() - target) }

func (a *assembler) jump(target label) label {
	return a.emit(unix.BPF_JMP|unix.BPF_JA, 0, 0, uint32(a.skip(target)))
}

// fallInto makes the target the next instruction.
func (a *assembler) fallInto(target label) {
	if a.here() != target {
		a.jump(target)
	}
}

// ret returns a label that ends the program with the verdict: one in reach that was written before, or a new one.
func (a *assembler) ret(v verdict) label {
	for i := range a.returns {
		r := &a.returns[i]
		if r.verdict != v {
			continue
		}
		if a.skip(r.at) > nearest {
			r.at = a.emit(unix.BPF_RET|unix.BPF_K, 0, 0, uint32(v))
		}
		return r.at
	}
	at := a.emit(unix.BPF_RET|unix.BPF_K, 0, 0, uint32(v))
	a.returns = append(a.returns, returned{v, at})
	return at
}

// branch compares the accumulator with k and goes on at yes or at no; test is BPF_JEQ, BPF_JGT, BPF_JGE or BPF_JSET.
func (a *assembler) branch(test uint16, k uint32, yes, no label) label {
	if a.skip(no) > nearest {
		no = a.jump(no)
	}
	if a.skip(yes) > nearest {
		yes = a.jump(yes)
	}
	return a.emit(unix.BPF_JMP|unix.BPF_K|test, uint8(a.skip(yes)), uint8(a.skip(no)), k)
}

func (a *assembler) load(offset uint32, next label) label {
	a.fallInto(next)
	return a.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, offset)
}

func (a *assembler) and(mask uint32, next label) label {
	a.fallInto(next)
	return a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 0, 0, mask)
}

// decide writes what a call gets once its number is known.
func (a *assembler) decide(ans answer) label {
	next := a.ret(ans.verdict)
	for _, r := range slices.Backward(ans.rules) {
		yes := a.ret(r.then)
		for _, c := range slices.Backward(r.when) {
			yes = a.cond(c, yes, next)
		}
		next = yes
	}
	return next
}

func (a *assembler) cond(c cond, yes, no label) label {
	low := dataArguments + 8*uint32(c.arg)
	switch c.op {
	case opNotEqual:
		c.op, yes, no = opEqual, no, yes
	case opLess:
		c.op, yes, no = opGreaterEqual, no, yes
	case opLessEqual:
		c.op, yes, no = opGreater, no, yes
	case opAnyBit:
		return a.load(low, a.branch(unix.BPF_JSET, uint32(c.val), yes, no))
	case opOneOf:
		for _, v := range slices.Backward(c.set) {
			no = a.branch(unix.BPF_JEQ, v, yes, no)
		}
		return a.load(low, no)
	}
	if c.op == opMasked {
		masked := a.load(low, a.and(uint32(c.mask), a.branch(unix.BPF_JEQ, uint32(c.val), yes, no)))
		if high := uint32(c.mask >> 32); c.wide && high != 0 {
			masked = a.load(low+4, a.and(high, a.branch(unix.BPF_JEQ, uint32(c.val>>32), masked, no)))
		}
		return masked
	}
	test := uint16(unix.BPF_JEQ)
	switch c.op {
	case opGreater:
		test = unix.BPF_JGT
	case opGreaterEqual:
		test = unix.BPF_JGE
	}
	at := a.load(low, a.branch(test, uint32(c.val), yes, no))
	if !c.wide {
		return at
	}
	at = a.branch(unix.BPF_JEQ, uint32(c.val>>32), at, no) // upper halves equal: the lower ones decide
	if c.op != opEqual {
		at = a.branch(unix.BPF_JGT, uint32(c.val>>32), yes, at)
	}
	return a.load(low+4, at)
}

// program returns the finished program. Its size is the only thing that can be wrong with it.
func (a *assembler) program() ([]unix.SockFilter, error) {
	if n := len(a.reversed); n > maxInstructions {
		return nil, fmt.Errorf("building a seccomp filter: %d instructions, and the kernel takes %d", n, maxInstructions)
	}
	slices.Reverse(a.reversed)
	return a.reversed, nil
}
