package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sbx-run/sbx/internal/sbxtest"
)

// On a terminal the program has one of its own, of the same size, and the
// user's is afterwards as it was.
func TestTerminal(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	box.Dir = probeDir(t)
	box.MustRun(t, "run", "true")
	tests := []struct {
		name   string
		args   []string
		during func(*testing.T, *sbxtest.Terminal)
		status int
		shows  string
		errors string // what a file that is standard error gets
	}{
		{name: "size", args: []string{"./probe", "isatty", "0"}, shows: "yes 91x37"},
		{name: "output is a terminal", args: []string{"./probe", "isatty", "1"}, shows: "yes 91x37"},
		{name: "status", args: []string{"./probe", "exit", "9"}, status: 9},
		{
			name: "a line is read", args: []string{"sh", "-c", `read -r x; echo "got <$x>"`}, shows: "got <hello>",
			during: func(t *testing.T, term *sbxtest.Terminal) { term.Type(t, "hello\r") },
		},
		{
			name: "end of file", args: []string{"sh", "-c", `echo ready; cat; echo "end of file"`}, shows: "end of file",
			during: func(t *testing.T, term *sbxtest.Terminal) {
				term.Expect(t, "ready")
				term.Type(t, "\x04")
			},
		},
		{
			name: "interrupt", args: []string{"sh", "-c", `echo ready; exec sleep 60`}, status: 130,
			during: func(t *testing.T, term *sbxtest.Terminal) {
				term.Expect(t, "ready")
				term.Type(t, "\x03")
			},
		},
		{
			name: "interrupt caught", args: []string{"sh", "-c", `trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done`},
			status: 3, shows: "caught",
			during: func(t *testing.T, term *sbxtest.Terminal) {
				term.Expect(t, "ready")
				term.Type(t, "\x03")
			},
		},
		{
			name: "resize", args: []string{"sh", "-c", `trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done`}, shows: "41 101",
			during: func(t *testing.T, term *sbxtest.Terminal) {
				term.Expect(t, "ready")
				term.Resize(t, 101, 41)
			},
		},
		{
			name: "standard error redirected", args: []string{"-q", "sh", "-c", `echo shown; [ -t 2 ] || echo apart; echo to the file >&2; echo by name > /dev/stderr`},
			shows: "shown\r\napart\r\n", errors: "to the file\nby name\n",
		},
		{name: "raw mode left on", args: []string{"sh", "-c", `stty raw -echo; echo done`}, shows: "done"},
		{name: "killed in raw mode", args: []string{"sh", "-c", `stty raw -echo; kill -9 $$`}, status: 137},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := box.Command(t, append([]string{"run"}, test.args...)...)
			errorsFile := filepath.Join(t.TempDir(), "errors")
			if test.errors != "" {
				f, err := os.Create(errorsFile)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cmd.Stderr = f
			}
			term := sbxtest.StartOnTerminal(t, cmd, 91, 37)
			if test.during != nil {
				test.during(t, term)
			}
			status, output := term.Wait(t)
			if status != test.status || !strings.Contains(output, test.shows) {
				t.Errorf("status %d, want %d; shown\n%q", status, test.status, output)
			}
			if before, after := term.Initial(), term.Settings(t); after != before {
				t.Errorf("the terminal's settings changed: %+v, before %+v", after, before)
			}
			if got, _ := os.ReadFile(errorsFile); string(got) != test.errors {
				t.Errorf("standard error: %q, want %q", got, test.errors)
			}
		})
	}
}

// What makes a terminal answer into the shell, or write to the clipboard, does
// not reach it; plain text and colours do.
func TestTerminalFilter(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	const script = `printf 'plain \033[31mred\033[0m \033]52;c;c2VjcmV0\007\033[21t\033P$qm\033\\\033[c\033[6n end'`
	for _, flag := range []string{"", "--raw-tty"} {
		args := []string{"run"}
		if flag != "" {
			args = append(args, flag)
		}
		term := sbxtest.StartOnTerminal(t, box.Command(t, append(args, "sh", "-c", script)...), 80, 24)
		_, output := term.Wait(t)
		if !strings.Contains(output, "plain \x1b[31mred\x1b[0m") || !strings.Contains(output, "end") {
			t.Errorf("%s: the text is not there: %q", flag, output)
		}
		for _, sequence := range []string{"\x1b]52", "\x1b[21t", "\x1bP$q"} {
			if strings.Contains(output, sequence) != (flag == "--raw-tty") {
				t.Errorf("flag %q, sequence %q: %q", flag, sequence, output)
			}
		}
	}
}

// A terminal whose supervisor is asked to end is as before.
func TestTerminalAfterSignal(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	box := sbxtest.New(t)
	cmd := box.Command(t, "run", "sh", "-c", "stty raw -echo; echo ready; sleep 60")
	term := sbxtest.StartOnTerminal(t, cmd, 80, 24)
	term.Expect(t, "ready")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status, output := term.Wait(t); status != 143 {
		t.Errorf("status %d; shown %q", status, output)
	}
	if before, after := term.Initial(), term.Settings(t); after != before {
		t.Errorf("the terminal's settings changed: %+v, before %+v", after, before)
	}
}

// The promises hold on a terminal too; the program has it as its own.
func TestPromisesOnTerminal(t *testing.T) {
	sbxtest.Need(t, sbxtest.SubordinateRange())
	facts := sbxtest.HostFacts(t)
	facts.Userns, facts.Terminal = "nomap", true
	box := sbxtest.New(t)
	checkFindings(t, box.ReportOnTerminal(t, facts), nil)
}
