package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// How an account ends holds, and in the end itself.

// due returns the open holds whose end has come.
func (a *account) due(now time.Time) []access.Hold {
	var out []access.Hold
	for _, h := range a.Holds {
		if !h.State.Final() && !h.EndsAt.IsZero() && !now.Before(h.EndsAt) {
			out = append(out, h)
		}
	}
	return out
}

// endQueued reports whether somebody asks for an early end of an open hold.
func (a *account) endQueued() bool {
	return slices.ContainsFunc(a.queue, func(op Op) bool { return op.Kind == UpdateEnd })
}

// takeEnds makes the holds due for which an early end is queued.
func (a *account) takeEnds(ctx workflow.Context) {
	for {
		i := slices.IndexFunc(a.queue, func(op Op) bool { return op.Kind == UpdateEnd })
		if i < 0 {
			return
		}
		op := a.queue[i]
		a.queue = slices.Delete(a.queue, i, i+1)
		a.endNow(ctx, op)
	}
}

// endNow moves the end of an operation's holds to now. A hold that still waits
// in the queue is taken out of it.
func (a *account) endNow(ctx workflow.Context, op Op) {
	now := workflow.Now(ctx)
	for i, h := range a.Holds {
		if slices.Contains(op.HoldIDs, h.ID) && (h.EndsAt.IsZero() || now.Before(h.EndsAt)) {
			a.Holds[i].EndsAt = now
			if h.State == access.StatePending {
				a.Holds[i].State = access.StateEnding
			}
		}
	}
	a.queue = slices.DeleteFunc(a.queue, func(q Op) bool {
		if q.Kind != UpdateHold || q.RequestID != op.RequestID || len(a.holdsOf(q)) > 0 {
			return false
		}
		told := HoldsTold{}
		for _, id := range q.HoldIDs {
			h := access.Hold{ID: id, RequestID: q.RequestID, AccountID: a.ID(), State: access.StateEnded}
			told.Holds = append(told.Holds, h)
			event := a.holdEvent(h, "ended", now, "ended before it was granted: "+op.Why)
			event.Actor = op.Actor
			a.record(access.Change{Event: event, Holds: []access.Hold{h}})
		}
		a.tell(ctx, q.RequestID, told)
		return true
	})
}

// end takes away every hold that is due. It does not give up: the activity is
// repeated for ever, and begins anew when something wakes it or more holds
// fall due.
func (a *account) end(ctx workflow.Context) {
	for {
		a.takeEnds(ctx)
		a.lapsed(workflow.Now(ctx))
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
		text := fmt.Sprintf("%s on %s should be gone since %s", h.Entitlement, a.Integration, stamp(h.EndsAt))
		a.record(access.Change{Event: a.holdEvent(h, "overdue", now, text), Holds: []access.Hold{a.Holds[i]}})
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
		text := fmt.Sprintf("%s on %s: %s for %s", h.Entitlement, a.Integration, strings.ReplaceAll(string(h.Revoke.Outcome), "_", " "), a.Account.Email)
		a.record(access.Change{
			Event:   a.holdEvent(h, "ended", done.At, text),
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
		Event:   a.event("account.deleted", fmt.Sprintf("deleted/%d", a.next), done.At, "", text),
		Account: &access.AccountChange{ID: a.ID(), Deleted: true},
	})
	a.CleanupAt, a.Account.Name, a.Baseline, a.Wrote = time.Time{}, "", nil, nil
}
