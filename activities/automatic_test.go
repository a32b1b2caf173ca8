package activities_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// automatic applies a flow that gives Ana's group read_only on everything in the
// catalog, and puts two schemas there.
func (w *world) automatic() *world {
	w.t.Helper()
	w.cfg.AccessFlows = append(w.cfg.AccessFlows, access.Flow{
		Name: "auto", Trigger: access.Automatic, Requesters: w.cfg.AccessFlows[0].Requesters, MaxDuration: access.Duration(longest),
		Targets: []access.FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}},
	})
	w.apply()
	require.NoError(w.t, w.Store.PutResources(w.t.Context(), w.pg.ID, "run-1", []access.Found{
		{Resource: access.NewResource("schema", "shop", "public"), Permissions: []string{"read_only", "read_write"}},
		{Resource: access.NewResource("schema", "shop", "stock"), Permissions: []string{"read_only"}, Tags: map[string]string{"owner": "dba"}},
		{Resource: access.NewResource("schema", "shop", "shown"), Note: "it cannot be asked for"},
	}))
	return w
}

func (w *world) look(most int) access.AutomaticReport {
	w.t.Helper()
	r, err := run[access.AutomaticReport](w.t, w.Control.Automatic, most)
	require.NoError(w.t, err)
	return r
}

// leases are the requests that came by the flow, newest first.
func (w *world) leases() (list []store.RequestRow) {
	w.t.Helper()
	rows, err := w.Store.Requests(w.t.Context(), store.RequestFilter{})
	require.NoError(w.t, err)
	for _, r := range rows {
		if r.Flow == "auto" {
			list = append(list, r)
		}
	}
	return list
}

// leased looks once, and has all that comes of it granted.
func (w *world) leased() access.Request {
	w.t.Helper()
	w.automatic().look(10)
	r := w.leases()[0].Request
	w.state(r, access.StateApproved)
	w.holds(r, access.StateActive, 0, longest)
	return r
}

// outOfGroup takes Ana out of the flow's group.
func (w *world) outOfGroup() {
	w.t.Helper()
	w.change("ana@example.com", func(p *config.Person) { p.Groups = nil })
}

func TestAutomatic(t *testing.T) {
	t.Run("what is missing becomes a request, once", func(t *testing.T) {
		w := newWorld(t).automatic()
		r := w.look(10)
		require.Equal(t, 1, r.Asked)
		require.False(t, r.More)
		require.WithinDuration(t, time.Now().Add(longest*3/4), r.Next, time.Minute)
		list := w.leases()
		require.Len(t, list, 1)
		require.Equal(t, access.StatePending, list[0].State)
		require.Len(t, list[0].Asked, 2)
		require.Equal(t, map[string]string{"owner": "dba"}, list[0].Asked[1].Tags)
		require.Equal(t, []string{"request.created"}, w.events(list[0].ID))
		require.Equal(t, []string{"start " + workflows.RequestID(list[0].ID)}, w.temporal.did)
		b, err := run[access.RequestBrief](t, w.LoadRequest, list[0].ID)
		require.NoError(t, err)
		require.True(t, b.Decided, "nobody has to decide on it")
		r = w.look(10)
		require.Zero(t, r.Asked+r.Ended)
		require.WithinDuration(t, time.Now().Add(longest*3/4), r.Next, time.Minute, "it is looked at in time for the end that it will have")
		require.Len(t, w.leases(), 1)
		require.Len(t, w.temporal.did, 1)
	})
	t.Run("it says why it ends, and asks the account", func(t *testing.T) {
		w := newWorld(t)
		r := w.leased()
		w.outOfGroup()
		require.Equal(t, 2, w.look(10).Ended)
		require.Contains(t, w.temporal.did[len(w.temporal.did)-1], workflows.UpdateEnd+" "+workflows.AccountID(w.account()))
		require.Contains(t, w.events(r.ID), "automatic.ended")
		n := len(w.events(r.ID))
		w.look(10)
		require.Len(t, w.events(r.ID), n, "the reason is on record once")
		w.holds(r, access.StateEnded, 0, 0)
		require.Equal(t, access.AutomaticReport{}, w.look(10))
		leased, err := w.Store.Leased(t.Context())
		require.NoError(t, err)
		require.False(t, leased)
	})
	t.Run("so many ends at once", func(t *testing.T) {
		w := newWorld(t)
		w.change("bo@example.com", func(p *config.Person) { p.Groups = []string{"analytics"} })
		w.automatic()
		require.Equal(t, 2, w.look(10).Asked)
		w.outOfGroup()
		w.change("bo@example.com", func(p *config.Person) { p.Groups = nil })
		r := w.look(1)
		require.Equal(t, 2, r.Ended) // the holds of one lease
		require.True(t, r.More)
		require.Equal(t, 4, w.look(10).Ended)
	})
	t.Run("so many changes at once, the ends first", func(t *testing.T) {
		w := newWorld(t)
		w.leased()
		w.outOfGroup()
		w.change("bo@example.com", func(p *config.Person) { p.Groups = []string{"analytics"} })
		r := w.look(1)
		require.Equal(t, []int{2, 0}, []int{r.Ended, r.Asked})
		require.True(t, r.More)
		require.Equal(t, 1, w.look(2).Asked)
	})
	t.Run("nothing before a restore is accepted", func(t *testing.T) {
		w := newWorld(t)
		w.leased()
		w.outOfGroup()
		require.NoError(t, w.Store.SetReportOnly(t.Context(), "it was restored"))
		require.Equal(t, access.AutomaticReport{Why: "it was restored"}, w.look(10))
	})
	t.Run("a cap is on record once", func(t *testing.T) {
		w := newWorld(t).automatic()
		var many []access.Found
		for n := range 60 {
			many = append(many, access.Found{Resource: access.NewResource("schema", "shop", fmt.Sprint("s", n)), Permissions: []string{"read_only"}})
		}
		require.NoError(t, w.Store.PutResources(t.Context(), w.pg.ID, "run-2", many))
		require.Len(t, w.look(10).Capped, 1)
		require.Len(t, w.leases()[0].Asked, access.MostLeased)
		w.look(10)
		capped := 0
		for _, kind := range w.events("") {
			if kind == "automatic.capped" {
				capped++
			}
		}
		require.Equal(t, 1, capped)
	})
	t.Run("a discovery has it looked at at once", func(t *testing.T) {
		w := newWorld(t)
		page := access.StoreArgs{Integration: w.pg.ID, Run: "run-2"}
		require.NoError(t, do(t, w.StoreResources, page))
		require.Empty(t, w.temporal.did, "there is no automatic flow")
		w.automatic()
		require.NoError(t, do(t, w.StoreResources, page))
		require.Equal(t, []string{workflows.SignalWake + " " + workflows.AutomaticID}, w.temporal.did)
	})
}

// Somebody who ends it by hand has what comes after it refused too, whatever its
// workflow has heard.
func TestAutomaticByHand(t *testing.T) {
	for _, v := range []access.Verdict{access.Release, access.Revoke} {
		t.Run(string(v), func(t *testing.T) {
			w := newWorld(t)
			r := w.leased()
			by := map[access.Verdict]access.Person{access.Release: w.ana, access.Revoke: w.dan}[v]
			forged := w.decision(r, v, by)
			forged.Signature = []byte("forged")
			w.put(forged)
			require.Equal(t, 0, w.look(10).Ended, "a decision that the portal did not sign")
			d := w.decision(r, v, by)
			w.put(d)
			w.holds(r, access.StateEnded, 0, 0)
			require.Equal(t, access.AutomaticReport{}, w.look(10))
			require.Len(t, w.leases(), 1)
			why, err := w.Store.EndedByHand(t.Context(), r)
			require.NoError(t, err)
			require.Contains(t, why, by.Email)
			w.outOfGroup()
			w.look(10)
			w.change("ana@example.com", func(p *config.Person) { p.Groups = []string{"analytics"} })
			require.Equal(t, 1, w.look(10).Asked)
		})
	}
}

// The ticket of a lease is judged by the flow of the configuration in force.
func TestAutomaticTicket(t *testing.T) {
	begun := func(t *testing.T) (*world, access.Request) {
		w := newWorld(t).automatic()
		w.look(10)
		r := w.leases()[0].Request
		w.state(r, access.StateApproved)
		return w, r
	}
	t.Run("for the lease and no longer", func(t *testing.T) {
		w, r := begun(t)
		done, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
		require.NoError(t, err)
		require.Equal(t, access.Duration(longest), done.Duration)
		require.Len(t, done.Ticket.Entitlements, 2)
	})
	for _, c := range []struct {
		name   string
		change func(w *world, r access.Request)
		why    string
	}{
		{"out of the group", func(w *world, _ access.Request) { w.outOfGroup() }, "is not among its requesters"},
		{"disabled", func(w *world, _ access.Request) {
			w.change("ana@example.com", func(p *config.Person) { p.Disabled = true })
		}, "is not among its requesters"},
		{"the flow is gone", func(w *world, _ access.Request) {
			w.cfg.AccessFlows = w.cfg.AccessFlows[:1]
			w.apply()
		}, "there is no automatic access flow auto any more"},
		{"the flow is not automatic any more", func(w *world, _ access.Request) {
			w.cfg.AccessFlows[1].Trigger = access.SelfServe
			w.apply()
		}, "there is no automatic access flow auto any more"},
		{"the flow is for less", func(w *world, _ access.Request) {
			w.cfg.AccessFlows[1].Targets[0].Resources = []string{"schema:shop/stock"}
			w.apply()
		}, "it is not for read_only on prod-pg schema:shop/public"},
		{"the lease is shorter now", func(w *world, _ access.Request) {
			w.cfg.AccessFlows[1].MaxDuration = access.Duration(time.Minute)
			w.apply()
		}, "is longer than its max_duration"},
		{"another lease was ended by hand", func(w *world, r access.Request) {
			key := access.LeaseKey{Flow: "auto", PersonID: w.ana.ID, Entitlement: r.Asked[1].Entitlement}
			plan := access.LeasePlan{Withhold: map[access.LeaseKey]access.Withheld{key: {HoldID: "h", Why: "dan@example.com ended it"}}}
			require.NoError(w.t, w.Store.SettleLeases(w.t.Context(), plan))
		}, "dan@example.com ended it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, r := begun(t)
			c.change(w, r)
			_, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
			e := applicationError(t, err)
			require.Equal(t, string(access.NoTicket), e.Type())
			require.Contains(t, e.Message(), c.why)
		})
	}
	t.Run("what failed before is tried again", func(t *testing.T) {
		w, r := begun(t)
		key := access.LeaseKey{Flow: "auto", PersonID: w.ana.ID, Entitlement: r.Asked[1].Entitlement}
		plan := access.LeasePlan{Withhold: map[access.LeaseKey]access.Withheld{key: {HoldID: "h", Why: "no such schema", Failures: 1, Until: time.Now()}}}
		require.NoError(t, w.Store.SettleLeases(t.Context(), plan))
		_, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
		require.NoError(t, err)
	})
}
