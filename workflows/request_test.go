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
