package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		times []time.Duration
		want  time.Duration
	}{
		{[]time.Duration{3}, 3},
		{[]time.Duration{9, 1, 5}, 5},
		{[]time.Duration{4, 1, 2, 9}, 3},
	}
	for _, test := range tests {
		if got := median(test.times); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.times, got, test.want)
		}
	}
}

// A program is run, counted and set in relation; no time is asserted.
func TestTable(t *testing.T) {
	commands, err := readCommands(strings.NewReader("bwrap\t/bin/true\nother\t/bin/sh\t-c\ttrue {n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := (loop{}).measure(commands, 2); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printTable(&out, commands, "bwrap"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "1.00") || len(commands[1].times) != 2 || commands[1].memory == 0 {
		t.Errorf("got\n%s", out.String())
	}
}

func TestFailingCommandIsAnError(t *testing.T) {
	commands := []*command{{name: "no", argv: []string{"/bin/sh", "-c", "exit 3"}}}
	if err := (loop{}).measure(commands, 1); err == nil {
		t.Error("a command that failed was counted")
	}
	if _, err := readCommands(strings.NewReader("only-a-name\n")); err == nil {
		t.Error("a line without a command was read")
	}
}

// What surrounds a command is run each time and not taken for it.
func TestRates(t *testing.T) {
	dir := t.TempDir()
	commands, err := readCommands(strings.NewReader("cp -a\t/bin/true\nother\t/bin/true\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := loop{before: "mkdir " + dir + "/x", after: "rmdir " + dir + "/x", sync: dir}
	if err := l.measure(commands, 1); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printRates(&out, commands, "cp -a", amount{files: 10, bytes: 1e6}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "1.00") || len(commands[1].synced) != 1 {
		t.Errorf("got\n%s", out.String())
	}
	if err := (loop{before: "exit 3"}).measure(commands, 1); err == nil {
		t.Error("what failed before the command was passed over")
	}
}
