package main

import (
	"fmt"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set by the release with -ldflags; a build from a checkout takes
// what Go recorded.
var version string

type versionCommand struct{}

// Run is the command.
func (versionCommand) Run(s streams) error {
	if _, err := fmt.Fprintln(s.out, versionLine()); err != nil {
		return fmt.Errorf("print the version: %w", err)
	}
	return nil
}

// versionFlag is kong.VersionFlag, which would not notice that it could not print.
type versionFlag bool

// BeforeReset is called before the rest of the command line counts.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	if err := (versionCommand{}).Run(streams{out: app.Stdout}); err != nil {
		return err
	}
	app.Exit(0)
	return nil
}

func versionLine() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	return "sbx " + v
}
