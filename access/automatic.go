package access

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// MostLeased is how many entitlements an automatic flow gives to one person.
	MostLeased = 50
	// A grant that failed is left alone for retryFirst; each failure in a row
	// doubles that, up to retryMost.
	retryFirst = time.Minute
	retryMost  = time.Hour
	// leadLeast is how long before its end a lease is renewed at the latest, where
	// it is long enough for that.
	leadLeast = 2 * time.Minute
)

// Lease is a request that an automatic flow made, on one integration. As long as the person is to
// have what it is for, another one follows that overlaps it.
type Lease struct {
	RequestID string
	Flow      string
	PersonID  string
	// Round tells apart the leases of a flow and a person, and rises.
	Round int
	// Started is true once its workflow was.
	Started bool
	// Decided is true where somebody decided something about it. Decisions are
	// those whose signatures were verified.
	Decided   bool
	Decisions []Decision
	// State is that of the request's decision phase.
	State State
	Holds []Hold
}

// over reports whether nothing can come of the lease any more.
func (l Lease) over() bool {
	return l.State.Final() || !slices.ContainsFunc(l.Holds, func(h Hold) bool { return !h.State.Final() })
}

// byHand says who ended the lease; empty when nobody did.
func (l Lease) byHand() string {
	for _, d := range l.Decisions {
		if d.Verdict == Release || d.Verdict == Revoke || d.Verdict == Deny {
			return fmt.Sprintf("%s ended it (%s)", d.ByEmail, d.Verdict)
		}
	}
	return ""
}

// LeaseKey is one thing that an automatic flow gives to somebody.
type LeaseKey struct {
	Flow, PersonID string
	Entitlement    Entitlement
}

// Withheld is why an automatic flow leaves something alone that it would give.
type Withheld struct {
	HoldID string // that was ended by hand, or failed
	Why    string
	// Failures are those in a row; 0 for what was ended by hand.
	Failures int
	// Until is when it is tried again. What was ended by hand is left alone until
	// it is not the person's to have any more, and then is again.
	Until time.Time
}

func (w Withheld) byHand() bool { return w.HoldID != "" && w.Failures == 0 }

// Leasing is all that the rules of automatic flows look at.
type Leasing struct {
	Flows     []Flow // of the configuration in force
	Directory *Directory
	// Offered is the catalog of the integrations in use.
	Offered []Asked
	// Names are those of all integrations, by id. Closed says why nothing is to be
	// held on one any more.
	Names, Closed map[string]string
	// Leases are those that are not known to be over, by flow and person, each in
	// the order of its rounds.
	Leases   []Lease
	Withheld map[LeaseKey]Withheld
	Now      time.Time
}

// LeaseAsk is a lease to be made.
type LeaseAsk struct {
	Flow   Flow
	Person Person
	Asked  []Asked // on one integration
	// Seen is the highest round that was looked at.
	Seen int
}

// LeaseEnd are holds of a lease on one account that are to end.
type LeaseEnd struct {
	RequestID, AccountID string
	State                State // of these holds
	HoldIDs              []string
	Why                  string
}

// LeasePlan is what is to be done so that everybody has what the automatic flows
// give, and no more.
type LeasePlan struct {
	End  []LeaseEnd
	Ask  []LeaseAsk
	Over []string // ids of requests of which nothing can come any more
	Lost []string // ids of requests whose workflow was perhaps never started
	// Withhold is added to what is withheld, and Resume is not withheld any more.
	Withhold map[LeaseKey]Withheld
	Resume   map[LeaseKey]bool
	// Capped are the automatic flows that are for more than they give.
	Capped []string
	// Next is when a lease is to be renewed; zero when none is.
	Next time.Time
}

// planner is what Plan finds out on its way.
type planner struct {
	Leasing
	LeasePlan
	flows  map[string]Flow                 // the automatic ones
	covers map[string]map[Entitlement]bool // what of the catalog they are for
	known  map[Entitlement]bool            // the catalog
	newest map[LeaseKey]Hold
	rounds map[[2]string]int // by flow and person
}

// Plan says what is to be done now.
func (l Leasing) Plan() LeasePlan {
	p := &planner{Leasing: l, flows: map[string]Flow{}, covers: map[string]map[Entitlement]bool{}, known: make(map[Entitlement]bool, len(l.Offered)),
		newest: make(map[LeaseKey]Hold, len(l.Leases)), rounds: make(map[[2]string]int, len(l.Leases))}
	p.Withhold, p.Resume = map[LeaseKey]Withheld{}, map[LeaseKey]bool{}
	for _, a := range l.Offered {
		p.known[a.Entitlement] = true
	}
	gives := map[string][]Asked{}
	for _, f := range l.Flows {
		if f.Trigger == Automatic {
			p.flows[f.Name], gives[f.Name] = f, p.given(f)
		}
	}
	p.look()
	p.end()
	for _, f := range l.Flows {
		if open, closes := f.Timeframe.Open(l.Now); f.Trigger == Automatic && open {
			p.ask(f, gives[f.Name], closes)
		}
	}
	return p.LeasePlan
}

// given is what of the catalog a flow is for, as far as it gives it.
func (p *planner) given(f Flow) (give []Asked) {
	covers := map[Entitlement]bool{}
	p.covers[f.Name] = covers
	for _, a := range p.Offered {
		if covers[a.Entitlement] || !f.Covers(a) {
			continue
		}
		covers[a.Entitlement] = true
		give = append(give, a)
	}
	if len(give) > MostLeased {
		p.Capped = append(p.Capped, fmt.Sprintf("access flow %s is for %d things, and gives the first %d: name fewer, or make more flows", f.Name, len(give), MostLeased))
		give = give[:MostLeased]
	}
	return give
}

// look goes through the leases: which is the newest for each thing, which were
// ended by hand, which failed, and which are over.
func (p *planner) look() {
	open := map[[2]string]bool{}
	for _, l := range p.Leases {
		who := [2]string{l.Flow, l.PersonID}
		p.rounds[who] = l.Round
		byHand := l.byHand()
		for _, h := range l.Holds {
			key := LeaseKey{l.Flow, l.PersonID, h.Entitlement}
			p.newest[key] = h
			if byHand != "" && !p.Withheld[key].byHand() {
				p.Withhold[key] = Withheld{HoldID: h.ID, Why: byHand}
			}
		}
		if !l.over() {
			open[who] = true
		} else if !open[who] { // else one before it would be taken for the newest
			p.Over = append(p.Over, l.RequestID)
		}
		if !l.Started && l.State == StatePending {
			p.Lost = append(p.Lost, l.RequestID)
		}
	}
	for key, h := range p.newest {
		old, held := p.Withheld[key]
		_, ended := p.Withhold[key]
		switch {
		case ended || old.byHand():
		case h.State == StateFailed && old.HoldID != h.ID:
			wait := min(retryFirst<<min(old.Failures, 10), retryMost)
			p.Withhold[key] = Withheld{HoldID: h.ID, Why: h.Error, Failures: old.Failures + 1, Until: p.Now.Add(wait)}
		case h.State == StateActive && held:
			p.Resume[key] = true
		}
	}
	for key := range p.Withhold {
		if p.notTheirs(key) != "" {
			delete(p.Withhold, key)
		}
	}
	for key := range p.Withheld {
		if p.notTheirs(key) != "" {
			p.Resume[key] = true
		}
	}
}

// notTheirs says why somebody is not to have something by a flow any more, at
// whatever hour; empty when they are. What the catalog does not show now is let
// be: its lease is not renewed.
func (p *planner) notTheirs(key LeaseKey) string {
	f, automatic := p.flows[key.Flow]
	if !automatic {
		return fmt.Sprintf("there is no automatic access flow %s any more", key.Flow)
	}
	who, known := p.Directory.Person(key.PersonID)
	if !known || who.Disabled {
		return fmt.Sprintf("%s is disabled", who.Email)
	}
	if !f.Requesters.Holds(who) {
		return fmt.Sprintf("%s is not among the requesters of the access flow %s any more: %s", who.Email, f.Name, f.Requesters.lacks(who))
	}
	integration := key.Entitlement.Integration
	if why := p.Closed[integration]; why != "" {
		return why
	}
	if covered := p.covers[f.Name][key.Entitlement]; covered || !p.known[key.Entitlement] && f.names(p.Names[integration], key.Entitlement) {
		return ""
	}
	return fmt.Sprintf("the access flow %s is not for %s any more", f.Name, Asked{Entitlement: key.Entitlement, Integration: p.Names[integration]})
}

// names reports whether a flow may be for an entitlement of which only the name
// is known.
func (f Flow) names(integration string, e Entitlement) bool {
	return slices.ContainsFunc(f.Targets, func(t FlowTarget) bool {
		return t.Integration == integration && slices.Contains(t.Permissions, e.Permission) && matchesAny(t.Resources, e.Resource)
	})
}

// lacks says what of the conditions does not hold for somebody.
func (cs Conditions) lacks(who Person) string {
	var why []string
	for _, c := range cs.explain(who) {
		if !c.Holds {
			why = append(why, fmt.Sprintf("it wants %s, and there is %s", c.Want, c.Have))
		}
	}
	return strings.Join(why, "; ")
}

// end finds the holds that are not to be any more.
func (p *planner) end() {
	closed := map[string]bool{}
	for name, f := range p.flows {
		open, _ := f.Timeframe.Open(p.Now)
		closed[name] = !open
	}
	for _, l := range p.Leases {
		at := map[[3]string]int{} // of the end, by account, state and reason
		for _, h := range l.Holds {
			if h.State.Final() || !h.EndsAt.IsZero() && !p.Now.Before(h.EndsAt) {
				continue // it ends by itself
			}
			key := LeaseKey{l.Flow, l.PersonID, h.Entitlement}
			why := p.notTheirs(key)
			if why == "" && closed[l.Flow] {
				why = fmt.Sprintf("the timeframe of the access flow %s is %s", l.Flow, p.flows[l.Flow].Timeframe)
			}
			if w, ended := p.Withhold[key]; why == "" && ended && w.byHand() {
				why = w.Why
			} else if w := p.Withheld[key]; why == "" && w.byHand() {
				why = w.Why
			}
			if why == "" {
				continue
			}
			group := [3]string{h.AccountID, string(h.State), why}
			if _, ok := at[group]; !ok {
				at[group] = len(p.End)
				p.End = append(p.End, LeaseEnd{RequestID: l.RequestID, AccountID: h.AccountID, State: h.State, Why: "no longer: " + why})
			}
			p.End[at[group]].HoldIDs = append(p.End[at[group]].HoldIDs, h.ID)
		}
	}
	// What was not granted yet comes last: it gets no ticket any more.
	open := slices.DeleteFunc(slices.Clone(p.End), func(e LeaseEnd) bool { return !e.State.Open() })
	p.End = append(open, slices.DeleteFunc(p.End, func(e LeaseEnd) bool { return e.State.Open() })...)
}

// ask finds what a flow gives to people who do not have it, or not for long. The
// flow's timeframe is open until closes.
func (p *planner) ask(f Flow, gives []Asked, closes time.Time) {
	d := f.MaxDuration.Std()
	lead := min(max(d/4, leadLeast), d/2)
	for _, who := range p.Directory.Holding(f.Requesters) {
		var asks []LeaseAsk
		at := map[string]int{} // of the ask, by integration
		for _, a := range gives {
			key := LeaseKey{f.Name, who.ID, a.Entitlement}
			if p.Closed[a.Entitlement.Integration] != "" || p.withheld(key) {
				continue
			}
			if h, ok := p.newest[key]; ok && !h.State.Final() {
				active, over := h.State == StateActive, !h.EndsAt.IsZero() && !p.Now.Before(h.EndsAt)
				renew := h.EndsAt.Add(-lead)
				if !active {
					// Its time has not begun: it does not end before this.
					renew = p.Now.Add(d - lead)
				}
				if active && !closes.IsZero() && !h.EndsAt.Before(closes) {
					continue
				}
				if !active && !over || active && p.Now.Before(renew) {
					p.renew(renew)
					continue
				}
			}
			if _, ok := at[a.Integration]; !ok {
				at[a.Integration] = len(asks)
				asks = append(asks, LeaseAsk{Flow: f, Person: who, Seen: p.rounds[[2]string{f.Name, who.ID}]})
			}
			n := at[a.Integration]
			asks[n].Asked = append(asks[n].Asked, a)
		}
		if p.Ask = append(p.Ask, asks...); len(asks) > 0 {
			p.renew(p.Now.Add(d - lead))
		}
	}
}

// renew notes that a lease is to be renewed at a moment.
func (p *planner) renew(at time.Time) {
	if p.Next.IsZero() || at.Before(p.Next) {
		p.Next = at
	}
}

// withheld reports whether something is left alone now.
func (p *planner) withheld(key LeaseKey) bool {
	w, fresh := p.Withhold[key]
	if !fresh {
		if w = p.Withheld[key]; w.HoldID == "" || p.Resume[key] {
			return false
		}
	}
	return w.byHand() || p.Now.Before(w.Until)
}

// Holding are the people for whom conditions hold, in the order of the
// directory. Conditions on what people have are looked up.
func (d *Directory) Holding(cs Conditions) (list []Person) {
	add := func(i int) {
		if cs.Holds(d.people[i]) {
			list = append(list, d.people[i])
		}
	}
	few, found := d.among(cs)
	if !found {
		for i := range d.people {
			add(i)
		}
		return list
	}
	slices.Sort(few)
	for _, i := range slices.Compact(few) {
		add(i)
	}
	return list
}

// among are the indexes of people among whom are all for whom conditions hold;
// found is false where that could be anybody.
func (d *Directory) among(cs Conditions) (few []int, found bool) {
	is := func(c Condition) bool { return c.Operator == "" || c.Operator == "is" }
	for _, c := range cs.All {
		if list := d.who(c.Attribute, c.Values...); is(c) && (!found || len(list) < len(few)) {
			few, found = list, true
		}
	}
	if found || len(cs.Any) == 0 || slices.ContainsFunc(cs.Any, func(c Condition) bool { return !is(c) }) {
		return few, found
	}
	for _, c := range cs.Any {
		few = append(few, d.who(c.Attribute, c.Values...)...)
	}
	return few, true
}

// words are the conditions as a sentence goes on after "whoever fits".
func (cs Conditions) words() string {
	join := func(list []Condition, word string) string {
		texts := make([]string, len(list))
		for i, c := range list {
			texts[i] = c.String()
		}
		return strings.Join(texts, word)
	}
	all, any := join(cs.All, " and "), join(cs.Any, " or ")
	if all != "" && any != "" {
		return all + ", and " + any
	}
	return all + any
}

// Request is the request of a lease, in a round of its flow and person. The same
// round of the same flow and person is the same request.
func (a LeaseAsk) Request(round int, version int64, now time.Time) Request {
	id := func(prefix string, n int) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "lapse lease v1\x00%s\x00%s\x00%d\x00%d", a.Flow.Name, a.Person.ID, round, n))
		return prefix + "-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
	}
	r := Request{
		ID: id("auto", 0), PersonID: a.Person.ID, Duration: a.Flow.MaxDuration, Asked: a.Asked, Flow: a.Flow.Name, FlowVersion: version, CreatedAt: now, ExpiresAt: now.Add(retryMost),
		Reason: fmt.Sprintf("access flow %s gives it to whoever fits: %s", a.Flow.Name, a.Flow.Requesters.words()),
	}
	for n := range a.Asked {
		r.HoldIDs = append(r.HoldIDs, id("hold", n))
	}
	return r
}

// HasAutomatic reports whether one of the flows is automatic.
func HasAutomatic(flows []Flow) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool { return f.Trigger == Automatic })
}

// GivenBy names the automatic flows that give somebody all of what is asked for
// at the moment.
func GivenBy(flows []Flow, a Ask) (names []string) {
	a.By, a.Start = a.Person, time.Time{}
	for _, f := range flows {
		if f.Trigger == Automatic && f.gives(a) == "" {
			names = append(names, f.Name)
		}
	}
	return names
}

// AutomaticReport is what one look at the automatic flows did.
type AutomaticReport struct {
	Asked int `json:"asked"` // requests made
	Ended int `json:"ended"` // holds whose end was asked for
	// Why says why nothing was done.
	Why    string   `json:"why,omitempty"`
	Capped []string `json:"capped,omitempty"`
	// More is true when something is left to be done at once.
	More bool `json:"more,omitempty"`
	// Next is when the next lease is to be renewed.
	Next time.Time `json:"next,omitzero"`
}
