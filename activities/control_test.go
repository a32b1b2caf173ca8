package activities_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// ticketArgs asks for a ticket for all holds of a request.
func (w *world) ticketArgs(r access.Request) access.TicketArgs {
	return access.TicketArgs{AccountID: w.account(), RequestID: r.ID, HoldIDs: r.HoldIDs, Sequence: 1 << 20}
}

// Promise 1: no grant without a decision. Whatever a workflow asks for, the
// decisions, the people and the rows in the store say whether there is a ticket.
func TestNoTicketWithoutADecision(t *testing.T) {
	for _, c := range []struct {
		name string
		// prepare makes a request, and returns what is asked for.
		prepare func(w *world) access.TicketArgs
		says    string
	}{
		{"nobody has decided", func(w *world) access.TicketArgs { return w.ticketArgs(w.ask("r1", "read_only")) }, "the request is pending"},
		{"an approver said yes and the request is still pending", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			w.put(w.decision(r, access.Approve, w.dan))
			return w.ticketArgs(r)
		}, "the request is pending"},
		{"the request has expired", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			w.put(w.decision(r, access.Approve, w.dan))
			w.state(r, access.StateExpired)
			return w.ticketArgs(r)
		}, "the request is expired"},
		{"it says approved and nobody has approved", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			w.state(r, access.StateApproved)
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"it was denied after it was approved", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.put(w.decision(r, access.Deny, w.dan))
			return w.ticketArgs(r)
		}, "denied by dan@example.com"},
		{"it was given back before it was granted", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.put(w.decision(r, access.Release, w.ana))
			return w.ticketArgs(r)
		}, "ended by ana@example.com"},
		{"it was revoked before it was granted", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.put(w.decision(r, access.Revoke, w.dan))
			return w.ticketArgs(r)
		}, "ended by dan@example.com"},
		{"the approval is not signed", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			d := w.decision(r, access.Approve, w.dan)
			d.Signature = nil
			w.put(d)
			w.state(r, access.StateApproved)
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"somebody else signed the approval", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			_, stranger, _ := ed25519.GenerateKey(nil)
			w.put(w.decision(r, access.Approve, w.dan).Sign(stranger))
			w.state(r, access.StateApproved)
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the approval is of something else than is asked", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			smaller := r
			smaller.Duration = access.Duration(time.Minute)
			w.put(w.decision(smaller, access.Approve, w.dan))
			w.state(r, access.StateApproved)
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the approval is by somebody who is no approver", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			w.put(w.decision(r, access.Approve, w.person("bo@example.com")))
			w.state(r, access.StateApproved)
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the approval is by the requester under another entry", func(w *world) access.TicketArgs {
			r := w.ask("r1", "read_only")
			w.put(w.decision(r, access.Approve, w.person("ana+dba@example.com")))
			w.state(r, access.StateApproved)
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the approver turned out to be the requester", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.change("dan@example.com", func(p *config.Person) { p.Aliases = []string{"ana+dan@example.com"} })
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the approver has left the group meanwhile", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.change("dan@example.com", func(p *config.Person) { p.Groups = nil })
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the approver is disabled meanwhile", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.change("dan@example.com", func(p *config.Person) { p.Disabled = true })
			return w.ticketArgs(r)
		}, "no approval of this request counts"},
		{"the requester has left the group meanwhile", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.change("ana@example.com", func(p *config.Person) { p.Groups = nil })
			return w.ticketArgs(r)
		}, "not among its requesters"},
		{"the requester is disabled meanwhile", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.change("ana@example.com", func(p *config.Person) { p.Disabled = true })
			return w.ticketArgs(r)
		}, "not among its requesters"},
		{"the hold is of another request", func(w *world) access.TicketArgs {
			a := w.ticketArgs(w.approved("r1", "read_only"))
			a.HoldIDs = w.ask("r2", "read_write").HoldIDs
			return a
		}, "has no hold r2/read_write"},
		{"the account is another's", func(w *world) access.TicketArgs {
			a := w.ticketArgs(w.approved("r1", "read_only"))
			a.AccountID = access.AccountID(w.pg.ID, w.dan.ID)
			return a
		}, "has no hold r1/read_only on account"},
		{"the hold has ended", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.holds(r, access.StateEnded, -time.Hour, -time.Minute)
			return w.ticketArgs(r)
		}, "the hold r1/read_only is ended already"},
		{"the hold is active already", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			w.holds(r, access.StateActive, -time.Minute, time.Hour)
			return w.ticketArgs(r)
		}, "r1/read_only is active already"},
		{"no hold is named", func(w *world) access.TicketArgs {
			a := w.ticketArgs(w.approved("r1", "read_only"))
			a.HoldIDs = nil
			return a
		}, "no hold is named"},
		{"the store knows no such request", func(w *world) access.TicketArgs {
			return w.ticketArgs(access.Request{ID: "r1", HoldIDs: []string{"h"}})
		}, "the store knows no request r1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			args := c.prepare(w)
			before, err := w.Store.Holds(t.Context(), args.RequestID)
			require.NoError(t, err)
			_, err = run[access.TicketDone](t, w.Ticket, args)
			e := applicationError(t, err)
			require.Equal(t, string(access.NoTicket), e.Type())
			require.True(t, e.NonRetryable(), "asking again does not help")
			require.Contains(t, e.Message(), c.says)
			after, err := w.Store.Holds(t.Context(), args.RequestID)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(before, after), "nothing is opened")
			require.Contains(t, w.events(args.RequestID), "ticket.refused")
			require.NotContains(t, w.events(args.RequestID), "ticket.signed")
		})
	}
}

func TestTicket(t *testing.T) {
	w := newWorld(t)
	r := w.approved("r1", "read_only", "read_write")
	begun := time.Now()
	done, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
	require.NoError(t, err)
	ended := time.Now()
	k := done.Ticket

	t.Run("it is signed, for now", func(t *testing.T) {
		require.NoError(t, k.Verify(w.TicketKey.Public().(ed25519.PublicKey), ended))
		require.WithinRange(t, k.LatestStart, begun.Add(time.Minute), ended.Add(15*time.Minute))
	})
	t.Run("it names exactly what the store says was asked", func(t *testing.T) {
		require.Equal(t, []access.Entitlement{w.entitlement("read_only"), w.entitlement("read_write")}, k.Entitlements)
		require.Equal(t, access.Account{ID: w.account(), Integration: w.pg.ID, PersonID: w.ana.ID, Email: "ana@example.com"}, k.Account)
		require.Equal(t, int64(1<<20), k.Sequence)
		require.Equal(t, "r1", k.RequestID)
	})
	t.Run("the target may not end access before Lapse does", func(t *testing.T) {
		require.True(t, k.End.After(k.LatestStart.Add(time.Hour)), "a grant at the last moment still gets its hour: %s", k.End)
	})
	t.Run("the holds and their ends are stored before anything is written", func(t *testing.T) {
		for _, id := range r.HoldIDs {
			h := w.hold(id)
			require.Equal(t, access.StateGranting, h.State)
			// As late as they can become: a grant may take its time.
			require.Equal(t, k.LatestStart.Add(time.Hour), h.EndsAt)
			require.Equal(t, k.LatestStart.Add(longest), h.MaxEnd)
		}
		require.Contains(t, w.events("r1"), "ticket.signed")
	})
	t.Run("it says how long access lasts once it is usable", func(t *testing.T) {
		require.Equal(t, access.Duration(time.Hour), done.Duration)
		require.Equal(t, access.Duration(longest), done.Maximum)
	})
	t.Run("asked again it is signed again", func(t *testing.T) {
		again := w.ticketArgs(r)
		again.Sequence++
		_, err := run[access.TicketDone](t, w.Ticket, again)
		require.NoError(t, err)
	})
}

// Deny beats approve, and is believed on a signature only, like all else.
func TestForgedDenyChangesNothing(t *testing.T) {
	w := newWorld(t)
	r := w.approved("r1", "read_only")
	d := w.decision(r, access.Deny, w.dan)
	d.Signature = []byte("forged")
	w.put(d)
	_, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
	require.NoError(t, err)
}

// A request keeps the flow that it was made under.
func TestTicketUnderTheFlowOfTheRequest(t *testing.T) {
	w := newWorld(t)
	r := w.approved("r1", "read_only")
	w.cfg.AccessFlows = nil
	require.Equal(t, int64(2), w.apply())
	_, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
	require.NoError(t, err)
}

// What the person held before Lapse came is written down before the first
// write, and is not confused with what Lapse wrote.
func TestBaseline(t *testing.T) {
	type state struct {
		Baseline []access.Baseline
		Wrote    map[string]string
	}
	slot := func(held, write string) func(w *world) access.Slot {
		return func(w *world) access.Slot {
			return access.Slot{Key: "schema shop.public", Held: held, Write: write, Entitlements: []access.Entitlement{w.entitlement("read_only")}}
		}
	}
	ticket := func(w *world, r access.Request, s access.Slot) {
		w.t.Helper()
		a := w.ticketArgs(r)
		a.Slots = []access.Slot{s}
		_, err := run[access.TicketDone](w.t, w.Ticket, a)
		require.NoError(w.t, err)
	}
	for _, c := range []struct {
		name   string
		before func(w *world)
		slot   func(w *world) access.Slot
		want   func(w *world) state
	}{
		{"a slot that held nothing has the baseline of nothing", nil, slot("", "member"), func(*world) state {
			return state{[]access.Baseline{{Slot: "schema shop.public", Holds: []string{"r1/read_only"}}}, map[string]string{"schema shop.public": "member"}}
		}},
		{"what the person had is the baseline, in entitlements where it is one", nil, func(w *world) access.Slot {
			s := slot("viewer", "member")(w)
			s.HeldAs = []access.Entitlement{w.entitlement("view")}
			return s
		}, func(w *world) state {
			return state{[]access.Baseline{{Slot: "schema shop.public", Value: "viewer", HeldAs: []access.Entitlement{w.entitlement("view")}, Holds: []string{"r1/read_only"}}},
				map[string]string{"schema shop.public": "member"}}
		}},
		{"what the person had already is the baseline, and nothing will be written", nil, slot("member", ""), func(w *world) state {
			return state{[]access.Baseline{{Slot: "schema shop.public", Value: "member", HeldAs: []access.Entitlement{w.entitlement("read_only")}, Holds: []string{"r1/read_only"}}}, nil}
		}},
		{"while another hold is open on the slot its baseline stays", func(w *world) {
			r := w.approved("r0", "read_only")
			ticket(w, r, slot("", "member")(w))
			w.holds(r, access.StateActive, -time.Minute, time.Hour)
		}, slot("member", ""), func(w *world) state {
			return state{[]access.Baseline{{Slot: "schema shop.public", Holds: []string{"r0/read_only", "r1/read_only"}}}, map[string]string{"schema shop.public": "member"}}
		}},
		{"after the last hold has ended the slot is looked at afresh", func(w *world) {
			r := w.approved("r0", "read_only")
			ticket(w, r, slot("", "member")(w))
			w.record(access.Change{Holds: []access.Hold{{ID: r.HoldIDs[0], RequestID: r.ID, AccountID: w.account(), State: access.StateEnded}}, Account: &access.AccountChange{ID: w.account()}})
		}, slot("viewer", "member"), func(w *world) state {
			return state{[]access.Baseline{{Slot: "schema shop.public", Value: "viewer", Holds: []string{"r1/read_only"}}}, map[string]string{"schema shop.public": "member"}}
		}},
		{"a second attempt that sees its own first write does not take it for the baseline", func(w *world) {
			r := w.approved("r1", "read_only")
			ticket(w, r, slot("", "member")(w))
		}, slot("member", ""), func(w *world) state {
			return state{[]access.Baseline{{Slot: "schema shop.public", Holds: []string{"r1/read_only"}}}, map[string]string{"schema shop.public": "member"}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.before != nil {
				c.before(w)
			}
			row, err := w.Store.Request(t.Context(), "r1")
			r := row.Request
			if err != nil {
				r = w.approved("r1", "read_only")
			}
			a := w.ticketArgs(r)
			a.Sequence, a.Slots = 5<<20, []access.Slot{c.slot(w)}
			done, err := run[access.TicketDone](t, w.Ticket, a)
			require.NoError(t, err)
			row2, err := w.Store.Account(t.Context(), w.account())
			require.NoError(t, err)
			want := c.want(w)
			require.Empty(t, cmp.Diff(want, state{row2.Baseline, row2.Wrote}, cmpopts.EquateEmpty()), "in the store")
			require.Empty(t, cmp.Diff(want, state{done.Baseline, done.Wrote}, cmpopts.EquateEmpty()), "in the answer")
		})
	}
}

func TestExtension(t *testing.T) {
	// extend makes an active request with an hour left, and asks for more.
	extend := func(w *world, d func(r access.Request) access.Decision) (access.Request, access.TicketArgs) {
		r := w.approved("r1", "read_only")
		w.holds(r, access.StateActive, -time.Minute, time.Hour)
		a := w.ticketArgs(r)
		a.Nonce = d(r).Nonce
		return r, a
	}
	by := func(w *world, p access.Person, extra time.Duration) func(r access.Request) access.Decision {
		return func(r access.Request) access.Decision {
			d := w.decision(r, access.Extend, p)
			d.Extra = access.Duration(extra)
			return w.put(d.Sign(w.portal))
		}
	}
	t.Run("it moves the end by what the decision says, and not yet in the store", func(t *testing.T) {
		w := newWorld(t)
		r, a := extend(w, by(w, w.ana, 30*time.Minute))
		end := w.hold(r.HoldIDs[0]).EndsAt
		done, err := run[access.TicketDone](t, w.Ticket, a)
		require.NoError(t, err)
		require.Equal(t, end.Add(30*time.Minute), done.Holds[0].EndsAt)
		require.True(t, done.Ticket.End.After(done.Holds[0].EndsAt))
		require.Equal(t, end, w.hold(r.HoldIDs[0]).EndsAt, "it counts only once the target's own expiry was moved")
	})
	t.Run("up to the maximum it is allowed", func(t *testing.T) {
		w := newWorld(t)
		_, a := extend(w, by(w, w.ana, longest-time.Hour-time.Minute))
		_, err := run[access.TicketDone](t, w.Ticket, a)
		require.NoError(t, err)
	})
	for _, c := range []struct {
		name    string
		prepare func(w *world) access.TicketArgs
		says    string
	}{
		{"without a decision", func(w *world) access.TicketArgs {
			_, a := extend(w, func(r access.Request) access.Decision { return w.decision(r, access.Extend, w.ana) })
			return a
		}, "knows no such extension"},
		{"with the approval in place of an extension", func(w *world) access.TicketArgs {
			_, a := extend(w, func(r access.Request) access.Decision { return w.put(w.decision(r, access.Approve, w.dan)) })
			return a
		}, "knows no such extension"},
		{"by somebody else than the holder", func(w *world) access.TicketArgs {
			_, a := extend(w, by(w, w.dan, time.Minute))
			return a
		}, "only ana@example.com may extend"},
		{"with a decision that nobody signed", func(w *world) access.TicketArgs {
			_, a := extend(w, func(r access.Request) access.Decision {
				d := w.decision(r, access.Extend, w.ana)
				d.Extra *= 2
				return w.put(d)
			})
			return a
		}, "knows no such extension"},
		{"beyond the flow's maximum", func(w *world) access.TicketArgs {
			_, a := extend(w, by(w, w.ana, longest-time.Hour))
			return a
		}, "allows 8h in all"},
		{"a second time", func(w *world) access.TicketArgs {
			r, a := extend(w, by(w, w.ana, time.Minute))
			w.record(access.Change{Event: access.Event{Key: "hold/" + r.HoldIDs[0] + "/extended/" + a.Nonce, Kind: "extended"}})
			return a
		}, "made already"},
		{"of a hold that is past its end", func(w *world) access.TicketArgs {
			r, a := extend(w, by(w, w.ana, time.Minute))
			w.holds(r, access.StateActive, -time.Hour, -time.Nanosecond)
			return a
		}, "is not active"},
		{"of a hold that is not granted yet", func(w *world) access.TicketArgs {
			r := w.approved("r1", "read_only")
			a := w.ticketArgs(r)
			a.Nonce = by(w, w.ana, time.Minute)(r).Nonce
			return a
		}, "is not active"},
		{"once the approver may not approve any more", func(w *world) access.TicketArgs {
			_, a := extend(w, by(w, w.ana, time.Minute))
			w.change("dan@example.com", func(p *config.Person) { p.Groups = nil })
			return a
		}, "no approval of this request counts"},
	} {
		t.Run("it is refused "+c.name, func(t *testing.T) {
			w := newWorld(t)
			a := c.prepare(w)
			before := w.hold("r1/read_only")
			_, err := run[access.TicketDone](t, w.Ticket, a)
			e := applicationError(t, err)
			require.Equal(t, string(access.NoTicket), e.Type())
			require.Contains(t, e.Message(), c.says)
			require.Equal(t, before, w.hold("r1/read_only"))
			require.Contains(t, w.events("r1"), "ticket.refused")
		})
	}
}

func TestRecordDecision(t *testing.T) {
	t.Run("one that counts is stored with its event, once", func(t *testing.T) {
		w := newWorld(t)
		d := w.decision(w.ask("r1", "read_only"), access.Approve, w.dan)
		d.Reason = "fine"
		d = d.Sign(w.portal)
		for range 2 {
			require.NoError(t, do(t, w.RecordDecision, d))
		}
		stored, err := w.Store.Decisions(t.Context(), "r1")
		require.NoError(t, err)
		require.Equal(t, []access.Decision{d}, stored)
		rows, err := w.Store.Events(t.Context(), store.EventFilter{RequestID: "r1"})
		require.NoError(t, err)
		require.Equal(t, "approve by dan@example.com: fine", rows[len(rows)-1].Text)
		require.Equal(t, []string{"request.created", "decision.approve"}, w.events("r1"))
	})
	for _, c := range []struct {
		name string
		d    func(w *world, r access.Request) access.Decision
		says string
	}{
		{"by nobody who may", func(w *world, r access.Request) access.Decision {
			return w.decision(r, access.Approve, w.person("bo@example.com"))
		}, "bo@example.com is not group:dba"},
		{"by the requester", func(w *world, r access.Request) access.Decision { return w.decision(r, access.Approve, w.ana) }, "nobody approves for themselves"},
		{"by the requester under another entry", func(w *world, r access.Request) access.Decision {
			return w.decision(r, access.Approve, w.person("ana+dba@example.com"))
		}, "nobody approves for themselves"},
		{"by an approver who is disabled meanwhile", func(w *world, r access.Request) access.Decision {
			d := w.decision(r, access.Approve, w.dan)
			w.change("dan@example.com", func(p *config.Person) { p.Disabled = true })
			return d
		}, "is disabled"},
		{"by somebody who is in no directory", func(w *world, r access.Request) access.Decision {
			return w.decision(r, access.Approve, access.Person{ID: "per-nobody", Email: "nobody@example.com"})
		}, "nobody@example.com is not in the directory"},
		{"that was changed after it was signed", func(w *world, r access.Request) access.Decision {
			d := w.decision(r, access.Deny, w.dan)
			d.Verdict = access.Approve
			return d
		}, "not signed by the portal"},
		{"to end somebody else's access by nobody who may", func(w *world, r access.Request) access.Decision {
			return w.decision(r, access.Revoke, w.person("bo@example.com"))
		}, "bo@example.com is not group:dba"},
	} {
		t.Run("refused and put on record: one "+c.name, func(t *testing.T) {
			w := newWorld(t)
			e := applicationError(t, do(t, w.RecordDecision, c.d(w, w.ask("r1", "read_only"))))
			require.True(t, e.NonRetryable())
			require.Contains(t, e.Message(), c.says)
			stored, err := w.Store.Decisions(t.Context(), "r1")
			require.NoError(t, err)
			require.Empty(t, stored)
			require.Equal(t, []string{"request.created", "decision.refused"}, w.events("r1"))
		})
	}
}

func TestLoadRequest(t *testing.T) {
	t.Run("it tells the workflow what was asked, of whom, and whose word counts", func(t *testing.T) {
		w := newWorld(t)
		r := w.ask("r1", "read_only", "read_write")
		b, err := run[access.RequestBrief](t, w.LoadRequest, "r1")
		require.NoError(t, err)
		require.Equal(t, r.Hash(), b.Request.Hash())
		require.Equal(t, access.StatePending, b.State)
		require.Equal(t, "ana@example.com", b.Requester)
		require.Equal(t, "dan@example.com", b.Approvers, "and not Ana's second entry")
		require.Equal(t, "read_only on prod-pg schema:shop/public, read_write on prod-pg schema:shop/public for 1h: a look", b.Summary)
		require.Equal(t, []byte(w.PortalKey), b.PortalKey)
		require.Len(t, b.Holds, 2)
		require.Len(t, b.Accounts, 1, "one account holds both")
		require.Equal(t, w.account(), b.Accounts[0].Account.ID)
		require.Equal(t, "connector-default", b.Accounts[0].Connector)
		require.True(t, b.Accounts[0].Credentialed)
	})
	t.Run("a request that the store does not know fails for good, and is put on record once", func(t *testing.T) {
		w := newWorld(t)
		for range 2 {
			_, err := run[access.RequestBrief](t, w.LoadRequest, "r-forged")
			e := applicationError(t, err)
			require.Equal(t, workflows.ErrUnknownRequest, e.Type())
			require.True(t, e.NonRetryable(), "or the forged workflow would ask for ever")
		}
		require.Equal(t, []string{"request.refused"}, w.events("r-forged"))
	})
}

func TestLoadAccount(t *testing.T) {
	t.Run("every run has higher sequence numbers than all before", func(t *testing.T) {
		w := newWorld(t)
		w.ask("r1", "read_only")
		var last int64
		for range 3 {
			b, err := run[access.AccountBrief](t, w.LoadAccount, w.account())
			require.NoError(t, err)
			require.GreaterOrEqual(t, b.Sequence-last, int64(1<<20), "a run has room for its operations")
			last = b.Sequence
		}
	})
	t.Run("it brings what is open, and not what is only asked or over", func(t *testing.T) {
		w := newWorld(t)
		w.ask("r1", "read_only")
		w.holds(w.approved("r2", "read_only"), access.StateEnded, -time.Hour, -time.Minute)
		w.holds(w.approved("r3", "read_only"), access.StateActive, -time.Minute, time.Hour)
		b, err := run[access.AccountBrief](t, w.LoadAccount, w.account())
		require.NoError(t, err)
		require.True(t, b.Known)
		require.Len(t, b.Holds, 1)
		require.Equal(t, "r3/read_only", b.Holds[0].ID)
		require.Equal(t, "prod-pg", b.Integration)
		require.Equal(t, access.Duration(7*24*time.Hour), b.Cleanup)
	})
	for _, id := range []string{"int-1/per-1", "int-1", "", "a/b/c"} {
		t.Run("an account that the store does not know is no error: "+id, func(t *testing.T) {
			w := newWorld(t)
			b, err := run[access.AccountBrief](t, w.LoadAccount, id)
			require.NoError(t, err)
			require.False(t, b.Known)
			require.Equal(t, id, b.Account.ID)
		})
	}
}

// What nobody fetched is erased with the access for which it was made.
func TestRecordDropsCredentials(t *testing.T) {
	for _, c := range []struct {
		name   string
		open   bool
		change access.AccountChange
		kept   bool
	}{
		{"when nothing is held any more", false, access.AccountChange{CleanupAt: time.Now().Add(time.Hour)}, false},
		{"when the account is gone", false, access.AccountChange{Deleted: true}, false},
		{"not while something is held", true, access.AccountChange{CleanupAt: time.Now().Add(time.Hour)}, true},
		{"not with any other change", false, access.AccountChange{Generation: 1}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.approved("r1", "read_only")
			if c.open {
				w.holds(r, access.StateActive, -time.Minute, time.Hour)
			}
			require.NoError(t, w.Store.PutCredential(t.Context(), w.account(), 1, []byte("sealed")))
			c.change.ID = w.account()
			require.NoError(t, do(t, w.Record, []access.Change{{Event: access.Event{Key: "e1", Kind: "test"}, Account: &c.change}}))
			_, _, err := w.Store.TakeCredential(t.Context(), w.account(), access.Event{Key: "shown", Kind: "test"})
			if c.kept {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, store.ErrNotFound)
			}
		})
	}
}

func TestIntegration(t *testing.T) {
	w := newWorld(t)
	b, err := run[access.IntegrationBrief](t, w.Integration, w.pg.ID)
	require.NoError(t, err)
	require.Equal(t, access.IntegrationBrief{ID: w.pg.ID, Name: "prod-pg", Connector: "connector-default"}, b)
	w.cfg.Integrations = nil
	w.apply()
	for _, id := range []string{w.pg.ID, "int-nothing"} {
		_, err := run[access.IntegrationBrief](t, w.Integration, id)
		require.True(t, applicationError(t, err).NonRetryable(), "an integration that is gone stays so")
	}
}

func TestStoreResources(t *testing.T) {
	w := newWorld(t)
	found := func(schema string) access.Page {
		return access.Page{Next: "more", Resources: []access.Found{{Resource: access.NewResource("schema", "shop", schema), Permissions: []string{"read_only"}}}}
	}
	put := func(run string, p access.Page) {
		require.NoError(t, do(t, w.StoreResources, access.StoreArgs{Integration: w.pg.ID, Run: run, Page: p}))
	}
	list := func() (paths []string) {
		rows, err := w.Store.Resources(t.Context(), store.ResourceFilter{})
		require.NoError(t, err)
		for _, r := range rows {
			paths = append(paths, r.Resource.Path)
		}
		return paths
	}
	put("run-1", found("a"))
	put("run-1", access.Page{})
	require.Equal(t, []string{"shop/a"}, list())
	put("run-2", found("b"))
	require.Equal(t, []string{"shop/a", "shop/b"}, list(), "until a run is through nothing is gone")
	put("run-2", access.Page{})
	require.Equal(t, []string{"shop/b"}, list())
}
