package userns

import (
	"errors"
	"strings"
	"testing"
)

// The map of a user with one range, as the kernel prints it.
const kernelText = "         0       1001          1\n         1     100000      65536\n"

func TestParseMap(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       Map
		err        bool
	}{
		{name: "as the kernel prints it", text: kernelText, want: Map{{0, 1001, 1}, {1, 100000, 65536}}},
		{name: "initial namespace", text: "0 0 4294967295\n", want: Map{{0, 0, 4294967295}}},
		{name: "not yet written", text: "", want: nil},
		{name: "no final newline", text: "0 1 1", want: Map{{0, 1, 1}}},
		{name: "two columns", text: "0 1\n", err: true},
		{name: "four columns", text: "0 1 2 3\n", err: true},
		{name: "an empty line", text: "0 1 1\n\n", err: true},
		{name: "sign", text: "0 +1 1\n", err: true},
		{name: "hexadecimal", text: "0 0x10 1\n", err: true},
		{name: "octal or not, nobody knows", text: "0 0100 1\n", err: true},
		{name: "33 bits", text: "0 4294967296 1\n", err: true},
		{name: "endless", text: strings.Repeat("1 1 1\n", maxMapBytes), err: true},
		{name: "endless line", text: strings.Repeat(" ", maxMapBytes+1), err: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseMap(strings.NewReader(test.text))
			if (err != nil) != test.err || (err != nil && !errors.Is(err, ErrBadMap)) {
				t.Fatalf("error %v", err)
			}
			if !got.Equal(test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add(kernelText)
	f.Add("0 0 4294967295\n")
	f.Add("4294967295 4294967295 4294967295\n1 2 3")
	f.Add("\x00 -1 \n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMap(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := ParseMap(strings.NewReader(m.String()))
		if err != nil || !again.Equal(m) {
			t.Fatalf("%q became %q: %v", m, again, err)
		}
		for _, e := range m {
			if m.Validate() != nil {
				break
			}
			for _, id := range []uint32{e.Inside, e.Inside + e.Count - 1} {
				outside, ok := m.Outside(id)
				if back, ok2 := m.Inside(outside); !ok || !ok2 || back != id {
					t.Fatalf("%q: %d is %d outside, and that is %d inside", m, id, outside, back)
				}
			}
		}
	})
}

func TestMapLookup(t *testing.T) {
	m := Map{{0, 1001, 1}, {1, 100000, 10}, {4294967290, 4294967200, 5}}
	for _, test := range []struct {
		inside, outside uint32
	}{{0, 1001}, {1, 100000}, {10, 100009}, {4294967290, 4294967200}, {4294967294, 4294967204}} {
		if got, ok := m.Outside(test.inside); !ok || got != test.outside {
			t.Errorf("Outside(%d) = %d, %v, want %d", test.inside, got, ok, test.outside)
		}
		if got, ok := m.Inside(test.outside); !ok || got != test.inside {
			t.Errorf("Inside(%d) = %d, %v, want %d", test.outside, got, ok, test.inside)
		}
	}
	for _, absent := range []uint32{11, 4294967289, 4294967295} {
		if got, ok := m.Outside(absent); ok {
			t.Errorf("Outside(%d) = %d, want none", absent, got)
		}
	}
	for _, absent := range []uint32{0, 1000, 99999, 100010, 4294967295} {
		if got, ok := m.Inside(absent); ok {
			t.Errorf("Inside(%d) = %d, want none", absent, got)
		}
	}
}

func TestMapEqual(t *testing.T) {
	whole := Map{{0, 1001, 1}, {1, 100000, 10}}
	for _, test := range []struct {
		name  string
		other Map
		want  bool
	}{
		{"same", Map{{0, 1001, 1}, {1, 100000, 10}}, true},
		{"other order", Map{{1, 100000, 10}, {0, 1001, 1}}, true},
		{"cut in two", Map{{0, 1001, 1}, {6, 100005, 5}, {1, 100000, 5}}, true},
		{"one id less", Map{{0, 1001, 1}, {1, 100000, 9}}, false},
		{"another caller", Map{{0, 1002, 1}, {1, 100000, 10}}, false},
		{"none", nil, false},
	} {
		if got := whole.Equal(test.other); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestMapValidate(t *testing.T) {
	for _, test := range []struct {
		name string
		m    Map
		ok   bool
	}{
		{"every id", Map{{0, 0, 4294967295}}, true},
		{"five", Map{{0, 10, 1}, {1, 11, 1}, {2, 12, 1}, {3, 13, 1}, {4, 14, 1}}, true},
		{"six", Map{{0, 10, 1}, {1, 11, 1}, {2, 12, 1}, {3, 13, 1}, {4, 14, 1}, {5, 15, 1}}, false},
		{"none", nil, false},
		{"empty extent", Map{{0, 10, 0}}, false},
		{"last id outside", Map{{0, 4294967290, 5}}, true},
		{"one past it", Map{{0, 4294967290, 6}}, false},
		{"wraps inside", Map{{4294967290, 0, 100}}, false},
		{"overlap inside", Map{{0, 10, 2}, {1, 20, 1}}, false},
		{"overlap outside", Map{{0, 10, 2}, {5, 11, 1}}, false},
	} {
		if err := test.m.Validate(); (err == nil) != test.ok || (err != nil && !errors.Is(err, ErrBadMap)) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
