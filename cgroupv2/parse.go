package cgroupv2

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// ErrForm is wrapped by errors about text that is not of the form it should have.
var ErrForm = errors.New("malformed")

// maxCPUs is the most that a Linux kernel can be built for, NR_CPUS on x86-64.
const maxCPUs = 8192

// ParseCPUs parses a number of CPUs such as "1.5" or "0.25", from 0.001 to 8192 with
// at most six decimals. Errors wrap [ErrForm] or [ErrRange].
//
// The period is the kernel's default of 100 ms, longer for less than a hundredth of a
// CPU, since the kernel takes no quota below 1 ms.
func ParseCPUs(text string) (Quota, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if !digits(whole, 4) || fraction != "" && !digits(fraction, 6) || strings.HasSuffix(text, ".") {
		return Quota{}, fmt.Errorf("number of CPUs %q: %w: a number such as 1.5 is wanted", text, ErrForm)
	}
	// Both fit: they have at most ten digits together.
	micro, _ := strconv.ParseInt(whole+(fraction + "000000")[:6], 10, 64)
	if micro < 1000 || micro > maxCPUs*1000000 {
		return Quota{}, fmt.Errorf("number of CPUs %q: %w: 0.001 to %d", text, ErrRange, maxCPUs)
	}
	if micro < MinQuota*10 {
		return Quota{Quota: micro, Period: MaxPeriod}, nil
	}
	return Quota{Quota: (micro + 5) / 10, Period: 100000}, nil
}

// digits says that text is 1 to most decimal digits.
func digits(text string, most int) bool {
	if text == "" || len(text) > most {
		return false
	}
	return strings.Trim(text, "0123456789") == ""
}

// ParseCPUSet parses a list of CPUs such as "0-3,7" and returns it as the kernel
// writes it: sorted, without overlaps, neighbours joined. Errors wrap [ErrForm] or
// [ErrRange].
func ParseCPUSet(text string) (string, error) {
	set, err := parseSet(text)
	if err != nil {
		return "", err
	}
	return set.String(), nil
}

// cpuSet is a set of CPU numbers.
type cpuSet [maxCPUs / 64]uint64

func parseSet(text string) (cpuSet, error) {
	var set cpuSet
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		if !digits(first, 4) || !digits(last, 4) {
			return set, fmt.Errorf("list of CPUs %q: %w: a list such as 0-3,7 is wanted", text, ErrForm)
		}
		from, _ := strconv.Atoi(first)
		to, _ := strconv.Atoi(last)
		if from > to || to >= maxCPUs {
			return set, fmt.Errorf("list of CPUs %q: %w: %s", text, ErrRange, part)
		}
		for n := from; n <= to; n++ {
			set[n/64] |= 1 << (n % 64)
		}
	}
	return set, nil
}

// String writes a set in the kernel's list format; "" for none.
func (s cpuSet) String() string {
	var parts []string
	for n := s.next(0); n < maxCPUs; {
		last := n
		for last+1 < maxCPUs && s[(last+1)/64]&(1<<((last+1)%64)) != 0 {
			last++
		}
		part := strconv.Itoa(n)
		if last > n {
			part += "-" + strconv.Itoa(last)
		}
		parts = append(parts, part)
		n = s.next(last + 1)
	}
	return strings.Join(parts, ",")
}

// next returns the first member from n on, maxCPUs for none.
func (s cpuSet) next(n int) int {
	for n < maxCPUs {
		if word := s[n/64] >> (n % 64); word != 0 {
			return n + bits.TrailingZeros64(word)
		}
		n = (n/64 + 1) * 64
	}
	return maxCPUs
}
