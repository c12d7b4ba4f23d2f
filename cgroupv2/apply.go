package cgroupv2

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NotTaken says that the kernel has another value than was written.
type NotTaken struct {
	Setting Setting
	Got     string
}

// Error names the file and both values.
func (e *NotTaken) Error() string {
	return fmt.Sprintf("set %s to %s: the kernel has %s", e.Setting.File, e.Setting.Value, e.Got)
}

// apply writes one setting and reads it back.
func (l *Leaf) apply(s Setting) error {
	err := l.k.write(filepath.Join(l.Dir, s.File), s.Value)
	if errors.Is(err, unix.ENOENT) && s.File == "io.weight" {
		// Weights come from the cost model or, on kernels without it, from BFQ.
		s = bfq(s)
		err = l.k.write(filepath.Join(l.Dir, s.File), s.Value)
	}
	if s.Optional && errors.Is(err, unix.ENOENT) {
		l.Skipped = append(l.Skipped, s)
		return nil
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", filepath.Join(l.Dir, s.File), s.Value, err)
	}
	got, err := readFile(filepath.Join(l.Dir, s.File))
	if err != nil {
		return fmt.Errorf("read back %s: %w", filepath.Join(l.Dir, s.File), err)
	}
	if !s.taken(got) {
		return &NotTaken{Setting: s, Got: got}
	}
	if s.Controller == "cpuset" {
		if err := l.checkCPUs(s); err != nil {
			return err
		}
		l.noBirth = true
	}
	s.Value = strings.SplitN(got, "\n", 2)[0]
	l.Applied = append(l.Applied, s)
	return nil
}

// taken compares a value with what was read back. Sizes come back in whole pages.
func (s Setting) taken(got string) bool {
	if s.File == "io.weight" || s.File == "io.bfq.weight" {
		// The first line is the default; lines for single devices follow.
		got = strings.SplitN(got, "\n", 2)[0]
		return strings.TrimPrefix(got, "default ") == strings.TrimPrefix(s.Value, "default ")
	}
	if got == s.Value {
		return true
	}
	want, err1 := strconv.ParseInt(s.Value, 10, 64)
	have, err2 := strconv.ParseInt(got, 10, 64)
	page := int64(unix.Getpagesize())
	return s.Controller == "memory" && err1 == nil && err2 == nil && have == want/page*page
}

// checkCPUs compares with the effective set: the kernel takes CPUs that a parent does
// not have, and falls back to all of the parent's when none is left.
func (l *Leaf) checkCPUs(s Setting) error {
	text, err := readFile(filepath.Join(l.Dir, "cpuset.cpus.effective"))
	if err != nil {
		return fmt.Errorf("read back %s: %w", s.File, err)
	}
	want, err1 := parseSet(s.Value)
	have, err2 := parseSet(text)
	if errors.Join(err1, err2) != nil || want != have {
		return &NotTaken{Setting: s, Got: text}
	}
	return nil
}

// bfq translates a weight into BFQ's range of 1 to 1000, 100 staying 100.
func bfq(s Setting) Setting {
	weight, _ := strconv.Atoi(strings.TrimPrefix(s.Value, "default "))
	if weight > 100 {
		weight = 100 + (weight-100)*900/(MaxWeight-100)
	}
	s.File, s.Value = "io.bfq.weight", strconv.Itoa(weight)
	return s
}
