package launch

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
)

// The worker's word is needed: a pipe that closes is what its death looks like.
func TestFollow(t *testing.T) {
	const step = `{"progress":{"files":1}}` + "\n"
	for _, c := range []struct {
		name, report string
		steps        int
		want         string // in the error, empty for none
	}{
		{"done", "{}\n", 0, ""},
		{"done after some work", step + step + "{}\n", 2, ""},
		{"failed", step + `{"error":"copy: no space left","errno":28}` + "\n", 1, "copy: no space left"},
		{"killed at once", "", 0, "was killed"},
		{"killed on the way", step, 1, "was killed"},
		{"killed in the middle of a word", step + `{"prog`, 1, "read the helper process's report"},
		{"says nonsense", "panic: x\n", 0, "read the helper process's report"},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := 0
			err := follow(json.NewDecoder(strings.NewReader(c.report)), func(rep plan.Report) error {
				if rep.Progress != nil {
					steps++
				}
				return nil
			})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if steps != c.steps {
				t.Errorf("%d steps were shown, want %d", steps, c.steps)
			}
			if c.name == "failed" && !errors.Is(err, unix.ENOSPC) {
				t.Errorf("%v has lost its errno", err)
			}
			if nobody := follow(json.NewDecoder(strings.NewReader(c.report)), nil); (nobody == nil) != (err == nil) {
				t.Errorf("without anybody to show it to: %v", nobody)
			}
		})
	}
}
