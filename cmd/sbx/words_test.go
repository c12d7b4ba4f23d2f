package main

import (
	"reflect"
	"slices"
	"testing"

	"github.com/alecthomas/kong"
)

// Names of files and what programs are given need not be UTF-8, and may hold
// commas, backslashes and what looks like a flag.
func TestArgumentsAreBytes(t *testing.T) {
	var c struct {
		Run runCommand `cmd:""`
	}
	parser, err := kong.New(&c, kong.Vars{"layers": layerWords()}, kong.KindMapper(reflect.String, kong.MapperFunc(word)))
	if err != nil {
		t.Fatal(err)
	}
	command := []string{"./b\xff\xfe", "", "a,b", `a\,b`, `\`, "--network", "-x", "--", "\n", "\u2028"}
	env := []string{"A=\xff", `B=x\,y,z`, "C="}
	args := []string{"run", "-w", "/\xff", "--ro", "/a,b\xff:/c"}
	for _, kv := range env {
		args = append(args, "-e", kv)
	}
	if _, err := parser.Parse(append(args, command...)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Run.Command, command) {
		t.Errorf("command %q, want %q", c.Run.Command, command)
	}
	if !slices.Equal(c.Run.Env, env) || c.Run.Workdir != "/\xff" || !slices.Equal(c.Run.Ro, []string{"/a,b\xff:/c"}) {
		t.Errorf("env %q, workdir %q, ro %q", c.Run.Env, c.Run.Workdir, c.Run.Ro)
	}
}

// A line of progress stays one line of the terminal.
func TestFitted(t *testing.T) {
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{
		{"0123456789", 0, "0123456789"},
		{"0123456789", 11, "0123456789"},
		{"0123456789", 10, "01…456789"},
		{"äöüäöüäöüß", 7, "ä…äöüß"},
		{"0123456789", 2, "…"},
		{"", 2, ""},
	} {
		if got := fitted(c.line, c.columns); got != c.want {
			t.Errorf("%q in %d columns is %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}
