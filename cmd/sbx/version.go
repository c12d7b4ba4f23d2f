package main

import (
	"fmt"
	"runtime/debug"
)

// version is set by the release with -ldflags; a build from a checkout takes
// what Go recorded.
var version string

type versionCommand struct{}

// Run is the command.
func (versionCommand) Run(s streams) error {
	fmt.Fprintln(s.out, versionLine())
	return nil
}

func versionLine() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	return "sbx " + v
}
