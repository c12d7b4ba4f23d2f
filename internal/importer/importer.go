// Package importer is the confined child of an import: the process that reads
// the archives, manifests and trees of strangers and unpacks them. sbx-image runs
// it, sbx starts it.
//
// A mistake in a decoder or in the handling of names is contained by the place
// and not by the code: the child is in a user namespace with the id map of the
// image, its root is the empty directory that it unpacks into, and it has no
// network, no capabilities but those over the owners of files, a short list of
// system calls, and a bound on its memory. What it reports is held to its form by
// the supervisor.
//
// Do not use it for archives that sbx has made itself and that have not left its
// store.
package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/reaper"
	"github.com/sbx-run/sbx/mounts"
	"github.com/sbx-run/sbx/rootfs"
	"github.com/sbx-run/sbx/rootfs/archive"
)

// Main runs the child and returns its exit status.
func Main() int {
	runtime.LockOSThread()
	// Ctrl-C is for the supervisor, who removes what is left and says so.
	if _, err := unix.Setsid(); err != nil {
		return 1
	}
	if unix.CloseRange(plan.FDSource+1, math.MaxUint32, 0) != nil {
		return 1
	}
	for _, fd := range []int{plan.FDControl, plan.FDJob, plan.FDReport, plan.FDSource} {
		unix.CloseOnExec(fd)
	}
	out := reporter{out: json.NewEncoder(os.NewFile(plan.FDReport, "report"))}
	imported, err := run(func(p rootfs.Progress) { _ = out.send(plan.Report{Progress: &p}) })
	rep := plan.Report{Imported: imported}
	if err != nil {
		rep = plan.Report{Error: shorten(err.Error())}
		var errno unix.Errno
		if errors.As(err, &errno) {
			rep.Errno = int(errno)
		}
	}
	if out.send(rep) != nil || err != nil {
		return 1
	}
	return 0
}

// reporter writes one report a line; progress comes from another goroutine.
type reporter struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (r *reporter) send(rep plan.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Encode(rep)
}

// maxText bounds the text of an error, which may hold names of the archive.
const maxText = 4 << 10

func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:maxText/2] + " … " + text[len(text)-maxText/2:]
}

func run(progress func(rootfs.Progress)) (*plan.Imported, error) {
	job, err := readJob()
	if err != nil {
		return nil, err
	}
	m, _, err := reaper.NewConn(plan.FDControl).Receive()
	if err != nil || m.Op != reaper.Go {
		os.Exit(1) // the supervisor is gone, or gave up
	}
	if err := dieWithParent(); err != nil {
		return nil, err
	}
	src := archive.Source{File: os.NewFile(plan.FDSource, job.Name)}
	if job.Directory != "" {
		src.File.Close()
		// While the caller's groups are in force: he may reach it through one.
		if src.File, err = mounts.DetachReadOnly(job.Directory, job.Dev, job.Ino); err != nil {
			return nil, err
		}
		src.Directory = true
	}
	// That of package unix concerns one thread.
	if err := syscall.Setgroups([]int{}); err != nil && !errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("clear the groups: %w", err)
	}
	tree, err := confine(job.Tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	debug.SetMemoryLimit(plan.ImportMemory / 2)
	return unpackImage(src, tree, job, progress)
}

func unpackImage(src archive.Source, tree *os.File, job *plan.ImportJob, progress func(rootfs.Progress)) (*plan.Imported, error) {
	opt := archive.Options{
		Name: job.Name, Owner: job.Owner, Platform: job.Platform, Ref: job.Ref, NeedRef: job.NeedRef, Progress: progress,
	}
	if err := setImageLimits(&opt, job.Limits); err != nil {
		return nil, err
	}
	result, err := archive.Import(context.Background(), src, tree, opt)
	if err != nil {
		return nil, err //nolint:wrapcheck // it is the whole message
	}
	return &plan.Imported{Kind: result.Kind, Refs: result.Refs, Tag: result.Tag, Info: result.Info}, nil
}

// setImageLimits takes over the limits that the user has changed.
func setImageLimits(opt *archive.Options, limits map[string]int64) error {
	for name, value := range limits {
		if name == "layers" {
			opt.Layers = int(value)
		} else if !opt.Limits.Set(name, value) {
			return fmt.Errorf("there is no limit %q: %w (please report this)", name, unix.EINVAL)
		}
	}
	return nil
}

func readJob() (*plan.ImportJob, error) {
	file := os.NewFile(plan.FDJob, "job")
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	job := new(plan.ImportJob)
	if err := json.Unmarshal(data, job); err != nil {
		return nil, fmt.Errorf("read the job: %w (sbx and sbx-image must be of one version)", err)
	}
	return job, nil
}

// dieWithParent asks for SIGKILL when the supervisor ends, and ends at once if it
// has ended already: the other end of the socket is closed then.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the supervisor: %w", err)
	}
	poll := []unix.PollFd{{Fd: plan.FDControl, Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
		os.Exit(1)
	}
	return nil
}
