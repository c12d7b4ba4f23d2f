package sbxtest

import "testing"

func TestHasRange(t *testing.T) {
	const text = "alice:100000:65536\n1002:165536:65536\n"
	tests := []struct {
		name, uid string
		want      bool
	}{
		{"alice", "1001", true},
		{"carol", "1002", true},
		{"ali", "1003", false},
		{"bob", "100000", false},
	}
	for _, test := range tests {
		if got := hasRange(text, test.name, test.uid); got != test.want {
			t.Errorf("hasRange(%q, %q) = %v", test.name, test.uid, got)
		}
	}
}
