package main

import "fmt"

type rmCommand struct {
	Sandbox []string `arg:"" name:"sandbox" help:"Id, the beginning of an id, or name."`
}

// Run is the command. What cannot be removed keeps none of the others.
func (c *rmCommand) Run(s streams) error {
	k, err := openKept()
	if err != nil {
		return err
	}
	defer k.close()
	var failed error
	for _, ref := range c.Sandbox {
		if err := k.remove(ref); err != nil {
			if failed != nil {
				s.say("%s", hinted(failed))
			}
			failed = err
		}
	}
	return failed
}

func (k *kept) remove(ref string) error {
	b, err := k.open(ref)
	if err != nil {
		return err
	}
	if err := b.Remove(k.held.Store); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", ref, err)
	}
	return nil
}
