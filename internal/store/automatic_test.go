package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
)

func (w world) leaseAsk(permissions ...string) access.LeaseAsk {
	a := access.LeaseAsk{Flow: access.Flow{Name: "auto", MaxDuration: access.Duration(time.Hour)}, Person: w.ana}
	for _, p := range permissions {
		a.Asked = append(a.Asked, access.Asked{Integration: "prod-pg", Entitlement: access.Entitlement{Integration: w.pg.ID, Resource: access.NewResource("schema", "shop", "public"), Permission: p}})
	}
	return a
}

func (w world) lease(t testing.TB, a access.LeaseAsk) int {
	t.Helper()
	round, err := w.CreateLease(t.Context(), a, func(round int) (access.Request, access.Event) {
		r := a.Request(round, 1, noon)
		return r, access.Event{Key: "request/" + r.ID, Kind: "request.created", RequestID: r.ID}
	})
	if err != nil {
		t.Fatal(err)
	}
	return round
}

func (w world) leases(t testing.TB) ([]access.Lease, map[access.LeaseKey]access.Withheld) {
	t.Helper()
	leases, withheld, err := w.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return leases, withheld
}

func (w world) settle(t testing.TB, p access.LeasePlan) {
	t.Helper()
	if err := w.SettleLeases(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func TestLeases(t *testing.T) {
	w := newWorld(t)
	if leased, err := w.Leased(t.Context()); leased || err != nil {
		t.Fatal(leased, err)
	}
	a := w.leaseAsk("read_only", "read_write")
	if n := w.lease(t, a); n != 1 {
		t.Fatalf("the first lease has the round %d", n)
	}
	if n := w.lease(t, a); n != 0 {
		t.Errorf("two who look at the same time make two leases: round %d", n)
	}
	id := a.Request(1, 1, noon).ID
	leases, withheld := w.leases(t)
	want := []access.Lease{{RequestID: id, Flow: "auto", PersonID: w.ana.ID, Round: 1, State: access.StatePending}}
	for n, p := range a.Asked {
		want[0].Holds = append(want[0].Holds, access.Hold{ID: a.Request(1, 1, noon).HoldIDs[n], RequestID: id, AccountID: w.account(), Entitlement: p.Entitlement, State: access.StatePending})
	}
	if diff := cmp.Diff(want, leases); diff != "" || len(withheld) > 0 {
		t.Errorf("withheld %v; leases: %s", withheld, diff)
	}

	// It is an ordinary request, that nobody decides on.
	row, err := w.Request(t.Context(), id)
	if err != nil || row.State != access.StatePending || row.Flow != "auto" {
		t.Errorf("%+v, %v", row, err)
	}
	w.approve(t, id)
	w.holdsIn(t, id, access.StateActive)
	if err := w.LeasesStarted(t.Context(), []string{id}); err != nil {
		t.Fatal(err)
	}
	d := access.Decision{RequestID: id, Verdict: access.Release, By: w.ana.ID, Nonce: "n1", At: noon}
	if err := w.AddDecision(t.Context(), d, access.Event{Key: "decision/n1", Kind: "decision.release", RequestID: id}); err != nil {
		t.Fatal(err)
	}
	leases, _ = w.leases(t)
	if l := leases[0]; !l.Started || !l.Decided || l.State != access.StateApproved || l.Holds[1].State != access.StateActive || !l.Holds[1].EndsAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v", l)
	}

	// Another follows it, and one that is over is not shown any more.
	a.Seen = 1
	if n := w.lease(t, a); n != 2 {
		t.Errorf("the second lease has the round %d", n)
	}
	w.settle(t, access.LeasePlan{Over: []string{id}})
	leases, _ = w.leases(t)
	if len(leases) != 1 || leases[0].Round != 2 {
		t.Errorf("%+v", leases)
	}
	w.settle(t, access.LeasePlan{Over: []string{leases[0].RequestID}})
	a.Seen = 0
	if n := w.lease(t, a); n != 3 {
		t.Errorf("a round comes again: %d", n)
	}
	var others []string
	for n := range 600 {
		others = append(others, fmt.Sprint("r", n))
	}
	w.settle(t, access.LeasePlan{Over: append(others, a.Request(3, 1, noon).ID)})
	if leased, err := w.Leased(t.Context()); leased || err != nil {
		t.Error(leased, err)
	}
}

func TestWithheld(t *testing.T) {
	w := newWorld(t)
	a := w.leaseAsk("read_only", "read_write")
	r := a.Request(1, 1, noon)
	key := func(n int) access.LeaseKey {
		return access.LeaseKey{Flow: "auto", PersonID: w.ana.ID, Entitlement: a.Asked[n].Entitlement}
	}
	failed := access.Withheld{HoldID: "h1", Why: "no such schema", Failures: 1, Until: noon}
	w.settle(t, access.LeasePlan{Withhold: map[access.LeaseKey]access.Withheld{key(0): failed}})
	if why, err := w.EndedByHand(t.Context(), r); why != "" || err != nil {
		t.Errorf("what failed was ended by hand: %q, %v", why, err)
	}
	failed.Failures, failed.HoldID = 2, "h2"
	hand := access.Withheld{HoldID: "h3", Why: "bo ended it"}
	want := map[access.LeaseKey]access.Withheld{key(0): failed, key(1): hand}
	w.settle(t, access.LeasePlan{Withhold: want})
	if _, withheld := w.leases(t); !cmp.Equal(want, withheld) {
		t.Errorf("%+v", withheld)
	}
	if why, err := w.EndedByHand(t.Context(), r); why != "bo ended it" || err != nil {
		t.Errorf("%q, %v", why, err)
	}
	other := r
	other.PersonID = w.bo.ID
	if why, err := w.EndedByHand(t.Context(), other); why != "" || err != nil {
		t.Errorf("it is withheld from somebody else: %q, %v", why, err)
	}
	w.settle(t, access.LeasePlan{Resume: map[access.LeaseKey]bool{key(0): true, key(1): true}})
	if _, withheld := w.leases(t); len(withheld) > 0 {
		t.Errorf("%+v", withheld)
	}
}

// BenchmarkLeases reads the leases of 10,000 people who have three each, with two
// things each.
func BenchmarkLeases(b *testing.B) {
	w := newWorld(b)
	_, c, err := w.Config(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for n := range 10000 {
		c.People = append(c.People, config.Person{Email: fmt.Sprintf("p%d@example.com", n)})
	}
	save(b, w.Store, c)
	people, err := w.People(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.writer.ExecContext(b.Context(), `pragma synchronous(off)`); err != nil {
		b.Fatal(err)
	}
	for _, p := range people {
		for flow := range 3 {
			a := w.leaseAsk("read_only", "read_write")
			a.Person, a.Flow.Name = p, fmt.Sprint("flow-", flow)
			w.lease(b, a)
		}
	}
	for b.Loop() {
		if leases, _, err := w.Leases(b.Context()); err != nil || len(leases) != 3*len(people) {
			b.Fatal(len(leases), err)
		}
	}
}
