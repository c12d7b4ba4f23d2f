package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sbx-run/sbx/internal/console"
	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/internal/quote"
	"github.com/sbx-run/sbx/rootfs"
)

type commitCommand struct {
	Change  []string `short:"c" sep:"none" placeholder:"LINE" help:"Change how the image is run, by a line of a Dockerfile: CMD, ENTRYPOINT, ENV, LABEL, USER or WORKDIR."`
	Quiet   bool     `short:"q" help:"No progress, and no notes about what was left out."`
	Sandbox string   `arg:"" help:"Id, the beginning of an id, or name."`
	Name    string   `arg:"" help:"What the image will be called."`
}

// Run is the command.
func (c *commitCommand) Run(s streams) error {
	name, err := rootfs.ParseReference(c.Name)
	if err != nil {
		return err
	}
	var change func(*rootfs.ImageConfig) error
	if len(c.Change) > 0 {
		if err := changeConfig(new(rootfs.ImageConfig), c.Change); err != nil {
			return err
		}
		change = func(config *rootfs.ImageConfig) error { return changeConfig(config, c.Change) }
	}
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
	live := !c.Quiet && console.IsTerminal(int(os.Stderr.Fd()))
	line := progressLine{streams: s, name: name.String(), begin: time.Now(), live: live}
	ctx, caught, stop := interruptible()
	defer stop()
	result, err := b.Commit(ctx, k.held.Store, name, change, line.show)
	line.clear()
	if sig := caught(); err != nil && sig != 0 {
		s.say("make an image of sandbox %s: interrupted; nothing of it was kept", c.Sandbox)
		return statusError(exitSignalBase + int(sig))
	}
	if err != nil {
		return fmt.Errorf("make an image of sandbox %s: %w", c.Sandbox, err)
	}
	if !c.Quiet {
		for _, note := range result.Info.Notes {
			s.say("%s", note)
		}
	}
	if _, err := fmt.Fprintln(s.out, quote.Line(name.String())); err != nil {
		return fmt.Errorf("print the name: %w", err)
	}
	return nil
}

// changeConfig applies lines in the words of a Dockerfile. As there, another
// ENTRYPOINT takes the image's own CMD away, and none that was given before it.
func changeConfig(config *rootfs.ImageConfig, lines []string) error {
	ownCmd := true
	for _, line := range lines {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		wrong := &plan.Misuse{Reason: fmt.Sprintf("--change %q: write CMD or ENTRYPOINT and a list such as [\"sh\",\"-c\"] or a command for the shell, ENV or LABEL and NAME=VALUE, or USER or WORKDIR and a word", line)}
		if rest == "" || strings.ContainsRune(rest, 0) {
			return wrong
		}
		key, value, pair := strings.Cut(rest, "=")
		switch strings.ToUpper(word) {
		case "CMD":
			config.Cmd, ownCmd = commandWords(rest), false
		case "ENTRYPOINT":
			config.Entrypoint = commandWords(rest)
			if ownCmd {
				config.Cmd = nil
			}
		case "USER":
			config.User = rest
		case "WORKDIR":
			config.WorkingDir = rest
		case "ENV":
			if !pair || key == "" {
				return wrong
			}
			others := slices.DeleteFunc(slices.Clone(config.Env), func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
			config.Env = append(others, rest)
		case "LABEL":
			if !pair || key == "" {
				return wrong
			}
			labels := map[string]string{key: value}
			for k, v := range config.Labels {
				if k != key {
					labels[k] = v
				}
			}
			config.Labels = labels
		default:
			return wrong
		}
	}
	return nil
}

// commandWords takes a list in JSON as it is, and gives anything else to a shell.
func commandWords(text string) []string {
	var list []string
	if strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &list) == nil {
		return list
	}
	return []string{"/bin/sh", "-c", text}
}
