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
