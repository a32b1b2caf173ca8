package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// How an account waits for what only the person can do, such as accepting an
// invitation: it looks again and again, and the clock starts once it is done.

const (
	// pollFirst is after how long it looks first, and pollMost how long it pauses
	// at most.
	pollFirst = 10 * time.Second
	pollMost  = 5 * time.Minute
	// pendingFor is how long it waits where the target names no end.
	pendingFor = 7 * 24 * time.Hour
)

func (a *account) pending() []access.Hold {
	return slices.DeleteFunc(slices.Clone(a.Holds), func(h access.Hold) bool { return h.State != access.StatePending })
}

func (a *account) pollDue(now time.Time) bool {
	return len(a.pending()) > 0 && !now.Before(a.pollAt)
}

// awaits begins to wait for a person. Until they have done it, the hold's end is
// the moment at which it is given up.
func (a *account) awaits(h *access.Hold, e access.Entry, now time.Time) (text string) {
	h.State, h.EndsAt = access.StatePending, e.Until
	if h.EndsAt.IsZero() {
		h.EndsAt = now.Add(pendingFor)
	}
	h.Grant.Facts = append(slices.Clone(h.Grant.Facts), "awaits "+e.Awaits)
	if e.Link != "" {
		h.Grant.Facts = append(h.Grant.Facts, e.Link)
	}
	a.pollAt, a.pollWait = now.Add(pollFirst), pollFirst
	return fmt.Sprintf("%s waits until %s: %s %s", a.Account.Email, stamp(h.EndsAt), e.Awaits, e.Link)
}

// poll looks at what is awaited. What was done is granted like anything else:
// decisions and flow are judged again, and the clock starts with that.
func (a *account) poll(ctx workflow.Context) error {
	pending := a.pending()
	args := access.VerifyArgs{Account: a.Account}
	for _, h := range pending {
		args.Want = append(args.Want, h.Entitlement)
	}
	var entries []access.Entry
	err := a.interruptible(bounded(ctx, a.Connector, "was it accepted?", time.Minute, priorityGrant), ActVerify, args, &entries)
	now := workflow.Now(ctx)
	a.pollWait = min(max(2*a.pollWait, pollFirst), pollMost)
	a.pollAt = now.Add(a.pollWait)
	if err != nil {
		if !errors.Is(err, errInterrupted) {
			a.log.Warn("what is awaited cannot be looked at, and will be again", "error", err)
		}
		return nil
	}
	for _, h := range pending {
		switch entry(entries, h.Entitlement).Outcome {
		case access.Granted, access.AlreadyHeld:
			op := Op{ID: "accepted/" + h.ID, Kind: UpdateHold, RequestID: h.RequestID, HoldIDs: []string{h.ID}, Want: []access.Entitlement{h.Entitlement}}
			if err := a.open(ctx, op); errors.Is(err, errInterrupted) {
				return nil // the next poll finds it accepted still
			} else if err != nil {
				return err
			}
			if i := a.index(h.ID); i >= 0 && a.Holds[i].State == access.StatePending {
				a.giveUp(h, now, "it was accepted, and may not be granted any more")
			}
		case access.Gone:
			a.giveUp(h, now, "what was awaited was declined, or cancelled by somebody else")
		}
	}
	return nil
}

// lapsed has the holds fail that nobody accepted in time.
func (a *account) lapsed(now time.Time) {
	for i, h := range a.Holds {
		if h.State == access.StatePending && h.Error == "" && !now.Before(h.EndsAt) {
			a.Holds[i].Error = "it was not accepted in time"
		}
	}
}

// giveUp makes a pending hold due, and has it fail once it is proven gone.
func (a *account) giveUp(h access.Hold, now time.Time, why string) {
	h.Error, h.EndsAt = why, now
	a.put(h)
	a.record(access.Change{Event: a.holdEvent(h, "grant.failed", now, h.Entitlement.String()+": "+why), Holds: []access.Hold{h}})
}
