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
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	_ "github.com/sbx-run/sbx/internal/early" // tells of limits that the Go runtime cannot begin with
	"github.com/sbx-run/sbx/internal/initproc"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/selftest"
	"github.com/sbx-run/sbx/internal/trial"
)

func main() {
	launch.QuitByDefault()
	// The store's worker is this binary, executed again: it is told from a
	// user's call by argv[0], before anything else happens.
	switch os.Args[0] {
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
	Ps       psCommand       `cmd:"" help:"List the sandboxes that run; with -a also those that were kept."`
	Diff     diffCommand     `cmd:"" help:"List what a kept sandbox changed in its image: A added, C changed, D deleted."`
	Cp       cpCommand       `cmd:"" help:"Copy files out of a kept sandbox, or into it."`
	Commit   commitCommand   `cmd:"" help:"Make an image of a kept sandbox."`
	Rm       rmCommand       `cmd:"" help:"Remove sandboxes that were kept."`
	Image    imageCommand    `cmd:"" help:"Work with images that came from elsewhere."`
	Gc       gcCommand       `cmd:"" help:"Remove what runs that were killed left behind."`
	Version  versionCommand  `cmd:"" help:"Show the version."`

	VersionFlag versionFlag `name:"version" help:"Show the version."`
}

// grammar is what kong has to know for these arguments. It learns a command by
// reflection, at every start, so a run does not have it learn the others.
func grammar(args []string) any {
	if len(args) > 0 && args[0] == "run" {
		return &struct {
			Run runCommand `cmd:"" help:"Run a program in a sandbox."`
		}{}
	}
	return &cli{}
}

// foresee begins a run before its command line has been read, when that cannot
// change how pid 1 is cloned. A word that could, anywhere, means to wait; so the
// worst that a program's own argument does is to make its start a little slower.
func foresee(args []string) *launch.Beginning {
	if len(args) < 2 || args[0] != "run" {
		return nil
	}
	for _, arg := range args[1:] {
		if strings.HasPrefix(arg, "--network") || strings.HasPrefix(arg, "--dry-run") || arg == "-h" || arg == "--help" {
			return nil
		}
	}
	return launch.Begin(false)
}

// What a run needs at once, and a reserve: descriptors are sbx's own, those of the
// id map helpers, pipes and sockets; processes are also the threads of three Go
// programs.
const leastFiles, leastProcesses = 64, 64

// What a Go program reserves of addresses, and the data that it and the heap take;
// each three times, but not in one process.
const leastAddresses, leastData = 2 << 30, 128 << 20

// enough: with lower limits, what fails is a matter of chance, and it may be the
// Go runtime, which ends with a stack trace.
//
// The limit of open files counts what the caller left open as well, so its rest is
// tried.
func enough() error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < leastFiles {
		return fmt.Errorf("the limit of open files is %d (`ulimit -n`), and sbx needs %d", limit.Cur, leastFiles)
	}
	if err := freeFiles(limit.Cur); err != nil {
		return err
	}
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil && limit.Cur < leastAddresses {
		return fmt.Errorf("the limit of address space is %d kB (`ulimit -v`), and sbx needs %d", limit.Cur>>10, leastAddresses>>10)
	}
	if unix.Getrlimit(unix.RLIMIT_DATA, &limit) == nil && limit.Cur < leastData {
		return fmt.Errorf("the limit of data is %d kB (`ulimit -d`), and sbx needs %d", limit.Cur>>10, leastData>>10)
	}
	// setrlimit(2): root is not bound by it.
	if os.Geteuid() != 0 && unix.Getrlimit(unix.RLIMIT_NPROC, &limit) == nil && limit.Cur < leastProcesses {
		return fmt.Errorf("the limit of processes is %d (`ulimit -u`), and sbx needs %d beside those that run already", limit.Cur, leastProcesses)
	}
	return nil
}

// freeFiles finds out whether the caller has left as many descriptors as a run needs at
// once. Since Linux 6.2 the size of /proc/self/fd is the number of those that are open.
// Before, and where there seem to be too few, it opens them, and closes them.
func freeFiles(limit uint64) error {
	const needed = 40
	var st unix.Stat_t
	if unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0 && uint64(st.Size)+needed <= limit {
		return nil
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	for err == nil && len(fds) < needed-1 {
		fds = append(fds, fd)
		fd, err = unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return fmt.Errorf("open the %d files that a run needs: %w", needed, err)
	}
	fds = append(fds, fd)
	return nil
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
	// Under a umask that takes rights from the owner himself sbx could not enter
	// the directories that it makes.
	unix.Umask(unix.Umask(0) &^ 0o700)
	if err := enough(); err != nil {
		return s.fail(err)
	}
	begun := foresee(args)
	if begun != nil {
		defer begun.Abandon()
	}
	if len(args) > 0 && args[0] == "run" {
		if c, ok := plainRun(args[1:]); ok {
			return s.status(c.Run(s, begun))
		}
	}
	parser, err := newParser(grammar(args), s)
	if err != nil {
		return s.fail(fmt.Errorf("read the command line's own description: %w (please report this)", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		return s.fail(fmt.Errorf("%w (see sbx --help)", err))
	}
	return s.status(ctx.Run(s, begun))
}

func newParser(grammar any, s streams) (*kong.Kong, error) {
	return kong.New(grammar, //nolint:wrapcheck // the caller says what for
		kong.Name("sbx"),
		kong.Description("Run a program you do not trust, without being root and without trusting it with your files."),
		kong.UsageOnError(),
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { panic(exited{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Vars{"layers": layerWords()},
		kong.KindMapper(reflect.String, kong.MapperFunc(word)),
	)
}

// status is the exit status for how a command ended, and says why if nobody has.
func (s streams) status(err error) int {
	var code statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		return s.fail(err)
	}
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
