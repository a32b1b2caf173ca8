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
	told      int  // how often an account has told something
	turns     int  // how often another step has come to wait
	known     int  // how many decisions were on record when the last one was
	scheduled bool // it is approved and waits for its start
	reviewed  bool
}

// verdicts maps the name of an update to the verdicts that it carries.
var verdicts = []struct {
	update string
	are    []access.Verdict
}{
	{UpdateDecide, []access.Verdict{access.Approve, access.Deny, access.Justify, access.Object}},
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
	var done access.DecisionDone
	err := workflow.ExecuteActivity(untilDone(ctx, fmt.Sprintf("%s by %s", d.Verdict, d.ByEmail)), ActRecordDecision, d).Get(ctx, &done)
	if err != nil {
		return DecisionAck{}, err
	}
	switch d.Verdict {
	case access.Approve:
		r.approved = r.approved || !done.Waits
		if done.Known < r.known {
			break // the answer to a later decision came before this one
		}
		r.known, r.Without, r.Approvers = done.Known, done.Without, done.Approvers
		if done.Waits && done.Step != r.Step {
			r.Step, r.StepSince = done.Step, d.At
			r.turns++
		}
		r.show(ctx)
	case access.Justify, access.Object:
		r.reviewed = r.reviewed || done.Reviewed
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
	case access.Justify, access.Object:
		if !r.Review || r.State != access.StateApproved || r.reviewed {
			return "there is nothing to review"
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
	case r.State == access.StatePending && r.approved, r.scheduled:
		return access.StateApproved
	}
	return access.RequestState(r.State, r.Holds, workflow.Now(ctx))
}

func (r *request) run(ctx workflow.Context) (access.State, error) {
	r.approved = r.State == access.StatePending && r.Decided
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
	if r.Review {
		workflow.Go(live, r.remindReviewers)
	}
	if begun, err := r.awaitStart(ctx, live); err != nil || !begun {
		return r.State, err
	}
	if err := r.each(live, UpdateHold, access.Decision{}); err != nil {
		return r.State, err
	}
	r.awaitEnd(ctx, live)
	if r.Review {
		r.show(live)
		if err := workflow.Await(live, func() bool { return r.reviewed }); err != nil {
			return r.State, err
		}
	}
	return r.now(live), nil
}

// awaitStart sleeps until access begins that was asked for ahead of its time. It
// is false when somebody ended the request before that.
func (r *request) awaitStart(ctx, live workflow.Context) (begun bool, err error) {
	if !workflow.Now(live).Before(r.Request.StartAt) {
		return true, nil
	}
	r.scheduled = true
	r.show(live)
	r.awaitOrCancel(ctx, "access begins", r.Request.StartAt, func() bool { return r.withdrawn != "" })
	r.scheduled = false
	why := r.withdrawn
	if why == "" && ctx.Err() != nil {
		why = "cancelled in Temporal"
	}
	if why == "" {
		return true, nil
	}
	r.State = access.StateEnded
	_ = workflow.UpsertTypedSearchAttributes(live, AttrState.ValueSet(string(r.State)))
	return false, r.record(live, why, access.RequestChange{})
}

// record puts the outcome of the decision phase on record.
func (r *request) record(ctx workflow.Context, why string, to access.RequestChange, holds ...access.Hold) error {
	to.ID, to.State, to.Why = r.Request.ID, r.State, why
	change := access.Change{
		Event: access.Event{Key: fmt.Sprintf("request/%s/%s", r.Request.ID, r.State), Kind: "request." + string(r.State), At: workflow.Now(ctx), Actor: r.actor,
			RequestID: r.Request.ID, Text: why},
		Request: &to, Holds: holds,
	}
	return workflow.ExecuteActivity(untilDone(ctx, "record: "+why), ActRecord, []access.Change{change}).Get(ctx, nil)
}

// awaitDecision sleeps until somebody decides, gives up, or time runs out, and
// has those reminded who may decide. Decisions that arrive together are all put
// on record before any counts, so that a deny beats an approve.
func (r *request) awaitDecision(ctx workflow.Context) error {
	decided := func() bool {
		return r.deciding == 0 && (r.denied || r.approved || r.withdrawn != "")
	}
	for p := (prompts{turn: -1}); ; {
		if len(r.Steps) > 0 && !decided() && p.turn != r.turns {
			p = prompts{turn: r.turns, kind: access.NoticeReminder, rounds: r.rounds(workflow.Now(ctx))}
			r.remind(ctx, access.RemindArgs{Kind: p.kind, Step: r.Step})
		}
		summary, at, args := p.next(r)
		r.awaitOrCancel(ctx, summary, at, func() bool { return decided() || r.deciding == 0 && p.turn >= 0 && p.turn != r.turns })
		if decided() || ctx.Err() != nil || !workflow.Now(ctx).Before(r.Request.ExpiresAt) {
			break
		}
		if args.Kind != "" && !workflow.Now(ctx).Before(at) {
			r.remind(ctx, args)
			p.done(args, r, workflow.Now(ctx))
		}
	}
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
	to := access.RequestChange{}
	var out []access.Hold
	if state == access.StateApproved {
		if r.Review {
			to.Review = access.ReviewDue
		}
		for i, h := range r.Holds {
			if slices.Contains(r.Without, h.ID) && !h.State.Final() {
				r.Holds[i].State, r.Holds[i].Error = access.StateDenied, "an approver left it out"
				out = append(out, r.Holds[i])
			}
		}
	}
	if state.Final() {
		_ = workflow.UpsertTypedSearchAttributes(live, AttrState.ValueSet(string(state)))
	}
	return r.record(live, why, to, out...)
}

// prompts are what those who may decide were told while a step waits.
type prompts struct {
	turn   int
	kind   access.NoticeKind
	rounds int // reminders
	tiers  int // of escalation
}

// next is what comes next: the end of the wait, a reminder, or an escalation.
func (p *prompts) next(r *request) (summary string, at time.Time, args access.RemindArgs) {
	summary, at = "the request expires", r.Request.ExpiresAt
	if r.Step >= len(r.Steps) {
		return summary, at, args
	}
	if remind := r.StepSince.Add(time.Duration(p.rounds+1) * r.Remind.Std()); r.Remind > 0 && remind.Before(at) {
		summary, at, args = "a reminder", remind, access.RemindArgs{Kind: p.kind, Step: r.Step, Round: p.rounds + 1}
	}
	tiers := r.Steps[r.Step].Escalate
	if p.tiers < len(tiers) {
		if escalates := r.StepSince.Add(tiers[p.tiers].After.Std()); escalates.Before(at) {
			summary, at, args = "escalation", escalates, access.RemindArgs{Kind: access.NoticeEscalation, Step: r.Step, Tier: p.tiers + 1}
		}
	}
	return summary, at, args
}

// done goes on to what comes after this. Reminders whose time passed while nobody
// could be told are not made up for.
func (p *prompts) done(args access.RemindArgs, r *request, now time.Time) {
	if args.Kind == access.NoticeEscalation {
		p.tiers++
	} else {
		p.rounds = max(args.Round, r.rounds(now))
	}
}

// rounds is how many reminders of the step that waits are past.
func (r *request) rounds(now time.Time) int {
	if r.Remind <= 0 {
		return 0
	}
	return max(0, int(now.Sub(r.StepSince)/r.Remind.Std()))
}

// remind has people told. That it could not be done stops nothing.
func (r *request) remind(ctx workflow.Context, args access.RemindArgs) {
	args.RequestID = r.Request.ID
	_ = workflow.ExecuteActivity(bounded(ctx, Queue, "tell people: "+string(args.Kind), remindWindow, priorityGrant), ActRemind, args).Get(ctx, nil)
}

// remindWindow is how long it is tried to have people told.
const remindWindow = time.Minute

// remindReviewers tells everybody that somebody broke the glass, and those who
// review it until they have: when it is due, and each day after that.
func (r *request) remindReviewers(ctx workflow.Context) {
	r.remind(ctx, access.RemindArgs{Kind: access.NoticeBreakGlass})
	every := r.Remind.Std()
	for round := 0; !r.reviewed; round++ {
		r.remind(ctx, access.RemindArgs{Kind: access.NoticeReview, Round: round})
		at := workflow.Now(ctx).Add(overdueReview)
		if due := r.ReviewBy; workflow.Now(ctx).Before(due) {
			at = due
			if next := workflow.Now(ctx).Add(every); every > 0 && next.Before(due) {
				at = next
			}
		}
		awaitUntil(ctx, "a review is due", at, func() bool { return r.reviewed })
	}
}

// overdueReview is the time between two reminders of a review that is overdue.
const overdueReview = 24 * time.Hour

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
		switch {
		case r.Review:
			step(true, "approval: none, the glass was broken")
			step(r.reviewed, "review by "+r.Approvers+" before "+stamp(r.ReviewBy))
		case len(r.Steps) > 1:
			for i := range r.Steps {
				text := access.StepName(r.Steps, i) + ": " + r.Steps[i].Wants()
				if i == r.Step && !decided {
					text += ", waits for " + r.Approvers
				}
				step(decided || i < r.Step, text)
			}
			step(decided, "all before "+stamp(r.Request.ExpiresAt))
		case len(r.Steps) == 0 && r.Decided:
			step(true, "approval: none, the access flow "+r.Request.Flow+" gives it")
		default:
			step(decided, "approval by "+r.Approvers+" before "+stamp(r.Request.ExpiresAt))
		}
		if !r.Request.StartAt.IsZero() {
			step(decided && !r.scheduled, "begin at "+stamp(r.Request.StartAt))
		}
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
