package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// stripWindow is how long access that nobody asked for is tried to be taken
// away. The next sweep finds what is left of it.
const stripWindow = time.Minute

// strip takes away what the sweep saw on the target without a hold. What that
// still is is judged here, by the account's only writer.
func (a *account) strip(ctx workflow.Context, op Op) error {
	args := access.RevokeArgs{Account: a.Account, Sequence: a.sequence(), Remain: a.remain(nil), Wrote: a.Wrote}
	for _, e := range op.Want {
		if !slices.ContainsFunc(args.Remain, func(c access.Claim) bool { return c.Entitlement == e }) {
			args.End = append(args.End, e)
		}
	}
	if len(args.End) == 0 {
		return nil
	}
	var done access.RevokeDone
	err := a.interruptible(bounded(ctx, a.Connector, "take away what nobody asked for: "+names(args.End), stripWindow, prioritySweep), ActRevoke, args, &done)
	if errors.Is(err, errInterrupted) || a.superseded(err) {
		return errInterrupted
	}
	if err != nil {
		a.recordRefusal(access.Change{Event: a.event("operation.refused", "refused/"+op.ID, workflow.Now(ctx), "", "refused "+op.Kind+": "+reason(err))})
		return nil
	}
	if done.Wrote != nil {
		a.Wrote = done.Wrote
	}
	a.record(access.Change{
		Event:   a.event("account.stripped", op.ID, done.At, "", fmt.Sprintf("%s on %s: taken away from %s, because no hold asks for it", names(args.End), a.Integration, a.Account.Email)),
		Account: &access.AccountChange{ID: a.ID(), Name: a.Account.Name, Generation: a.Generation, Wrote: a.Wrote, CleanupAt: a.CleanupAt},
	})
	return nil
}
