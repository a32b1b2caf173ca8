package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// How an account opens holds, moves their ends, and makes credentials.

// hold opens a request's holds: the baseline is read, the ticket is asked for,
// which stores the holds with their ends, and only then is anything written.
func (a *account) hold(ctx workflow.Context, op Op) error {
	if held := a.holdsOf(op); len(held) == len(op.HoldIDs) && !slices.ContainsFunc(held, func(h access.Hold) bool { return h.State == access.StateGranting }) {
		return a.tellRecorded(ctx, op)
	}
	return a.open(ctx, op)
}

// open does what hold is about, whatever is known of the holds.
func (a *account) open(ctx workflow.Context, op Op) error {
	var slots []access.Slot
	err := a.interruptible(bounded(ctx, a.Connector, "what does the person hold?", grantWindow, priorityGrant), ActHeld,
		access.HeldArgs{Account: a.Account, Want: op.Want}, &slots)
	if err != nil {
		return a.refused(ctx, op, err)
	}
	var leave access.TicketDone
	err = a.interruptible(untilDone(ctx, "ticket: decisions and flow judged again"), ActTicket,
		access.TicketArgs{AccountID: a.ID(), RequestID: op.RequestID, HoldIDs: op.HoldIDs, Sequence: a.sequence(), Slots: slots}, &leave)
	if err != nil {
		return a.refused(ctx, op, err)
	}
	fresh := !slices.ContainsFunc(a.Holds, func(h access.Hold) bool { return h.State == access.StateActive })
	a.put(leave.Holds...)
	a.Baseline, a.Wrote, a.CleanupAt = leave.Baseline, leave.Wrote, time.Time{}

	args := access.GrantArgs{AccountName: a.Account.Name, Ticket: leave.Ticket, Remain: a.remain(op.HoldIDs), Wrote: a.Wrote}
	if fresh && a.Credentialed {
		args.Generation = a.Generation + 1
	}
	var done access.GrantDone
	err = a.interruptible(bounded(ctx, a.Connector, "grant "+names(leave.Ticket.Entitlements), grantWindow, priorityGrant), ActGrant, args, &done)
	if errors.Is(err, errInterrupted) {
		return err
	}
	if err != nil {
		return a.grantFailed(ctx, op, err)
	}
	a.granted(op, leave, done)
	a.applied = op.ID
	return a.tellRecorded(ctx, op)
}

// granted starts the clocks of the holds that are usable.
func (a *account) granted(op Op, leave access.TicketDone, done access.GrantDone) {
	a.Account.Name, a.Wrote = done.AccountName, done.Wrote
	a.Generation = max(a.Generation, done.Generation)
	for _, h := range a.holdsOf(op) {
		e := entry(done.Entries, h.Entitlement)
		h.Grant = &access.Evidence{At: done.At, Outcome: e.Outcome, Facts: e.Facts}
		kind, text := "granted", fmt.Sprintf("%s has %s on %s", a.Account.Email, h.Entitlement, a.Integration)
		switch e.Outcome {
		case access.Granted, access.AlreadyHeld:
			h.State, h.StartsAt = access.StateActive, done.At
			h.EndsAt, h.MaxEnd = leave.Ends(done.At)
		case access.Pending:
			kind, text = "awaits", a.awaits(&h, e, done.At)
		default:
			// Something may be there all the same: it is due at once, and has failed once it is proven gone.
			h.EndsAt, h.Error = done.At, fmt.Sprintf("%s: %s", e.Outcome, strings.Join(e.Facts, "; "))
			kind, text = "grant.failed", fmt.Sprintf("%s on %s could not be granted: %s", h.Entitlement, a.Integration, h.Error)
		}
		a.put(h)
		a.record(access.Change{
			Event:   a.holdEvent(h, kind, done.At, text),
			Holds:   []access.Hold{h},
			Account: &access.AccountChange{ID: a.ID(), Name: a.Account.Name, Generation: a.Generation, Wrote: a.Wrote},
		})
	}
}

// tellRecorded waits until the events are written, and then tells the request:
// access that nobody has on record is not handed over.
func (a *account) tellRecorded(ctx workflow.Context, op Op) error {
	a.flush(ctx)
	summary, at := a.nextTimer()
	awaitUntil(ctx, summary, at, func() bool { return len(a.outbox) == 0 || a.endQueued() })
	if len(a.outbox) > 0 {
		a.takeEnds(ctx)
		return errInterrupted
	}
	a.tell(ctx, op.RequestID, HoldsTold{Holds: a.holdsOf(op)})
	a.dropFinal()
	return nil
}

// refused ends an operation that may not, or cannot, be done, before anything
// was written on the target.
func (a *account) refused(ctx workflow.Context, op Op, err error) error {
	if errors.Is(err, errInterrupted) {
		return err
	}
	why := reason(err)
	a.log.Warn("operation refused", "operation", op.ID, "why", why)
	a.recordRefusal(access.Change{Event: a.event("operation.refused", "refused/"+op.ID, workflow.Now(ctx), op.RequestID, "refused "+op.Kind+": "+why)})
	var told []access.Hold
	if op.Kind == UpdateHold {
		for _, id := range op.HoldIDs {
			if i := a.index(id); i >= 0 {
				continue // granted earlier, or half granted: it ends by its own clock
			}
			h := access.Hold{ID: id, RequestID: op.RequestID, AccountID: a.ID(), State: access.StateFailed, Error: why}
			told = append(told, h)
			a.recordRefusal(access.Change{Event: a.holdEvent(h, "failed", workflow.Now(ctx), "not granted: "+why), Holds: []access.Hold{h}})
		}
	}
	a.tell(ctx, op.RequestID, HoldsTold{Holds: append(told, a.holdsOf(op)...), Refused: why})
	return nil
}

// recordRefusal records so many refusals in one run: who may send updates must
// not be able to fill the audit trail.
func (a *account) recordRefusal(c access.Change) {
	if a.refusals++; a.refusals <= refusedCap {
		a.record(c)
	}
}

// grantFailed undoes a grant that may have half happened: its holds are due at
// once, and are taken away like any other.
func (a *account) grantFailed(ctx workflow.Context, op Op, err error) error {
	if a.superseded(err) {
		return errInterrupted
	}
	why := reason(err)
	for _, h := range a.holdsOf(op) {
		if h.State != access.StateGranting {
			continue
		}
		h.Error, h.EndsAt = "not granted: "+why, workflow.Now(ctx)
		a.put(h)
		a.record(access.Change{Event: a.holdEvent(h, "grant.failed", workflow.Now(ctx), h.Error), Holds: []access.Hold{h}})
	}
	return nil
}

// move changes the end of holds to what the store says after an Extend
// decision. It counts only after the target's own expiry was moved.
func (a *account) move(ctx workflow.Context, op Op) error {
	var leave access.TicketDone
	err := a.interruptible(untilDone(ctx, "ticket for the extension"), ActTicket,
		access.TicketArgs{AccountID: a.ID(), RequestID: op.RequestID, HoldIDs: op.HoldIDs, Sequence: a.sequence(), Nonce: op.Nonce}, &leave)
	if err != nil {
		return a.refused(ctx, op, err)
	}
	var done access.GrantDone
	err = a.interruptible(bounded(ctx, a.Connector, "extend "+names(leave.Ticket.Entitlements), grantWindow, priorityGrant), ActGrant,
		access.GrantArgs{AccountName: a.Account.Name, Ticket: leave.Ticket, Remain: a.remain(op.HoldIDs), Wrote: a.Wrote}, &done)
	if a.superseded(err) {
		return errInterrupted
	}
	if err != nil {
		return a.refused(ctx, op, err)
	}
	for _, h := range leave.Holds {
		a.put(h)
		event := a.holdEvent(h, "extended", done.At, "extended to "+stamp(h.EndsAt))
		event.Key += "/" + op.Nonce
		a.record(access.Change{Event: event, Holds: []access.Hold{h}})
	}
	a.applied = op.ID
	return a.tellRecorded(ctx, op)
}

// credential makes another credential for an account that holds something. One
// that failed may have reached the target: it is stuck, which everybody can see,
// until another one is made.
func (a *account) credential(ctx workflow.Context, op Op) error {
	if !a.Credentialed || !slices.ContainsFunc(a.holdsOf(op), func(h access.Hold) bool { return h.State == access.StateActive }) {
		return a.refused(ctx, op, temporal.NewNonRetryableApplicationError("there is no active access that has a credential", string(access.Invalid), nil))
	}
	args := access.CredentialArgs{Account: a.Account, Sequence: a.sequence(), Generation: a.Generation + 1, EndSessions: op.Why == opExposed}
	err := a.interruptible(bounded(ctx, a.Connector, "make another credential", credentialWindow, priorityRotate), ActCredential, args, nil)
	if errors.Is(err, errInterrupted) || a.superseded(err) {
		return errInterrupted
	}
	known := &access.AccountChange{ID: a.ID(), Name: a.Account.Name, Generation: a.Generation, Wrote: a.Wrote}
	if isKind(err, access.Restored) {
		return a.refused(ctx, op, err) // the target was not asked
	}
	if err != nil {
		a.record(access.Change{Event: a.event("credential.stuck", "stuck/"+op.Nonce, workflow.Now(ctx), op.RequestID, "another credential could not be made: "+reason(err)),
			Account: known, Rotation: &access.RotationChange{Subject: a.ID(), Stuck: reason(err)}})
		return a.refused(ctx, op, err)
	}
	a.Generation++
	known.Generation = a.Generation
	text := "another credential was made"
	if op.Why != "" {
		text += ", for reason of " + op.Why
	}
	a.record(access.Change{Event: a.event("account.credential", "credential/"+op.Nonce, workflow.Now(ctx), op.RequestID, text), Account: known})
	return nil
}

// entry finds the outcome for an entitlement.
func entry(entries []access.Entry, e access.Entitlement) access.Entry {
	for _, x := range entries {
		if x.Entitlement == e {
			return x
		}
	}
	return access.Entry{Entitlement: e, Outcome: access.Blocked, Facts: []string{"the integration said nothing about it"}}
}
