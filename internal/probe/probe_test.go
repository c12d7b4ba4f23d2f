package probe

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMounts(t *testing.T) {
	const text = `22 1 0:20 / / ro,nosuid - overlay overlay rw,lowerdir=/a
25 22 0:5 /x\040y /mnt/a rw,nosuid,nodev shared:7 master:1 - tmpfs tmpfs rw,size=64k
a broken line
26 22 0:6 / /proc rw - proc proc`
	list, err := parseMounts(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 {
		t.Fatalf("got %d lines: %v", len(list), list)
	}
	m := list[1]
	if m.Target != "/mnt/a" || m.Root != `/x\040y` || m.FSType != "tmpfs" ||
		!slices.Equal(m.Options, []string{"rw", "nosuid", "nodev"}) || !slices.Equal(m.Tags, []string{"shared:7", "master:1"}) {
		t.Errorf("got %+v", m)
	}
}

func TestRefused(t *testing.T) {
	yes := attempt{text: "open", try: func() unix.Errno { return 0 }}
	no := attempt{text: "mount", try: func() unix.Errno { return unix.EPERM }}
	wrong := attempt{text: "mount", want: []unix.Errno{unix.ENOSYS}, try: func() unix.Errno { return unix.EPERM }}
	tests := []struct {
		name     string
		attempts []attempt
		want     State
	}{
		{"all refused", []attempt{no, no}, Held},
		{"one succeeded", []attempt{no, yes}, Broken},
		{"refused with another errno than promised", []attempt{wrong}, Broken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := refused(test.attempts...); got.state != test.want {
				t.Errorf("got %s: %s", got.state, got.detail)
			}
		})
	}
}

// Every check has an id of the requirements' form, a name that is unique with
// it and a promise that reads as one: the table is printed to users.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, list := range [][]check{
		inheritedChecks(), identityChecks(), initChecks(), filesystemChecks(),
		mountChecks(), networkChecks(), terminalChecks(), privilegeChecks(), kernelChecks(),
	} {
		for _, c := range list {
			key := c.id + "/" + c.name
			if seen[key] {
				t.Errorf("%s stands twice in the table", key)
			}
			seen[key] = true
			if len(c.id) < 2 || c.id[0] < 'A' || c.id[0] > 'L' || c.promise == "" || strings.HasSuffix(c.promise, ".") || c.run == nil {
				t.Errorf("odd row %s: %q", key, c.promise)
			}
		}
	}
}

// The map of devices drives two checks: a device of the host that is not in it
// must not pass as one of the minimal set.
func TestIsDevice(t *testing.T) {
	for target, want := range map[string]bool{
		"/dev/null": true, "/dev/tty": true, "/dev/console": true,
		"/dev/shm": false, "/dev/sda": false, "/dev": false, "/null": false,
	} {
		if got := isDevice(target); got != want {
			t.Errorf("isDevice(%q) = %v", target, got)
		}
	}
}

func TestNames(t *testing.T) {
	tests := []struct {
		user, text string
		want       bool
	}{
		{"alice", "/home/alice/x", true},
		{"alice", "alice", true},
		{"alice", "alice:x:1001:", true},
		{"alice", "/home/malice", false},
		{"alice", "/home/alice2 and /home/alice", true},
		{"al", "/usr/local/share", false},
		{"al", "lowerdir=/al:/b", true},
		{"root", "/root", false}, // every sandbox has one
		{"sbx", "/home/sbx", false},
		{"", "/home/", false},
	}
	for _, test := range tests {
		facts := Facts{UserName: test.user}
		if got := facts.names(test.text); got != test.want {
			t.Errorf("names(%q) of %q = %v", test.text, test.user, got)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("22 1 0:20 / / ro - overlay overlay rw")
	f.Add("1 2 3 4 5 6 - a b c")
	f.Add(" - ")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseMounts(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, m := range list {
			if m.Target == "" || m.FSType == "" {
				t.Errorf("%q gave %+v", text, m)
			}
		}
	})
}
