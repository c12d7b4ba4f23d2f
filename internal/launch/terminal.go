package launch

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-run/sbx/internal/console"
)

// terminal is the user's terminal while it is relayed to the sandbox's.
type terminal struct {
	relay *console.Relay
	ended chan error
}

// hurry is within which time a second Ctrl-C means: end it, whatever it is.
const hurry = 2 * time.Second

// openTerminal puts the user's terminal into raw mode and starts to relay.
// Everything typed is the program's own business, with one exception: Ctrl-C
// twice, at a program that reads whole lines and so is no editor, shell or
// interpreter with its own idea of the key, sends to kill.
func openTerminal(master int, raw bool, kill chan<- struct{}) (*terminal, error) {
	var last time.Time
	interrupt := func() {
		modes, err := unix.IoctlGetTermios(master, unix.TCGETS)
		if err != nil || modes.Lflag&unix.ICANON == 0 {
			return
		}
		if time.Since(last) < hurry {
			select {
			case kill <- struct{}{}:
			default:
			}
		}
		last = time.Now()
	}
	relay, err := console.Open(0, 1, master, console.Options{RawTTY: raw, Interrupt: interrupt})
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
