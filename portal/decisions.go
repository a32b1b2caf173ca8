package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// decideBy is a call with a body on one request.
type decideBy[B any] struct {
	ByID
	Body B
}

func (p *Portal) registerDecisions(to huma.API, tags []string) {
	register(p, to, huma.Operation{OperationID: "decide", Method: http.MethodPost, Path: "/requests/{id}/decisions", Tags: tags,
		Summary: "Approve or deny a request, or review access that was taken by breaking the glass"}, p.judge)
	register(p, to, huma.Operation{OperationID: "extend", Method: http.MethodPost, Path: "/requests/{id}/extension", Tags: tags,
		Summary: "Keep access for longer, within the access flow's maximum"}, p.extend)
	register(p, to, huma.Operation{OperationID: "release", Method: http.MethodPost, Path: "/requests/{id}/release", Tags: tags,
		Summary: "Give access back early, or withdraw the request"}, p.release)
	register(p, to, huma.Operation{OperationID: "revoke", Method: http.MethodPost, Path: "/requests/{id}/revoke", Tags: tags,
		Summary: "End somebody's access, as an approver or administrator"}, p.revoke)
}

func (p *Portal) judge(ctx context.Context, c *caller, in *decideBy[api.Decide]) (out api.Request, err error) {
	d := access.Decision{Verdict: in.Body.Verdict, Reason: in.Body.Reason}
	if d.Verdict.Reviews() && strings.TrimSpace(d.Reason) == "" {
		return out, wrongs("", api.Wrong{Location: "body.reason", Message: "say what you found: a review says why"})
	}
	if in.Body.For != "" || len(in.Body.Without) > 0 {
		if d.Verdict != access.Approve {
			return out, wrongs("", api.Wrong{Location: "body.verdict", Message: "only an approval shortens a request or leaves something out"})
		}
		if d.Without, d.For, err = p.terms(ctx, c, in); err != nil {
			return out, err
		}
	}
	return p.decide(ctx, c, in.ID, d)
}

// terms are what an approval changes of what the approvals before left.
func (p *Portal) terms(ctx context.Context, c *caller, in *decideBy[api.Decide]) (without []string, d access.Duration, err error) {
	row, err := c.request(ctx, in.ID)
	if err != nil {
		return nil, 0, err
	}
	m, err := c.matterNow(ctx, row)
	if err != nil {
		return nil, 0, err
	}
	now := m.Terms()
	var faults []api.Wrong
	if in.Body.For != "" {
		if d, err = access.ParseDuration(in.Body.For); err != nil || d.Std() < time.Second || d > now.Duration {
			faults = append(faults, api.Wrong{Location: "body.for", Message: fmt.Sprintf("want a duration of at most %s, as it stands now: an approver may shorten access and not lengthen it", now.Duration)})
		}
		if d == now.Duration {
			d = 0 // nothing is changed
		}
	}
	out := slices.Clone(now.Without)
	for i, want := range in.Body.Without {
		at := slices.IndexFunc(row.Asked, func(a access.Asked) bool {
			return a.Integration == want.Integration && a.Entitlement.Resource.String() == want.Resource && a.Entitlement.Permission == want.Permission
		})
		if at < 0 {
			faults = append(faults, api.Wrong{Location: fmt.Sprintf("body.without[%d]", i), Message: "is not among what the request asks for"})
			continue
		}
		if id := row.HoldIDs[at]; !slices.Contains(out, id) {
			without, out = append(without, id), append(out, id)
		}
	}
	if len(without) > 0 && len(out) == len(row.HoldIDs) {
		faults = append(faults, api.Wrong{Location: "body.without", Message: "nothing would be left of the request: deny it instead"})
	}
	if len(faults) > 0 {
		return nil, 0, wrongs("", faults...)
	}
	return without, d, nil
}

func (p *Portal) extend(ctx context.Context, c *caller, in *decideBy[api.Extend]) (out api.Request, err error) {
	extra, err := access.ParseDuration(in.Body.By)
	if err != nil || extra.Std() < time.Second {
		return out, wrongs("", api.Wrong{Location: "body.by", Message: "want a duration of at least 1s, for example 30m"})
	}
	return p.decide(ctx, c, in.ID, access.Decision{Verdict: access.Extend, Extra: extra})
}

func (p *Portal) release(ctx context.Context, c *caller, in *decideBy[api.Why]) (api.Request, error) {
	return p.decide(ctx, c, in.ID, access.Decision{Verdict: access.Release, Reason: in.Body.Reason})
}

func (p *Portal) revoke(ctx context.Context, c *caller, in *decideBy[api.Why]) (out api.Request, err error) {
	if strings.TrimSpace(in.Body.Reason) == "" {
		return out, wrongs("", api.Wrong{Location: "body.reason", Message: "say why: the person whose access ends will ask"})
	}
	return p.decide(ctx, c, in.ID, access.Decision{Verdict: access.Revoke, Reason: in.Body.Reason})
}

// updates are the names by which verdicts reach the workflow of a request.
var updates = map[access.Verdict]string{
	access.Approve: workflows.UpdateDecide, access.Deny: workflows.UpdateDecide, access.Justify: workflows.UpdateDecide, access.Object: workflows.UpdateDecide,
	access.Extend:  workflows.UpdateExtend,
	access.Release: workflows.UpdateRelease, access.Revoke: workflows.UpdateRevoke, access.Renew: workflows.UpdateRenew,
}

// decide judges a decision, has the workflow take it, and shows what came of
// it.
func (p *Portal) decide(ctx context.Context, c *caller, id string, d access.Decision) (out api.Request, err error) {
	row, err := c.request(ctx, id)
	if err != nil {
		return out, err
	}
	if d, err = p.take(ctx, c, row, d); err != nil {
		return out, err
	}
	var note string
	if m, err := c.matterNow(ctx, row); err != nil {
		return out, err
	} else if d.Verdict != access.Approve || m.Done() {
		if note, err = p.outcome(ctx, row, d); err != nil {
			return out, err
		}
	}
	if row, err = p.opts.Store.Request(ctx, id); err != nil {
		return out, err
	}
	c.now = p.opts.Store.Now()
	out, err = p.show(ctx, c, row)
	out.Note = note
	return out, err
}

// take judges and signs a decision of the caller, and tells it to the workflow
// of the request.
func (p *Portal) take(ctx context.Context, c *caller, row store.RequestRow, d access.Decision) (access.Decision, error) {
	m, err := c.matterNow(ctx, row)
	if err != nil {
		return d, err
	}
	d = c.signable(row, d)
	if err := timely(row, m, d, c.now); err != nil {
		return d, err
	}
	if why := m.May(d); why != "" {
		return d, problem(http.StatusForbidden, "", "%s", why)
	}
	if d.Verdict.Gives() {
		if err := c.open(row.Request.Integrations()...); err != nil {
			return d, err
		}
	}
	d = d.Sign(p.opts.Keys.PortalKey)
	return d, p.tell(ctx, c, row, d)
}

// signable is a decision of the caller as it is to be signed.
func (c *caller) signable(row store.RequestRow, d access.Decision) access.Decision {
	d.RequestID, d.AskHash, d.By, d.ByEmail = row.ID, row.Request.Hash(), c.ID, c.Email
	d.Reason, d.Nonce, d.At, d.From = strings.TrimSpace(d.Reason), access.NewID("dec"), c.now.UTC(), c.from
	return d
}

// timely is the error for a decision that comes too late, too early, or asks
// for too much. The workflow has the last word.
func timely(row store.RequestRow, m access.Matter, d access.Decision, now time.Time) error {
	state := access.RequestState(row.State, seen(row), now)
	switch d.Verdict {
	case access.Approve, access.Deny:
		if row.State != access.StatePending {
			return problem(http.StatusConflict, "", "the request is %s already", state)
		}
	case access.Justify, access.Object:
		if row.Review != access.ReviewDue {
			return problem(http.StatusConflict, "", "there is nothing to review (any more)")
		}
	case access.Extend, access.Renew:
		if state != access.StateActive {
			return problem(http.StatusConflict, "", "the request is %s; only active access can be extended or have a new credential", state)
		}
	case access.Release, access.Revoke:
		if state.Final() {
			return problem(http.StatusConflict, "", "the request is %s already", state)
		}
	}
	if d.Verdict != access.Extend {
		return nil
	}
	limit := "the access flow " + m.Flow.Name
	if m.Terms().Duration < row.Duration {
		limit = "what was approved, which is less than was asked for,"
	}
	for _, h := range row.Holds {
		if left := h.MaxEnd.Sub(h.EndsAt); h.State == access.StateActive && d.Extra.Std() > left {
			if left < time.Second {
				return problem(http.StatusConflict, "ask for access anew", "%s lets this access last until %s, and it does already", limit, h.MaxEnd.UTC().Format(time.RFC3339))
			}
			return problem(http.StatusConflict, "ask for less, or for access anew", "%s lets this access last until %s, which is %s longer than now",
				limit, h.MaxEnd.UTC().Format(time.RFC3339), access.Duration(left.Truncate(time.Second)))
		}
	}
	return nil
}

// decideTimeout is how long a call waits for a workflow to take a decision.
const decideTimeout = 15 * time.Second

// tell brings a signed decision to the workflow of its request.
func (p *Portal) tell(ctx context.Context, c *caller, row store.RequestRow, d access.Decision) error {
	err := p.update(ctx, d)
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		err = p.tellGone(ctx, c, row, d)
	}
	switch kind, text := said(err); {
	case err == nil:
		return nil
	case kind == "TooLate":
		return problem(http.StatusConflict, "", "%s", text)
	case kind == "Refused" || kind == string(access.Invalid):
		return problem(http.StatusForbidden, "", "%s", text)
	case late(err):
		return problem(http.StatusGatewayTimeout, "lapse show "+row.ID+" says whether it did",
			"Temporal has not answered within %s; the decision may still count", access.Duration(decideTimeout))
	}
	return err
}

func (p *Portal) update(ctx context.Context, d access.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	handle, err := p.opts.Temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: workflows.RequestID(d.RequestID), UpdateID: d.Nonce, UpdateName: updates[d.Verdict], Args: []any{d},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	var ack workflows.DecisionAck
	return handle.Get(ctx, &ack)
}

// tellGone is for a request without a running workflow. One that was never
// started is started. Where it was ended in Temporal, access can still be given
// back and taken away: the accounts, which own every deadline, are told.
func (p *Portal) tellGone(ctx context.Context, c *caller, row store.RequestRow, d access.Decision) error {
	fresh, err := p.neverStarted(ctx, row.ID)
	if err != nil {
		return err
	}
	if row.State == access.StatePending && fresh {
		if err := p.start(ctx, c, row.Request); err != nil {
			return err
		}
		return p.update(ctx, d)
	}
	if d.Verdict.Reviews() {
		_, err := p.control.Decide(ctx, d)
		return err
	}
	if d.Verdict != access.Release && d.Verdict != access.Revoke {
		return problem(http.StatusConflict, "it can be released and revoked, and access can be asked for anew",
			"the workflow of this request was ended in Temporal, so nobody can %s it any more", d.Verdict)
	}
	event := access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict), At: d.At, Actor: d.By, RequestID: d.RequestID,
		Text: fmt.Sprintf("%s by %s", d.Verdict, d.ByEmail)}
	if d.Reason != "" {
		event.Text += ": " + d.Reason
	}
	if err := p.opts.Store.AddDecision(ctx, d, event); err != nil {
		return err
	}
	if row.State == access.StatePending || row.State == access.StateApproved && row.StartAt.After(c.now) {
		return p.opts.Store.Record(ctx, []access.Change{{
			Event:   access.Event{Key: "request/" + row.ID + "/ended", Kind: "request.ended", At: d.At, Actor: d.By, RequestID: row.ID, Text: event.Text},
			Request: &access.RequestChange{ID: row.ID, State: access.StateEnded, Why: event.Text},
		}})
	}
	for _, account := range accounts(row.Holds) {
		op := workflows.Op{ID: workflows.UpdateEnd + "/" + row.ID + "/" + d.Nonce, Kind: workflows.UpdateEnd, RequestID: row.ID, Actor: d.By, Why: event.Text}
		for _, h := range row.Holds {
			if h.AccountID == account && !h.State.Final() {
				op.HoldIDs = append(op.HoldIDs, h.ID)
			}
		}
		if len(op.HoldIDs) == 0 {
			continue
		}
		if err := p.control.Tell(ctx, workflows.TellArgs{AccountID: account, Op: op}); err != nil {
			return err
		}
	}
	return nil
}

// neverStarted reports whether Temporal knows no workflow of the request, not
// even one that is over.
func (p *Portal) neverStarted(ctx context.Context, id string) (bool, error) {
	_, err := p.opts.Temporal.DescribeWorkflowExecution(ctx, workflows.RequestID(id), "")
	if _, unknown := errors.AsType[*serviceerror.NotFound](err); unknown {
		return true, nil
	}
	return false, err
}

// Variables only for the tests, in which nothing follows by itself.
var (
	// outcomeTimeout is how long a call waits to show what came of a decision.
	outcomeTimeout = 10 * time.Second
	// grantTimeout is how long it waits for the grant after an approval.
	grantTimeout = 3 * time.Second
)

const pollEvery = 100 * time.Millisecond

// outcome waits until the store shows what came of a decision. Where that takes
// longer, the note says so; the decision counts all the same.
func (p *Portal) outcome(ctx context.Context, row store.RequestRow, d access.Decision) (note string, err error) {
	state := func() (access.State, error) {
		now, err := p.opts.Store.Request(ctx, row.ID)
		return access.RequestState(now.State, seen(now), p.opts.Store.Now()), err
	}
	if d.Verdict.Reviews() {
		return "", nil
	}
	limit := outcomeTimeout
	opens := d.Verdict == access.Approve || d.Verdict == access.Break
	if opens {
		limit = grantTimeout
	}
	err = poll(ctx, limit, func() (bool, error) {
		if d.Verdict == access.Extend {
			return p.extended(ctx, row, d)
		}
		now, err := state()
		if opens {
			if err != nil || now == access.StateApproved && row.StartAt.After(p.opts.Store.Now()) {
				return true, err
			}
			return now != access.StatePending && !underWay(now), nil
		}
		return now.Final() || now == access.StateOverdue, err
	})
	if errors.Is(err, errTooSlow) {
		return "the decision counts, and what follows from it is under way: lapse show " + row.ID, nil
	}
	return "", err
}

// underWay is true between the approval and the grant.
func underWay(s access.State) bool { return s == access.StateApproved || s == access.StateGranting }

// extended reports whether an extension was made, or the error with which an
// account refused it.
func (p *Portal) extended(ctx context.Context, row store.RequestRow, d access.Decision) (bool, error) {
	events, err := p.events(ctx, store.EventFilter{RequestID: row.ID})
	if err != nil {
		return false, err
	}
	for _, account := range accounts(row.Holds) {
		if err := refusal(events, account, workflows.UpdateMove, d); err != nil {
			return false, err
		}
	}
	for _, h := range row.Holds {
		key := "hold/" + h.ID + "/extended/" + d.Nonce
		if h.State == access.StateActive && !slices.ContainsFunc(events, func(e store.EventRow) bool { return e.Key == key }) {
			return false, nil
		}
	}
	return true, nil
}

// refusal is the error with which an account refused what a decision asked for.
func refusal(events []store.EventRow, account, op string, d access.Decision) error {
	key := "account/" + account + "/refused/" + op + "/" + d.RequestID + "/" + d.Nonce
	if i := slices.IndexFunc(events, func(e store.EventRow) bool { return e.Key == key }); i >= 0 {
		return problem(http.StatusConflict, "", "%s", events[i].Text)
	}
	return nil
}

// errTooSlow says that poll saw its time run out.
var errTooSlow = errors.New("it takes longer than a call may")

// poll asks again and again until the answer is true.
func poll(ctx context.Context, timeout time.Duration, done func() (bool, error)) error {
	end := time.NewTimer(timeout)
	defer end.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return errTooSlow
		case <-tick.C:
		}
	}
}
