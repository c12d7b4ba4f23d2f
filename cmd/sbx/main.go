// The Go runtime keeps two descriptors open on the host's cgroup files to follow
// CPU limits. They would sit in pid 1, inside the sandbox: the kind of
// descriptor that CVE-2024-21626 was about.
//
//go:debug containermaxprocs=0

// Command sbx runs a program that is not trusted, for a user without any
// privileges, in namespaces, limits and a copied root file system of its own.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/sbx-run/sbx/internal/initproc"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/internal/selftest"
	"github.com/sbx-run/sbx/internal/trial"
)

func main() {
	// pid 1 and the store's worker are this binary, executed again: they are
	// told from a user's call by argv[0], before anything else happens.
	switch os.Args[0] {
	case plan.InitName:
		os.Exit(initproc.Main())
	case plan.WorkerName:
		os.Exit(initproc.WorkerMain())
	case trial.Name:
		os.Exit(trial.Main())
	}
	if len(os.Args) == 2 && os.Args[1] == selftest.ProbeWord {
		os.Exit(selftest.ProbeMain()) // inside a sandbox
	}
	os.Exit(Run(os.Args[1:], os.Stdout, os.Stderr))
}

// cli are the commands.
type cli struct {
	Run      runCommand      `cmd:"" help:"Run a program in a sandbox."`
	Plan     planCommand     `cmd:"" help:"Show what run would do, step by step, and do nothing."`
	Doctor   doctorCommand   `cmd:"" help:"Try on this host what a sandbox needs, and say what is missing and how to mend it."`
	Selftest selftestCommand `cmd:"" help:"Attack a sandbox from inside, on this host, and say which promises hold."`
	Gc       gcCommand       `cmd:"" help:"Remove what runs that were killed left behind."`
	Version  versionCommand  `cmd:"" help:"Show the version."`
}

// streams are where a command writes; os.Stdout belongs to the sandboxed
// program when there is one.
type streams struct{ out, err io.Writer }

// exited carries an exit status through kong.
type exited struct{ status int }

// Run parses the arguments, carries out the command and returns the exit status.
func Run(args []string, stdout, stderr io.Writer) (status int) {
	s := streams{out: stdout, err: stderr}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exited: // --help
			status = r.status
		default:
			panic(r)
		}
	}()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("sbx"),
		kong.Description("Run a program you do not trust, without being root and without trusting it with your files."),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Vars{"layers": layerWords()},
	)
	if err != nil {
		return s.fail(fmt.Errorf("read the command line's own description: %w (please report this)", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		return s.fail(fmt.Errorf("%w; see sbx --help", err))
	}
	err = ctx.Run(s)
	var code statusError
	if errors.As(err, &code) {
		return int(code)
	}
	if err != nil {
		return s.fail(err)
	}
	return 0
}

// statusError is an exit status that has been explained already, or is the
// program's own and needs no explanation.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// fail prints the error on one line and returns its exit status.
func (s streams) fail(err error) int {
	s.say("%s", hinted(err))
	return exitStatus(err)
}

// say prints one line of sbx's own on stderr. What comes from files, names and
// helpers may hold escape sequences; none reaches the terminal.
func (s streams) say(format string, args ...any) {
	fmt.Fprintf(s.err, "sbx: %s\n", quote.Line(fmt.Sprintf(format, args...)))
}
