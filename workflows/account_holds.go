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

// What an account does with its holds: open, move, end, and in the end delete
// the account itself.

// operate does one operation of the queue. It returns errInterrupted when an
// end has to go first.
func (a *account) operate(ctx workflow.Context, op Op) error {
	if !a.Known {
		// The store may have come to know the account since this run began.
		if err := a.reload(ctx, a.ID()); err != nil {
			return err
		}
	}
	if !a.Known {
		a.record(access.Change{Event: access.Event{Key: "account/" + a.ID() + "/refused/" + op.ID, Kind: "operation.refused", At: workflow.Now(ctx),
			AccountID: a.ID(), RequestID: op.RequestID, Text: "refused " + op.Kind + ": the store knows no such account"}})
		return nil
	}
	if a.applied == op.ID {
		return a.tellRecorded(ctx, op)
	}
	switch op.Kind {
	case UpdateHold:
		return a.hold(ctx, op)
	case UpdateMove:
		return a.move(ctx, op)
	case UpdateCredential:
		return a.credential(ctx, op)
	case UpdateEnd:
		a.endNow(ctx, op)
	}
	return nil
}

// holdsOf returns the known holds of an operation.
func (a *account) holdsOf(op Op) []access.Hold {
	var out []access.Hold
	for _, h := range a.Holds {
		if slices.Contains(op.HoldIDs, h.ID) {
			out = append(out, h)
		}
	}
	return out
}

// hold opens a request's holds: the baseline is read, the ticket is asked for,
// which stores the holds with their ends, and only then is anything written.
func (a *account) hold(ctx workflow.Context, op Op) error {
	if held := a.holdsOf(op); len(held) == len(op.HoldIDs) && !slices.ContainsFunc(held, func(h access.Hold) bool { return h.State == access.StateGranting }) {
		return a.tellRecorded(ctx, op)
	}
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
			h.EndsAt, h.MaxEnd = done.At.Add(leave.Duration.Std()), done.At.Add(leave.Maximum.Std())
		case access.Pending:
			h.State = access.StatePending
			kind, text = "awaits", fmt.Sprintf("%s waits for %s %s", a.Account.Email, e.Awaits, e.Link)
		default:
			// Something may be there all the same: it is due at once, and has failed once it is proven gone.
			h.EndsAt, h.Error = done.At, fmt.Sprintf("%s: %s", e.Outcome, strings.Join(e.Facts, "; "))
			kind, text = "grant.failed", fmt.Sprintf("%s on %s could not be granted: %s", h.Entitlement, a.Integration, h.Error)
		}
		a.put(h)
		a.record(access.Change{
			Event:   access.Event{Key: "hold/" + h.ID + "/" + kind, Kind: kind, At: done.At, RequestID: h.RequestID, HoldID: h.ID, AccountID: a.ID(), Integration: a.Account.Integration, Text: text},
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
	a.recordRefusal(access.Change{Event: access.Event{Key: "account/" + a.ID() + "/refused/" + op.ID, Kind: "operation.refused", At: workflow.Now(ctx),
		AccountID: a.ID(), RequestID: op.RequestID, Integration: a.Account.Integration, Text: "refused " + op.Kind + ": " + why}})
	var told []access.Hold
	if op.Kind == UpdateHold {
		for _, id := range op.HoldIDs {
			if i := a.index(id); i >= 0 {
				continue // granted earlier, or half granted: it ends by its own clock
			}
			h := access.Hold{ID: id, RequestID: op.RequestID, AccountID: a.ID(), State: access.StateFailed, Error: why}
			told = append(told, h)
			a.recordRefusal(access.Change{Event: access.Event{Key: "hold/" + id + "/failed", Kind: "failed", At: workflow.Now(ctx), RequestID: op.RequestID, HoldID: id,
				AccountID: a.ID(), Integration: a.Account.Integration, Text: "not granted: " + why}, Holds: []access.Hold{h}})
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
		a.record(access.Change{Event: access.Event{Key: "hold/" + h.ID + "/grant.failed", Kind: "grant.failed", At: workflow.Now(ctx), RequestID: h.RequestID, HoldID: h.ID,
			AccountID: a.ID(), Integration: a.Account.Integration, Text: h.Error}, Holds: []access.Hold{h}})
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
		a.record(access.Change{Event: access.Event{Key: "hold/" + h.ID + "/extended/" + op.Nonce, Kind: "extended", At: done.At, RequestID: h.RequestID, HoldID: h.ID,
			AccountID: a.ID(), Integration: a.Account.Integration, Text: "extended to " + stamp(h.EndsAt)}, Holds: []access.Hold{h}})
	}
	a.applied = op.ID
	return a.tellRecorded(ctx, op)
}

// credential makes another credential for an account that holds something.
func (a *account) credential(ctx workflow.Context, op Op) error {
	if !a.Credentialed || !slices.ContainsFunc(a.holdsOf(op), func(h access.Hold) bool { return h.State == access.StateActive }) {
		return a.refused(ctx, op, temporal.NewNonRetryableApplicationError("there is no active access that has a credential", string(access.Invalid), nil))
	}
	args := access.CredentialArgs{Account: a.Account, Sequence: a.sequence(), Generation: a.Generation + 1}
	err := a.interruptible(bounded(ctx, a.Connector, "make another credential", time.Minute, priorityGrant), ActCredential, args, nil)
	if a.superseded(err) {
		return errInterrupted
	}
	if err != nil {
		return a.refused(ctx, op, err)
	}
	a.Generation++
	a.record(access.Change{Event: access.Event{Key: "account/" + a.ID() + "/credential/" + op.Nonce, Kind: "account.credential", At: workflow.Now(ctx), RequestID: op.RequestID,
		AccountID: a.ID(), Integration: a.Account.Integration, Text: "another credential was made"},
		Account: &access.AccountChange{ID: a.ID(), Name: a.Account.Name, Generation: a.Generation, Wrote: a.Wrote}})
	return nil
}

// end takes away every hold that is due. It does not give up: the activity is
// repeated for ever, and begins anew when something wakes it or more holds
// fall due.
func (a *account) end(ctx workflow.Context) {
	for {
		a.takeEnds(ctx)
		due := a.due(workflow.Now(ctx))
		for i, h := range a.Holds {
			if slices.Contains(ids(due), h.ID) && h.State != access.StateOverdue {
				a.Holds[i].State = access.StateEnding
			}
		}
		a.show(ctx)
		args := access.RevokeArgs{Account: a.Account, Sequence: a.sequence(), Remain: a.remain(ids(due)), Wrote: a.Wrote}
		for _, h := range due {
			args.End = append(args.End, h.Entitlement)
		}
		actx, cancel := workflow.WithCancel(ctx)
		f := workflow.ExecuteActivity(untilGone(actx, a.Connector, "revoke "+names(args.End)), ActRevoke, args)
		for again := false; !f.IsReady() && !again; {
			summary, at := a.nextEvent(workflow.Now(ctx), due)
			awaitUntil(ctx, summary, at, func() bool { return f.IsReady() || a.endQueued() || a.wake.Len() > 0 })
			switch {
			case f.IsReady():
			case a.wake.Len() > 0:
				for a.wake.ReceiveAsync(nil) {
				}
				again = true
			default:
				a.overdue(ctx, due)
				a.takeEnds(ctx)
				again = len(a.due(workflow.Now(ctx))) > len(due)
			}
		}
		if !f.IsReady() {
			cancel()
			continue
		}
		var done access.RevokeDone
		err := f.Get(ctx, &done)
		cancel()
		if err != nil {
			// Only a newer operation of this account makes a revoke fail: the
			// store knows which, and says what remains to be done.
			a.log.Error("revoke was refused", "error", err)
			a.stale = true
			a.superseded(err)
			return
		}
		a.overtaken = 0
		a.ended(ctx, due, done)
		return
	}
}

// nextEvent is the next moment at which a running revoke has to be looked at:
// when its holds become overdue, or when another hold falls due.
func (a *account) nextEvent(now time.Time, due []access.Hold) (summary string, at time.Time) {
	consider := func(t time.Time, s string) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at, summary = t, s
		}
	}
	for _, h := range a.Holds {
		switch {
		case slices.ContainsFunc(due, func(d access.Hold) bool { return d.ID == h.ID }):
			consider(h.EndsAt.Add(settle), "overdue")
		case !h.State.Final() && !h.EndsAt.IsZero():
			consider(h.EndsAt, "access ends: "+h.Entitlement.String())
		}
	}
	return summary, at
}

// overdue says once of each hold that it is late.
func (a *account) overdue(ctx workflow.Context, due []access.Hold) {
	now := workflow.Now(ctx)
	for _, h := range due {
		i := a.index(h.ID)
		if i < 0 || a.Holds[i].State == access.StateOverdue || now.Before(h.EndsAt.Add(settle)) {
			continue
		}
		a.Holds[i].State = access.StateOverdue
		a.record(access.Change{Event: access.Event{Key: "hold/" + h.ID + "/overdue", Kind: "overdue", At: now, RequestID: h.RequestID, HoldID: h.ID, AccountID: a.ID(),
			Integration: a.Account.Integration, Text: fmt.Sprintf("%s on %s should be gone since %s", h.Entitlement, a.Integration, stamp(h.EndsAt))}, Holds: []access.Hold{a.Holds[i]}})
		a.tell(ctx, h.RequestID, HoldsTold{Holds: []access.Hold{a.Holds[i]}})
	}
	a.flush(ctx)
	a.show(ctx)
}

// ended puts on record that holds are proven gone, and starts the cleanup
// clock when nothing remains.
func (a *account) ended(ctx workflow.Context, due []access.Hold, done access.RevokeDone) {
	if done.Wrote != nil {
		a.Wrote = done.Wrote
	}
	var told []access.Hold
	for _, h := range due {
		e := entry(done.Entries, h.Entitlement)
		h.Revoke = &access.Evidence{At: done.At, Outcome: e.Outcome, Facts: append(slices.Clone(e.Facts), done.Notes...)}
		h.State = access.StateEnded
		if h.Error != "" {
			h.State = access.StateFailed
		}
		a.put(h)
		told = append(told, h)
	}
	a.dropFinal()
	if len(a.Holds) == 0 {
		a.CleanupAt = done.At.Add(a.Cleanup.Std())
		a.Wrote = nil
	}
	a.forgetBaseline()
	for _, h := range told {
		a.record(access.Change{
			Event: access.Event{Key: "hold/" + h.ID + "/ended", Kind: "ended", At: done.At, RequestID: h.RequestID, HoldID: h.ID, AccountID: a.ID(), Integration: a.Account.Integration,
				Text: fmt.Sprintf("%s on %s is %s for %s", h.Entitlement, a.Integration, strings.ReplaceAll(string(h.Revoke.Outcome), "_", " "), a.Account.Email)},
			Holds:   []access.Hold{h},
			Account: &access.AccountChange{ID: a.ID(), Name: a.Account.Name, Generation: a.Generation, Wrote: a.Wrote, CleanupAt: a.CleanupAt},
		})
		a.tell(ctx, h.RequestID, HoldsTold{Holds: []access.Hold{h}})
	}
}

// delete removes the account. A new hold in the queue goes first, and cancels
// the cleanup when it is granted.
func (a *account) delete(ctx workflow.Context) {
	actx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	f := workflow.ExecuteActivity(untilGone(actx, a.Connector, "delete the account"), ActDelete, access.DeleteArgs{Account: a.Account, Sequence: a.sequence()})
	awaitUntil(ctx, "", time.Time{}, func() bool { return f.IsReady() || len(a.queue) > 0 })
	if !f.IsReady() {
		return
	}
	var done access.DeleteDone
	if err := f.Get(ctx, &done); err != nil {
		a.log.Error("deleting the account was refused", "error", err)
		a.stale = true
		a.superseded(err)
		return
	}
	text := fmt.Sprintf("the account of %s on %s is deleted", a.Account.Email, a.Integration)
	if done.Outcome == access.KeptDisabled {
		text = fmt.Sprintf("the account of %s on %s is kept, disabled, because it owns %s", a.Account.Email, a.Integration, strings.Join(done.Owns, ", "))
	}
	a.record(access.Change{
		Event: access.Event{Key: fmt.Sprintf("account/%s/deleted/%d", a.ID(), a.next), Kind: "account.deleted", At: done.At, AccountID: a.ID(), Integration: a.Account.Integration,
			Text: text},
		Account: &access.AccountChange{ID: a.ID(), Deleted: true},
	})
	a.CleanupAt, a.Account.Name, a.Baseline, a.Wrote = time.Time{}, "", nil, nil
}

// put replaces or adds holds.
func (a *account) put(holds ...access.Hold) {
	for _, h := range holds {
		if i := a.index(h.ID); i >= 0 {
			a.Holds[i] = h
		} else {
			a.Holds = append(a.Holds, h)
		}
	}
}

func (a *account) index(id string) int {
	return slices.IndexFunc(a.Holds, func(h access.Hold) bool { return h.ID == id })
}

func (a *account) dropFinal() {
	a.Holds = slices.DeleteFunc(a.Holds, func(h access.Hold) bool { return h.State.Final() })
}

// forgetBaseline drops what was noted for slots on which no hold is open.
func (a *account) forgetBaseline() {
	a.Baseline = slices.DeleteFunc(a.Baseline, func(b access.Baseline) bool {
		return !slices.ContainsFunc(b.Holds, func(id string) bool { return a.index(id) >= 0 })
	})
}

// remain is what the account must keep while the holds with these ids are
// opened or ended.
func (a *account) remain(except []string) []access.Claim {
	var out []access.Claim
	for _, h := range a.Holds {
		if !h.State.Final() && !slices.Contains(except, h.ID) {
			out = append(out, access.Claim{Entitlement: h.Entitlement})
		}
	}
	for _, b := range a.Baseline {
		for _, e := range b.HeldAs {
			out = append(out, access.Claim{Entitlement: e, Baseline: true})
		}
	}
	return out
}
