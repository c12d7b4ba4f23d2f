package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

type psCommand struct {
	All   bool `short:"a" help:"Also those that were kept and in which nothing runs."`
	Json  bool `help:"Print data instead of text."`
	Quiet bool `short:"q" help:"Print ids only."`
}

// psEntry is one sandbox in the output of --json.
type psEntry struct {
	ID      string     `json:"id"`
	Name    string     `json:"name,omitempty"`
	Image   string     `json:"image"`
	Key     string     `json:"key,omitempty"`
	Program string     `json:"program"` // as typed
	Copy    string     `json:"copy,omitempty"`
	Created time.Time  `json:"created"`
	Running bool       `json:"running"`
	Kept    bool       `json:"kept"`
	Ended   *time.Time `json:"ended,omitempty"`
	Status  *int       `json:"status,omitempty"` // of the last run, absent where unknown
}

// Run is the command.
func (c *psCommand) Run(s streams) error {
	if c.Json && c.Quiet {
		return &plan.Misuse{Reason: "-q prints ids and --json everything: give one of the two"}
	}
	list, err := c.list()
	if err != nil {
		return err
	}
	switch {
	case c.Json:
		entries := make([]psEntry, len(list))
		for i, b := range list {
			entries[i] = newPsEntry(b)
		}
		return writeJSON(s.out, entries)
	case c.Quiet:
		for _, b := range list {
			if _, err := fmt.Fprintln(s.out, b.ID); err != nil {
				return fmt.Errorf("print the list: %w", err)
			}
		}
		return nil
	}
	return printSandboxes(s.out, list, time.Now())
}

// list gives the sandboxes, the newest first.
func (c *psCommand) list() ([]rootfs.ListedSandbox, error) {
	store, err := existingStore()
	if err != nil || store == nil {
		return nil, err
	}
	defer store.Close()
	list, err := store.ListSandboxes()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(b rootfs.ListedSandbox) bool { return !b.Running && !c.All })
	slices.SortStableFunc(list, func(a, b rootfs.ListedSandbox) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// existingStore opens the store; nil where there never was a run.
func existingStore() (*rootfs.Store, error) {
	dir, err := rootfs.StorePath(os.Getenv)
	if err != nil {
		return nil, err
	}
	exists, err := rootfs.InspectStore(dir)
	if err != nil || !exists {
		return nil, err
	}
	return rootfs.OpenStore(dir)
}

func newPsEntry(b rootfs.ListedSandbox) psEntry {
	e := psEntry{
		ID: b.ID, Name: b.Name, Image: b.Image, Key: b.Key, Program: b.Program, Copy: b.Copy,
		Created: b.Created, Running: b.Running, Kept: b.Keep,
	}
	if !b.Running && !b.Ended.IsZero() {
		e.Ended = &b.Ended
		if b.Status != rootfs.StatusUnknown {
			e.Status = &b.Status
		}
	}
	return e
}

func printSandboxes(w io.Writer, list []rootfs.ListedSandbox, now time.Time) error {
	var b strings.Builder
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "ID\tNAME\tIMAGE\tPROGRAM\tCREATED\tSTATUS")
	for _, e := range list {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Name, quote.Line(e.Image), quote.Line(e.Program), ago(now, e.Created), sandboxStatus(e, now))
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("lay out the list: %w", err)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the list: %w", err)
	}
	return nil
}

func sandboxStatus(b rootfs.ListedSandbox, now time.Time) string {
	switch {
	case b.Running:
		return "running"
	case b.Ended.IsZero(), b.Status == rootfs.StatusUnknown:
		return "killed"
	default:
		return fmt.Sprintf("exited (%d) %s", b.Status, ago(now, b.Ended))
	}
}

// ago is a time as people say it, in the largest unit that it has two of.
func ago(now, then time.Time) string {
	d := now.Sub(then)
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}, {"seconds", time.Second}} {
		if d >= 2*unit.size {
			return fmt.Sprintf("%d %s ago", d/unit.size, unit.name)
		}
	}
	return "now"
}
