package userns

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseSubid(t *testing.T) {
	const alice = 1001
	for _, test := range []struct {
		name, text string
		want       []Range
		bad        int
	}{
		{name: "by name", text: "alice:100000:65536\n", want: []Range{{100000, 65536}}},
		{name: "by number", text: "1001:100000:65536", want: []Range{{100000, 65536}}},
		{name: "both, the same", text: "alice:100000:65536\n1001:100000:65536\n", want: []Range{{100000, 65536}}},
		{name: "several", text: "alice:100000:10\nbob:5:5\nalice:300000:20\n", want: []Range{{100000, 10}, {300000, 20}}},
		{name: "above 2^31", text: "alice:4294967200:50\n", want: []Range{{4294967200, 50}}},
		{name: "nobody", text: ""},
		{name: "a longer name", text: "alice2:100000:65536\nalic:1:1\n10011:1:1\n"},
		{name: "comment", text: "#alice:1:1\n# alice:1:1\n"},
		{name: "others' mistakes", text: "bob:x:y\n:1:1\nbob\n\n"},
		{name: "no count", text: "alice:100000\nalice:200000:5\n", want: []Range{{200000, 5}}, bad: 1},
		{name: "count of zero", text: "alice:100000:0\n", bad: 1},
		{name: "a fourth field", text: "alice:100000:65536:x\n", bad: 1},
		{name: "blank", text: "alice: 100000:65536\n", bad: 1},
		{name: "carriage return", text: "alice:100000:65536\r\n", bad: 1},
		{name: "octal or not", text: "alice:0100000:65536\n", bad: 1},
		{name: "hexadecimal", text: "alice:0x10000:65536\n", bad: 1},
		{name: "negative", text: "alice:-5:65536\n", bad: 1},
		{name: "too large", text: "alice:4294967296:1\n", bad: 1},
		{name: "a file full of mistakes", text: strings.Repeat("alice:x:y\n", 1000), bad: maxWarnings},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, bad := parseSubid([]byte(test.text), "alice", alice)
			if !slices.Equal(got, test.want) || len(bad) != test.bad {
				t.Errorf("got %v %q, want %v and %d warnings", got, bad, test.want, test.bad)
			}
		})
	}
}

func TestParseSubidOfUserWithoutName(t *testing.T) {
	got, _ := parseSubid([]byte(":1:1\n1001:7:7\n"), "", 1001)
	if !slices.Equal(got, []Range{{7, 7}}) {
		t.Errorf("got %v", got)
	}
}

func FuzzParseSubid(f *testing.F) {
	f.Add([]byte("alice:100000:65536\nbob:165536:65536\n"))
	f.Add([]byte("1001:4294967295:4294967295"))
	f.Add([]byte("alice::\nalice:1:\n:::\n\r\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ranges, bad := parseSubid(text, "alice", 1001)
		if len(bad) > maxWarnings {
			t.Fatalf("%d warnings", len(bad))
		}
		for _, b := range bad {
			if strings.ContainsAny(b, "\n\x00\x1b") {
				t.Fatalf("raw bytes in %q", b)
			}
		}
		// Whatever a file says, it ends as an error or as maps that the kernel takes.
		sub := Subordinate{UID: ranges, GID: ranges}
		for _, mode := range []Mode{NoMap, KeepID} {
			l, err := NewLayout(mode, Identity{1001, 1001}, Identity{}, sub)
			if err != nil {
				continue
			}
			checkLayout(t, l)
		}
	})
}

func TestParseGetsubids(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []Range
		err        bool
	}{
		{name: "one", text: "0: alice 100000 65536\n", want: []Range{{100000, 65536}}},
		{name: "two", text: "0: alice 1 2\n1: alice 3 4\n", want: []Range{{1, 2}, {3, 4}}},
		{name: "name with blanks", text: "0: DOM\\domain user 1 2\n", want: []Range{{1, 2}}},
		{name: "nothing"},
		{name: "prose", text: "Error fetching ranges\n", err: true},
		{name: "64 bits", text: "0: alice 18446744073709551615 1\n", err: true},
		{name: "cut off", text: strings.Repeat("0: alice 1 2\n", maxHelperOutput/13+1), err: true},
	} {
		got, err := parseGetsubids([]byte(test.text))
		if (err != nil) != test.err || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, %v", test.name, got, err)
		}
	}
}

func FuzzParseGetsubids(f *testing.F) {
	f.Add([]byte("0: alice 100000 65536\n1: alice 231072 65536\n"))
	f.Add([]byte("0: \x00 4294967295 1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ranges, err := parseGetsubids(text)
		for _, r := range ranges {
			if err != nil || r.Count == 0 {
				t.Fatalf("%v with %v", r, err)
			}
		}
	})
}

func TestOtherSubidSource(t *testing.T) {
	for text, want := range map[string]bool{
		"":                              false,
		"passwd: files sss\n":           false,
		"subid: files\n":                false,
		"subid: sss\n":                  true,
		"subid:\tsss # files\n":         true,
		"  subid : sss":                 true,
		"#subid: sss\n":                 false,
		"subid:\n":                      false,
		"passwd: files\nsubid:sss\n":    true,
		"subid: files\nsubid: sss\n":    false, // shadow stops at the first
		"subid: files sss\n":            false, // and takes the first source only
		"gshadow: files\nsubids: sss\n": false,
	} {
		if got := otherSubidSource([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestReadCapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if text, err := readCapped(path, 10); err != nil || text != nil {
		t.Errorf("missing file: %q, %v", text, err)
	}
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := readCapped(path, 10); err != nil || len(text) != 10 {
		t.Errorf("file of the cap's size: %q, %v", text, err)
	}
	if text, err := readCapped(path, 9); err == nil {
		t.Errorf("longer file: %q", text)
	}
	if _, err := readCapped(filepath.Dir(path), 10); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
}

// A user whom no host knows: an empty answer, and no error.
func TestLookupSubordinateUnknown(t *testing.T) {
	for _, name := range []string{"no-such-user-here", "-g", ""} {
		sub, err := LookupSubordinate(name, 4200000001)
		if err != nil || len(sub.UID)+len(sub.GID) > 0 || sub.Source == "" {
			t.Errorf("%q: %+v, %v", name, sub, err)
		}
	}
}
