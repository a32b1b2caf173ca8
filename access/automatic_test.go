package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// leasing is a store and a target, as far as the rules of automatic flows know
// of them. Whatever a plan says is done at once.
type leasing struct {
	t *testing.T
	Leasing
	people []Person
	all    []Lease // over ones too
	ended  []string
}

func newLeasing(t *testing.T, flows ...Flow) *leasing {
	l := &leasing{t: t, people: []Person{named("ana", "readers"), named("bo", "sales")}}
	l.Leasing = Leasing{Flows: flows, Names: map[string]string{"int-1": "prod-pg", "int-2": "prod-my"}, Closed: map[string]string{}, Withheld: map[LeaseKey]Withheld{},
		Now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	for _, path := range []string{"orders", "items"} {
		l.Offered = append(l.Offered, offered("int-1", "prod-pg", path, "read_only"), offered("int-1", "prod-pg", path, "read_write"))
	}
	l.Offered = append(l.Offered, offered("int-2", "prod-my", "orders", "read_only"))
	return l
}

func offered(id, name, path, permission string) Asked {
	return Asked{Integration: name, Entitlement: Entitlement{Integration: id, Resource: NewResource("schema", "shop", path), Permission: permission}}
}

// readers is an automatic flow for the group readers.
func readers(change ...func(*Flow)) Flow {
	f := Flow{Name: "readers", Trigger: Automatic, Requesters: Conditions{Any: []Condition{{Attribute: "group", Values: []string{"readers"}}}},
		Targets:     []FlowTarget{{Integration: "prod-pg", Resources: []string{"schema:shop/*"}, Permissions: []string{"read_only"}}},
		MaxDuration: Duration(8 * time.Hour)}
	for _, c := range change {
		c(&f)
	}
	return f
}

// plan plans, and does what the plan says. Holds that are past their end are
// over.
func (l *leasing) plan() LeasePlan {
	l.t.Helper()
	l.ended = nil
	l.each(func(_ *Lease, h *Hold) {
		if !h.State.Final() && !h.EndsAt.IsZero() && !l.Now.Before(h.EndsAt) {
			h.State = StateEnded
		}
	})
	l.Directory, l.Leases = NewDirectory(slices.Clone(l.people)), slices.DeleteFunc(slices.Clone(l.all), func(x Lease) bool { return x.Flow == "" })
	p := l.Plan()
	maps.Copy(l.Withheld, p.Withhold)
	for key := range p.Resume {
		delete(l.Withheld, key)
	}
	for _, e := range p.End {
		l.ended = append(l.ended, e.Why)
		l.each(func(_ *Lease, h *Hold) {
			if slices.Contains(e.HoldIDs, h.ID) {
				h.State, h.EndsAt = StateEnded, l.Now
			}
		})
	}
	for _, a := range p.Ask {
		r := a.Request(len(l.all)+1, 1, l.Now)
		lease := Lease{RequestID: r.ID, Flow: a.Flow.Name, PersonID: a.Person.ID, Round: len(l.all) + 1, Started: true, State: StateApproved}
		for n, asked := range a.Asked {
			lease.Holds = append(lease.Holds, Hold{ID: r.HoldIDs[n], RequestID: r.ID, AccountID: AccountID(asked.Entitlement.Integration, a.Person.ID), Entitlement: asked.Entitlement,
				State: StateActive, EndsAt: l.Now.Add(a.Flow.MaxDuration.Std())})
		}
		l.all = append(l.all, lease)
	}
	for i := range l.all {
		if slices.Contains(p.Over, l.all[i].RequestID) {
			l.all[i].Flow = "" // the store does not show it any more
		}
	}
	return p
}

func (l *leasing) each(f func(*Lease, *Hold)) {
	for i := range l.all {
		for n := range l.all[i].Holds {
			f(&l.all[i], &l.all[i].Holds[n])
		}
	}
}

// has plans, and wants these to be held then, as PERSON PATH PERMISSION on the
// integration.
func (l *leasing) has(want ...string) {
	l.t.Helper()
	l.plan()
	l.now(want...)
}

func (l *leasing) now(want ...string) {
	l.t.Helper()
	got := map[string]bool{}
	l.each(func(x *Lease, h *Hold) {
		if !h.State.Final() {
			path := h.Entitlement.Resource.Path
			got[fmt.Sprintf("%s %s %s %s", strings.TrimPrefix(x.PersonID, "per-"), h.Entitlement.Integration, path[strings.Index(path, "/")+1:], h.Entitlement.Permission)] = true
		}
	})
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, want) {
		l.t.Errorf("held: %q, want %q", have, want)
	}
}

// why wants the ends of the last plan to say something.
func (l *leasing) why(want string) {
	l.t.Helper()
	if len(l.ended) == 0 || slices.ContainsFunc(l.ended, func(why string) bool { return !strings.Contains(why, want) }) {
		l.t.Errorf("it ended because %q, want %q", l.ended, want)
	}
}

const anaItems, anaOrders = "ana int-1 items read_only", "ana int-1 orders read_only"

// What somebody has by an automatic flow ends with each of its conditions, and
// the record says which.
func TestLeaseEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*leasing)
		why    string
		left   []string
	}{
		{"not in the group", func(l *leasing) { l.people[0].Groups = []string{"sales"} }, "ana@example.com is not among the requesters of the access flow readers any more: it wants group is readers, and there is group sales", nil},
		{"disabled", func(l *leasing) { l.people[0].Disabled = true }, "ana@example.com is disabled", nil},
		{"the flow is gone", func(l *leasing) { l.Flows = nil }, "there is no automatic access flow readers", nil},
		{"the flow is not automatic", func(l *leasing) { l.Flows[0].Trigger = SelfServe }, "there is no automatic access flow readers", nil},
		{"the flow leaves it out", func(l *leasing) { l.Flows[0].Targets[0].Resources = []string{"schema:shop/items"} }, "is not for read_only on prod-pg schema:shop/orders any more", []string{anaItems}},
		{"it has another tag", func(l *leasing) {
			l.Flows[0].Targets[0].Except = []Exception{{Tags: map[string]string{"pii": "yes"}}}
			l.Offered[0].Tags = map[string]string{"pii": "yes"}
		}, "is not for read_only on prod-pg schema:shop/orders any more", []string{anaItems}},
		{"the integration is being removed", func(l *leasing) { l.Closed["int-1"] = "prod-pg is being removed by root" }, "prod-pg is being removed by root", nil},
		{"the timeframe is another", func(l *leasing) { l.Flows[0].Timeframe = Timeframe{Hours: "20:00-22:00"} }, "the timeframe of the access flow readers is every day 20:00-22:00", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLeasing(t, readers())
			l.has(anaItems, anaOrders)
			l.has(anaItems, anaOrders)
			if len(l.all) != 1 || len(l.ended) != 0 {
				t.Fatalf("the second look made %d leases, and ended %q", len(l.all), l.ended)
			}
			c.change(l)
			l.has(c.left...)
			l.why(c.why)
			l.has(c.left...)
		})
	}
	t.Run("its account is not asked again for what is overdue", func(t *testing.T) {
		l := newLeasing(t, readers())
		l.plan()
		l.Leases, l.people[0].Groups = slices.Clone(l.all), nil
		l.Directory, l.Now = NewDirectory(l.people), l.Now.Add(9*time.Hour)
		l.Leases[0].Holds[0].State = StateOverdue
		if p := l.Plan(); len(p.End) > 0 {
			t.Errorf("%+v", p.End)
		}
	})
	t.Run("what a discovery does not find is let be until its end", func(t *testing.T) {
		l := newLeasing(t, readers())
		l.plan()
		l.Offered = nil
		l.has(anaItems, anaOrders)
		l.Now = l.Now.Add(8 * time.Hour)
		l.has()
	})
	t.Run("but not where the flow does not name it", func(t *testing.T) {
		l := newLeasing(t, readers())
		l.plan()
		l.Offered, l.Flows[0].Targets[0].Resources = nil, []string{"schema:shop/items"}
		l.has(anaItems)
	})
}

// A lease is followed by another one before it ends, and never by two.
func TestLeaseIsRenewed(t *testing.T) {
	for _, c := range []struct {
		length, renew time.Duration
		then          int // leases when the first ends
	}{{8 * time.Hour, 6 * time.Hour, 2}, {8 * time.Minute, 6 * time.Minute, 2}, {3 * time.Minute, 90 * time.Second, 3}, {20 * time.Second, 10 * time.Second, 3}} {
		l := newLeasing(t, readers(func(f *Flow) { f.MaxDuration = Duration(c.length) }))
		begun := l.Now
		for range 2 { // it is made, and found
			if p := l.plan(); !p.Next.Equal(begun.Add(c.renew)) {
				t.Errorf("%s: it is to be renewed after %s, want after %s", c.length, p.Next.Sub(begun), c.renew)
			}
		}
		for _, at := range []struct {
			after  time.Duration
			leases int
		}{{c.renew - time.Second, 1}, {c.renew, 2}, {c.length - time.Second, 2}, {c.length, c.then}} {
			l.Now = begun.Add(at.after)
			l.has(anaItems, anaOrders)
			if len(l.all) != at.leases || len(l.ended) > 0 {
				t.Errorf("%s: after %s there were %d leases, want %d; ended: %q", c.length, at.after, len(l.all), at.leases, l.ended)
			}
		}
	}
}

// While a lease is being granted its end is that of the latest start, and nobody
// waits for that: it is looked at in time for the end that it will have.
func TestLeaseBeingGranted(t *testing.T) {
	for _, state := range []State{StatePending, StateGranting} {
		l := newLeasing(t, readers(func(f *Flow) { f.MaxDuration = Duration(20 * time.Second) }))
		l.plan()
		for i := range l.all[0].Holds {
			l.all[0].Holds[i].State, l.all[0].Holds[i].EndsAt = state, time.Time{}
			if state == StateGranting {
				l.all[0].Holds[i].EndsAt = l.Now.Add(10 * time.Minute)
			}
		}
		l.Leases = slices.Clone(l.all)
		if p := l.Plan(); len(p.Ask) > 0 || !p.Next.Equal(l.Now.Add(10*time.Second)) {
			t.Errorf("%s: it is looked again after %s, and asked for %+v", state, p.Next.Sub(l.Now), p.Ask)
		}
	}
}

// Access begins with the timeframe and ends with it, without a lease that begins
// just before the close.
func TestLeaseAndTimeframe(t *testing.T) {
	l := newLeasing(t, readers(func(f *Flow) { f.Timeframe = Timeframe{Hours: "08:00-18:00"} }))
	l.Now = time.Date(2026, 5, 4, 7, 59, 0, 0, time.UTC)
	l.has()
	l.Now = l.Now.Add(time.Minute)
	l.has(anaItems, anaOrders)
	l.Now = time.Date(2026, 5, 4, 15, 0, 0, 0, time.UTC)
	l.has(anaItems, anaOrders)
	closes := time.Date(2026, 5, 4, 18, 0, 0, 0, time.UTC)
	l.each(func(_ *Lease, h *Hold) { h.EndsAt = earlier(h.EndsAt, closes) }) // as the ticket has it
	n := len(l.all)
	for l.Now.Before(closes) {
		l.has(anaItems, anaOrders)
		l.Now = l.Now.Add(time.Hour / 4)
	}
	if len(l.all) != n {
		t.Errorf("%d leases were made for the time after the close", len(l.all)-n)
	}
	l.has()
	if len(l.ended) > 0 {
		t.Errorf("what ended by itself was ended: %q", l.ended)
	}
	l.Now = l.Now.Add(14 * time.Hour)
	l.has(anaItems, anaOrders)
}

// What somebody ended by hand is let be until the condition has ended and begun
// again.
func TestLeaseEndedByHand(t *testing.T) {
	for _, v := range []Verdict{Release, Revoke, Deny} {
		t.Run(string(v), func(t *testing.T) {
			l := newLeasing(t, readers(func(f *Flow) {
				f.Targets = append(f.Targets, FlowTarget{Integration: "prod-my", Resources: []string{"schema:*/*"}, Permissions: []string{"read_only"}})
			}))
			const my = "ana int-2 orders read_only"
			l.has(anaItems, anaOrders, my)
			if len(l.all) != 2 {
				t.Fatalf("%d requests for two integrations", len(l.all))
			}
			l.Now = l.Now.Add(7 * time.Hour) // each has a successor
			l.has(anaItems, anaOrders, my)
			first := &l.all[0]
			first.Decisions = []Decision{{Verdict: Renew, ByEmail: "ana@example.com"}, {Verdict: v, ByEmail: "dan@example.com"}}
			for n := range first.Holds {
				first.Holds[n].State = StateEnded
			}
			l.has(my)
			l.why(fmt.Sprintf("dan@example.com ended it (%s)", v))
			l.Now = l.Now.Add(24 * time.Hour)
			l.has(my)
			l.Flows[0].Timeframe = Timeframe{Hours: "01:00-02:00"}
			l.plan() // a night is no end of the condition
			l.Flows[0].Timeframe = Timeframe{}
			l.has(my)
			l.people[0].Groups = nil
			l.has()
			l.people[0].Groups = []string{"readers"}
			l.has(anaItems, anaOrders, my)
		})
	}
}

// A grant that fails is tried again after pauses that grow, and only that.
func TestLeaseFails(t *testing.T) {
	l := newLeasing(t, readers())
	l.plan()
	fail := func() {
		last := &l.all[len(l.all)-1]
		i := slices.IndexFunc(last.Holds, func(h Hold) bool { return strings.HasSuffix(h.Entitlement.Resource.Path, "orders") })
		last.Holds[i].State, last.Holds[i].Error = StateFailed, "no such schema"
	}
	begun := l.Now
	var tried []time.Duration
	fail()
	for n := len(l.all); l.Now.Before(begun.Add(5 * time.Hour)); l.Now = l.Now.Add(time.Minute) {
		l.plan()
		if len(l.all) > n {
			n = len(l.all)
			if last := l.all[n-1]; len(last.Holds) != 1 {
				t.Fatalf("it asks for %d things again", len(last.Holds))
			}
			tried = append(tried, l.Now.Sub(begun))
			fail()
		}
	}
	// The failure is seen at the next look, and the pause begins with that.
	want := []time.Duration{time.Minute, 4 * time.Minute, 9 * time.Minute, 18 * time.Minute, 35 * time.Minute, 68 * time.Minute, 129 * time.Minute, 190 * time.Minute, 251 * time.Minute}
	if !slices.Equal(tried, want) {
		t.Errorf("it was tried again after %v, want %v", tried, want)
	}
	l.Now = l.Now.Add(time.Hour)
	l.has(anaItems, anaOrders)
	l.plan()
	if len(l.Withheld) > 0 {
		t.Errorf("it went well, and is withheld: %+v", l.Withheld)
	}
}

// A flow gives so much to one person, and says what it leaves out.
func TestLeaseIsCapped(t *testing.T) {
	l := newLeasing(t, readers())
	for n := range 60 {
		l.Offered = append(l.Offered, offered("int-1", "prod-pg", fmt.Sprint("s", n), "read_only"))
	}
	p := l.plan()
	if len(p.Ask) != 1 || len(p.Ask[0].Asked) != MostLeased || len(p.Capped) != 1 || !strings.Contains(p.Capped[0], "is for 62 things, and gives the first 50") {
		t.Errorf("%d requests; capped: %q", len(p.Ask), p.Capped)
	}
	if p := l.plan(); len(p.Ask)+len(p.End) > 0 {
		t.Errorf("the second look wants %+v", p)
	}
}

// A request that was stored and perhaps not begun is named until it is.
func TestLeaseIsLost(t *testing.T) {
	l := newLeasing(t, readers())
	l.plan()
	l.all[0].Started, l.all[0].State = false, StatePending
	for n := range l.all[0].Holds {
		l.all[0].Holds[n].State, l.all[0].Holds[n].EndsAt = StatePending, time.Time{}
	}
	if p := l.plan(); !slices.Equal(p.Lost, []string{l.all[0].RequestID}) || len(p.Ask) > 0 {
		t.Errorf("%+v", p)
	}
	l.all[0].Started = true
	if p := l.plan(); len(p.Lost)+len(p.Ask) > 0 {
		t.Errorf("%+v", p)
	}
}

// Looked up or gone through, the same people are found.
func TestHolding(t *testing.T) {
	d := NewDirectory([]Person{named("ana", "a", "b"), named("bo", "b"), {ID: "per-3", Email: "off@example.com", Groups: []string{"a", "b"}, Disabled: true}, {ID: "per-4", Email: "di@example.com", Attributes: map[string]string{"site": "bern"}}})
	is := func(attribute string, values ...string) Condition {
		return Condition{Attribute: attribute, Values: values}
	}
	not := func(attribute string, values ...string) Condition {
		return Condition{Attribute: attribute, Operator: "is_not", Values: values}
	}
	for _, c := range []struct {
		cs     Conditions
		looked bool
		words  string
	}{
		{Conditions{}, false, ""},
		{Conditions{Any: []Condition{is("group", "a"), is("site", "bern")}}, true, "group is a or site is bern"},
		{Conditions{Any: []Condition{is("group", "a"), not("group", "b")}}, false, "group is a or group is not b"},
		{Conditions{All: []Condition{not("group", "a"), is("group", "b")}}, true, "group is not a and group is b"},
		{Conditions{All: []Condition{is("group", "b")}, Any: []Condition{not("group", "a"), is("email", "ANA@example.com")}}, true, "group is b, and group is not a or email is ANA@example.com"},
		{Conditions{All: []Condition{not("group", "a")}}, false, "group is not a"},
	} {
		var want []Person
		for _, p := range d.People() {
			if c.cs.Holds(p) {
				want = append(want, p)
			}
		}
		same := func(a, b Person) bool { return a.ID == b.ID }
		if got := d.Holding(c.cs); !slices.EqualFunc(got, want, same) {
			t.Errorf("%s: %v, want %v", c.words, got, want)
		}
		if _, looked := d.among(c.cs); looked != c.looked || c.cs.words() != c.words {
			t.Errorf("%s: looked up: %v, want %v; %q", c.words, looked, c.looked, c.cs.words())
		}
	}
}

func TestGivenBy(t *testing.T) {
	other := readers(func(f *Flow) { f.Name, f.Trigger = "asked", SelfServe })
	night := readers(func(f *Flow) { f.Name, f.Timeframe = "night", Timeframe{Hours: "22:00-06:00"} })
	flows := []Flow{other, night, readers()}
	a := Ask{Person: named("ana", "readers"), Asked: []Asked{offered("int-1", "prod-pg", "orders", "read_only")}, For: Duration(1000 * time.Hour), Now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	if got := GivenBy(flows, a); !slices.Equal(got, []string{"readers"}) {
		t.Errorf("%q", got)
	}
	a.Asked = append(a.Asked, offered("int-1", "prod-pg", "orders", "read_write"))
	if got := GivenBy(flows, a); len(got) > 0 {
		t.Errorf("one of two things is given, and it says %q", got)
	}
	if !HasAutomatic(flows) || HasAutomatic(flows[:1]) {
		t.Error("which flows are automatic?")
	}
}

// The same round is the same request, and another one is another.
func TestLeaseRequest(t *testing.T) {
	a := LeaseAsk{Flow: readers(), Person: named("ana", "readers"), Asked: []Asked{offered("int-1", "prod-pg", "orders", "read_only")}}
	now := time.Now()
	r := a.Request(1, 7, now)
	if again := a.Request(1, 7, now); again.ID != r.ID || !slices.Equal(again.HoldIDs, r.HoldIDs) {
		t.Errorf("%+v and %+v", r, again)
	}
	b := a
	b.Person.ID = "per-other"
	if a.Request(2, 7, now).ID == r.ID || b.Request(1, 7, now).ID == r.ID || r.Duration != a.Flow.MaxDuration || r.FlowVersion != 7 ||
		r.Reason != "access flow readers gives it to whoever fits: group is readers" {
		t.Errorf("%+v", r)
	}
}

// leased are people who all have what the flows give, and the flows.
func manyLeased(people, flows int) Leasing {
	l := Leasing{Names: map[string]string{"int-1": "prod-pg"}, Closed: map[string]string{}, Withheld: map[LeaseKey]Withheld{}, Now: time.Now()}
	for n := range 200 {
		l.Offered = append(l.Offered, offered("int-1", "prod-pg", fmt.Sprint("s", n), "read_only"))
	}
	for n := range flows {
		l.Flows = append(l.Flows, readers(func(f *Flow) {
			f.Name = fmt.Sprint("flow-", n)
			f.Requesters.Any[0].Values = []string{fmt.Sprint("group-", n)}
			f.Targets[0].Resources = []string{fmt.Sprintf("schema:shop/s%d", n), fmt.Sprintf("schema:shop/s%d", n+flows)}
		}))
	}
	var list []Person
	for n := range people {
		p := named(fmt.Sprint("p", n))
		for k := range 3 {
			g := (n + k*7) % flows
			p.Groups = append(p.Groups, fmt.Sprint("group-", g))
			a := LeaseAsk{Flow: l.Flows[g], Person: p}
			for _, o := range l.Offered {
				if a.Flow.Covers(o) {
					a.Asked = append(a.Asked, o)
				}
			}
			r := a.Request(1, 1, l.Now)
			lease := Lease{RequestID: r.ID, Flow: r.Flow, PersonID: p.ID, Round: 1, Started: true, State: StateApproved}
			for i, asked := range r.Asked {
				lease.Holds = append(lease.Holds, Hold{ID: r.HoldIDs[i], AccountID: AccountID("int-1", p.ID), Entitlement: asked.Entitlement, State: StateActive, EndsAt: l.Now.Add(8 * time.Hour)})
			}
			l.Leases = append(l.Leases, lease)
		}
		list = append(list, p)
	}
	l.Directory = NewDirectory(list)
	return l
}

// BenchmarkLeases plans for 20 flows of which everybody has three, with two things
// each: once nothing is to be done, once everything.
func BenchmarkLeases(b *testing.B) {
	for _, people := range []int{1000, 10000} {
		l := manyLeased(people, 20)
		b.Run(fmt.Sprintf("%d people, nothing to do", people), func(b *testing.B) {
			for b.Loop() {
				if p := l.Plan(); len(p.Ask)+len(p.End) > 0 {
					b.Fatal(len(p.Ask), len(p.End))
				}
			}
		})
		l.Leases = nil
		b.Run(fmt.Sprintf("%d people, everything to do", people), func(b *testing.B) {
			for b.Loop() {
				if p := l.Plan(); len(p.Ask) != 3*people {
					b.Fatal(len(p.Ask))
				}
			}
		})
	}
}

// What is held ends before what waits for its grant.
func TestLeaseEndsWhatIsHeldFirst(t *testing.T) {
	l := newLeasing(t, readers())
	l.people[1].Groups = []string{"readers"}
	l.plan()
	l.people[0].Groups, l.people[1].Groups = nil, nil
	for n := range l.all[0].Holds {
		l.all[0].Holds[n].State = StatePending
	}
	if p := l.plan(); len(p.End) != 2 || p.End[0].RequestID != l.all[1].RequestID {
		t.Errorf("%+v", p.End)
	}
}
