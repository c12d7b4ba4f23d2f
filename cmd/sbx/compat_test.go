package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

const (
	compatTable = "testdata/compat/programs.txtar"
	compatDoc   = "../../docs/compatibility.md"
)

// compatProgram is one row of the compatibility table.
type compatProgram struct {
	name   string
	script string
	images []string
	// miss is why the program behaves otherwise inside; empty when it does not.
	miss string
}

// readCompat reads the table. A file of the archive begins with a line
// "-- NAME.sh --"; txtar itself would do, but is not worth a dependency.
func readCompat(t *testing.T) []compatProgram {
	t.Helper()
	var list []compatProgram
	for line := range strings.Lines(readFile(t, compatTable)) {
		name, isHeader := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		name, closed := strings.CutSuffix(name, ".sh --")
		if isHeader && closed {
			list = append(list, compatProgram{name: name})
			continue
		}
		if len(list) == 0 {
			continue // the text before the first file
		}
		p := &list[len(list)-1]
		if images, found := strings.CutPrefix(line, "# image: "); found {
			p.images = strings.Fields(images)
		} else if miss, found := strings.CutPrefix(line, "# miss: "); found {
			p.miss = strings.TrimSpace(miss)
		}
		p.script += line
	}
	return list
}

// A program of the distribution prints the same and ends with the same status
// inside as outside. Where it cannot, the table says why, and the test fails
// when it suddenly can.
func TestCompatibility(t *testing.T) {
	sbxtest.Need(t, sbxtest.OrdinaryUser(), sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	box.MustRun(t, "run", "true")
	for _, p := range readCompat(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			native := runNatively(t, p.script)
			if native.Exit == 127 {
				sbxtest.Need(t, sbxtest.Requirement{Text: "the programs of " + p.name, Missing: func() string {
					return strings.TrimSpace(native.Stderr)
				}})
			}
			for _, image := range p.images {
				inside := box.Run(t, "run", "--image", image, "sh", "-c", p.script)
				same := inside.Stdout == native.Stdout && inside.Exit == native.Exit
				switch {
				case same && p.miss != "":
					t.Errorf("image %s: works, although the table says: %s", image, p.miss)
				case !same && p.miss == "":
					t.Errorf("image %s: status %d, natively %d\n--- inside\n%s--- natively\n%s--- errors inside\n%s",
						image, inside.Exit, native.Exit, inside.Stdout, native.Stdout, inside.Stderr)
				}
			}
		})
	}
}

func runNatively(t *testing.T, script string) sbxtest.Result {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8", "TERM=xterm-256color", "USER=" + os.Getenv("USER")}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return sbxtest.Result{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
}

// The page for users is the table: every program is named there, and every
// miss with its reason.
func TestCompatibilityDoc(t *testing.T) {
	list := readCompat(t)
	if len(list) < 60 {
		t.Errorf("the table has only %d programs", len(list))
	}
	doc := readFile(t, compatDoc)
	var missing []string
	for _, p := range list {
		if len(p.images) == 0 || p.script == "" {
			t.Errorf("%s names no image", p.name)
		}
		if row := compatRow(p); !strings.Contains(doc, row) {
			missing = append(missing, row)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		t.Errorf("docs/compatibility.md lacks these lines:\n%s", strings.Join(missing, "\n"))
	}
}

func compatRow(p compatProgram) string {
	result := "same"
	if p.miss != "" {
		result = "**differs**: " + p.miss
	}
	return fmt.Sprintf("| %s | %s | %s |", p.name, strings.Join(p.images, ", "), result)
}
