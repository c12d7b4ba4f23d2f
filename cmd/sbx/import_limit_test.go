package main_test

import (
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// The limits that are not the unpacker's own (SECURITY D11): an archive of which
// the end does not come, and one of which too much is read.
func TestImportEndsInTime(t *testing.T) {
	sbxtest.Need(t, sbxtest.UserNamespaces())
	box := sbxtest.NewStore(t)
	cmd := box.Command(t, "image", "import", "--limit", "time=1", "-", "a")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := input.Write(tarFile(t, reg("a", strings.Repeat("x", 10000)))[:2000]); err != nil {
		t.Fatal(err)
	}
	const want = "sbx: import standard input: not done after 1 seconds; --limit time=NUMBER changes this limit\n"
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 125 || stderr.String() != want {
		t.Errorf("%v, and said %q, want %q", err, &stderr, want)
	}
	checkNothingStaged(t, box)
}

func TestImportLimitFlags(t *testing.T) {
	box := sbxtest.NewStore(t)
	for _, text := range []string{"time=0", "time=-1s", "time=x", "time=100000h", "time=10ms", "compressed=x", "compressed=-1", "nosuch=1"} {
		if r := box.Run(t, "image", "import", "--limit", text, "/dev/null", "a"); r.Exit != 125 || !strings.Contains(r.Stderr, "--limit") {
			t.Errorf("%s: %v", text, r)
		}
	}
}
