package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/plan"
)

// openSource opens what is to be imported and says what it is called.
func openSource(path string) (*os.File, string, error) {
	if path == "-" {
		if console.IsTerminal(0) {
			return nil, "", &plan.Misuse{Reason: "import -: standard input is a terminal; write an archive to it, as in podman save IMAGE | sbx image import - NAME"}
		}
		return os.Stdin, "standard input", nil
	}
	// Merely opening some devices has an effect, and a socket cannot be opened.
	info, err := os.Stat(path)
	if err == nil {
		err = checkSource(info.Mode())
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, "", fmt.Errorf("import %s: %w%s", path, unwrapped(err), transportHint(path, err))
	}
	if info, err = f.Stat(); err == nil {
		err = checkSource(info.Mode())
	}
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("import %s: %w", path, unwrapped(err))
	}
	return f, path, nil
}

func checkSource(mode os.FileMode) error {
	switch {
	case mode&os.ModeDevice != 0:
		return errors.New("it is a device, not an archive or a directory")
	case mode&os.ModeSocket != 0:
		return errors.New("it is a socket, not an archive or a directory")
	}
	return nil
}

// transportHint is for those who know skopeo: its words before a path.
func transportHint(path string, err error) string {
	kind, rest, found := strings.Cut(path, ":")
	if !errors.Is(err, unix.ENOENT) || !found {
		return ""
	}
	switch kind {
	case "oci", "oci-archive", "docker-archive", "dir":
		rest, _, _ = strings.Cut(rest, ":")
		return fmt.Sprintf("; write the path alone, as in sbx image import %s: what it is is found by reading it", rest)
	case "docker":
		return "; this is a name in a registry: sbx image pull fetches it"
	}
	return ""
}
