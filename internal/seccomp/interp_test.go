package seccomp

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// data is the kernel's seccomp_data.
type data struct {
	nr   uint32
	arch uint32
	ip   uint64
	args [6]uint64
}

func (d data) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, d.nr)
	b = binary.LittleEndian.AppendUint32(b, d.arch)
	b = binary.LittleEndian.AppendUint64(b, d.ip)
	for _, a := range d.args {
		b = binary.LittleEndian.AppendUint64(b, a)
	}
	return b
}

// outcome is what a run of a program said, and how it got there.
type outcome struct {
	verdict
	steps int
	// looked is true when an argument was read. The kernel answers calls for which that does not happen from a bitmap and does not even run
	// the program.
	looked bool
}

// interpret runs a classic BPF program as the kernel does for seccomp. It knows the instructions that this package's assembler writes, and
// fails for anything that the kernel's checker would refuse.
func interpret(program []unix.SockFilter, d data) (outcome, error) {
	var o outcome
	var accumulator uint32
	memory := d.bytes()
	for pc := 0; pc < len(program); pc++ {
		o.steps++
		in := program[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if in.K%4 != 0 || int(in.K) >= len(memory) {
				return o, fmt.Errorf("instruction %d loads from %d", pc, in.K)
			}
			accumulator = binary.LittleEndian.Uint32(memory[in.K:])
			o.looked = o.looked || in.K >= 8
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			accumulator &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(accumulator == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(accumulator > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(accumulator >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(accumulator&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			o.verdict = verdict(in.K)
			return o, nil
		default:
			return o, fmt.Errorf("instruction %d has code %#x", pc, in.Code)
		}
	}
	return o, fmt.Errorf("ran past the end of %d instructions", len(program))
}

func mustInterpret(t *testing.T, program []unix.SockFilter, d data) outcome {
	t.Helper()
	o, err := interpret(program, d)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// check does for a whole program what the kernel does when it is installed.
func check(program []unix.SockFilter) error {
	if len(program) == 0 || len(program) > maxInstructions {
		return fmt.Errorf("%d instructions", len(program))
	}
	for pc, in := range program {
		furthest := 0
		switch in.Code & 7 {
		case unix.BPF_JMP:
			furthest = max(int(in.Jt), int(in.Jf))
			if in.Code == unix.BPF_JMP|unix.BPF_JA {
				furthest = int(in.K)
			}
		case unix.BPF_RET:
			furthest = -1
		}
		if pc+1+furthest >= len(program) {
			if in.Code&7 != unix.BPF_RET {
				return fmt.Errorf("instruction %d of %d goes to %d", pc, len(program), pc+1+furthest)
			}
		}
	}
	return nil
}

// expect works out what an answer says for arguments, by reading its rules.
func (a answer) expect(args [6]uint64) verdict {
	for _, r := range a.rules {
		all := true
		for _, c := range r.when {
			all = all && c.holds(args[c.arg])
		}
		if all {
			return r.then
		}
	}
	return a.verdict
}

func (c cond) holds(arg uint64) bool {
	if !c.wide {
		arg = uint64(uint32(arg))
	}
	switch c.op {
	case opEqual:
		return arg == c.val
	case opNotEqual:
		return arg != c.val
	case opLess:
		return arg < c.val
	case opLessEqual:
		return arg <= c.val
	case opGreater:
		return arg > c.val
	case opGreaterEqual:
		return arg >= c.val
	case opMasked:
		return arg&c.mask == c.val
	case opAnyBit:
		return arg&c.val != 0
	case opOneOf:
		for _, v := range c.set {
			if arg == uint64(v) {
				return true
			}
		}
		return false
	}
	panic("no such op")
}
