package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/selftest"
)

// selftestCommand attacks a sandbox from inside.
type selftestCommand struct {
	Json bool `help:"Print data instead of a table." group:"Output"`
}

// Help is what `sbx selftest --help` says below the usage.
func (selftestCommand) Help() string {
	return `A sandbox is started in each identity mode that works here, as sbx run would, with the base image of your store. Inside, sbx's own file tries what a hostile program would try first: to reach your files, other processes, the network, the kernel's back doors. It is harmless where it succeeds, and it takes seconds.

Each line is a promise with the number it has in SECURITY.md:

  held    every attempt was refused
  weaker  the mode gives this promise up, and says so
  HOLE    an attempt succeeded
  ?       it could not be tried here

Exit status: 0 without a hole, 1 with one, 125 when no sandbox could be started (sbx doctor says why).`
}

// Run is the command.
func (c *selftestCommand) Run(s streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	report, err := selftest.Run(ctx)
	if err != nil {
		return err
	}
	if c.Json {
		err = writeJSON(s.out, report)
	} else {
		_, err = io.WriteString(s.out, report.Text())
	}
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	broken := report.Broken()
	switch {
	case report.Holes > 0:
		return statusError(1)
	case broken != nil:
		return fmt.Errorf("attack a sandbox in the mode %s: the probe did not finish: %s", broken.Name, broken.Why)
	case !report.Ran():
		return statusError(exitSbx)
	}
	return nil
}
