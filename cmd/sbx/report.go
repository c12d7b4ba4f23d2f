package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/cgroupv2"
	"github.com/sbx-run/sbx/internal/launch"
	"github.com/sbx-run/sbx/internal/plan"
)

// report is what --report writes: what was run, behind which layers, how it
// ended and what it used. Times are in seconds, sizes in bytes.
type report struct {
	Program  string   `json:"program"` // as typed
	Args     []string `json:"args"`
	SHA256   string   `json:"sha256,omitempty"` // of the file, when it was copied in
	Started  string   `json:"started"`          // RFC 3339
	Identity string   `json:"identity"`
	Image    string   `json:"image"`
	ImageKey string   `json:"imageKey,omitempty"`
	Copy     string   `json:"copy"`              // how the root was copied
	Sandbox  string   `json:"sandbox,omitempty"` // the id of the one that was kept

	Reason string `json:"reason"` // exited, signal, timeout, interrupted, memory, disk
	Detail string `json:"detail,omitempty"`
	Status int    `json:"status"` // as sbx's own exit status
	Signal string `json:"signal,omitempty"`

	Wall    float64 `json:"wall"`
	User    float64 `json:"user"`
	System  float64 `json:"system"`
	PeakRSS int64   `json:"peakRSS"` // of the largest single process, ours before execve(2) included

	// Cgroup is the kernel's account of the whole sandbox, Findings what was
	// done for a limit; absent where no cgroup could be had.
	Cgroup   *cgroupv2.Stats    `json:"cgroup,omitempty"`
	Findings []cgroupv2.Finding `json:"findings,omitempty"`

	Layers   []plan.Layer `json:"layers"`
	Degraded []string     `json:"degraded,omitempty"`
	Plan     *plan.Plan   `json:"plan"`
}

// openReport makes the file before the run: that it cannot be written is to be
// known before the program starts, not after.
func openReport(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, &plan.Misuse{Reason: fmt.Sprintf("--report %s: %v", name, unwrapped(err))}
	}
	return f, nil
}

func writeReport(f *os.File, p *plan.Plan, r launch.Result, begin time.Time) error {
	rep := report{
		Program: p.Process.Args[0], Args: p.Process.Args[1:], SHA256: r.SHA256, Started: begin.Format(time.RFC3339),
		Identity: string(p.Identity.Mode), Image: p.Image.Name, ImageKey: p.Image.Key, Copy: r.Copy, Sandbox: r.Sandbox,
		Detail: closingLine(p, r), Status: r.ExitStatus(),
		Wall: r.Wall.Seconds(), User: seconds(r.Rusage.Utime), System: seconds(r.Rusage.Stime), PeakRSS: r.Rusage.Maxrss << 10,
		Cgroup: r.Stats, Findings: r.Findings, Layers: p.Layers, Degraded: r.Degraded, Plan: secretless(p),
	}
	rep.Reason = reason(r)
	if r.Signal != 0 {
		rep.Signal = signalName(r.Signal)
	}
	err := writeJSON(f, rep)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write the report %s: %w", f.Name(), unwrapped(err))
	}
	return nil
}

func reason(r launch.Result) string {
	switch {
	case r.TimedOut:
		return "timeout"
	case r.Killed:
		return "interrupted"
	case r.Over != "":
		return r.OverCause
	case len(r.Findings) > 0 && r.Findings[0].Killed:
		return string(r.Findings[0].Cause)
	case r.Signal != 0:
		return "signal"
	default:
		return "exited"
	}
}

// secretless is the plan without the values of variables: a report is kept and
// passed on, and -e is how people hand over tokens.
func secretless(p *plan.Plan) *plan.Plan {
	shown := *p
	shown.Process.Env = make([]string, len(p.Process.Env))
	for i, kv := range p.Process.Env {
		name, _, _ := strings.Cut(kv, "=")
		shown.Process.Env[i] = name
	}
	return &shown
}

func seconds(t unix.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }
