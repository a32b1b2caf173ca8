package databricks

import (
	"context"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/turn"
)

const (
	// settles is how long after a change a reading may still be of the time before.
	// Databricks names no limit.
	settles = 2 * time.Minute
	// patience is how long an operation looks for its change; Lapse goes on.
	patience = 8 * time.Second
	// firstLook and lastLook are how long it waits between two looks.
	firstLook = 100 * time.Millisecond
	lastLook  = 2 * time.Second
)

// change is what this process last made of a membership: an addition until it
// shows, and a removal for a while after it, lest an older reading be taken for
// what somebody had before.
type change struct {
	to bool // member
	at time.Time
}

// changing runs a PATCH alone on its group, and remembers what the account took.
func (i *integration) changing(ctx context.Context, m membership, to bool, patch func(context.Context) error) error {
	t, _ := i.groups.LoadOrStore(m.group, turn.New())
	return t.(turn.Turn).Run(ctx, func(ctx context.Context) error {
		err := patch(ctx)
		if err == nil {
			i.recent.Range(func(old, c any) bool {
				if i.clock.now().Sub(c.(change).at) > settles {
					i.recent.Delete(old)
				}
				return true
			})
			i.recent.Store(m, change{to, i.clock.now()})
		}
		return err
	})
}

// unsettled is true for a reading that contradicts a change of ours, and may only
// be older than it.
func (i *integration) unsettled(m membership, shown bool) bool {
	c, ok := i.recent.Load(m)
	return ok && c.(change).to != shown && i.clock.now().Sub(c.(change).at) <= settles
}

// shows looks until a membership is as it was written, for a while.
func (i *integration) shows(ctx context.Context, m membership, to bool) (shown bool, err error) {
	begun := i.clock.now()
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		g, err := i.api.group(ctx, m.group)
		switch {
		case access.KindOf(err) == access.ResourceMissing && !to:
			return true, i.missing(ctx, err)
		case err != nil:
			return false, err
		case g.has(m.user) == to:
			if to {
				i.recent.Delete(m) // what shows something else later is news
			}
			return true, nil
		case i.clock.now().Sub(begun) >= patience:
			return false, nil
		}
		if err := i.clock.sleep(ctx, wait); err != nil {
			return false, err
		}
	}
}

// missing believes that a group is gone when an account admin does not find it:
// they see every group. Who is none may only not be allowed to see it.
func (i *integration) missing(ctx context.Context, notFound error) error {
	me, err := i.api.principal(ctx, i.me)
	if err != nil {
		return err
	}
	if !admin(me) {
		return access.Errorf(access.Privilege, "%v, and the connector does not see every group", notFound).WithRemedy("%s", adminRemedy)
	}
	return nil
}
