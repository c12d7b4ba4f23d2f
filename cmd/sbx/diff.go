package main

import (
	"bufio"
	"fmt"
	"unicode/utf8"

	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

type diffCommand struct {
	Json    bool   `help:"Print one JSON object a line, instead of text."`
	Sandbox string `arg:"" help:"Id, the beginning of an id, or name."`
}

// jsonChange is a line of diff --json. JSON is text, and names need not be: Raw
// has the bytes of a path that is not UTF-8.
type jsonChange struct {
	Kind rootfs.ChangeKind `json:"kind"`
	Path string            `json:"path"`
	Raw  []byte            `json:"raw,omitempty"`
}

// Run is the command.
func (c *diffCommand) Run(s streams) error {
	k, err := openKept()
	if err != nil {
		return err
	}
	defer k.close()
	b, err := k.use(c.Sandbox)
	if err != nil {
		return err
	}
	defer b.Close()
	out := bufio.NewWriter(s.out)
	print := func(change rootfs.Change) error {
		if c.Json {
			line := jsonChange{Kind: change.Kind, Path: change.Path}
			if !utf8.ValidString(change.Path) {
				line.Raw = []byte(change.Path)
			}
			return writeLine(out, line)
		}
		_, err := fmt.Fprintf(out, "%s %s\n", change.Kind, quote.Quote(change.Path))
		return err
	}
	err = b.Diff(print)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		return fmt.Errorf("compare sandbox %s with its image: %w", c.Sandbox, err)
	}
	return nil
}
