package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestWatch(t *testing.T) {
	tests := []struct {
		name   string
		events string
		cut    bool
		want   []record
	}{
		{
			name: "a parent with subtests is not counted twice",
			events: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}`,
			want: []record{{Run: "r", Package: "p", Test: "A/x", Result: pass}},
		},
		{
			name: "a parent that fails by itself is kept",
			events: `{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`,
			want: []record{
				{Run: "r", Package: "p", Test: "A/x", Result: pass},
				{Run: "r", Package: "p", Test: "A", Result: fail},
			},
		},
		{
			name:   "a package that does not build is a failure",
			events: `{"Action":"output","Package":"p","Output":"p [build failed]\n"}` + "\n" + `{"Action":"fail","Package":"p"}`,
			want:   []record{{Run: "r", Package: "p", Test: "(package)", Result: fail}},
		},
		{
			name:   "a test cut off by the death of its process is a failure",
			events: `{"Action":"run","Package":"p","Test":"A"}`,
			want:   []record{{Run: "r", Package: "p", Test: "A", Result: fail}},
		},
		{
			name: "what was cut off from outside has no result",
			events: `{"Action":"fail","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"pass","Package":"p","Test":"B/x"}
{"Action":"run","Package":"p","Test":"B/y"}`,
			cut: true,
			want: []record{
				{Run: "r", Package: "p", Test: "A", Result: fail},
				{Run: "r", Package: "p", Test: "B/x", Result: pass},
			},
		},
		{name: "cut off between two tests", events: `{"Action":"fail","Package":"p"}`, cut: true},
		{
			name: "the reason of a skip is kept",
			events: `{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:7: cannot: no cgroup here\n"}
{"Action":"output","Package":"p","Test":"A","Output":"--- SKIP: A (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}`,
			want: []record{{Run: "r", Package: "p", Test: "A", Result: skip, Reason: "cannot: no cgroup here"}},
		},
		{
			name:   "a package without tests says nothing",
			events: `{"Action":"skip","Package":"p"}`,
		},
		{name: "compiler messages are passed on", events: "# p\np.go:1: broken"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := watch(strings.NewReader(test.events), &out, "r", test.cut)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestTotal(t *testing.T) {
	tests := []struct {
		name    string
		records []record
		must    bool
		want    string
		failed  bool
	}{
		{name: "nothing ran", want: "0 passed, 1 failed, 0 skipped", failed: true},
		{name: "all well", records: []record{{Result: pass}, {Result: pass}}, want: "2 passed, 0 failed, 0 skipped"},
		{
			name:    "left out by root, executed by the user",
			records: []record{{Test: "A", Result: skip, Reason: "needs an ordinary user"}, {Test: "A", Result: pass}},
			must:    true,
			want:    "1 passed, 0 failed, 1 skipped",
		},
		{
			name:    "skipped as a whole by root, its subtests executed by the user",
			records: []record{{Test: "A", Result: skip, Reason: "needs an ordinary user"}, {Test: "A/x/y", Result: pass}},
			must:    true,
			want:    "1 passed, 0 failed, 1 skipped",
		},
		{
			name:    "executed by nobody",
			records: []record{{Test: "A", Result: skip, Reason: "needs strace"}},
			must:    true,
			want:    "0 passed, 1 failed, 0 skipped",
			failed:  true,
		},
		{
			name:    "executed by nobody, in development",
			records: []record{{Test: "A", Result: skip, Reason: "needs strace"}},
			want:    "0 passed, 0 failed, 1 skipped",
		},
		{
			name:    "impossible on such a machine",
			records: []record{{Test: "A", Result: skip, Reason: "cannot: no cgroup v2"}},
			must:    true,
			want:    "0 passed, 0 failed, 1 skipped",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			failed := total(&out, test.records, test.must)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; last != test.want || failed != test.failed {
				t.Errorf("last line %q, failed %v; want %q, %v", last, failed, test.want, test.failed)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	tests := []struct {
		names []string
		depth int
		want  string
	}{
		{nil, 0, ""},
		{[]string{"TestA", "TestB/x_(y)/z"}, 0, `^TestA$|^TestB$/^x_\(y\)$/^z$`},
		{[]string{"TestA/x/y", "TestA/x/z", "TestA"}, 2, `^TestA$/^x$|^TestA$`},
		{[]string{"TestA/a|b[c"}, 0, `^TestA$/^a\|b\[c$`},
	}
	for _, test := range tests {
		var records []record
		for _, name := range test.names {
			records = append(records, record{Test: name})
		}
		if got := pattern(records, test.depth); got != test.want {
			t.Errorf("pattern(%q, %d) = %q, want %q", test.names, test.depth, got, test.want)
		}
	}
}
