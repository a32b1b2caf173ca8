package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// entries draws a directory of a few people, some of whom are there twice.
func entries(t *rapid.T) (people []Person) {
	groups := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID)
	for i := range rapid.IntRange(2, 7).Draw(t, "people") {
		p := Person{ID: fmt.Sprint("per-", i), Email: fmt.Sprintf("p%d@example.com", i), Groups: groups.Draw(t, "groups"), Disabled: i > 0 && rapid.IntRange(0, 5).Draw(t, "disabled") == 0}
		if i == 0 {
			p.Groups = append(p.Groups, "analytics")
		}
		if i > 0 && rapid.IntRange(0, 3).Draw(t, "twice") == 0 {
			of := rapid.IntRange(0, i-1).Draw(t, "second entry of")
			if rapid.Bool().Draw(t, "by alias") {
				p.Aliases = []string{fmt.Sprintf("P%d+x@example.com", of)}
			} else {
				p.Email = fmt.Sprintf("p%d+%d@example.com", of, i)
			}
		}
		people = append(people, p)
	}
	manager := rapid.IntRange(0, len(people)).Draw(t, "manager")
	if manager < len(people) {
		people[0].Attributes = map[string]string{"manager": people[manager].Email}
	}
	return people
}

// anyMatter draws a request of the first person of a directory at a flow of up
// to three steps.
func anyMatter(t *rapid.T) Matter {
	people := entries(t)
	role := rapid.SampledFrom([]string{"resource_owner", "integration_owner", "manager", "group:a", "group:b", "group:c", "person:p1@example.com", "person:p2@example.com"})
	roles := func(least, most int, name string) []string {
		return rapid.SliceOfNDistinct(role, least, most, rapid.ID).Draw(t, name)
	}
	f := flowOf("read")
	f.Approval.Steps = nil
	f.OnBehalf.By = Conditions{Any: []Condition{{Attribute: "email", Operator: "is_not", Values: []string{"x"}}}}
	for range rapid.IntRange(1, 3).Draw(t, "steps") {
		var s Step
		if rapid.IntRange(0, 2).Draw(t, "all of") == 0 {
			s.AllOf = roles(1, 2, "all of")
		}
		if len(s.AllOf) == 0 || rapid.Bool().Draw(t, "any of too") {
			s.AnyOf, s.AtLeast = roles(1, 3, "any of"), rapid.IntRange(0, 2).Draw(t, "at least")
		}
		if rapid.IntRange(0, 2).Draw(t, "with a fallback") == 0 {
			s.Fallback = roles(1, 2, "fallback")
		}
		if rapid.IntRange(0, 2).Draw(t, "escalates") == 0 {
			s.Escalate = []Tier{{After: Duration(time.Hour), To: roles(1, 2, "escalation")}}
		}
		f.Approval.Steps = append(f.Approval.Steps, s)
	}
	var list []Asked
	for i := range rapid.IntRange(1, 3).Draw(t, "asked") {
		a := asked("read_only")
		a.Entitlement.Resource = NewResource("schema", "shop", fmt.Sprint(i))
		a.Tags = map[string]string{"owner": rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "owner")}
		a.IntegrationOwner.Values = []string{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "integration owner")}
		list = append(list, a)
	}
	m := matterOf(f, list, people...)
	m.Request.PersonID, m.Request.CreatedAt = "per-0", m.Now
	if rapid.IntRange(0, 2).Draw(t, "on behalf") == 0 {
		m.Request.AskedBy = people[rapid.IntRange(0, len(people)-1).Draw(t, "asked by")].ID
	}
	return m
}

// change draws a change of the directory: somebody leaves or comes back, or is
// in another group.
func (m *Matter) change(t *rapid.T) {
	people := slices.Clone(m.Directory.People())
	i := rapid.IntRange(1, len(people)-1).Draw(t, "who changes")
	if rapid.Bool().Draw(t, "leaves or comes back") {
		people[i].Disabled = !people[i].Disabled
	} else {
		people[i].Groups = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID).Draw(t, "new groups")
	}
	m.Directory = NewDirectory(people)
}

// approval draws an approval of somebody's, which may shorten and leave out.
func (m *Matter) approval(t *rapid.T) Decision {
	people := m.Directory.People()
	d := m.of(Approve, people[rapid.IntRange(0, len(people)-1).Draw(t, "who")])
	if rapid.IntRange(0, 3).Draw(t, "changes the terms") == 0 {
		d.For = Duration(rapid.SampledFrom([]time.Duration{0, 30 * time.Minute, 20 * time.Minute, 2 * time.Hour}).Draw(t, "for"))
		d.Without = rapid.SliceOfNDistinct(rapid.SampledFrom(append([]string{"hold-9"}, m.Request.HoldIDs...)), 0, 2, rapid.ID).Draw(t, "without")
	}
	return d
}

// oracle says by trying everything whether those who approved could fill each
// step for everything that is left of the request, with another human for each
// approval that a step wants. It shares no line with the rules.
func oracle(m Matter, left []Asked) bool {
	people := m.Directory.People()
	human := make([]int, len(people))
	for i := range people {
		human[i] = i
	}
	for range people { // as often as a chain of entries can be long
		for i, p := range people {
			for k, q := range people {
				if SameHuman(p, q) {
					human[i] = min(human[i], human[k])
					human[k] = human[i]
				}
			}
		}
	}
	self := map[int]bool{}
	for i, p := range people {
		if p.ID == m.Request.PersonID || p.ID == m.Request.AskedBy {
			self[human[i]] = true
		}
	}
	said := map[int]bool{} // by entry
	for _, d := range m.Decisions {
		for i, p := range people {
			if d.Verdict == Approve && p.ID == d.By && !p.Disabled && !self[human[i]] {
				said[i] = true
			}
		}
	}
	fills := func(role string, a Asked, p Person) bool {
		owns := slices.Contains(p.Groups, a.IntegrationOwner.Values[0])
		switch {
		case role == "integration_owner":
			return owns
		case role == "resource_owner" && a.Tags["owner"] == "":
			return owns
		case role == "resource_owner":
			return slices.Contains(p.Groups, a.Tags["owner"])
		case role == "manager":
			return people[0].Attributes["manager"] == p.Email
		case strings.HasPrefix(role, "group:"):
			return slices.Contains(p.Groups, strings.TrimPrefix(role, "group:"))
		}
		return role == "person:"+p.Email
	}
	for _, a := range left {
		var wants [][]int // who could give each of the approvals
		want := func(roles []string) {
			var could []int
			for i, p := range people {
				if !p.Disabled && said[i] && slices.ContainsFunc(roles, func(role string) bool { return fills(role, a, p) }) {
					could = append(could, human[i])
				}
			}
			wants = append(wants, could)
		}
		for _, s := range m.Flow.Approval.Steps {
			others := slices.Clone(s.Fallback)
			for _, tier := range s.Escalate {
				others = append(others, tier.To...)
			}
			for _, role := range s.AllOf {
				want(append([]string{role}, others...))
			}
			if len(s.AnyOf) > 0 {
				for range max(1, s.AtLeast) {
					want(append(slices.Clone(s.AnyOf), others...))
				}
			}
		}
		taken := map[int]bool{}
		var try func(n int) bool
		try = func(n int) bool {
			if n == len(wants) {
				return true
			}
			for _, h := range wants[n] {
				if taken[h] {
					continue
				}
				taken[h] = true
				if try(n + 1) {
					return true
				}
				delete(taken, h)
			}
			return false
		}
		if !try(0) {
			return false
		}
	}
	return len(left) > 0
}

// Whatever was decided, by whom, in whatever order, and however the directory
// changed meanwhile: a request is approved only where enough different humans of
// the directory as it is now approved it, of whom none is the one who asked or
// whose access it becomes.
func TestDoneOnlyByEnoughHumans(t *testing.T) {
	done := 0
	rapid.Check(t, func(t *rapid.T) {
		m := anyMatter(t)
		for range rapid.IntRange(0, 14).Draw(t, "events") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				m.change(t)
			case 2:
				m.Now = m.Now.Add(time.Hour)
			case 3: // on record although it never counted
				m.Decisions = append(m.Decisions, m.approval(t))
			default:
				if d := m.approval(t); m.May(d) == "" {
					m.Decisions = append(m.Decisions, d)
				}
			}
			if !m.Done() {
				continue
			}
			done++
			var left []Asked
			terms := m.Terms()
			for i, id := range m.Request.HoldIDs {
				if !slices.Contains(terms.Without, id) {
					left = append(left, m.Request.Asked[i])
				}
			}
			if !oracle(m, left) {
				t.Fatalf("it is approved by %+v\nof %+v\nat %+v\nfor %+v", m.Decisions, m.Directory.People(), m.Flow.Approval.Steps, left)
			}
		}
	})
	if done == 0 {
		t.Error("nothing was ever approved")
	}
}

// Those who are shown as approvers are those who may approve.
func TestApproversAreThoseWhoMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMatter(t)
		for range rapid.IntRange(0, 8).Draw(t, "events") {
			if d := m.approval(t); m.May(d) == "" {
				m.Decisions = append(m.Decisions, d)
			} else if rapid.Bool().Draw(t, "changes") {
				m.change(t)
			}
			m.Now = m.Now.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "hours")) * time.Hour)
		}
		if m.Done() || m.Admitted() != "" {
			return
		}
		shown := map[string]bool{}
		for _, p := range m.Approvers() {
			shown[p.ID] = true
		}
		var waiting []string
		for _, s := range m.Stages() {
			if s.State == "waits" {
				waiting = s.Who
			}
		}
		if len(waiting) != len(shown) {
			t.Fatalf("the step shows %v, the approvers are %v", waiting, m.Approvers())
		}
		for _, p := range m.Directory.People() {
			if may := m.may(Approve, p) == ""; may != shown[p.ID] {
				t.Fatalf("%s may: %q, and is shown: %v\n%+v\nat %+v\nafter %+v", p.Email, m.may(Approve, p), shown[p.ID], m.Directory.People(), m.Flow.Approval.Steps, m.Decisions)
			}
			if m.may(Approve, p) == "" && (!m.Sees(p) || m.may(Deny, p) != "" || m.may(Revoke, p) != "") {
				t.Fatalf("%s may approve, and sees %v, deny %q, revoke %q", p.Email, m.Sees(p), m.may(Deny, p), m.may(Revoke, p))
			}
		}
	})
}

// Where a request is not stuck, those who may approve it can bring it to its
// end, in whatever order they come, and whatever was decided before.
func TestNoDeadEnd(t *testing.T) {
	reached := 0
	rapid.Check(t, func(t *rapid.T) {
		m := anyMatter(t)
		for range rapid.IntRange(0, 6).Draw(t, "before") {
			if rapid.Bool().Draw(t, "changes") {
				m.change(t)
			} else if d := m.approval(t); m.May(d) == "" {
				m.Decisions = append(m.Decisions, d)
			}
		}
		if m.Stuck() != "" || m.Admitted() != "" {
			return
		}
		start := len(m.Decisions)
		for !m.Done() {
			list := m.Approvers()
			if len(list) == 0 || len(m.Decisions)-start > 40 || m.Stuck() != "" {
				t.Fatalf("a dead end at step %d, stuck %q:\n%+v\nasked by %q for %+v\nat %+v\nafter %+v", m.Step(), m.Stuck(), m.Directory.People(), m.Request.AskedBy, m.Request.Asked, m.Flow.Approval.Steps, m.Decisions)
			}
			m.Decisions = append(m.Decisions, m.of(Approve, list[rapid.IntRange(0, len(list)-1).Draw(t, "next")]))
			m.Now = m.Now.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "hours")) * time.Hour)
		}
		reached++
	})
	if reached == 0 {
		t.Error("no request was ever approved")
	}
}

// What approvers decide shortens and leaves out, and never the other way.
func TestTermsNeverWiden(t *testing.T) {
	narrowed := 0
	rapid.Check(t, func(t *rapid.T) {
		m := anyMatter(t)
		before := m.Terms()
		if before.Duration != m.Request.Duration || len(before.Without) > 0 {
			t.Fatalf("nothing is decided: %+v", before)
		}
		for range rapid.IntRange(1, 8).Draw(t, "decisions") {
			d := m.approval(t)
			if why := m.May(d); why == "" || rapid.Bool().Draw(t, "on record all the same") {
				m.Decisions = append(m.Decisions, d)
			}
			now := m.Terms()
			if now.Duration > before.Duration || now.Duration <= 0 || len(now.Without) < len(before.Without) || !slices.Equal(now.Without[:len(before.Without)], before.Without) || now.Maximum > before.Maximum ||
				len(now.Without) == len(m.Request.Asked) {
				t.Fatalf("%+v became %+v by %+v", before, now, d)
			}
			if now.Duration < m.Request.Duration && now.Maximum != now.Duration {
				t.Fatalf("what was shortened may be lengthened: %+v", now)
			}
			if len(now.Without) > 0 || now.Duration < before.Duration {
				narrowed++
			}
			before = now
		}
	})
	if narrowed == 0 {
		t.Error("nothing was ever narrowed")
	}
}
