package activities_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// Promise 12: after a restore nothing on a target is changed before somebody
// has accepted it. What only reads goes on, since the report needs it.
func TestRestored(t *testing.T) {
	t.Run("a connector changes nothing", func(t *testing.T) {
		c := newConnector(t)
		c.inFile(t)
		named := anas
		named.Name = "lapse_ana"
		c.target.Put(anas.ID, named.Name, on("int-1", "read_only"))
		changes := []struct {
			name          string
			activity, arg any
		}{
			{"Grant", c.Grant, access.GrantArgs{Ticket: ticket().Sign(c.control), Generation: 3}},
			{"Credential", c.Credential, access.CredentialArgs{Account: named, Sequence: 2, Generation: 4}},
			{"Revoke", c.Revoke, access.RevokeArgs{Account: named, Sequence: 3, End: []access.Entitlement{on("int-1", "read_only")}}},
			{"DeleteAccount", c.DeleteAccount, access.DeleteArgs{Account: named, Sequence: 4}},
			{"Maintain", c.Maintain, "int-1"},
			{"RotateSecret", c.RotateSecret, "int-1"},
		}
		c.because = "the store was restored"
		before := c.kept()
		for _, change := range changes {
			_, err := run[any](t, change.activity, change.arg)
			require.Equal(t, string(access.Restored), applicationError(t, err).Type(), "%s: %v", change.name, err)
			require.ErrorContains(t, err, "lapse restore accept")
		}
		require.True(t, c.target.Exists(anas.ID))
		require.Equal(t, []access.Entitlement{on("int-1", "read_only")}, c.target.Has(anas.ID))
		require.Empty(t, c.sealed)
		require.Equal(t, []string{before, "t0ken-1"}, []string{c.kept(), c.target.Token})

		for name, read := range map[string][2]any{
			"Held":     {c.Held, access.HeldArgs{Account: named, Want: []access.Entitlement{on("int-1", "read_only")}}},
			"Accounts": {c.Accounts, access.DiscoverArgs{Integration: "int-1"}},
			"Discover": {c.Discover, access.DiscoverArgs{Integration: "int-1"}},
			"Check":    {c.Check, "int-1"},
		} {
			_, err := run[any](t, read[0], read[1])
			require.NoError(t, err, name)
		}

		c.because = ""
		for _, change := range changes {
			_, err := run[any](t, change.activity, change.arg)
			require.NoError(t, err, change.name)
		}
	})

	t.Run("no ticket is signed", func(t *testing.T) {
		w := newWorld(t)
		args := w.ticketArgs(w.approved("r1", "read_only"))
		require.NoError(t, w.Store.SetReportOnly(t.Context(), "the store was restored"))
		_, err := run[access.TicketDone](t, w.Ticket, args)
		require.Equal(t, string(access.Restored), applicationError(t, err).Type(), "%v", err)
		require.NoError(t, w.AcceptRestore(t.Context()))
		_, err = run[access.TicketDone](t, w.Ticket, args)
		require.NoError(t, err)
	})

	t.Run("a restore under a running process is noticed", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, w.Store.SetEpoch(t.Context(), 7, 7))
		w.temporal.epoch = 5
		why, err := w.Restored(t.Context())
		require.NoError(t, err)
		require.Contains(t, why, "restored from a backup")
		known, err := w.Store.ReportOnly(t.Context())
		require.NoError(t, err)
		require.Equal(t, why, known, "and every other process knows it")
		require.Equal(t, int64(5), w.temporal.epoch)
	})

	t.Run("it is not asked again at once", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, w.Store.SetEpoch(t.Context(), 7, 7))
		w.temporal.epoch = 7
		for range 3 {
			why, err := w.Restored(t.Context())
			require.NoError(t, err)
			require.Empty(t, why)
			w.temporal.epoch = 5 // from the second time on
		}
	})
}

// What counts after an accepted restore is the store.
func TestAcceptRestore(t *testing.T) {
	w := newWorld(t)
	open, over := w.approved("r1", "read_only"), w.approved("r3", "read_only")
	waiting := w.ask("r2", "read_write")
	require.NoError(t, w.Store.Record(t.Context(), []access.Change{{Event: access.Event{Key: "over", Kind: "request.ended"},
		Request: &access.RequestChange{ID: over.ID, State: access.StateEnded}}}))
	w.holds(open, access.StateActive, -time.Hour, time.Hour)
	stranger := access.AccountID(w.pg.ID, "per-nobody")
	w.temporal.running(workflows.RequestID(open.ID), workflows.RequestID(over.ID), workflows.RequestID("nobody's"), workflows.AccountID(stranger), workflows.SweepID(w.pg.ID))
	require.NoError(t, w.Store.SetReportOnly(t.Context(), "restored"))
	require.NoError(t, w.AcceptRestore(t.Context()))
	require.ElementsMatch(t, []string{
		"start " + workflows.AccountID(w.account()), "start " + workflows.RequestID(open.ID), "start " + workflows.RequestID(waiting.ID),
		"terminate " + workflows.RequestID(over.ID), "terminate " + workflows.RequestID("nobody's"), "terminate " + workflows.AccountID(stranger),
	}, w.temporal.did)
	why, err := w.Restored(t.Context())
	require.NoError(t, err)
	require.Empty(t, why)
}
