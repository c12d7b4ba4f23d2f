// The Go runtime keeps two descriptors open on the host's cgroup files to follow
// CPU limits; they have no place in a confined process.
//
//go:debug containermaxprocs=0

// Command sbx-image is a part of sbx that is only needed for images of others:
// what reads their archives and talks to registries. sbx starts it; it lies
// beside sbx and is of no use by itself.
package main

import (
	"fmt"
	"os"

	"github.com/sbx-run/sbx/internal/importer"
	"github.com/sbx-run/sbx/internal/plan"
)

func main() {
	switch os.Args[0] {
	case plan.ImporterName:
		os.Exit(importer.Main())
	default:
		fmt.Fprintln(os.Stderr, "sbx-image: this is a part of sbx; see sbx image --help")
		os.Exit(125)
	}
}
