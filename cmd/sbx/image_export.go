package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/export"
)

type imageExportCommand struct {
	Image  string `arg:"" help:"Name, or the beginning of an id."`
	Output string `short:"o" default:"-" placeholder:"FILE" help:"Where to write it; - is standard output."`
	Format string `enum:"docker-archive,oci-archive,tar" default:"docker-archive" placeholder:"FORMAT" help:"docker-archive, oci-archive, or tar: the files alone."`
	Quiet  bool   `short:"q" help:"No progress, and no notes about what was left out."`
}

// Run is the command.
func (c *imageExportCommand) Run(s streams) error {
	k, err := imageStore()
	if err != nil {
		return err
	}
	defer k.close()
	img, err := k.findImage(c.Image)
	if err != nil {
		return err
	}
	defer img.Close()
	id, err := k.facts.IdentityFor(img.Owner)
	if err != nil {
		return fmt.Errorf("export image %s: %w", c.Image, err)
	}
	names, err := k.namesOf(img.Key)
	if err != nil {
		return err
	}
	out, err := openOutput(c.Output)
	if err != nil {
		return err
	}
	defer out.close()
	line := progressLine{streams: s, name: c.Image, begin: time.Now(), live: !c.Quiet && console.IsTerminal(int(os.Stderr.Fd()))}
	notes, err := launch.ExportImage(id, img, export.Request{Format: c.Format, Names: names}, out.file, line.showExport)
	line.clear()
	if err == nil {
		err = out.finish()
	}
	if err != nil {
		return fmt.Errorf("export image %s: %w", c.Image, err)
	}
	if !c.Quiet {
		for _, note := range notes {
			s.say("%s", note)
		}
	}
	return nil
}

// namesOf are the names of the image with this key.
func (k *kept) namesOf(key string) ([]string, error) {
	list, err := k.held.Store.Images()
	if err != nil {
		return nil, err
	}
	for _, img := range list {
		if img.Imported() && img.Key == key {
			return img.Names, nil
		}
	}
	return nil, nil
}

func (l *progressLine) showExport(p rootfs.Progress) {
	what := "exporting"
	if p.Stage == rootfs.StageScan {
		what = "reading"
	}
	l.put("%s %s: %d of %d files, %d MB, %.1f s", what, quote.Line(l.name), p.Files, p.TotalFiles, p.Bytes/1e6, time.Since(l.begin).Seconds())
}

// output is where an archive goes. A file has its name only when it is whole;
// what had the name before stays until then.
type output struct {
	file *os.File
	path string // to be given at the end, or empty
	temp string // the name until then, empty where a file can have none
}

func openOutput(path string) (*output, error) {
	if path == "-" {
		if console.IsTerminal(int(os.Stdout.Fd())) {
			return nil, &plan.Misuse{Reason: "an archive is not for a terminal: name a file with -o, or redirect standard output"}
		}
		return &output{file: os.Stdout}, nil
	}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // a pipe or a device
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, unwrapped(err))
		}
		return &output{file: f}, nil
	}
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	if err == nil {
		return &output{file: os.NewFile(uintptr(fd), path), path: path}, nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	o := &output{path: path, temp: tempName(path)}
	if o.file, err = os.OpenFile(o.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
		return nil, fmt.Errorf("create %s: %w", o.temp, unwrapped(err))
	}
	return o, nil
}

// tempName is the name of the file until it is whole.
func tempName(path string) string {
	return filepath.Join(filepath.Dir(path), ".sbx-export-"+strconv.Itoa(os.Getpid()))
}

// close removes what was not finished.
func (o *output) close() {
	_ = o.file.Close()
	if o.temp != "" {
		_ = os.Remove(o.temp)
	}
}

// finish gives the file its name.
func (o *output) finish() error {
	if o.path == "" {
		return nil
	}
	if o.temp == "" {
		// linkat(2) replaces nothing, so there is a name in between.
		temp := tempName(o.path)
		if err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(o.file.Fd())), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
			return fmt.Errorf("create %s: %w", temp, err)
		}
		o.temp = temp
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		return fmt.Errorf("create %s: %w", o.path, unwrapped(err))
	}
	o.temp = ""
	return nil
}
