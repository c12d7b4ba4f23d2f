package launch

import (
	"errors"
	"os"

	"github.com/sbx-run/sbx/internal/console"
)

// terminal is the user's terminal while it is relayed to the sandbox's.
type terminal struct {
	relay *console.Relay
	ended chan error
}

// openTerminal puts the user's terminal into raw mode and starts to relay.
func openTerminal(master int, raw bool) (*terminal, error) {
	relay, err := console.Open(int(os.Stdin.Fd()), int(os.Stdout.Fd()), master, console.Options{RawTTY: raw})
	if err != nil {
		return nil, err
	}
	t := &terminal{relay: relay, ended: make(chan error, 1)}
	go func() { t.ended <- relay.Run() }()
	return t, nil
}

func (t *terminal) resize()  { _ = t.relay.Resize() }
func (t *terminal) suspend() { _ = t.relay.Suspend() }
func (t *terminal) resume()  { _ = t.relay.Resume() }

// close writes out what is on its way and gives the terminal back.
func (t *terminal) close() error {
	err := t.relay.Close()
	select {
	case runErr := <-t.ended:
		err = errors.Join(err, runErr)
	default:
	}
	return err
}
