package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/doctor"
)

// doctorCommand tries what a sandbox needs and judges the host.
type doctorCommand struct {
	Json  bool `help:"Print data instead of a table." xor:"form" group:"Output"`
	Admin bool `help:"Print a letter to the administrator: what is missing here, the lines to run, and why each is safe." xor:"form" group:"Output"`
}

// Help is what `sbx doctor --help` says below the usage.
func (doctorCommand) Help() string {
	return `Each layer of a sandbox is tried for real, in throw-away processes. Nothing on the host is changed, and no program is run.

The isolation that this host gives is graded in one word:

  full   every layer is enforced
  good   the program is kept from the host, its users and their files; a limit or a second lock is missing
  weak   a sandbox can be had, but a program that breaks out acts as you, or has the whole kernel before it
  none   no sandbox can be had

Exit status: 0 when every layer is enforced and the store can be used, 1 otherwise.`
}

// Run is the command.
func (c *doctorCommand) Run(s streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	binary, err := ownPath()
	if err != nil {
		return err
	}
	findings := doctor.Examine(ctx, binary)
	if ctx.Err() != nil {
		return fmt.Errorf("try what a sandbox needs: %w", ctx.Err())
	}
	report := doctor.Judge(findings)
	switch {
	case c.Json:
		err = writeJSON(s.out, report)
	case c.Admin:
		_, err = io.WriteString(s.out, report.Letter(findings.Admin.Hostname))
	default:
		_, err = io.WriteString(s.out, report.Text(columns()))
	}
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if !report.OK() {
		return statusError(1)
	}
	return nil
}

// ownPath is the real path of the running program, free of links: the one that
// a profile of a security module has to name.
func ownPath() (string, error) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("find sbx's own file (is /proc mounted?): %w", err)
	}
	return filepath.Clean(path), nil
}

// columns is the width of the terminal that is written to, 0 for none.
func columns() int {
	if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	n, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
