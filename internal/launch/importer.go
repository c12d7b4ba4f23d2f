package launch

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/rootfs"
)

// The confined child may have been taken over by what it reads: no line of its
// report is longer than maxReport (a configuration of an image has at most 4
// MiB), and of what it writes to stderr only the beginning is kept.
const (
	maxReport = 16 << 20
	maxCrash  = 64 << 10
)

// runImporter has the confined child unpack the source into job.Tree, which the
// caller makes and removes. When ctx ends the child is killed.
func runImporter(ctx context.Context, id plan.Identity, job plan.ImportJob, source *os.File, progress func(rootfs.Progress)) (*plan.Imported, error) {
	// The child's parent-death signal comes when this thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := Helper(ImageHelper)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	text, err := json.Marshal(job)
	if err != nil {
		return nil, fmt.Errorf("encode the job: %w", err)
	}
	data, err := memoryFile("job", text)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	crash, err := crashFile()
	if err != nil {
		return nil, err
	}
	defer crash.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	defer null.Close()
	if job.Directory != "" {
		source = null
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	const flags = unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS
	c, err := newChildOf(executable(program), plan.ImporterName, flags, [3]*os.File{null, null, crash}, data, w, source)
	w.Close()
	if err != nil {
		return nil, err
	}
	defer c.close()
	stop := context.AfterFunc(ctx, c.kill)
	defer stop()
	if err = c.writeMaps(id); err == nil {
		err = c.release()
	}
	if err != nil {
		c.kill()
		// It may have been killed at the end of the time: that is what counts.
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	result, err := followImport(r, progress)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		return nil, crashed(crash)
	}
	return result, err
}

// followImport reads the child's report. Its end without a result is io.EOF.
func followImport(r io.Reader, progress func(rootfs.Progress)) (*plan.Imported, error) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxReport)
	for in.Scan() {
		var rep plan.Report
		if err := json.Unmarshal(in.Bytes(), &rep); err != nil {
			return nil, fmt.Errorf("read the report of the process that unpacks: %w", err)
		}
		switch {
		case rep.Error != "":
			return nil, &plan.WorkerError{Text: rep.Error, Errno: unix.Errno(rep.Errno)}
		case rep.Imported != nil:
			if err := checkImported(rep.Imported); err != nil {
				return nil, fmt.Errorf("read the report of the process that unpacks: %w", err)
			}
			return rep.Imported, nil
		case rep.Progress != nil && progress != nil:
			progress(*rep.Progress)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the report of the process that unpacks: %w", err)
	}
	return nil, io.EOF
}

// crashFile is where the child's stderr goes: a Go program that dies says why
// there. It cannot grow.
func crashFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("stderr", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a file for the messages of the process that unpacks: %w", err)
	}
	f := os.NewFile(uintptr(fd), "stderr")
	if err = f.Truncate(maxCrash); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make a file for the messages of the process that unpacks: %w", err)
	}
	return f, nil
}

// crashed says why the child ended without a word.
func crashed(stderr *os.File) error {
	text := make([]byte, maxCrash)
	n, _ := stderr.ReadAt(text, 0)
	line, _, _ := strings.Cut(strings.TrimRight(string(text[:n]), "\x00"), "\n")
	switch {
	case strings.Contains(line, "out of memory") || strings.Contains(line, "cannot allocate memory"):
		return fmt.Errorf("the process that unpacks needs more memory than it may have (%d MB): %w", plan.ImportMemory>>20, unix.ENOMEM)
	case line != "":
		return fmt.Errorf("the process that unpacks has ended: %s (please report this)", line)
	default:
		return errors.New("the process that unpacks was killed")
	}
}
