package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// Request is one access request: it waits for the owner's decision, asks each
// account to hold what was approved, sleeps until the accounts say that it has
// ended, and is done when every hold is proven gone. It owns no deadline and
// grants nothing itself, so terminating or resetting it leaves no access
// behind. Cancelling it means giving back early.
//
// What it was started with is only an id. What was asked stands in the store,
// and who decided is verified against the portal's key, which an activity put
// into this history.
func Request(ctx workflow.Context, in RequestInput) (access.State, error) {
	r := &request{}
	if err := r.handlers(ctx); err != nil {
		return "", err
	}
	err := workflow.ExecuteActivity(untilDone(ctx, "read what was asked"), ActLoadRequest, in.RequestID).Get(ctx, &r.RequestBrief)
	if err != nil {
		return access.StateFailed, err
	}
	r.loaded = true
	state, err := r.run(ctx)
	done, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.Await(done, func() bool { return workflow.AllHandlersFinished(done) }); err != nil {
		return state, err
	}
	r.show(done)
	if err == nil && ctx.Err() != nil {
		return state, ctx.Err() // given back because it was cancelled, and says so
	}
	return state, err
}

type request struct {
	access.RequestBrief
	loaded    bool
	approved  bool
	denied    bool
	withdrawn string // why the request is to end; set by Release and Revoke
	deciding  int    // decisions being put on record
	refused   int
	actor     string // who ended it
	details   string
	told      int // how often an account has told something
}

// verdicts maps the name of an update to the verdicts that it carries.
var verdicts = []struct {
	update string
	are    []access.Verdict
}{
	{UpdateDecide, []access.Verdict{access.Approve, access.Deny}},
	{UpdateExtend, []access.Verdict{access.Extend}},
	{UpdateRelease, []access.Verdict{access.Release}},
	{UpdateRevoke, []access.Verdict{access.Revoke}},
	{UpdateRenew, []access.Verdict{access.Renew}},
}

func (r *request) handlers(ctx workflow.Context) error {
	for _, v := range verdicts {
		validate := func(ctx workflow.Context, d access.Decision) error {
			if !slices.Contains(v.are, d.Verdict) || d.RequestID == "" || d.Nonce == "" || len(d.Signature) == 0 {
				return temporal.NewNonRetryableApplicationError("a decision needs request_id, verdict, nonce and signature", "Invalid", nil)
			}
			return nil
		}
		err := workflow.SetUpdateHandlerWithOptions(ctx, v.update, r.decide, workflow.UpdateHandlerOptions{Validator: validate})
		if err != nil {
			return err
		}
	}
	decisions := workflow.GetSignalChannel(ctx, SignalDecide)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var d access.Decision
			if !decisions.Receive(ctx, &d) {
				return
			}
			// Counted or not, it is on record; nobody waits for the answer.
			_, _ = r.decide(ctx, d)
		}
	})
	holds := workflow.GetSignalChannel(ctx, SignalHolds)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var told HoldsTold
			if !holds.Receive(ctx, &told) {
				return
			}
			r.hear(told)
		}
	})
	return workflow.SetQueryHandler(ctx, QueryState, func() (access.RequestBrief, error) { return r.RequestBrief, nil })
}

// decide takes a decision. One that the portal did not sign changes nothing
// and is put on record, up to a cap.
func (r *request) decide(ctx workflow.Context, d access.Decision) (DecisionAck, error) {
	r.deciding++
	defer func() { r.deciding-- }()
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if err := workflow.Await(ctx, func() bool { return r.loaded }); err != nil {
		return DecisionAck{}, err
	}
	if err := d.Verify(r.PortalKey, r.Request); err != nil {
		return DecisionAck{}, r.refuse(ctx, d, err)
	}
	if d.Verdict == access.Extend || d.Verdict == access.Renew {
		// The store says active a moment before the account has told us.
		awaitUntil(ctx, "hear of the grant", workflow.Now(ctx).Add(5*time.Second), func() bool { return r.State != access.StateApproved || r.settled() })
	}
	if why := r.tooLate(ctx, d.Verdict); why != "" {
		return DecisionAck{}, temporal.NewNonRetryableApplicationError(why, "TooLate", nil)
	}
	err := workflow.ExecuteActivity(untilDone(ctx, fmt.Sprintf("%s by %s", d.Verdict, d.ByEmail)), ActRecordDecision, d).Get(ctx, nil)
	if err != nil {
		return DecisionAck{}, err
	}
	switch d.Verdict {
	case access.Approve:
		r.approved = true
	case access.Deny:
		r.denied = true
	case access.Release, access.Revoke:
		r.withdrawn, r.actor = string(d.Verdict)+"d by "+d.ByEmail+because(d.Reason), d.By
	case access.Extend:
		err = r.each(ctx, UpdateMove, d)
	case access.Renew:
		err = r.each(ctx, UpdateCredential, d)
	}
	return DecisionAck{State: r.now(ctx)}, err
}

// tooLate says why a verdict comes too late, or too early, to count.
func (r *request) tooLate(ctx workflow.Context, v access.Verdict) string {
	now := r.now(ctx)
	switch v {
	case access.Approve, access.Deny:
		if r.State != access.StatePending {
			return fmt.Sprintf("the request is %s already", now)
		}
	case access.Extend, access.Renew:
		if now != access.StateActive {
			return fmt.Sprintf("the request is %s; only active access can be extended or have a new credential", now)
		}
	case access.Release, access.Revoke:
		if now.Final() {
			return fmt.Sprintf("the request is %s already", now)
		}
	}
	return ""
}

// refuse puts a decision that does not count on record.
func (r *request) refuse(ctx workflow.Context, d access.Decision, why error) error {
	if r.refused++; r.refused <= refusedCap {
		e := access.Event{Key: fmt.Sprintf("request/%s/refused/%d/%s", r.Request.ID, r.refused, workflow.GetInfo(ctx).WorkflowExecution.RunID), Kind: "decision.refused",
			At: workflow.Now(ctx), RequestID: r.Request.ID, Text: fmt.Sprintf("a decision (%s) was refused: %v", d.Verdict, why)}
		_ = workflow.ExecuteActivity(untilDone(ctx, "record a refused decision"), ActRecord, []access.Change{{Event: e}}).Get(ctx, nil)
	}
	return temporal.NewNonRetryableApplicationError(why.Error(), "Refused", nil)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// hear takes what an account says of the holds. A final state is never left.
func (r *request) hear(told HoldsTold) {
	r.told++
	for _, h := range told.Holds {
		i := slices.IndexFunc(r.Holds, func(x access.Hold) bool { return x.ID == h.ID })
		if i < 0 || r.Holds[i].State.Final() {
			continue
		}
		h.Entitlement = r.Holds[i].Entitlement
		r.Holds[i] = h
	}
}

// now is the request's state as people see it.
func (r *request) now(ctx workflow.Context) access.State {
	switch {
	case r.denied:
		return access.StateDenied
	case r.State == access.StatePending && r.approved:
		return access.StateApproved
	}
	return access.RequestState(r.State, r.Holds, workflow.Now(ctx))
}

func (r *request) run(ctx workflow.Context) (access.State, error) {
	r.show(ctx)
	if r.State == access.StatePending {
		if err := r.awaitDecision(ctx); err != nil {
			return r.State, err
		}
	}
	if r.State != access.StateApproved {
		return r.State, nil
	}
	// From here on nothing may stop it half way: cancelling gives back.
	live, _ := workflow.NewDisconnectedContext(ctx)
	if err := r.each(live, UpdateHold, access.Decision{}); err != nil {
		return r.State, err
	}
	r.awaitEnd(ctx, live)
	return r.now(live), nil
}

// awaitDecision sleeps until somebody decides, gives up, or time runs out.
// Decisions that arrive together are all put on record before any counts, so
// that a deny beats an approve.
func (r *request) awaitDecision(ctx workflow.Context) error {
	decided := func() bool {
		return r.deciding == 0 && (r.denied || r.approved || r.withdrawn != "")
	}
	r.awaitOrCancel(ctx, "the request expires", r.Request.ExpiresAt, decided)
	live, _ := workflow.NewDisconnectedContext(ctx)
	if r.deciding > 0 {
		_ = workflow.Await(live, func() bool { return r.deciding == 0 })
	}
	state, why := access.StateExpired, "nobody decided in time"
	switch {
	case r.denied:
		state, why = access.StateDenied, "denied"
	case r.withdrawn != "":
		state, why = access.StateEnded, r.withdrawn
	case ctx.Err() != nil:
		state, why = access.StateEnded, "cancelled in Temporal"
	case r.approved:
		state, why = access.StateApproved, "approved"
	}
	r.State = state
	change := access.Change{
		Event: access.Event{Key: fmt.Sprintf("request/%s/%s", r.Request.ID, state), Kind: "request." + string(state), At: workflow.Now(live), Actor: r.actor,
			RequestID: r.Request.ID, Text: why},
		Request: &access.RequestChange{ID: r.Request.ID, State: state, Why: why},
	}
	if state.Final() {
		_ = workflow.UpsertTypedSearchAttributes(live, AttrState.ValueSet(string(state)))
	}
	return workflow.ExecuteActivity(untilDone(live, "record: "+why), ActRecord, []access.Change{change}).Get(live, nil)
}

// awaitOrCancel waits for a condition, a moment, or the workflow's cancelling.
func (r *request) awaitOrCancel(ctx workflow.Context, summary string, at time.Time, cond func() bool) {
	awaitUntil(ctx, summary, at, func() bool { return cond() || ctx.Err() != nil })
}

// each tells every account of the request, or the one that a decision names, to
// do something with its holds.
func (r *request) each(ctx workflow.Context, kind string, d access.Decision) error {
	for _, acct := range r.Accounts {
		if d.Account != "" && d.Account != acct.Account.ID {
			continue
		}
		op := Op{Kind: kind, ID: kind + "/" + r.Request.ID, RequestID: r.Request.ID, Nonce: d.Nonce, Actor: r.actor, Why: r.withdrawn}
		if d.Nonce != "" {
			op.ID += "/" + d.Nonce
		}
		for _, h := range r.Holds {
			if h.AccountID == acct.Account.ID && !h.State.Final() {
				op.HoldIDs = append(op.HoldIDs, h.ID)
				op.Want = append(op.Want, h.Entitlement)
			}
		}
		if len(op.HoldIDs) == 0 {
			continue
		}
		err := workflow.ExecuteActivity(untilDone(ctx, kind+" on "+acct.Integration), ActTellAccount, TellArgs{AccountID: acct.Account.ID, Op: op}).Get(ctx, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitEnd sleeps until the accounts say that every hold is over. It asks an
// account again that says nothing when something should have happened: after
// the request to hold, and after the end. That also brings back an account
// whose workflow was terminated.
func (r *request) awaitEnd(ctx, live workflow.Context) {
	wait, ending := patience, false
	upserted := access.State("")
	for !r.over() {
		r.show(live)
		if s := r.now(live); (s == access.StateActive || s == access.StateOverdue) && upserted != s {
			upserted = s
			_ = workflow.UpsertTypedSearchAttributes(live, AttrState.ValueSet(string(s)), AttrExpires.ValueSet(r.endsAt()))
		}
		leaving := r.withdrawn != "" || ctx.Err() != nil
		if leaving && !ending {
			ending, wait = true, patience
			if r.withdrawn == "" {
				r.withdrawn = "cancelled in Temporal"
			}
			_ = r.each(live, UpdateEnd, access.Decision{})
		}
		summary, at, ask := r.next(workflow.Now(live), wait)
		told := r.told
		awaitUntil(live, summary, at, func() bool {
			return r.told > told || !ending && (r.withdrawn != "" || ctx.Err() != nil)
		})
		now := workflow.Now(live)
		switch {
		case r.told > told:
			wait = patience
		case ask == "" || now.Before(at):
		default:
			_ = r.each(live, ask, access.Decision{Nonce: stamp(now)})
			wait = min(2*wait, maxPatience)
		}
	}
	_ = workflow.UpsertTypedSearchAttributes(live, AttrState.ValueSet(string(r.now(live))))
}

// over is true when every hold is final.
func (r *request) over() bool {
	return !slices.ContainsFunc(r.Holds, func(h access.Hold) bool { return !h.State.Final() })
}

// settled is true when no hold waits for its grant.
func (r *request) settled() bool {
	return !slices.ContainsFunc(r.Holds, func(h access.Hold) bool { return !h.State.Final() && h.StartsAt.IsZero() })
}

// granting is true when an account has yet to say what became of a hold.
func (r *request) granting() bool {
	return slices.ContainsFunc(r.Holds, func(h access.Hold) bool { return !h.State.Final() && h.StartsAt.IsZero() && h.Grant == nil })
}

// endsAt is the latest end of the open holds.
func (r *request) endsAt() (at time.Time) {
	for _, h := range r.Holds {
		if !h.State.Final() && h.EndsAt.After(at) {
			at = h.EndsAt
		}
	}
	return at
}

// past is true once every open hold should have ended.
func (r *request) past(now time.Time) bool {
	at := r.endsAt()
	return !at.IsZero() && !now.Before(at)
}

// next is when to look again and, where that is a matter of patience, what the
// accounts are to be asked then: to hold, or to end.
func (r *request) next(now time.Time, wait time.Duration) (summary string, at time.Time, ask string) {
	end := r.endsAt()
	switch {
	case r.withdrawn != "" || !end.IsZero() && !now.Before(end):
		return "wait for the proof that access is gone", now.Add(wait), UpdateEnd
	case r.granting():
		return "wait for the grant", now.Add(wait), UpdateHold
	case !r.settled():
		return "wait until the person accepts", end, ""
	}
	return "access sleeps until it ends", end, ""
}

// show writes the request's state for Temporal's Web UI.
func (r *request) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n%s\n\n", r.Requester, r.now(ctx), r.Summary)
	step := func(done bool, text string) {
		mark := "[ ]"
		if done {
			mark = "[x]"
		}
		fmt.Fprintf(&b, "- %s %s\n", mark, text)
	}
	decided := r.State != access.StatePending
	switch {
	case decided && r.State != access.StateApproved:
		step(true, "decision: "+string(r.State))
	default:
		step(decided, "approval by "+r.Approvers+" before "+stamp(r.Request.ExpiresAt))
		step(decided && r.settled(), "grant")
		sleep := "sleep"
		if at := r.endsAt(); !at.IsZero() {
			sleep += " until " + stamp(at)
		}
		step(decided && (r.over() || r.past(workflow.Now(ctx))), sleep)
		step(decided && r.over(), "revoke")
		for _, a := range r.Accounts {
			step(false, fmt.Sprintf("cleanup: workflow `%s` deletes the account %s after the last hold", AccountID(a.Account.ID), a.Cleanup))
		}
	}
	b.WriteString("\n")
	for _, h := range r.Holds {
		fmt.Fprintf(&b, "- %s: **%s** %s\n", h.Entitlement, h.State, h.Error)
	}
	if s := b.String(); s != r.details {
		r.details = s
		workflow.SetCurrentDetails(ctx, s)
	}
}

// ErrUnknownRequest is the type of the error with which ActLoadRequest says
// that the store knows no such request.
const ErrUnknownRequest = "UnknownRequest"
