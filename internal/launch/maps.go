package launch

import (
	"fmt"
	"slices"

	"github.com/sbx-run/sbx/internal/plan"
	"github.com/sbx-run/sbx/userns"
)

// mapping is the writing of pid 1's id maps, which has been begun.
type mapping struct {
	id   plan.Identity
	done chan error // once
}

// Map writes the maps that a run will want as soon as pid 1 is there. newuidmap and
// newgidmap take as long as everything that is still to be found out meanwhile. A
// run that wants others takes another pid 1, see [Beginning.fits].
func (b *Beginning) Map(id plan.Identity) {
	b.mapping = b.startMapping(id)
}

func (b *Beginning) startMapping(id plan.Identity) *mapping {
	m := &mapping{id, make(chan error, 1)}
	go func() {
		defer close(m.done)
		<-b.born
		if b.first != nil {
			m.done <- b.first.writeMaps(id)
		}
	}()
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

// maps sends whether the identity's maps have been written.
func (b *Beginning) maps(id plan.Identity) <-chan error {
	if b.mapping == nil {
		b.mapping = b.startMapping(id)
	}
	return b.mapping.done
}

// settle waits until nobody writes maps any more: only until pid 1 is reaped is its
// number nobody else's.
func (b *Beginning) settle() {
	if b.mapping != nil {
		for range b.mapping.done { //nolint:revive // whoever wants to know has been told
		}
	}
}

// writeMaps makes U1 what the plan says.
func (c *child) writeMaps(id plan.Identity) error {
	if id.Direct {
		return userns.WriteDirect(c.pid, id.Layout.SetupUID, id.Layout.SetupGID, id.Layout.DenySetgroups())
	}
	if err := id.Helpers.Write(c.pid, id.Layout.SetupUID, id.Layout.SetupGID); err != nil {
		// A container often leaves the helpers no right to do their work.
		return fmt.Errorf("%w; --userns=single needs no helper, and makes the program act as you", err)
	}
	return nil
}
