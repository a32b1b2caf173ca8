package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// Account is the single writer for one person on one integration, and the
// owner of every deadline: each hold ends by this workflow's own timer,
// whatever becomes of the request's workflow. Its state is what the store holds
// of the account, so that a run which was terminated is made again from there.
//
// It goes through its work in this order: ends that are due, operations in the
// queue, the cleanup. An end that falls due while an operation is under way
// interrupts it; the operation begins again afterwards, under a higher sequence
// number, so that whatever its first attempt still does is refused by the
// target's mark.
func Account(ctx workflow.Context, in AccountInput) error {
	// Cancelling this workflow must not stop it: nobody would take the access
	// away. Ending access early is a decision, and goes through the portal.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	a := &account{log: workflow.GetLogger(ctx), queue: in.Queue, wake: workflow.GetSignalChannel(ctx, SignalWake)}
	if err := a.handlers(ctx); err != nil {
		return err
	}
	if err := a.reload(ctx, in.AccountID); err != nil {
		return err
	}
	return a.run(ctx)
}

type account struct {
	access.AccountBrief
	log   log.Logger
	queue []Op
	wake  workflow.ReceiveChannel
	// outbox holds what is done and not yet recorded. Nothing that takes
	// access away waits for it; the run does not end before it is empty.
	outbox    []access.Change
	flushing  bool
	next      int64  // sequence number of the next operation
	stale     bool   // the store knows better: read it again
	refusals  int    // how many were put on record
	overtaken int    // how often in a row a target said that a newer operation was there
	applied   string // id of the operation whose effects are in the outbox
	details   string
}

// errInterrupted says that an end fell due while an operation was under way.
var errInterrupted = errors.New("an end fell due")

// load takes what the store says. An end that was moved nearer and is not on
// record yet stays where it was moved.
func (a *account) load(b access.AccountBrief) {
	for i, h := range b.Holds {
		if j := a.index(h.ID); j >= 0 && !a.Holds[j].EndsAt.IsZero() && a.Holds[j].EndsAt.Before(h.EndsAt) {
			b.Holds[i].EndsAt = a.Holds[j].EndsAt
		}
	}
	a.AccountBrief, a.next, a.stale = b, b.Sequence, false
}

// reload reads the account's rows from the store.
func (a *account) reload(ctx workflow.Context, id string) error {
	var b access.AccountBrief
	if err := workflow.ExecuteActivity(untilDone(ctx, "read the account's holds"), ActLoadAccount, id).Get(ctx, &b); err != nil {
		return err
	}
	a.load(b)
	return nil
}

// handlers take operations into the queue. They only enqueue: an update that
// waited for a target would use up the few that a workflow may have in flight.
func (a *account) handlers(ctx workflow.Context) error {
	for _, kind := range []string{UpdateHold, UpdateMove, UpdateEnd, UpdateCredential} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, kind,
			func(ctx workflow.Context, op Op) error {
				op.Kind = kind
				if !slices.ContainsFunc(a.queue, func(q Op) bool { return q.ID == op.ID }) {
					a.queue = append(a.queue, op)
				}
				return nil
			},
			workflow.UpdateHandlerOptions{Validator: func(ctx workflow.Context, op Op) error {
				if op.ID == "" || op.RequestID == "" || len(op.HoldIDs) == 0 {
					return temporal.NewNonRetryableApplicationError("an operation needs id, request_id and hold_ids", "Invalid", nil)
				}
				return nil
			}})
		if err != nil {
			return err
		}
	}
	reload := workflow.GetSignalChannel(ctx, SignalReload)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for reload.Receive(ctx, nil) {
			a.stale = true
		}
	})
	return workflow.SetQueryHandler(ctx, QueryState, func() (access.AccountBrief, error) { return a.AccountBrief, nil })
}

func (a *account) run(ctx workflow.Context) error {
	for {
		a.flush(ctx)
		a.show(ctx)
		now := workflow.Now(ctx)
		switch {
		case a.stale && len(a.outbox) == 0:
			if a.overtaken > 0 {
				_ = workflow.Sleep(ctx, min(time.Second<<min(a.overtaken, 10), 5*time.Minute))
			}
			if err := a.reload(ctx, a.ID()); err != nil {
				return err
			}
		case len(a.due(now)) > 0 && !a.stale:
			a.end(ctx)
		case len(a.queue) > 0 && !a.stale:
			op := a.queue[0]
			err := a.operate(ctx, op)
			if errors.Is(err, errInterrupted) {
				continue
			}
			if err != nil {
				return err
			}
			a.queue = slices.DeleteFunc(a.queue, func(q Op) bool { return q.ID == op.ID })
		case a.cleanupDue(now) && a.idle():
			a.delete(ctx)
		case a.idle() && len(a.Holds) == 0 && a.CleanupAt.IsZero():
			if workflow.AllHandlersFinished(ctx) {
				return nil
			}
			awaitUntil(ctx, "wait for callers", time.Time{}, func() bool { return len(a.queue) > 0 || workflow.AllHandlersFinished(ctx) })
		case a.idle() && a.long(ctx) && workflow.AllHandlersFinished(ctx):
			return workflow.NewContinueAsNewError(ctx, AccountType, AccountInput{AccountID: a.ID()})
		default:
			summary, at := a.nextTimer()
			if !at.After(now) {
				at = time.Time{} // it waits for the outbox
			}
			unrecorded := len(a.outbox) > 0
			awaitUntil(ctx, summary, at, func() bool {
				return len(a.queue) > 0 && !a.stale || a.stale && len(a.outbox) == 0 || unrecorded && len(a.outbox) == 0
			})
		}
	}
}

// ID is the account's id.
func (a *account) ID() string { return a.Account.ID }

// idle is true when nothing is queued, unrecorded or out of date.
func (a *account) idle() bool { return len(a.queue) == 0 && len(a.outbox) == 0 && !a.stale }

func (a *account) long(ctx workflow.Context) bool {
	info := workflow.GetInfo(ctx)
	return info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > continueAfter
}

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

func (a *account) cleanupDue(now time.Time) bool {
	return len(a.Holds) == 0 && !a.CleanupAt.IsZero() && !now.Before(a.CleanupAt)
}

// nextTimer is the next moment at which something has to be done, and what.
func (a *account) nextTimer() (summary string, at time.Time) {
	if len(a.Holds) == 0 {
		return "delete the account", a.CleanupAt
	}
	for _, h := range a.Holds {
		if !h.State.Final() && !h.EndsAt.IsZero() && (at.IsZero() || h.EndsAt.Before(at)) {
			at, summary = h.EndsAt, "access ends: "+h.Entitlement.String()
		}
	}
	return summary, at
}

// interruptible runs an activity and gives it up when an end falls due.
func (a *account) interruptible(ctx workflow.Context, name string, args, result any) error {
	actx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	f := workflow.ExecuteActivity(actx, name, args)
	summary, at := a.nextTimer()
	if len(a.Holds) == 0 {
		at = time.Time{} // a cleanup does not interrupt
	}
	awaitUntil(ctx, summary, at, func() bool { return f.IsReady() || a.endQueued() })
	if !f.IsReady() {
		a.takeEnds(ctx)
		return errInterrupted
	}
	return f.Get(ctx, result)
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
			a.record(access.Change{Event: access.Event{Key: "hold/" + id + "/ended", Kind: "ended", At: now, Actor: op.Actor, RequestID: q.RequestID, HoldID: id, AccountID: a.ID(),
				Integration: a.Account.Integration, Text: "ended before it was granted: " + op.Why}, Holds: []access.Hold{h}})
		}
		a.tell(ctx, q.RequestID, told)
		return true
	})
}

func (a *account) sequence() int64 {
	n := a.next
	a.next++
	return n
}

// record puts a change into the outbox; flush writes it.
func (a *account) record(c access.Change) { a.outbox = append(a.outbox, c) }

// flush writes the outbox in order, beside whatever else goes on.
func (a *account) flush(ctx workflow.Context) {
	if a.flushing || len(a.outbox) == 0 {
		return
	}
	a.flushing = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { a.flushing = false }()
		for len(a.outbox) > 0 {
			batch := slices.Clone(a.outbox)
			if err := workflow.ExecuteActivity(untilDone(ctx, "record "+batch[0].Event.Kind), ActRecord, batch).Get(ctx, nil); err != nil {
				a.log.Error("recording is refused, and will be tried again", "error", err)
				_ = workflow.Sleep(ctx, time.Minute)
				continue
			}
			a.outbox = a.outbox[len(batch):]
		}
	})
}

// tell lets a request know how its holds stand. A request that is over does
// not mind.
func (a *account) tell(ctx workflow.Context, request string, told HoldsTold) {
	workflow.SignalExternalWorkflow(ctx, RequestID(request), "", SignalHolds, told)
}

// show writes the account's state for Temporal's Web UI.
func (a *account) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s on %s\n\n", a.Account.Email, a.Integration)
	for _, h := range a.Holds {
		fmt.Fprintf(&b, "- %s: **%s**, until %s (request %s)\n", h.Entitlement, h.State, stamp(h.EndsAt), h.RequestID)
	}
	switch {
	case len(a.Holds) > 0:
	case a.CleanupAt.IsZero():
		b.WriteString("Nothing is held.\n")
	default:
		fmt.Fprintf(&b, "Nothing is held. The account will be deleted at %s.\n", stamp(a.CleanupAt))
	}
	if s := b.String(); s != a.details {
		a.details = s
		workflow.SetCurrentDetails(ctx, s)
	}
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

func ids(holds []access.Hold) []string {
	out := make([]string, len(holds))
	for i, h := range holds {
		out[i] = h.ID
	}
	return out
}

func names(es []access.Entitlement) string {
	out := make([]string, len(es))
	for i, e := range es {
		out[i] = e.String()
	}
	return strings.Join(out, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// reason is an error's text for people: the last application error's message.
func reason(err error) string {
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return e.Message()
	}
	return err.Error()
}

// superseded reports whether the target has seen a newer operation of this
// account: the store is read again then, with a pause that grows, and the next
// sequence numbers are higher.
func (a *account) superseded(err error) bool {
	e, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || e.Type() != string(access.Superseded) {
		a.overtaken = 0
		return false
	}
	a.stale = true
	a.overtaken++
	return true
}

// awaitUntil waits for a condition, or until a moment (the zero time: for
// ever). It cancels its timer, which workflow.AwaitWithTimeout does not.
func awaitUntil(ctx workflow.Context, summary string, at time.Time, cond func() bool) {
	if at.IsZero() {
		_ = workflow.Await(ctx, cond)
		return
	}
	d := at.Sub(workflow.Now(ctx))
	if d <= 0 || cond() {
		return
	}
	tctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	timer := workflow.NewTimerWithOptions(tctx, d, workflow.TimerOptions{Summary: summary})
	_ = workflow.Await(ctx, func() bool { return cond() || timer.IsReady() })
}
