package workflows_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// asks puts a request for one entitlement into the store.
func (w *world) asks() access.Request {
	w.know("h1", "r1", "read_only", time.Hour)
	w.request.Request = access.Request{ID: "r1", PersonID: "per-1", Reason: "why not", Duration: access.Duration(time.Hour), Flow: "analysts-read", FlowVersion: 1,
		Asked: []access.Asked{{Entitlement: entitlement("read_only"), Integration: "prod-pg"}}, HoldIDs: []string{"h1"}, ExpiresAt: w.env.Now().Add(24 * time.Hour)}
	w.request.State, w.request.Requester, w.request.Approvers = access.StatePending, "ana@example.com", "dan@example.com"
	w.request.Accounts = []access.AccountBrief{w.row}
	return w.request.Request
}

// answer is what came of sending a decision.
type answer struct {
	ack workflows.DecisionAck
	err error
}

func (w *world) decide(at time.Duration, update string, d access.Decision) *answer {
	a := &answer{err: errors.New("no answer")}
	w.env.RegisterDelayedCallback(func() {
		w.env.UpdateWorkflow(update, d.Nonce, &testsuite.TestUpdateCallback{
			OnReject: func(err error) { a.err = err }, OnAccept: func() {},
			OnComplete: func(r any, err error) { a.ack, _ = r.(workflows.DecisionAck); a.err = err },
		}, d)
	}, at)
	return a
}

func (w *world) decision(r access.Request, v access.Verdict, nonce string) access.Decision {
	return access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: v, By: "per-2", ByEmail: "dan@example.com", Nonce: nonce, At: w.env.Now().UTC()}.Sign(w.key)
}

// tellHold is what an account says of the hold.
func (w *world) tellHold(at time.Duration, s access.State, starts, ends time.Duration) {
	begun := w.env.Now()
	w.env.RegisterDelayedCallback(func() {
		h := access.Hold{ID: "h1", RequestID: "r1", AccountID: acct, State: s, StartsAt: begun.Add(starts), EndsAt: begun.Add(ends)}
		w.env.SignalWorkflow(workflows.SignalHolds, workflows.HoldsTold{Holds: []access.Hold{h}})
	}, at)
}

func (w *world) runRequest(t require.TestingT) (access.State, error) {
	w.env.ExecuteWorkflow(workflows.Request, workflows.RequestInput{RequestID: "r1"})
	require.True(t, w.env.IsWorkflowCompleted())
	var s access.State
	if err := w.env.GetWorkflowError(); err != nil {
		return "", err
	}
	return s, w.env.GetWorkflowResult(&s)
}

// asked counts what the accounts were asked for.
func (w *world) asked(kind string) (n int) {
	for _, op := range w.ops {
		if op.Kind == kind {
			n++
		}
	}
	return n
}

func TestRequestFromApprovalToEnd(t *testing.T) {
	w := newWorld()
	r := w.asks()
	a := w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Approve, "d1"))
	w.tellHold(61*time.Second, access.StateActive, 61*time.Second, 62*time.Minute)
	w.tellHold(62*time.Minute+time.Second, access.StateEnded, 2*time.Minute, 62*time.Minute)
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.NoError(t, a.err)
	require.Equal(t, access.StateEnded, state)
	require.Equal(t, 1, w.asked(workflows.UpdateHold))
	require.Equal(t, 0, w.asked(workflows.UpdateEnd), "the account owns the end; nobody has to ask it")
	require.Equal(t, 1, w.count("decision.approve"))
	require.Equal(t, 1, w.count("request.approved"))
}

func TestRequestExpires(t *testing.T) {
	w := newWorld()
	w.asks()
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.Equal(t, access.StateExpired, state)
	require.Empty(t, w.ops)
	require.Equal(t, 1, w.count("request.expired"))
}

// A decision that the portal did not sign, or signed for something else,
// grants nothing and is put on record; only so many are.
func TestUnsignedDecision(t *testing.T) {
	w := newWorld()
	r := w.asks()
	_, stranger, _ := ed25519.GenerateKey(nil)
	other := r
	other.Duration = access.Duration(100 * time.Hour)
	forged := []access.Decision{
		access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: access.Approve, By: "per-2", Nonce: "f1", Signature: []byte("x")},
		access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: access.Approve, By: "per-2", Nonce: "f2"}.Sign(stranger),
		w.decision(other, access.Approve, "f3"),
	}
	for i, d := range forged {
		a := w.decide(time.Duration(i+1)*time.Minute, workflows.UpdateDecide, d)
		defer func() { require.Error(t, a.err, d.Nonce) }()
	}
	w.env.RegisterDelayedCallback(func() {
		for i := range 100 {
			d := forged[1]
			d.Nonce = fmt.Sprintf("s%d", i)
			w.env.SignalWorkflow(workflows.SignalDecide, d)
		}
	}, time.Hour)
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.Equal(t, access.StateExpired, state)
	require.Empty(t, w.ops)
	require.Equal(t, 20, w.count("decision.refused"))
}

// A deny that arrives together with an approve beats it, in either order.
func TestDenyBeatsApprove(t *testing.T) {
	for _, order := range [][]access.Verdict{{access.Approve, access.Deny}, {access.Deny, access.Approve}} {
		w := newWorld()
		r := w.asks()
		w.env.RegisterDelayedCallback(func() {
			for _, v := range order {
				w.env.SignalWorkflow(workflows.SignalDecide, w.decision(r, v, string(v)))
			}
		}, time.Minute)
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.Equal(t, access.StateDenied, state)
		require.Empty(t, w.ops)
	}
}

func TestDecisionAfterTheFact(t *testing.T) {
	w := newWorld()
	r := w.asks()
	w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Approve, "d1"))
	w.tellHold(61*time.Second, access.StateActive, 61*time.Second, 62*time.Minute)
	late := w.decide(3*time.Minute, workflows.UpdateDecide, w.decision(r, access.Deny, "d2"))
	w.tellHold(63*time.Minute, access.StateEnded, 2*time.Minute, 62*time.Minute)
	_, err := w.runRequest(t)
	require.NoError(t, err)
	e, ok := errors.AsType[*temporal.ApplicationError](late.err)
	require.True(t, ok && e.Type() == "TooLate", "got %v", late.err)
}

func TestGivenBackAndWithdrawn(t *testing.T) {
	t.Run("active access is given back", func(t *testing.T) {
		w := newWorld()
		r := w.asks()
		w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Approve, "d1"))
		w.tellHold(61*time.Second, access.StateActive, 61*time.Second, 62*time.Minute)
		w.decide(10*time.Minute, workflows.UpdateRelease, w.decision(r, access.Release, "d2"))
		w.tellHold(10*time.Minute+time.Second, access.StateEnded, 2*time.Minute, 10*time.Minute)
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.Equal(t, access.StateEnded, state)
		require.Equal(t, 1, w.asked(workflows.UpdateEnd))
	})
	t.Run("a pending request is withdrawn", func(t *testing.T) {
		w := newWorld()
		r := w.asks()
		w.decide(time.Minute, workflows.UpdateRelease, w.decision(r, access.Release, "d1"))
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.Equal(t, access.StateEnded, state)
		require.Empty(t, w.ops)
	})
	t.Run("cancelling in Temporal gives back", func(t *testing.T) {
		w := newWorld()
		r := w.asks()
		w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Approve, "d1"))
		w.tellHold(61*time.Second, access.StateActive, 61*time.Second, 62*time.Minute)
		w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 10*time.Minute)
		w.tellHold(10*time.Minute+time.Second, access.StateEnded, 2*time.Minute, 10*time.Minute)
		_, err := w.runRequest(t)
		require.True(t, temporal.IsCanceledError(err), "got %v", err)
		require.Equal(t, 1, w.asked(workflows.UpdateEnd))
	})
}

// A new credential is made for the account that is named, and no other.
func TestRenewNamesItsAccount(t *testing.T) {
	w := newWorld()
	r := w.asks()
	const other = "int-2/per-1"
	second := w.row
	second.Account.ID, second.Account.Integration = other, "int-2"
	w.request.Accounts = append(w.request.Accounts, second)
	elsewhere := *w.holds["h1"]
	elsewhere.ID, elsewhere.AccountID, elsewhere.Entitlement.Integration = "h2", other, "int-2"
	w.holds["h2"] = &elsewhere
	w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Approve, "d1"))
	for i, h := range []access.Hold{*w.holds["h1"], elsewhere} {
		w.env.RegisterDelayedCallback(func() {
			h.State, h.StartsAt, h.EndsAt = access.StateActive, w.env.Now(), w.env.Now().Add(time.Hour)
			w.env.SignalWorkflow(workflows.SignalHolds, workflows.HoldsTold{Holds: []access.Hold{h}})
		}, 61*time.Second+time.Duration(i))
		w.env.RegisterDelayedCallback(func() {
			h.State = access.StateEnded
			w.env.SignalWorkflow(workflows.SignalHolds, workflows.HoldsTold{Holds: []access.Hold{h}})
		}, time.Hour)
	}
	w.env.RegisterDelayedCallback(func() { w.ops = nil }, 2*time.Minute)
	renew := w.decision(r, access.Renew, "d2")
	renew.Account = other
	renew = renew.Sign(w.key)
	a := w.decide(3*time.Minute, workflows.UpdateRenew, renew)
	_, err := w.runRequest(t)
	require.NoError(t, err)
	require.NoError(t, a.err)
	require.Len(t, w.ops, 1)
	require.Equal(t, []string{"h2"}, w.ops[0].HoldIDs)
}

// An account that says nothing is asked again: to hold, and after the end.
func TestPatience(t *testing.T) {
	w := newWorld()
	r := w.asks()
	w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Approve, "d1"))
	w.tellHold(20*time.Minute, access.StateActive, 20*time.Minute, 80*time.Minute)
	w.tellHold(100*time.Minute, access.StateEnded, 20*time.Minute, 80*time.Minute)
	_, err := w.runRequest(t)
	require.NoError(t, err)
	require.Greater(t, w.asked(workflows.UpdateHold), 2)
	require.Greater(t, w.asked(workflows.UpdateEnd), 2)
	ids := map[string]bool{}
	for _, op := range w.ops {
		ids[op.ID] = true
	}
	require.Equal(t, len(w.ops), len(ids), "each time under an id of its own, or the account would not look")
	require.True(t, slices.ContainsFunc(w.ops, func(op workflows.Op) bool { return op.Kind == workflows.UpdateHold && len(op.Want) == 1 }))
}

// A workflow that was started for a request that the store does not know has
// nothing to say.
func TestForgedRequest(t *testing.T) {
	w := newWorld()
	_, err := w.runRequest(t)
	e, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok && e.Type() == workflows.ErrUnknownRequest, "got %v", err)
	require.Empty(t, w.ops)
}

// A request that is reset to its start begins with what the store knows, and
// asks for nothing that is over.
func TestResetRequest(t *testing.T) {
	w := newWorld()
	w.asks()
	w.request.State = access.StateApproved
	w.holds["h1"].State = access.StateEnded
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.Equal(t, access.StateEnded, state)
	require.Empty(t, w.ops)
}

// steps puts a request at a flow of several steps into the store, and has its
// decisions lead from one to the next.
func (w *world) steps(steps ...access.Step) access.Request {
	r := w.asks()
	w.began = w.env.Now()
	w.request.Steps, w.request.StepSince, w.request.Remind = steps, w.began, access.Duration(time.Hour)
	known := 0
	w.leads = func(d access.Decision) access.DecisionDone {
		if d.Verdict == access.Approve {
			known++
		}
		return access.DecisionDone{Waits: known < len(steps), Step: known, Approvers: fmt.Sprint("those of step ", known+1), Known: known}
	}
	return r
}

// approves sends an approval at a virtual time, signed then.
func (w *world) approves(at time.Duration, r access.Request, nonce string) *answer {
	d := access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: access.Approve, By: "per-2", ByEmail: "dan@example.com", Nonce: nonce, At: w.env.Now().UTC().Add(at)}.Sign(w.key)
	return w.decide(at, workflows.UpdateDecide, d)
}

// grants has the account say that all went well for an hour from a moment on.
func (w *world) grants(at time.Duration) {
	w.tellHold(at, access.StateActive, at, at+time.Hour)
	w.tellHold(at+time.Hour, access.StateEnded, at, at+time.Hour)
}

// Each step is told to those who decide on it as soon as it waits, reminded of
// and escalated from its own beginning, and nothing is held before the last one.
func TestRequestOfSteps(t *testing.T) {
	w := newWorld()
	tiers := []access.Tier{{After: access.Duration(90 * time.Minute), To: []string{"group:a"}}, {After: access.Duration(2 * time.Hour), To: []string{"group:b"}}}
	r := w.steps(access.Step{Name: "team", AnyOf: []string{"manager"}}, access.Step{AnyOf: []string{"group:security"}, Escalate: tiers})
	first := w.approves(150*time.Minute, r, "d1")
	w.env.RegisterDelayedCallback(func() {
		require.Empty(t, w.ops, "one step is not enough")
		require.Zero(t, w.count("request.approved"))
	}, 5*time.Hour)
	second := w.approves(5*time.Hour+10*time.Minute, r, "d2")
	w.grants(5*time.Hour + 10*time.Minute + time.Second)
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.NoError(t, first.err)
	require.NoError(t, second.err)
	require.Equal(t, access.StatePending, first.ack.State)
	require.Equal(t, access.StateApproved, second.ack.State)
	require.Equal(t, access.StateEnded, state)
	require.Equal(t, 1, w.asked(workflows.UpdateHold))
	require.Equal(t, []string{
		"0s reminder/0/0/0", "1h0m0s reminder/0/0/1", "2h0m0s reminder/0/0/2",
		"2h30m0s reminder/1/0/0", "3h30m0s reminder/1/0/1", "4h0m0s escalation/1/1/0", "4h30m0s reminder/1/0/2", "4h30m0s escalation/1/2/0",
	}, w.reminded)
}

// That people could not be told stops nothing, and reminders that could not be
// sent are not made up for.
func TestRemindersAreNotMadeUpFor(t *testing.T) {
	w := newWorld()
	r := w.steps(access.Step{AnyOf: []string{"manager"}})
	w.request.StepSince = w.began.Add(-5*time.Hour - time.Minute) // as after a long time without workers
	w.fault = func(name string) error {
		if name == workflows.ActRemind && w.env.Now().Sub(w.began) < 3*time.Hour+20*time.Minute && w.env.Now().Sub(w.began) > time.Second {
			return errors.New("no network")
		}
		return nil
	}
	w.approves(5*time.Hour, r, "d1")
	w.grants(5*time.Hour + time.Second)
	_, err := w.runRequest(t)
	require.NoError(t, err)
	require.Equal(t, []string{"0s reminder/0/0/0", "3h59m0s reminder/0/0/9", "4h59m0s reminder/0/0/10"}, w.reminded)
}

// Without remind_after the step is told once, and a request without steps, as of
// a history before there were any, tells nobody.
func TestNobodyIsReminded(t *testing.T) {
	for _, c := range []struct {
		steps []access.Step
		want  []string
	}{{[]access.Step{{AnyOf: []string{"manager"}}}, []string{"0s reminder/0/0/0"}}, {nil, nil}} {
		w := newWorld()
		w.steps(c.steps...)
		w.request.Remind = 0
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.Equal(t, access.StateExpired, state)
		require.Equal(t, c.want, w.reminded)
	}
}

// What an approver left out is denied, and the account never hears of it.
func TestNarrowedRequest(t *testing.T) {
	w := newWorld()
	r := w.steps(access.Step{AnyOf: []string{"manager"}}, access.Step{AnyOf: []string{"manager"}})
	w.know("h2", "r1", "read_write", time.Hour)
	leads := w.leads
	w.leads = func(d access.Decision) access.DecisionDone {
		done := leads(d)
		done.Without = []string{"h2"}
		return done
	}
	w.approves(time.Minute, r, "d1")
	w.approves(2*time.Minute, r, "d2")
	w.grants(2*time.Minute + time.Second)
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.Equal(t, access.StateEnded, state)
	require.Len(t, w.ops, 1)
	require.Equal(t, []string{"h1"}, w.ops[0].HoldIDs)
	require.Equal(t, access.StateDenied, w.holds["h2"].State)
	require.Equal(t, "an approver left it out", w.holds["h2"].Error)
}

// Of two approvals at once the one counts that the store knew last, in whatever
// order the answers come.
func TestAnswersInAnyOrder(t *testing.T) {
	for _, late := range []string{"d1", "d2"} {
		w := newWorld()
		r := w.steps(access.Step{AnyOf: []string{"manager"}}, access.Step{AnyOf: []string{"manager"}})
		w.know("h2", "r1", "read_write", time.Hour)
		w.leads = func(d access.Decision) access.DecisionDone {
			if d.Nonce == "d1" {
				return access.DecisionDone{Waits: true, Step: 1, Known: 1}
			}
			return access.DecisionDone{Step: 2, Known: 2, Without: []string{"h2"}}
		}
		failed := false
		w.lost = func(name string) error { // the first answer of one of them is lost
			if name == workflows.ActRecordDecision && w.events[len(w.events)-1].Key == "decision/"+late && !failed {
				failed = true
				return errors.New("lost")
			}
			return nil
		}
		w.approves(time.Minute, r, "d1")
		w.approves(time.Minute, r, "d2")
		w.grants(3 * time.Minute)
		_, err := w.runRequest(t)
		require.NoError(t, err)
		require.Equal(t, []string{"h1"}, w.ops[0].HoldIDs, "the answer to %s came last", late)
	}
}

// Access that was asked for ahead of its time begins then; until then it can be
// given up and cancelled, and nothing is held.
func TestScheduledStart(t *testing.T) {
	scheduled := func() (*world, access.Request) {
		w := newWorld()
		w.asks()
		w.began = w.env.Now()
		w.request.Request.StartAt = w.began.Add(10 * time.Hour)
		r := w.request.Request
		a := w.approves(time.Minute, r, "d1")
		w.env.RegisterDelayedCallback(func() {
			require.NoError(t, a.err)
			require.Equal(t, access.StateApproved, a.ack.State)
			require.Empty(t, w.ops)
			require.Equal(t, access.StateApproved, w.outcome.State)
		}, 9*time.Hour)
		return w, r
	}
	t.Run("it begins", func(t *testing.T) {
		w, _ := scheduled()
		w.env.RegisterDelayedCallback(func() { require.Equal(t, 1, w.asked(workflows.UpdateHold)) }, 10*time.Hour+time.Second)
		w.grants(10*time.Hour + 2*time.Second)
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.Equal(t, access.StateEnded, state)
	})
	t.Run("at once where the start is past when it is approved", func(t *testing.T) {
		w := newWorld()
		w.asks()
		w.request.Request.StartAt = w.env.Now().Add(time.Minute)
		w.approves(time.Hour, w.request.Request, "d1")
		w.env.RegisterDelayedCallback(func() { require.Equal(t, 1, w.asked(workflows.UpdateHold)) }, time.Hour+time.Second)
		w.grants(time.Hour + 2*time.Second)
		_, err := w.runRequest(t)
		require.NoError(t, err)
	})
	for _, c := range []struct {
		name   string
		update string
		v      access.Verdict
		why    string
	}{
		{"given up", workflows.UpdateRelease, access.Release, "released by dan@example.com"},
		{"revoked", workflows.UpdateRevoke, access.Revoke, "revoked by dan@example.com"},
		{"cancelled", "", "", "cancelled in Temporal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, r := scheduled()
			if c.update == "" {
				w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 9*time.Hour+time.Minute)
			} else {
				w.decide(9*time.Hour+time.Minute, c.update, w.decision(r, c.v, "d2"))
			}
			state, err := w.runRequest(t)
			if c.update == "" {
				require.True(t, temporal.IsCanceledError(err), "got %v", err)
			} else {
				require.NoError(t, err)
				require.Equal(t, access.StateEnded, state)
			}
			require.Empty(t, w.ops, "nothing was held")
			require.Equal(t, access.StateEnded, w.outcome.State)
			require.Equal(t, c.why, w.outcome.Why)
			require.Equal(t, 1, w.count("request.ended"))
		})
	}
	t.Run("it cannot be extended before it begins", func(t *testing.T) {
		w, r := scheduled()
		a := w.decide(5*time.Hour, workflows.UpdateExtend, w.decision(r, access.Extend, "d2"))
		w.grants(10*time.Hour + 2*time.Second)
		_, err := w.runRequest(t)
		require.NoError(t, err)
		require.ErrorContains(t, a.err, "the request is approved; only active access can be extended")
	})
}

// Access that was taken at once is held without an approval. Its request ends
// when it was reviewed and is gone, whichever comes last, and those who review
// it are reminded until then.
func TestBreakGlass(t *testing.T) {
	taken := func() (*world, access.Request) {
		w := newWorld()
		r := w.asks()
		w.began = w.env.Now()
		w.request.Decided, w.request.Review, w.request.ReviewBy, w.request.Remind = true, true, w.began.Add(24*time.Hour), access.Duration(8*time.Hour)
		w.leads = func(d access.Decision) access.DecisionDone {
			return access.DecisionDone{Reviewed: d.Verdict == access.Object || d.Nonce == "second"}
		}
		w.grants(2 * time.Second)
		return w, r
	}
	t.Run("reviewed before the end", func(t *testing.T) {
		w, r := taken()
		first := w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Justify, "first"))
		w.decide(2*time.Minute, workflows.UpdateDecide, w.decision(r, access.Justify, "second"))
		again := w.decide(3*time.Minute, workflows.UpdateDecide, w.decision(r, access.Justify, "third"))
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.NoError(t, first.err)
		require.ErrorContains(t, again.err, "there is nothing to review")
		require.Equal(t, access.StateEnded, state)
		require.Equal(t, access.ReviewDue, w.outcome.Review)
		require.Equal(t, 1, w.asked(workflows.UpdateHold))
		require.Equal(t, []string{"0s break_glass/0/0/0", "0s review/0/0/0"}, w.reminded)
		require.Equal(t, time.Hour, w.env.Now().Sub(w.began).Truncate(time.Hour))
	})
	t.Run("reviewed long after the end", func(t *testing.T) {
		w, r := taken()
		deny := w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Deny, "deny"))
		w.decide(73*time.Hour, workflows.UpdateDecide, w.decision(r, access.Object, "object"))
		state, err := w.runRequest(t)
		require.NoError(t, err)
		require.ErrorContains(t, deny.err, "already")
		require.Equal(t, access.StateEnded, state)
		require.Equal(t, []string{"0s break_glass/0/0/0", "0s review/0/0/0", "8h0m0s review/0/0/1", "16h0m0s review/0/0/2", "24h0m0s review/0/0/3", "48h0m0s review/0/0/4", "72h0m0s review/0/0/5"}, w.reminded)
	})
	t.Run("cancelling gives back, and the review stays due", func(t *testing.T) {
		w, r := taken()
		w.env.RegisterDelayedCallback(w.env.CancelWorkflow, time.Minute)
		w.decide(5*time.Hour, workflows.UpdateDecide, w.decision(r, access.Object, "object"))
		_, err := w.runRequest(t)
		require.True(t, temporal.IsCanceledError(err), "got %v", err)
		require.NotZero(t, w.asked(workflows.UpdateEnd))
		require.GreaterOrEqual(t, w.env.Now().Sub(w.began), 5*time.Hour)
	})
	t.Run("nothing else is reviewed", func(t *testing.T) {
		w := newWorld()
		r := w.asks()
		a := w.decide(time.Minute, workflows.UpdateDecide, w.decision(r, access.Justify, "d1"))
		_, err := w.runRequest(t)
		require.NoError(t, err)
		require.ErrorContains(t, a.err, "there is nothing to review")
	})
}

// What is decided when it is read waits for nobody.
func TestDecidedAtLoad(t *testing.T) {
	w := newWorld()
	w.steps(access.Step{AnyOf: []string{"manager"}})
	w.request.Decided = true
	w.grants(time.Second)
	state, err := w.runRequest(t)
	require.NoError(t, err)
	require.Equal(t, access.StateEnded, state)
	require.Equal(t, access.Review(""), w.outcome.Review)
	require.Empty(t, w.reminded)
}
