package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// median of a list that is not empty.
func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// printTable writes one row for each command. Without the base command the
// column of ratios stays empty.
func printTable(out io.Writer, commands []*command, base string) error {
	var unit time.Duration
	for _, c := range commands {
		if c.name == base {
			unit = median(c.times)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "command\tmedian ms\tfastest ms\tratio to %s\tpeak memory MiB\t\n", base)
	for _, c := range commands {
		ratio := "-"
		if unit > 0 {
			ratio = fmt.Sprintf("%.2f", float64(median(c.times))/float64(unit))
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%s\t%.1f\t\n", c.name, milliseconds(median(c.times)),
			milliseconds(slices.Min(c.times)), ratio, float64(c.memory)/1024)
	}
	return w.Flush()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// amount is what each command handles.
type amount struct{ files, bytes int64 }

// printRates writes one row for each command: what it does in a second, and how
// many times as fast as the base command it is, alone, with everything written
// to the disk, and in processor time. Medians.
func printRates(out io.Writer, commands []*command, base string, work amount) error {
	var unit *command
	for _, c := range commands {
		if c.name == base {
			unit = c
		}
	}
	faster := func(of func(*command) []time.Duration, c *command) string {
		if unit == nil {
			return "-"
		}
		return fmt.Sprintf("%.2f", float64(median(of(unit)))/max(float64(median(of(c))), 1))
	}
	alone := func(c *command) []time.Duration { return c.times }
	synced := func(c *command) []time.Duration { return c.synced }
	cpu := func(c *command) []time.Duration { return c.cpu }
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "command\tms\tfiles/s\tMB/s\tspeed to %s\ton disk ms\tspeed\tcpu ms\tspeed\t\n", base)
	for _, c := range commands {
		seconds := max(median(c.times).Seconds(), 1e-9)
		fmt.Fprintf(w, "%s\t%.1f\t%.0f\t%.0f\t%s\t%.1f\t%s\t%.1f\t%s\t\n", c.name, milliseconds(median(c.times)),
			float64(work.files)/seconds, float64(work.bytes)/1e6/seconds, faster(alone, c),
			milliseconds(median(c.synced)), faster(synced, c), milliseconds(median(c.cpu)), faster(cpu, c))
	}
	return w.Flush()
}
