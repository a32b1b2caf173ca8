package activities_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/store"
)

// under stores a request of Ana's under a flow that is applied with it, for
// read_only and read_write.
func (w *world) under(id string, change func(*access.Flow), ask func(*access.Request)) access.Request {
	w.t.Helper()
	f := w.cfg.AccessFlows[0]
	f.Targets = slices.Clone(f.Targets)
	change(&f)
	w.cfg.AccessFlows = []access.Flow{f}
	version := w.apply()
	now := w.Store.Now().UTC()
	r := access.Request{ID: id, PersonID: w.ana.ID, Reason: "a look", Duration: access.Duration(time.Hour), Flow: f.Name, FlowVersion: version, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour)}
	for _, p := range []string{"read_only", "read_write"} {
		r.Asked = append(r.Asked, access.Asked{Entitlement: w.entitlement(p), Integration: "prod-pg"})
		r.HoldIDs = append(r.HoldIDs, id+"/"+p)
	}
	ask(&r)
	require.NoError(w.t, w.Store.CreateRequest(w.t.Context(), r, access.Event{Key: "request/" + id, Kind: "request.created", RequestID: id}))
	return r
}

func steps(roles ...string) func(*access.Flow) {
	return func(f *access.Flow) {
		f.Approval.Steps = nil
		for _, role := range roles {
			f.Approval.Steps = append(f.Approval.Steps, access.Step{AnyOf: []string{role}})
		}
	}
}

func asIs(*access.Request) {}

// decide records a decision that must count.
func (w *world) decide(r access.Request, v access.Verdict, by string, change ...func(*access.Decision)) access.DecisionDone {
	w.t.Helper()
	d := w.decision(r, v, w.person(by))
	d.Reason = "because"
	for _, f := range change {
		f(&d)
	}
	done, err := run[access.DecisionDone](w.t, w.RecordDecision, d.Sign(w.portal))
	require.NoError(w.t, err)
	return done
}

// refused records a decision that must not count.
func (w *world) refused(r access.Request, v access.Verdict, by, says string, change ...func(*access.Decision)) {
	w.t.Helper()
	d := w.decision(r, v, w.person(by))
	d.Reason = "because"
	for _, f := range change {
		f(&d)
	}
	require.Contains(w.t, applicationError(w.t, do(w.t, w.RecordDecision, d.Sign(w.portal))).Message(), says)
}

// noTicket asks for a ticket that must be refused.
func (w *world) noTicket(r access.Request, says string, holds ...string) {
	w.t.Helper()
	a := w.ticketArgs(r)
	if len(holds) > 0 {
		a.HoldIDs = holds
	}
	_, err := run[access.TicketDone](w.t, w.Ticket, a)
	e := applicationError(w.t, err)
	require.Equal(w.t, string(access.NoTicket), e.Type())
	require.Contains(w.t, e.Message(), says)
}

func TestDecisionsOfSteps(t *testing.T) {
	w := newWorld(t)
	r := w.under("r1", steps("group:sales", "group:dba"), asIs)
	b, err := run[access.RequestBrief](t, w.LoadRequest, "r1")
	require.NoError(t, err)
	require.Equal(t, []any{false, 0, "bo@example.com", 2}, []any{b.Decided, b.Step, b.Approvers, len(b.Steps)})

	w.refused(r, access.Approve, "dan@example.com", "dan@example.com is not group:sales")
	require.Equal(t, access.DecisionDone{Waits: true, Step: 1, Approvers: "dan@example.com", Known: 1}, w.decide(r, access.Approve, "bo@example.com"))
	w.refused(r, access.Approve, "bo@example.com", "bo@example.com is not group:dba")
	w.refused(r, access.Approve, "ana+dba@example.com", "nobody approves for themselves")

	// What the workflow says is not believed.
	w.state(r, access.StateApproved)
	w.noTicket(r, "no approval of this request counts, or not enough of them")
	w.state(r, access.StatePending)

	b, err = run[access.RequestBrief](t, w.LoadRequest, "r1")
	require.NoError(t, err)
	require.Equal(t, []any{false, 1, "dan@example.com"}, []any{b.Decided, b.Step, b.Approvers})
	require.WithinDuration(t, time.Now(), b.StepSince, time.Minute)

	done := w.decide(r, access.Approve, "dan@example.com")
	require.Equal(t, []any{false, 2, 2}, []any{done.Waits, done.Step, done.Known})
	b, err = run[access.RequestBrief](t, w.LoadRequest, "r1")
	require.NoError(t, err)
	require.True(t, b.Decided)
	w.state(r, access.StateApproved)
	_, err = run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
	require.NoError(t, err)

	// Who leaves takes the approval along, also for an extension.
	w.change("bo@example.com", func(p *config.Person) { p.Disabled = true })
	again := w.ticketArgs(r)
	again.Sequence++
	_, err = run[access.TicketDone](t, w.Ticket, again)
	require.Equal(t, string(access.NoTicket), applicationError(t, err).Type())
}

// Told twice, a decision leads to the same, and counts once.
func TestDecisionToldTwice(t *testing.T) {
	w := newWorld(t)
	r := w.under("r1", func(f *access.Flow) {
		f.Approval.Steps[0].AtLeast, f.Approval.Steps[0].AnyOf = 2, []string{"group:dba", "group:sales"}
	}, asIs)
	d := w.decision(r, access.Approve, w.dan)
	for range 2 {
		done, err := run[access.DecisionDone](t, w.RecordDecision, d)
		require.NoError(t, err)
		require.Equal(t, access.DecisionDone{Waits: true, Approvers: "bo@example.com", Known: 1}, done)
	}
}

func TestTicketUnderTerms(t *testing.T) {
	w := newWorld(t)
	r := w.under("r1", steps("group:sales", "group:dba"), asIs)
	w.refused(r, access.Approve, "bo@example.com", "shorten access and not lengthen it", func(d *access.Decision) { d.For = access.Duration(2 * time.Hour) })
	w.decide(r, access.Approve, "bo@example.com", func(d *access.Decision) { d.For = access.Duration(40 * time.Minute) })
	done := w.decide(r, access.Approve, "dan@example.com", func(d *access.Decision) {
		d.For, d.Without = access.Duration(30*time.Minute), []string{r.HoldIDs[1]}
	})
	require.Equal(t, []string{r.HoldIDs[1]}, done.Without)
	w.state(r, access.StateApproved)
	b, err := run[access.RequestBrief](t, w.LoadRequest, "r1")
	require.NoError(t, err)
	require.Equal(t, []string{r.HoldIDs[1]}, b.Without)

	w.noTicket(r, "an approver left the hold "+r.HoldIDs[1]+" out")
	w.noTicket(r, "an approver left the hold", r.HoldIDs[1])
	a := w.ticketArgs(r)
	a.HoldIDs = r.HoldIDs[:1]
	ticket, err := run[access.TicketDone](t, w.Ticket, a)
	require.NoError(t, err)
	require.Equal(t, []access.Duration{access.Duration(30 * time.Minute), access.Duration(30 * time.Minute)}, []access.Duration{ticket.Duration, ticket.Maximum})
	h := w.hold(r.HoldIDs[0])
	require.Equal(t, ticket.Ticket.LatestStart.Add(30*time.Minute), h.EndsAt)
	require.Equal(t, h.EndsAt, h.MaxEnd, "what was shortened is not lengthened")
}

// Access ends with its flow's timeframe, whatever was asked for, and begins in
// it only.
func TestTicketUnderATimeframe(t *testing.T) {
	now := time.Now().UTC()
	hours := func(from, to time.Duration) func(*access.Flow) {
		return func(f *access.Flow) {
			f.Timeframe = access.Timeframe{Hours: now.Add(from).Format("15:04") + "-" + now.Add(to).Format("15:04")}
		}
	}
	t.Run("inside", func(t *testing.T) {
		w := newWorld(t)
		r := w.under("r1", hours(-time.Hour, 30*time.Minute), asIs)
		w.decide(r, access.Approve, "dan@example.com")
		w.state(r, access.StateApproved)
		done, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
		require.NoError(t, err)
		closes := now.Add(30 * time.Minute).Truncate(time.Minute)
		require.Equal(t, closes, done.Until.UTC())
		for _, id := range r.HoldIDs {
			require.Equal(t, closes, w.hold(id).EndsAt.UTC())
			require.Equal(t, closes, w.hold(id).MaxEnd.UTC(), "nor is it extended past that")
		}
		require.Equal(t, closes.Add(10*time.Minute), done.Ticket.End.UTC())
	})
	t.Run("outside", func(t *testing.T) {
		w := newWorld(t)
		r := w.under("r1", hours(2*time.Hour, 3*time.Hour), asIs)
		w.refused(r, access.Approve, "dan@example.com", "its timeframe is every day")
		w.put(w.decision(r, access.Approve, w.dan))
		w.state(r, access.StateApproved)
		w.noTicket(r, "its timeframe is every day")
	})
	t.Run("approved now, to begin inside", func(t *testing.T) {
		w := newWorld(t)
		r := w.under("r1", hours(2*time.Hour, 3*time.Hour), func(r *access.Request) { r.StartAt = now.Add(2*time.Hour + time.Minute) })
		w.decide(r, access.Approve, "dan@example.com")
	})
}

func TestTicketOfBrokenGlass(t *testing.T) {
	w := newWorld(t)
	glass := func(f *access.Flow) {
		f.Trigger = access.BreakGlass
		f.Approval.Steps = []access.Step{{AnyOf: []string{"group:dba"}}}
	}
	r := w.under("r1", glass, func(r *access.Request) { r.ExpiresAt = r.CreatedAt.Add(time.Hour) })
	w.state(r, access.StateApproved)
	w.noTicket(r, "no approval of this request counts")
	w.refused(r, access.Approve, "dan@example.com", "nobody approves access that comes by the access flow read")
	w.refused(r, access.Break, "dan@example.com", "only who asks may break the glass")
	w.put(w.decision(r, access.Approve, w.dan))
	w.put(w.decision(r, access.Break, w.dan))
	w.noTicket(r, "no approval of this request counts")
	w.decide(r, access.Break, "ana@example.com")
	_, err := run[access.TicketDone](t, w.Ticket, w.ticketArgs(r))
	require.NoError(t, err)
	w.record(access.Change{Request: &access.RequestChange{ID: "r1", State: access.StateApproved, Review: access.ReviewDue}})
	b, err := run[access.RequestBrief](t, w.LoadRequest, "r1")
	require.NoError(t, err)
	require.Equal(t, []any{true, true, "dan@example.com"}, []any{b.Decided, b.Review, b.Approvers})
	require.Empty(t, b.Steps, "nobody is asked to approve it")
	require.True(t, b.ReviewBy.Equal(r.ExpiresAt))

	// While its review is overdue nothing else is taken, by no entry of the same human.
	second := w.under("r2", glass, asIs)
	other := w.under("r3", func(f *access.Flow) {
		glass(f)
		f.Requesters.Any[0].Values = []string{"dba", "analytics"}
	}, func(r *access.Request) { r.PersonID = w.person("ana+dba@example.com").ID })
	w.Store.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	w.refused(second, access.Break, "ana@example.com", "the review of r1 is overdue")
	w.refused(other, access.Break, "ana+dba@example.com", "the review of r1 is overdue")

	w.refused(r, access.Justify, "ana@example.com", "nobody approves for themselves")
	w.refused(r, access.Justify, "bo@example.com", "bo@example.com is not group:dba")
	w.refused(r, access.Justify, "dan@example.com", "a review says why", func(d *access.Decision) { d.Reason = "" })
	require.True(t, w.decide(r, access.Justify, "dan@example.com").Reviewed)
	row, err := w.Store.Request(t.Context(), "r1")
	require.NoError(t, err)
	require.Equal(t, access.ReviewDone, row.Review)
	b, err = run[access.RequestBrief](t, w.LoadRequest, "r1")
	require.NoError(t, err)
	require.False(t, b.Review, "who reads it again waits for no review")
	require.Contains(t, w.events("r1"), "review.done")
	w.decide(second, access.Break, "ana@example.com")
	w.record(access.Change{Request: &access.RequestChange{ID: "r2", State: access.StateApproved, Review: access.ReviewDue}})
	require.True(t, w.decide(second, access.Object, "dan@example.com").Reviewed)
	row, err = w.Store.Request(t.Context(), "r2")
	require.NoError(t, err)
	require.Equal(t, access.ReviewBad, row.Review)
}

func TestRemind(t *testing.T) {
	w := newWorld(t)
	told := func(email string) (texts []string) {
		rows, err := w.Store.Notices(t.Context(), store.NoticeFilter{Person: w.person(email).ID})
		require.NoError(t, err)
		for _, n := range rows {
			texts = append(texts, n.Text)
		}
		return texts
	}
	r := w.under("r1", func(f *access.Flow) {
		f.Approval.Steps = []access.Step{{AnyOf: []string{"group:dba"}, Escalate: []access.Tier{{After: access.Duration(time.Nanosecond), To: []string{"group:sales"}}}}}
	}, asIs)
	remind := access.RemindArgs{RequestID: "r1", Kind: access.NoticeReminder}
	for range 2 { // the same is told and put on record once
		require.NoError(t, do(t, w.Remind, remind))
	}
	require.Len(t, told("dan@example.com"), 1)
	require.Contains(t, told("dan@example.com")[0], "waits for your decision: ana@example.com asks for read_only on prod-pg schema:shop/public, read_write on prod-pg schema:shop/public for 1h: a look")
	require.Empty(t, told("ana@example.com"))
	require.Empty(t, told("ana+dba@example.com"), "Ana's second entry")
	require.Equal(t, []string{"request.created", "notice.reminder"}, w.events("r1"))
	require.NoError(t, do(t, w.Remind, access.RemindArgs{RequestID: "r1", Kind: access.NoticeEscalation, Tier: 1}))
	require.Len(t, told("dan@example.com"), 1, "it was escalated to others")
	require.True(t, slices.ContainsFunc(told("bo@example.com"), func(s string) bool { return strings.HasPrefix(s, "escalated to you: ") }))
	remind.Round = 1
	require.NoError(t, do(t, w.Remind, remind))
	require.Len(t, told("dan@example.com"), 2)

	w.decide(r, access.Approve, "dan@example.com")
	remind.Round = 2
	require.NoError(t, do(t, w.Remind, remind))
	require.Len(t, told("dan@example.com"), 2, "nothing waits any more")
	require.Equal(t, []string{"request.created", "notice.reminder", "notice.escalation", "notice.reminder", "decision.approve"}, w.events("r1"))
}

// Deny beats approve, and what was ended stays ended: with one such decision on
// record there is no ticket, whoever made it, before or after which others.
func TestNoTicketAfterANo(t *testing.T) {
	w := newWorld(t)
	n, granted := 0, 0
	w.under("r0", func(f *access.Flow) {
		f.Approval.Steps[0] = access.Step{AnyOf: []string{"group:dba", "group:sales", "person:cy@example.com"}, AtLeast: 2}
	}, asIs)
	people := []access.Person{w.ana, w.dan, w.person("bo@example.com"), w.person("ana+dba@example.com")}
	rapid.Check(t, func(rt *rapid.T) {
		n++
		verdicts := rapid.SliceOfN(rapid.SampledFrom([]access.Verdict{access.Approve, access.Approve, access.Deny, access.Release, access.Revoke, access.Extend, access.Renew}), 0, 3).Draw(rt, "verdicts")
		r := w.under(fmt.Sprint("r", n), func(*access.Flow) {}, asIs)
		no, yes := false, map[string]bool{}
		for i, v := range append([]access.Verdict{access.Approve, access.Approve}, verdicts...) {
			by := rapid.SampledFrom(people).Draw(rt, "by")
			if i < 2 && rapid.IntRange(0, 3).Draw(rt, "by those who may") > 0 {
				by = people[i+1]
			}
			w.put(w.decision(r, v, by))
			no = no || v == access.Deny || v == access.Release || v == access.Revoke
			yes[by.ID] = yes[by.ID] || v == access.Approve
		}
		w.state(r, access.StateApproved)
		a := w.ticketArgs(r)
		a.Sequence += int64(n)
		_, err := run[access.TicketDone](t, w.Ticket, a)
		if want := !no && yes[people[1].ID] && yes[people[2].ID]; (err == nil) != want {
			rt.Fatalf("%v: %v", verdicts, err)
		} else if want {
			granted++
		}
	})
	require.NotZero(t, granted, "or this shows nothing")
}

// What the record of a decision says, what a workflow reads, and the ticket agree
// after every decision, counted or not, and after every change of the directory.
func TestRecordAndTicketAgree(t *testing.T) {
	w := newWorld(t)
	people := []access.Person{w.ana, w.dan, w.person("bo@example.com"), w.person("ana+dba@example.com")}
	role := rapid.SampledFrom([]string{"group:dba", "group:sales", "person:bo@example.com", "group:none"})
	n, granted, refused := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		var list []access.Step
		for range rapid.IntRange(1, 2).Draw(rt, "steps") {
			list = append(list, access.Step{AnyOf: []string{role.Draw(rt, "role"), role.Draw(rt, "or")}, Fallback: []string{role.Draw(rt, "fallback")}})
		}
		r := w.under(fmt.Sprint("r", n), func(f *access.Flow) { f.Approval.Steps = list }, asIs)
		sequence := int64(n) << 20
		for range rapid.IntRange(1, 4).Draw(rt, "events") {
			if rapid.IntRange(0, 3).Draw(rt, "changes") == 0 {
				w.change("bo@example.com", func(p *config.Person) {
					p.Groups, p.Disabled = []string{rapid.SampledFrom([]string{"sales", "dba", "none"}).Draw(rt, "group")}, rapid.Bool().Draw(rt, "disabled")
				})
			}
			done, err := run[access.DecisionDone](t, w.RecordDecision, w.decision(r, access.Approve, rapid.SampledFrom(people).Draw(rt, "by")))
			b, loadErr := run[access.RequestBrief](t, w.LoadRequest, r.ID)
			require.NoError(t, loadErr)
			if err == nil && (done.Waits == b.Decided || done.Step != b.Step || done.Approvers != b.Approvers) {
				rt.Fatalf("on record it leads to %+v, and read it is %+v", done, b)
			}
			w.state(r, access.StateApproved)
			a := w.ticketArgs(r)
			sequence++
			a.Sequence = sequence
			_, err = run[access.TicketDone](t, w.Ticket, a)
			if (err == nil) != b.Decided {
				rt.Fatalf("decided: %v, and the ticket: %v, at %+v", b.Decided, err, list)
			}
			w.state(r, access.StatePending)
			if b.Decided {
				granted++
				break
			}
			refused++
		}
	})
	require.NotZero(t, granted)
	require.NotZero(t, refused)
}
