package store

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
)

func TestRequest(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	// A time with a zone of its own must come back so that the hash stays.
	r := w.request(t, "req-1", noon.In(time.FixedZone("here", 3600)), "read_only", "read_write")
	if err := w.CreateRequest(ctx, r, access.Event{Key: "request/req-1", Kind: "request.created"}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := r
	other.Reason = "another"
	if err := w.CreateRequest(ctx, other, access.Event{Key: "other", Kind: "request.created"}); access.KindOf(err) != access.Invalid {
		t.Errorf("another under its id: %v", err)
	}
	row, err := w.Request(ctx, "req-1")
	if err != nil {
		t.Fatal(err)
	}
	if row.State != access.StatePending || row.Hash() != r.Hash() {
		t.Errorf("state %s, request %+v", row.State, row.Request)
	}
	want := []access.Hold{
		{ID: "req-1-read_only", RequestID: "req-1", AccountID: w.account(), Entitlement: r.Asked[0].Entitlement, State: access.StatePending},
		{ID: "req-1-read_write", RequestID: "req-1", AccountID: w.account(), Entitlement: r.Asked[1].Entitlement, State: access.StatePending},
	}
	if diff := cmp.Diff(want, row.Holds); diff != "" {
		t.Error(diff)
	}
	if h, err := w.Hold(ctx, "req-1-read_write"); err != nil || h.ID != want[1].ID {
		t.Errorf("hold: %+v, %v", h, err)
	}
	if events, err := w.Events(ctx, EventFilter{RequestID: "req-1"}); err != nil || len(events) != 1 {
		t.Errorf("events: %v, %v", events, err)
	}
	for name, change := range map[string]func(*access.Request){
		"no such person":      func(r *access.Request) { r.PersonID = "per-nobody" },
		"no such integration": func(r *access.Request) { r.Asked[0].Entitlement.Integration = "int-nothing" },
	} {
		bad := r
		bad.ID, bad.Asked, bad.HoldIDs = "req-bad", []access.Asked{r.Asked[0]}, []string{"h-bad"}
		change(&bad)
		if err := w.CreateRequest(ctx, bad, access.Event{Key: name, Kind: "x"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if known, err := w.Recorded(ctx, name); known || err != nil {
			t.Errorf("%s: the event of what failed is there: %v, %v", name, known, err)
		}
	}
	if _, err := w.Request(ctx, "req-9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such request: %v", err)
	}
}

func TestRequestsFilter(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for i := range 12 {
		id := fmt.Sprintf("req-%02d", i)
		w.request(t, id, noon.Add(time.Duration(i/2)*time.Second), "read_only")
		switch i % 4 {
		case 1:
			w.approve(t, id)
			w.holdsIn(t, id, access.StateActive)
		case 2:
			w.approve(t, id)
			w.holdsIn(t, id, access.StateEnded)
		case 3:
			w.record(t, access.Change{Request: &access.RequestChange{ID: id, State: access.StateDenied, Why: "no"}})
		}
	}
	list := func(f RequestFilter) (ids []string) {
		t.Helper()
		for {
			rows, err := w.Requests(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if len(r.Holds) != 1 {
					t.Errorf("%s has holds %v", r.ID, r.Holds)
				}
				ids = append(ids, r.ID)
			}
			if f.Limit == 0 || len(rows) == 0 {
				return ids
			}
			f.After = rows[len(rows)-1].ID
		}
	}
	all := []string{"req-11", "req-10", "req-09", "req-08", "req-07", "req-06", "req-05", "req-04", "req-03", "req-02", "req-01", "req-00"}
	for name, tc := range map[string]struct {
		f    RequestFilter
		want []string
	}{
		"all":             {RequestFilter{}, all},
		"pages":           {RequestFilter{Limit: 5}, all},
		"person":          {RequestFilter{Person: w.ana.ID}, all},
		"somebody else":   {RequestFilter{Person: w.bo.ID}, nil},
		"integration":     {RequestFilter{Integration: w.pg.ID}, all},
		"another":         {RequestFilter{Integration: "int-other"}, nil},
		"pending":         {RequestFilter{State: access.StatePending}, []string{"req-08", "req-04", "req-00"}},
		"active, in ones": {RequestFilter{State: access.StateActive, Limit: 1}, []string{"req-09", "req-05", "req-01"}},
		"ended, in twos":  {RequestFilter{State: access.StateEnded, Limit: 2}, []string{"req-10", "req-06", "req-02"}},
		"denied":          {RequestFilter{State: access.StateDenied}, []string{"req-11", "req-07", "req-03"}},
		"overdue":         {RequestFilter{State: access.StateOverdue}, nil},
	} {
		if diff := cmp.Diff(tc.want, list(tc.f)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	w.Now = func() time.Time { return noon.Add(2 * time.Hour) }
	if got := list(RequestFilter{State: access.StateOverdue}); len(got) != 3 {
		t.Errorf("overdue two hours later: %v", got)
	}
}

func TestDecisions(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	r := w.request(t, "req-1", noon, "read_only")
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := access.Decision{RequestID: r.ID, AskHash: r.Hash(), Verdict: access.Approve, By: w.bo.ID, Nonce: "n1", At: noon, From: "cli"}.Sign(key)
	event := access.Event{Key: "decision/n1", Kind: "decision.approve", RequestID: r.ID}
	if err := errors.Join(w.AddDecision(ctx, d, event), w.AddDecision(ctx, d, event)); err != nil {
		t.Fatal(err)
	}
	other := d
	other.Verdict = access.Deny
	if err := w.AddDecision(ctx, other, access.Event{Key: "x", Kind: "x"}); access.KindOf(err) != access.Invalid {
		t.Errorf("another with the nonce: %v", err)
	}
	lost := d
	lost.Nonce, lost.RequestID = "n2", "req-9"
	if err := w.AddDecision(ctx, lost, access.Event{Key: "x", Kind: "x"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("on an unknown request: %v", err)
	}
	got, err := w.Decisions(ctx, r.ID)
	if err != nil || len(got) != 1 {
		t.Fatalf("decisions: %v, %v", got, err)
	}
	if err := got[0].Verify(pub, r); err != nil {
		t.Errorf("what was stored is not what was signed: %v", err)
	}
}

func TestRecord(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.request(t, "req-1", noon, "read_only")
	w.approve(t, "req-1")
	hold := func() access.Hold {
		t.Helper()
		h, err := w.Hold(ctx, "req-1-read_only")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := hold()
	evidence := &access.Evidence{At: noon, Outcome: access.Granted, Facts: []string{"SELECT works"}}
	h.State, h.StartsAt, h.EndsAt, h.MaxEnd, h.Grant = access.StateActive, noon, noon.Add(time.Hour), noon.Add(8*time.Hour), evidence
	active := access.Change{Event: access.Event{Key: "granted", Kind: "granted"}, Holds: []access.Hold{h}}
	w.record(t, active)
	if diff := cmp.Diff(h, hold()); diff != "" {
		t.Error(diff)
	}

	// The same key again, with something else in it, changes nothing.
	forged := active
	forged.Holds = []access.Hold{{ID: h.ID, RequestID: h.RequestID, AccountID: h.AccountID, State: access.StateEnded}}
	w.record(t, forged)
	if diff := cmp.Diff(h, hold()); diff != "" {
		t.Error(diff)
	}

	// Zero times and no evidence keep what is known; the error is replaced.
	bare := access.Hold{ID: h.ID, RequestID: h.RequestID, AccountID: h.AccountID, State: access.StateEnding, Error: "no answer"}
	w.record(t, access.Change{Holds: []access.Hold{bare}})
	h.State, h.Error = access.StateEnding, "no answer"
	if diff := cmp.Diff(h, hold()); diff != "" {
		t.Error(diff)
	}

	// Rows of somebody else, or none, stay; the event is recorded.
	foreign := bare
	foreign.AccountID, foreign.State = access.AccountID(w.pg.ID, w.bo.ID), access.StateEnded
	unknown := bare
	unknown.ID = "hold-unknown"
	w.record(t, access.Change{Event: access.Event{Key: "forged", Kind: "x"}, Holds: []access.Hold{foreign, unknown},
		Request: &access.RequestChange{ID: "req-unknown", State: access.StateApproved}, Account: &access.AccountChange{ID: "int-x/per-x", Deleted: true}})
	if diff := cmp.Diff(h, hold()); diff != "" {
		t.Error(diff)
	}
	if known, err := w.Recorded(ctx, "forged"); !known || err != nil {
		t.Errorf("the forged change is not on record: %v", err)
	}

	// What is over stays over.
	w.holdsIn(t, "req-1", access.StateEnded)
	w.holdsIn(t, "req-1", access.StateActive)
	if got := hold().State; got != access.StateEnded {
		t.Errorf("an ended hold became %s", got)
	}
	w.record(t, access.Change{Request: &access.RequestChange{ID: "req-1", State: access.StateEnded, Why: "done"}})
	w.approve(t, "req-1")
	if r, err := w.Request(ctx, "req-1"); err != nil || r.State != access.StateEnded || r.Why != "done" {
		t.Errorf("an ended request became %s (%s), %v", r.State, r.Why, err)
	}

	// A change that cannot be written takes the whole batch back.
	err := w.Record(ctx, []access.Change{{Event: access.Event{Key: "half", Kind: "x"}}, {Event: access.Event{Kind: "x"}}})
	if known, _ := w.Recorded(ctx, "half"); err == nil || known {
		t.Errorf("half a batch was written: %v", err)
	}
}

// TestRecordIsMonotone records any changes of one hold in any order: a final
// state is never left, and what was known is never forgotten.
func TestRecordIsMonotone(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	states := []access.State{"", access.StatePending, access.StateGranting, access.StateActive, access.StateEnding, access.StateOverdue, access.StateEnded, access.StateFailed}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id := fmt.Sprintf("req-%d", n)
		w.request(t, id, noon, "read_only")
		before, err := w.Hold(ctx, id+"-read_only")
		if err != nil {
			rt.Fatal(err)
		}
		want := before
		var changes []access.Change
		for i := range rapid.IntRange(1, 8).Draw(rt, "steps") {
			h := access.Hold{ID: before.ID, RequestID: id, AccountID: before.AccountID, State: rapid.SampledFrom(states).Draw(rt, "state"), Error: rapid.SampledFrom([]string{"", "e"}).Draw(rt, "error")}
			if rapid.Bool().Draw(rt, "end") {
				h.EndsAt = noon.Add(time.Duration(i) * time.Minute)
			}
			if rapid.Bool().Draw(rt, "evidence") {
				h.Grant = &access.Evidence{At: noon.Add(time.Duration(i)), Outcome: access.Granted}
			}
			if !want.State.Final() {
				if h.State != "" {
					want.State = h.State
				}
				if !h.EndsAt.IsZero() {
					want.EndsAt = h.EndsAt
				}
				if h.Grant != nil {
					want.Grant = h.Grant
				}
				want.Error = h.Error
			}
			changes = append(changes, access.Change{Event: access.Event{Key: fmt.Sprintf("%s/%d", id, i), Kind: "x"}, Holds: []access.Hold{h}})
		}
		if err := errors.Join(w.Record(ctx, changes), w.Record(ctx, changes)); err != nil {
			rt.Fatal(err)
		}
		got, err := w.Hold(ctx, before.ID)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			rt.Fatalf("%v %s", err, diff)
		}
	})
}

// TestFinalStates keeps the list in SQL the one of access.
func TestFinalStates(t *testing.T) {
	s := newStore(t)
	for _, state := range []access.State{access.StatePending, access.StateApproved, access.StateGranting, access.StateActive, access.StateEnding,
		access.StateOverdue, access.StateEnded, access.StateDenied, access.StateExpired, access.StateFailed} {
		var final bool
		if err := s.readers.QueryRow(`select $1 in `+finalStates, state).Scan(&final); err != nil || final != state.Final() {
			t.Errorf("%s: %v, %v", state, final, err)
		}
	}
}
