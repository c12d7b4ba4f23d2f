package seccomp

import "golang.org/x/sys/unix"

// dispatch says for each number of an architecture which answer its call gets.
type dispatch struct {
	arch    Arch
	answers []answer
	// byNumber has an index into answers for each number up to the newest that is known. Index 0 is the answer to numbers that stand for no
	// known call, and to everything above the slice.
	byNumber []uint16
}

// numberLimit is above every number that either architecture has given out; the test of the table holds it.
const numberLimit = 512

func newDispatch(arch Arch, unknown verdict) *dispatch {
	d := &dispatch{arch: arch, answers: make([]answer, 1, 64), byNumber: make([]uint16, 0, numberLimit)}
	d.answers[0] = answer{verdict: unknown}
	return d
}

// index stores the answer. Answers without rules are stored once for each verdict, so that neighbours in number with the same verdict make
// one range, whichever group they come from.
func (d *dispatch) index(ans answer) uint16 {
	if len(ans.rules) == 0 {
		for i := range d.answers {
			if len(d.answers[i].rules) == 0 && d.answers[i].verdict == ans.verdict {
				return uint16(i)
			}
		}
	}
	d.answers = append(d.answers, ans)
	return uint16(len(d.answers) - 1)
}

// set gives the answer to a call; a call that the architecture lacks is none of its business.
func (d *dispatch) set(c call, index uint16) {
	n := c.number(d.arch)
	if n < 0 {
		return
	}
	for len(d.byNumber) <= n {
		d.byNumber = append(d.byNumber, 0)
	}
	d.byNumber[n] = index
}

// span is a range of numbers with one answer, from first to the next span's first.
type span struct {
	first uint32
	index uint16
}

func (d *dispatch) spans() []span {
	spans := make([]span, 0, 256)
	last := -1
	for n, index := range d.byNumber {
		if int(index) != last {
			spans = append(spans, span{uint32(n), index})
			last = int(index)
		}
	}
	if last != 0 {
		spans = append(spans, span{uint32(len(d.byNumber)), 0})
	}
	return spans
}

// build writes the program: the architecture first, then a balanced search over the spans, then what looks at arguments.
//
//	load arch; not ours → kill
//	load number; number ≥ middle of the spans → right half, else left half; …
//	load argument; compare; …
//	return verdict
func (d *dispatch) build() ([]unix.SockFilter, error) {
	a := &assembler{reversed: make([]unix.SockFilter, 0, 512), returns: make([]returned, 0, 16)}
	spans := d.spans()
	blocks := make([]label, len(d.answers))
	for i, ans := range d.answers {
		if len(ans.rules) > 0 {
			blocks[i] = a.decide(ans)
		}
	}
	var search func(spans []span) label
	search = func(spans []span) label {
		if len(spans) == 1 {
			index := spans[0].index
			if len(d.answers[index].rules) > 0 {
				return blocks[index]
			}
			return a.ret(d.answers[index].verdict)
		}
		middle := len(spans) / 2
		right := search(spans[middle:])
		left := search(spans[:middle])
		return a.branch(unix.BPF_JGE, spans[middle].first, right, left)
	}
	at := a.load(dataNumber, search(spans))
	at = a.branch(unix.BPF_JEQ, d.arch.audit(), at, a.ret(kill))
	a.load(dataArch, at)
	return a.program()
}
