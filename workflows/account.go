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
	next      int64         // sequence number of the next operation
	stale     bool          // the store knows better: read it again
	refusals  int           // how many were put on record
	overtaken int           // how often in a row a target said that a newer operation was there
	applied   string        // id of the operation whose effects are in the outbox
	pollAt    time.Time     // when what is pending is looked at again
	pollWait  time.Duration // the pause before that
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
	for _, kind := range []string{UpdateHold, UpdateMove, UpdateEnd, UpdateCredential, UpdateStrip} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, kind,
			func(ctx workflow.Context, op Op) error {
				op.Kind = kind
				if !slices.ContainsFunc(a.queue, func(q Op) bool { return q.ID == op.ID }) {
					a.queue = append(a.queue, op)
				}
				return nil
			},
			workflow.UpdateHandlerOptions{Validator: func(ctx workflow.Context, op Op) error {
				if op.ID == "" || kind != UpdateStrip && (op.RequestID == "" || len(op.HoldIDs) == 0) {
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
		case a.pollDue(now) && a.idle():
			if err := a.poll(ctx); err != nil {
				return err
			}
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
			if len(a.pending()) > 0 && (at.IsZero() || a.pollAt.Before(at)) {
				summary, at = "look whether it was accepted", a.pollAt
			}
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
		a.record(access.Change{Event: a.event("operation.refused", "refused/"+op.ID, workflow.Now(ctx), op.RequestID, "refused "+op.Kind+": the store knows no such account")})
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
	case UpdateStrip:
		return a.strip(ctx, op)
	case UpdateEnd:
		a.endNow(ctx, op)
	}
	return nil
}

// ID is the account's id.
func (a *account) ID() string { return a.Account.ID }

// idle is true when nothing is queued, unrecorded or out of date.
func (a *account) idle() bool { return len(a.queue) == 0 && len(a.outbox) == 0 && !a.stale }

func (a *account) long(ctx workflow.Context) bool {
	info := workflow.GetInfo(ctx)
	return info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > continueAfter
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

func (a *account) sequence() int64 {
	n := a.next
	a.next++
	return n
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

// reason is an error's text for people: the last application error's message.
func reason(err error) string {
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return e.Message()
	}
	return err.Error()
}

// isKind reports whether an activity failed by an error of a kind.
func isKind(err error, kind access.ErrorKind) bool {
	e, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && e.Type() == string(kind)
}

// superseded reports whether the target has seen a newer operation of this
// account: the store is read again then, with a pause that grows, and the next
// sequence numbers are higher.
func (a *account) superseded(err error) bool {
	if !isKind(err, access.Superseded) {
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
