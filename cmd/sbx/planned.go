package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
)

type planCommand struct {
	runFlags `embed:""`
}

// Run is the command.
func (c *planCommand) Run(s streams) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	return showPlan(spec, c.Json, s)
}

// showPlan prints what run would do. Nothing on the host is changed: not even
// the store is made.
func showPlan(spec plan.Spec, asJSON bool, s streams) error {
	p, held, err := lookPlan(spec)
	defer held.Close()
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(s.out, struct {
			*plan.Plan
			Stages []plan.Stage `json:"stages"`
		}{p, p.Stages()})
	}
	return printPlan(s.out, p)
}

func lookPlan(spec plan.Spec) (*plan.Plan, *plan.Held, error) {
	if spec.In != "" {
		return prepareKept(spec, plan.LookOptions{Seek: true})
	}
	facts, held, err := plan.Look(context.Background(), spec, plan.LookOptions{Seek: true})
	if err != nil {
		return nil, held, explainMissing(err, spec, facts)
	}
	p, err := plan.Build(spec, facts)
	return p, held, err
}

// writeLine writes v as JSON on one line.
func writeLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// writeJSON prints data. It may be on a terminal, and what images and programs
// say of themselves is in it.
func writeJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	if err == nil {
		_, err = w.Write(quote.JSON(text.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func printPlan(w io.Writer, p *plan.Plan) error {
	var b strings.Builder
	for i, st := range p.Stages() {
		fmt.Fprintf(&b, "%3d  %-8s %s\n", i+1, st.Where, quote.Line(st.Text))
	}
	fmt.Fprintf(&b, "\nidentity: %s\n", p.Identity.Mode)
	if p.Identity.Why != "" {
		fmt.Fprintf(&b, "because:  %s\n", quote.Line(p.Identity.Why))
	}
	if p.Image.Imported {
		// What is run may be the image's own words.
		fmt.Fprintf(&b, "image:    %s %s\n", quote.Quote(p.Image.Name), p.Image.Digest)
		b.WriteString("command: ")
		for _, arg := range p.Process.Args {
			b.WriteString(" " + quote.Quote(arg))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "LAYER\tSTATE\tDETAIL")
	for _, l := range p.Layers {
		detail := l.Detail
		if l.Fix != "" {
			detail += " (" + l.Fix + ")"
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\n", l.Name, l.State, quote.Line(detail))
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("lay out the layers: %w", err)
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(&b, "\nwarning: %s\n", quote.Line(warning))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	return nil
}

func layerWords() string { return strings.Join(plan.LayerNames(), " ") }
