package console

import "sync"

// TapSize is how many bytes a [Tap] keeps.
const TapSize = 4096

// Tap keeps the last TapSize bytes of a stream that runs through [PumpOut], for a look at why a program failed. What it holds
// is the program's own text: quote it before it is printed. The zero value is empty and ready for use, from any goroutine.
type Tap struct {
	mu   sync.Mutex
	ring [TapSize]byte
	seen uint64
}

// Write notes p. It always returns len(p) and nil.
func (t *Tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if n > TapSize {
		t.seen += uint64(n - TapSize)
		p = p[n-TapSize:]
	}
	at := int(t.seen % TapSize)
	copy(t.ring[:], p[copy(t.ring[at:], p):])
	t.seen += uint64(len(p))
	return n, nil
}

// Bytes returns a copy of the last bytes noted, at most TapSize, oldest first.
func (t *Tap) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := int(t.seen % TapSize)
	if t.seen < TapSize {
		return append([]byte(nil), t.ring[:at]...)
	}
	return append(append([]byte(nil), t.ring[at:]...), t.ring[:at]...)
}
