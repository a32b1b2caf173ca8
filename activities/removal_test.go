package activities_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

func (w *world) changeRemoval(change func(*access.Removal) *access.Removal) {
	w.t.Helper()
	_, err := w.Store.ChangeRemoval(w.t.Context(), w.pg.ID, func(in store.IntegrationRow) (*access.Removal, access.Event, error) {
		return change(in.Removal), access.Event{Key: access.NewID("ev"), Kind: "test"}, nil
	})
	require.NoError(w.t, err)
}

// remove has Dan remove the integration.
func (w *world) remove() {
	w.t.Helper()
	w.changeRemoval(func(*access.Removal) *access.Removal {
		return &access.Removal{ID: "rem-1", By: w.dan.ID, ByEmail: w.dan.Email, At: time.Now().UTC(), Reason: "moved"}
	})
}

// accept is content with what is there now, and with a target that nobody can
// read.
func (w *world) accept() {
	w.t.Helper()
	open, err := w.Store.Open(w.t.Context(), w.pg.ID)
	require.NoError(w.t, err)
	open = append(open, access.Left{Kind: access.LeftTarget, Subject: w.pg.ID})
	w.changeRemoval(func(r *access.Removal) *access.Removal {
		r.Accepted = &access.AcceptedLeft{By: w.dan.ID, ByEmail: w.dan.Email, At: time.Now().UTC(), Reason: "it burned down", Left: open}
		return r
	})
}

// over ends the holds of a request, so that the account is deleted in a week.
func (w *world) over(request string) {
	w.t.Helper()
	holds, err := w.Store.Holds(w.t.Context(), request)
	require.NoError(w.t, err)
	for i := range holds {
		holds[i].State = access.StateEnded
	}
	w.record(access.Change{Holds: holds}, access.Change{Account: &access.AccountChange{ID: w.account(), Name: "lapse_ana", CleanupAt: time.Now().Add(7 * 24 * time.Hour)}})
}

// unconfigured applies a configuration without the integration.
func (w *world) unconfigured() {
	w.t.Helper()
	w.cfg.Integrations, w.cfg.AccessFlows = nil, nil
	w.apply()
}

func (w *world) removal() *access.Removal {
	w.t.Helper()
	in, err := w.Store.Integration(w.t.Context(), w.pg.ID)
	require.NoError(w.t, err)
	return in.Removal
}

func (w *world) end() access.RemovalStep {
	w.t.Helper()
	s, err := run[access.RemovalStep](w.t, w.EndIntegration, w.pg.ID)
	require.NoError(w.t, err)
	return s
}

func (w *world) forget(a access.ForgetArgs) access.RemovalStep {
	w.t.Helper()
	a.Integration = w.pg.ID
	s, err := run[access.RemovalStep](w.t, w.ForgetIntegration, a)
	require.NoError(w.t, err)
	return s
}

func kinds(left []access.Left) (out []access.LeftKind) {
	for _, l := range left {
		out = append(out, l.Kind)
	}
	return out
}

// Nothing new is granted on an integration that is being removed, by nobody and
// in no order.
func TestNothingIsGrantedWhileRemoved(t *testing.T) {
	w := newWorld(t)
	r, late := w.approved("r1", "read_only"), w.ask("r2", "read_write")
	require.NoError(t, do(t, w.Ticket, w.ticketArgs(r)))
	w.remove()
	err := do(t, w.Ticket, w.ticketArgs(w.approved("r3", "read_only")))
	require.Equal(t, string(access.NoTicket), applicationError(t, err).Type())
	require.ErrorContains(t, err, "prod-pg is being removed by dan@example.com: moved")
	err = w.Store.OpenHolds(t.Context(), store.OpenHolds{AccountID: w.account(), RequestID: r.ID, Event: access.Event{Key: "late", Kind: "test"}})
	require.Equal(t, access.NoTicket, access.KindOf(err), "a ticket that was judged a moment before")
	err = do(t, w.RecordDecision, w.decision(late, access.Approve, w.dan))
	require.ErrorContains(t, err, "is being removed")
	require.NoError(t, do(t, w.RecordDecision, w.decision(late, access.Deny, w.dan)))
	plan, err := run[access.RotationPlan](t, w.PlanRotation, access.RotationArgs{Integration: w.pg.ID, Now: true})
	require.NoError(t, err)
	require.Contains(t, plan.Why, "is being removed")

	w.changeRemoval(func(*access.Removal) *access.Removal { return nil })
	require.NoError(t, do(t, w.Ticket, w.ticketArgs(w.approved("r4", "read_only"))), "after it was cancelled")
}

// What is held ends through the account, the account is deleted at once, and the
// integration is forgotten: its name is another's then.
func TestRemovalStepByStep(t *testing.T) {
	w := newWorld(t)
	r := w.approved("r1", "read_only", "read_write")
	w.holds(r, access.StateActive, -time.Hour, time.Hour)
	account := workflows.AccountID(w.account())
	w.temporal.running(account)
	require.Equal(t, access.RemovalCancelled, w.end().Over)
	w.remove()

	require.NoError(t, do(t, w.SweepStore, access.SweepArgs{Integration: w.pg.ID}))
	require.Contains(t, w.temporal.did, workflows.SignalWake+" "+workflows.RemovalID(w.pg.ID), "a sweep brings back a workflow that was ended")
	s := w.end()
	require.Equal(t, []access.LeftKind{access.LeftHold, access.LeftHold, access.LeftAccount}, kinds(s.Open))
	require.Contains(t, w.temporal.did, "end "+account+" removal/rem-1/r1")
	require.Equal(t, s.Open, w.end().Open, "again")
	s = w.forget(access.ForgetArgs{})
	require.Equal(t, []access.LeftKind{access.LeftHold, access.LeftHold, access.LeftAccount, access.LeftConfigured}, kinds(s.Left))
	require.Empty(t, s.Over)

	w.over("r1")
	w.end()
	require.Contains(t, w.temporal.did, workflows.SignalReload+" "+account)
	row, err := w.Store.Account(t.Context(), w.account())
	require.NoError(t, err)
	require.False(t, row.CleanupAt.After(time.Now()), "it is deleted now and not in a week")
	w.record(access.Change{Event: access.Event{Key: "gone", Kind: "account.deleted", AccountID: w.account(), Text: "kept, because it owns table x"}, Account: &access.AccountChange{ID: w.account(), Deleted: true}})
	require.Empty(t, w.end().Open)

	kept := access.Principal{Name: "lapse_ana", AccountID: w.account(), Tombstone: true, Owns: true}
	stranger := access.Principal{Name: "lapse_x", AccountID: "int-other/per-1"}
	s = w.forget(access.ForgetArgs{Principals: []access.Principal{kept, stranger}, Shared: []string{"role y: somebody has it"}})
	require.Equal(t, []access.LeftKind{access.LeftPrincipal, access.LeftShared, access.LeftConfigured}, kinds(s.Left))
	require.Contains(t, s.Left[0].Text, "owns table x")
	w.unconfigured()
	require.Equal(t, []access.LeftKind{access.LeftTarget}, kinds(w.forget(access.ForgetArgs{Error: "it does not answer"}).Left))
	require.Equal(t, access.RemovalForgotten, w.forget(access.ForgetArgs{}).Over)
	require.Equal(t, access.RemovalForgotten, w.end().Over)
	require.Contains(t, w.temporal.did, "delete schedule sweep/"+w.pg.ID)
	_, err = w.Store.IntegrationByName(t.Context(), "prod-pg")
	require.ErrorIs(t, err, store.ErrNotFound)

	w.cfg.Integrations = []config.Integration{w.pg.Integration}
	w.apply()
	again, err := w.Store.IntegrationByName(t.Context(), "prod-pg")
	require.NoError(t, err)
	require.NotEqual(t, w.pg.ID, again.ID)
	require.Nil(t, again.Removal)
	old, err := w.Store.Integration(t.Context(), w.pg.ID)
	require.NoError(t, err)
	require.Equal(t, "prod-pg", old.Name, "what was asked for on it still says where")
}

// Somebody is content to leave what a dead target may still have: that is on
// record, for each hold, and nothing else is left by it.
func TestLeftIsAccepted(t *testing.T) {
	w := newWorld(t)
	r := w.approved("r1", "read_only")
	w.holds(r, access.StateOverdue, -2*time.Hour, -time.Hour)
	account := workflows.AccountID(w.account())
	w.temporal.running(account)
	w.remove()
	w.unconfigured()
	w.accept()
	require.Empty(t, w.end().Open)
	h := w.hold(r.HoldIDs[0])
	require.Equal(t, access.StateFailed, h.State)
	require.Contains(t, h.Error, "left as it is by dan@example.com: it burned down")
	did := strings.Join(w.temporal.did, "\n")
	require.Contains(t, did, "terminate "+account)
	require.Contains(t, did, workflows.SignalHolds+" "+workflows.RequestID("r1"))
	require.Contains(t, w.events("r1"), "left")

	s := w.forget(access.ForgetArgs{Shared: []string{"role y"}})
	require.Empty(t, s.Over, "it was not said that this may stay")
	require.Equal(t, access.RemovalForgotten, w.forget(access.ForgetArgs{Error: "it does not answer"}).Over)
	require.Equal(t, []access.LeftKind{access.LeftTarget}, kinds(w.removal().Left))
}

// After a restore nothing is ended, and nothing forgotten.
func TestRemovalWaitsForARestore(t *testing.T) {
	w := newWorld(t)
	w.holds(w.approved("r1", "read_only"), access.StateActive, -time.Hour, time.Hour)
	w.remove()
	require.NoError(t, w.Store.SetReportOnly(t.Context(), "restored"))
	s := w.end()
	require.Equal(t, "restored", s.Why)
	require.Empty(t, w.temporal.did)
}
