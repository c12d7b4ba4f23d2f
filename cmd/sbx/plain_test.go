package main

import (
	"io"
	"reflect"
	"strings"
	"testing"
)

// kongRun is what kong makes of the arguments of run; false for a mistake and
// for a request for help.
func kongRun(t *testing.T, args []string) (c *runCommand, ok bool) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, help := r.(exited); !help {
				panic(r)
			}
			c, ok = nil, false
		}
	}()
	g := grammar([]string{"run"})
	parser, err := newParser(g, streams{out: io.Discard, err: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"run"}, args...)); err != nil {
		return nil, false
	}
	return reflect.ValueOf(g).Elem().Field(0).Addr().Interface().(*runCommand), true
}

// checkPlain holds that what plainRun reads is what kong reads.
func checkPlain(t *testing.T, args []string) (plain bool) {
	t.Helper()
	got, plain := plainRun(args)
	if !plain {
		return false
	}
	want, ok := kongRun(t, args)
	if !ok {
		t.Errorf("%q: read without kong, which refuses it", args)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("%q:\nplain %+v\nkong  %+v", args, got, want)
	}
	return true
}

func TestPlainArgumentsAreReadAsKongReadsThem(t *testing.T) {
	for _, test := range []struct {
		args  string
		plain bool
	}{
		{"./tool", true},
		{"./tool -q --help -- x", true},
		{"-q ./tool", true},
		{"-q --userns=single ./tool a b", true},
		{"--userns single --verbose ./tool", true},
		{"--ro /a --ro=/b:/c -e A=1 -e B ./tool", true},
		{"--image= ./tool", true},
		{"--entrypoint= ./tool", true},
		{"--entrypoint sh", true},
		{"-i -t -u 0 -w /tmp -m 1g --report r.json ./tool", true},
		{"--interactive --read-only --copy-in x:y --allow-degraded net ./tool", true},
		{"--dry-run --json ./tool", true},
		{"-e A=1,2 --ro /a,b ./tool", true},   // the comma is the user's
		{"--require pid,mnt ./tool", false},   // a list
		{"--require pid\\,mnt ./tool", false}, // a list with an escape
		{"--pids-limit 5 ./tool", false},      // a number
		{"--timeout 5s ./tool", true},         // read as a word, understood later
		{"-it ./tool", false},                 // two at once
		{"-eA=1 ./tool", false},               // glued
		{"-e -x ./tool", false},               // looks like a flag
		{"--quiet=false ./tool", false},       // a value for a switch
		{"-q -q ./tool", false},               // twice
		{"--image a --image b x", false},      // twice
		{"-q -- ./tool", false},               // an end of the flags
		{"-q", true},                          // no program
		{"", true},                            // nothing at all
		{"--help", false},                     //
		{"--imag x ./tool", false},            // unknown
		{"--command x ./tool", false},         // a field, no flag
		{"--program x ./tool", false},         // the same
		{"--run-flags x ./tool", false},       // the same
		{"--image", false},                    // no value
		{"- ./tool", false},                   //
		{"--Image base ./tool", false},        // case
		{"-u=0 ./tool", false},                // kong takes the "=" for a part of the value
	} {
		if plain := checkPlain(t, strings.Fields(test.args)); plain != test.plain {
			t.Errorf("%q: plain %t, want %t", test.args, plain, test.plain)
		}
	}
}

// Every flag that takes a word or none is read without kong, so a new one
// cannot be forgotten.
func TestEachFlagIsFound(t *testing.T) {
	parser, err := newParser(grammar([]string{"run"}), streams{out: io.Discard, err: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Children[0].Flags {
		names := []string{"--" + flag.Name}
		if flag.Short != 0 {
			names = append(names, "-"+string(flag.Short))
		}
		for _, name := range names {
			args := []string{name, "word", "./tool"}
			if flag.IsBool() {
				args = []string{name, "./tool"}
			}
			kind := flag.Target.Kind()
			if kind == reflect.Pointer {
				kind = flag.Target.Type().Elem().Kind()
			}
			number := kind != reflect.String && kind != reflect.Slice && !flag.IsBool()
			if plain := checkPlain(t, args); plain != (!number && flag.Name != "help") {
				t.Errorf("%q: plain %t", args, plain)
			}
		}
	}
}

func FuzzPlainRun(f *testing.F) {
	f.Add("-q\n--userns=single\n./tool")
	f.Add("--ro\n/a\n-e\nA=1\n--\nx")
	f.Add("--image=\n./tool\n-q")
	f.Add("--require\npid,mnt\n./tool")
	f.Add("--require\n\xb9\n./tool")
	f.Fuzz(func(t *testing.T, lines string) { checkPlain(t, strings.Split(lines, "\n")) })
}
