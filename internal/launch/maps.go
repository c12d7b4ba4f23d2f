package launch

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
)

// mapping is the writing of pid 1's id maps, which has been begun.
type mapping struct {
	id plan.Identity
	// wait returns how it ended, as often as it is asked; nil where there is no pid 1 to
	// write maps for, which is told elsewhere.
	wait func() error
}

// Map has the maps written that a run will want, as soon as pid 1 is there. newuidmap and
// newgidmap take as long as everything that is still to be found out meanwhile. A
// run that wants others takes another pid 1, see [Beginning.fits].
//
// The helpers are started here and now, and not by a goroutine of their own: that would
// wait until one of two processors has nothing else to do, with pid 1 on the one and what
// is still to be found out on the other.
func (b *Beginning) Map(id plan.Identity) {
	b.mapping = b.startMapping(id)
}

func (b *Beginning) startMapping(id plan.Identity) *mapping {
	m := &mapping{id: id, wait: func() error { return nil }}
	<-b.born
	if b.first != nil {
		m.wait = sync.OnceValue(b.first.startMaps(id))
	}
	return m
}

// fits tells whether pid 1 has not got other maps than the identity's.
func (b *Beginning) fits(id plan.Identity) bool {
	if b.mapping == nil {
		return true
	}
	told := b.mapping.id
	return told.Direct == id.Direct && told.Layout.Mode == id.Layout.Mode &&
		slices.Equal(told.Layout.SetupUID, id.Layout.SetupUID) && slices.Equal(told.Layout.SetupGID, id.Layout.SetupGID)
}

// maps has the identity's maps written, or waits until they are.
func (b *Beginning) maps(id plan.Identity) error {
	if b.mapping == nil {
		b.mapping = b.startMapping(id)
	}
	return b.mapping.wait()
}

// settle waits until nobody writes maps any more: only until pid 1 is reaped is its
// number nobody else's.
func (b *Beginning) settle() {
	if b.mapping != nil {
		_ = b.mapping.wait() // whoever wants to know has been told
	}
}

// writeMaps makes U1 what the plan says.
func (c *child) writeMaps(id plan.Identity) error { return c.startMaps(id)() }

// startMaps is writeMaps that does not wait for the helpers. What it returns does.
func (c *child) startMaps(id plan.Identity) (wait func() error) {
	if id.Direct {
		err := userns.WriteDirect(c.pid, id.Layout.SetupUID, id.Layout.SetupGID, id.Layout.DenySetgroups())
		return func() error { return err }
	}
	writing, err := id.Helpers.Start(besides(), c.pid, id.Layout.SetupUID, id.Layout.SetupGID)
	return func() error {
		if err == nil {
			err = writing.Wait()
		}
		if err != nil {
			// A container often leaves the helpers no right to do their work.
			return fmt.Errorf("%w; --userns=single needs no helper, and makes the program act as you", err)
		}
		return nil
	}
}
