package sbxtest

import (
	"os"
	"path/filepath"
	"testing"
)

// A directory of a subordinate id, which the user cannot open, is removed all the same.
func TestRemoveAllOfMappedIDs(t *testing.T) {
	Need(t, OrdinaryUser(), UserNamespaces(), SubordinateRange())
	dir := TempDir(t)
	out, err := MappedRoot(dir, "sh", "-c", "mkdir -p a/b && touch a/b/c && chown -R 1:1 a && chmod 0 a && stat -c %u:%g . a")
	if err != nil || string(out) != "0:0\n1:1\n" {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.ReadDir(filepath.Join(dir, "a")); err == nil {
		t.Fatal("the user can open it")
	}
	RemoveAll(t, dir)
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestMappedRootFails(t *testing.T) {
	Need(t, OrdinaryUser(), UserNamespaces(), SubordinateRange())
	if out, err := MappedRoot("", "sh", "-c", "echo no >&2; exit 3"); err == nil || err.Error() != "exit status 3" || string(out) != "no\n" {
		t.Errorf("%v: %q", err, out)
	}
}

func TestSubordinateRange(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"user:5":                          "",
		"user:5:6":                        "5 6",
		"users:1:2\nuser:5:6\n":           "5 6",
		"1000:100000:65536\nuser:5:6":     "100000 65536",
		"10:1:2\n1001:3:1000\nuser:5:6":   "5 6",
		"other:1:2\n#user:5:6\nuse:1:2\n": "",
	} {
		first, count, found := subordinateRange(text, "user", "1000")
		if got := first + " " + count; found != (want != "") || found && got != want {
			t.Errorf("%q: %q, %v", text, got, found)
		}
	}
}
