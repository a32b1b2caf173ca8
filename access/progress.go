package access

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// How approvals are counted. Each thing that is asked for is judged by itself:
// its slots are what a step still wants for it, filled by people of whom none
// counts twice.

// progress is how far the approvals on record bring a request.
type progress struct {
	step  int // that waits; the number of steps when all are done
	since time.Time
	at    time.Time // of the last decision that counted
	terms Terms
	parts []part     // one per entitlement asked for
	by    [][]string // addresses of those who counted, by step
}

// part is how far one of the entitlements asked for is.
type part struct {
	out  bool  // an approver left it out
	used []int // humans who counted in the steps before
	now  []int // entries of those who approved in the step that waits
}

// progress counts the approvals on record, in their order.
func (m Matter) progress() *progress {
	pr := &progress{since: m.Request.CreatedAt, parts: make([]part, len(m.Request.Asked)), by: make([][]string, len(m.Flow.Approval.Steps)),
		terms: Terms{Duration: m.Request.Duration}}
	counted := Approve
	if m.reviewed() {
		counted = Justify
	}
	for _, d := range m.Decisions {
		if d.Verdict != counted {
			continue
		}
		if vs := m.views(pr, d.At); m.counts(pr, vs, d) == "" {
			m.count(pr, vs, d)
		}
	}
	pr.terms.Maximum = m.Flow.MaxDuration
	if pr.terms.Duration < m.Request.Duration {
		pr.terms.Maximum = pr.terms.Duration // what an approver shortened nobody lengthens
	}
	return pr
}

// view is one part of a request as the step that waits has it at a moment.
type view struct {
	slots []slot
	full  bool // it has its approvals
	// later are the approvals that the later steps want, with all who might give
	// them; nil where there is no later step.
	later []slot
}

// views are those of all parts; what was left out has none.
func (m Matter) views(pr *progress, at time.Time) []view {
	vs := make([]view, len(pr.parts))
	if pr.step == len(m.Flow.Approval.Steps) {
		return vs
	}
	if at.Before(pr.at) {
		at = pr.at // a clock was behind
	}
	for n, p := range pr.parts {
		if !p.out {
			slots := m.slots(pr.step, p, m.Request.Asked[n], at.Sub(pr.since))
			vs[n] = view{slots: slots, full: met(slots, p.now), later: m.later(pr.step, p, m.Request.Asked[n])}
		}
	}
	return vs
}

// adds reports whether an approval by this entry brings a part further.
func (v view) adds(p part, entry int) bool {
	return !v.full && fit(v.slots, append(slices.Clone(p.now), entry)) > fit(v.slots, p.now)
}

// counts says why an approval, or a review, does not count at the step that
// waits; empty when it does.
func (m Matter) counts(pr *progress, vs []view, d Decision) string {
	i, why := m.entry(d.By, d.ByEmail)
	switch {
	case why != "":
		return why
	case len(m.Flow.Approval.Steps) == 0 || len(m.Request.Asked) == 0:
		return "the flow names no approvers"
	case pr.step == len(m.Flow.Approval.Steps):
		return "nothing waits for an approval any more"
	}
	if why := m.narrows(pr, d); why != "" {
		return why
	}
	who, human, step := m.Directory.people[i].Email, m.Directory.human[i], m.Flow.Approval.Steps[pr.step]
	again, needed, full, missing := false, false, false, Asked{}
	for n, p := range pr.parts {
		if p.out || slices.Contains(d.Without, m.Request.hold(n)) {
			continue
		}
		switch a, v := m.Request.Asked[n], vs[n]; {
		case slices.Contains(m.humans(p.now), human):
			again = true
		case !slices.ContainsFunc(v.slots, func(x slot) bool { return x.entries[i] }):
			missing = a
		case !v.adds(p, i):
			full = true
		case m.needed(pr.step, v.later, p, a, i):
			needed = true
		default:
			return ""
		}
	}
	switch {
	case needed:
		return fmt.Sprintf("%s is needed for something else of this; somebody else decides on %s", who, m.stepName(pr.step))
	case again:
		return fmt.Sprintf("%s has decided on %s already", who, m.stepName(pr.step))
	case full:
		return fmt.Sprintf("what %s could approve at %s is approved already", who, m.stepName(pr.step))
	}
	return fmt.Sprintf("%s is not %s of %s %s", who, step.Wants(), missing.Integration, missing.Entitlement.Resource)
}

// count counts an approval that counts, and goes on to the next step where this
// one has all that it wants.
func (m Matter) count(pr *progress, vs []view, d Decision) {
	i := m.Directory.byID[d.By]
	if d.For > 0 {
		pr.terms.Duration = d.For
	}
	done := true
	for n := range pr.parts {
		p, a := &pr.parts[n], m.Request.Asked[n]
		if !p.out && slices.Contains(d.Without, m.Request.hold(n)) {
			p.out = true
			pr.terms.Without = append(pr.terms.Without, m.Request.hold(n))
		}
		if p.out {
			continue
		}
		full := vs[n].full
		if !slices.Contains(m.humans(p.now), m.Directory.human[i]) && vs[n].adds(*p, i) && !m.needed(pr.step, vs[n].later, *p, a, i) {
			p.now = append(p.now, i)
			full = met(vs[n].slots, p.now)
		}
		done = done && full
	}
	pr.by[pr.step] = append(pr.by[pr.step], m.Directory.people[i].Email)
	if pr.at.Before(d.At) {
		pr.at = d.At
	}
	if !done {
		return
	}
	for n := range pr.parts {
		p := &pr.parts[n]
		p.used, p.now = append(p.used, m.humans(p.now)...), nil
	}
	pr.step, pr.since = pr.step+1, pr.at
}

// next says why a decision would not count after those on record.
func (m Matter) next(d Decision) string {
	pr := m.progress()
	return m.counts(pr, m.views(pr, d.At), d)
}

// narrows says why an approval asks for more than there is, or for nothing.
func (m Matter) narrows(pr *progress, d Decision) string {
	if d.For < 0 || d.For > pr.terms.Duration {
		return fmt.Sprintf("an approver may shorten access and not lengthen it: it is %s already", pr.terms.Duration)
	}
	left := 0
	for n := range pr.parts {
		if !pr.parts[n].out && !slices.Contains(d.Without, m.Request.hold(n)) {
			left++
		}
	}
	for _, id := range d.Without {
		if !slices.Contains(m.Request.HoldIDs, id) {
			return "an approver may leave out what was asked for, and the request has no hold " + id
		}
	}
	if left == 0 && len(pr.parts) > 0 {
		return "nothing would be left of the request: deny it instead"
	}
	return ""
}

// entries are those of views, in the order of the directory.
func (m Matter) entries(vs []view) []int {
	all := map[int]bool{}
	for _, v := range vs {
		for _, x := range v.slots {
			maps.Copy(all, x.entries)
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// slot is one approval that a step wants, with those who could give it. Who is in
// the directory twice decides by what the entry has that decides, and counts as
// the one human that both are.
type slot struct{ entries, humans map[int]bool }

func (x slot) add(more slot) {
	maps.Copy(x.entries, more.entries)
	maps.Copy(x.humans, more.humans)
}

func (x slot) clone() slot { return slot{maps.Clone(x.entries), maps.Clone(x.humans)} }

// could are those who fill one of some roles and may decide at all.
func (m Matter) could(roles []string, a Asked, used []int) slot {
	x, selves := slot{map[int]bool{}, map[int]bool{}}, m.selves()
	for _, role := range roles {
		for _, i := range m.fills(role, a) {
			if h := m.Directory.human[i]; !m.Directory.people[i].Disabled && !slices.Contains(selves, h) && !slices.Contains(used, h) {
				x.entries[i], x.humans[h] = true, true
			}
		}
	}
	return x
}

// bind leaves those who approved by one of their entries to the slots that it
// fills.
func (m Matter) bind(slots []slot, now []int) []slot {
	for _, i := range now {
		for _, x := range slots {
			if h := m.Directory.human[i]; m.Directory.twice[h] && !x.entries[i] {
				delete(x.humans, h)
			}
		}
	}
	return slots
}

// humans are those of entries.
func (m Matter) humans(entries []int) []int {
	out := make([]int, len(entries))
	for n, i := range entries {
		out[n] = m.Directory.human[i]
	}
	return out
}

// named are the approvals that a step wants for one entitlement, and those who
// could give them because the step names them for it.
func (m Matter) named(s Step, a Asked, used []int) (slots []slot) {
	for _, role := range s.AllOf {
		slots = append(slots, m.could([]string{role}, a, used))
	}
	if len(s.AnyOf) > 0 {
		any := m.could(s.AnyOf, a, used)
		for range max(1, s.AtLeast) {
			slots = append(slots, any.clone())
		}
	}
	return slots
}

// slots are the approvals that a step wants for one entitlement after it has
// waited for a while. Where a role has nobody left who is not needed for a later
// step, those of the fallback stand in for it; where they are not enough either,
// everybody whom the step names.
func (m Matter) slots(step int, p part, a Asked, waited time.Duration) []slot {
	s := m.Flow.Approval.Steps[step]
	slots := m.bind(m.named(s, a, p.used), p.now)
	add := func(roles []string, to func(slot) bool) {
		more := m.could(roles, a, p.used)
		for _, x := range slots {
			if to(x) {
				x.add(more)
			}
		}
		m.bind(slots, p.now)
	}
	every := func(slot) bool { return true }
	enough := m.enough(step, p, a, slots)
	if len(s.Fallback) > 0 && !enough {
		add(s.Fallback, func(x slot) bool { return len(x.humans) == 0 })
		if enough = m.enough(step, p, a, slots); !enough {
			add(s.Fallback, every)
			enough = m.enough(step, p, a, slots)
		}
	}
	for _, t := range s.Escalate {
		if waited >= t.After.Std() || !enough {
			add(t.To, every)
		}
	}
	return slots
}

// enough reports whether the slots of a step can all be filled without anybody
// who is needed for a later one.
func (m Matter) enough(step int, p part, a Asked, slots []slot) bool {
	if step+1 == len(m.Flow.Approval.Steps) {
		return match(slots)
	}
	few, later := m.few(step), m.later(step, p, a)
	free := make([]slot, len(slots))
	for n, x := range slots {
		if free[n] = x; len(x.humans) > few {
			continue // so many are never all needed
		}
		free[n] = x.clone()
		maps.DeleteFunc(free[n].humans, func(h int, _ bool) bool {
			return !slices.Contains(m.humans(p.now), h) && m.needed(step, later, p, a, h)
		})
	}
	return match(free)
}

// possible reports whether the steps from one on can all be done for an
// entitlement, by humans who did not count before.
func (m Matter) possible(step int, p part, a Asked) bool {
	for _, stand := range []bool{false, true} {
		var slots []slot
		for n, s := range m.Flow.Approval.Steps[step:] {
			named := m.named(s, a, p.used)
			if len(named) == 0 {
				return false // a step that wants nobody is never done
			}
			for _, x := range named {
				if stand {
					x.add(m.could(s.stand(), a, p.used))
				}
				if n == 0 {
					m.bind([]slot{x}, p.now)
				} else {
					for _, h := range m.humans(p.now) {
						delete(x.humans, h)
					}
				}
				slots = append(slots, x)
			}
		}
		if match(slots) {
			return true
		}
		// Whether somebody has to stand in depends on who decides on the steps
		// before: it is tried again with all who might.
	}
	return false
}

// few is how many people the steps from one on want at most.
func (m Matter) few(step int) (n int) {
	for _, s := range m.Flow.Approval.Steps[step:] {
		n += len(s.AllOf) + max(1, s.AtLeast)
	}
	return n
}

// later are the approvals that the steps after one want for an entitlement.
func (m Matter) later(step int, p part, a Asked) (slots []slot) {
	for _, s := range m.Flow.Approval.Steps[step+1:] {
		stand := m.could(s.stand(), a, p.used)
		for _, x := range m.named(s, a, p.used) {
			x.add(stand)
			slots = append(slots, x)
		}
	}
	return slots
}

// needed reports whether a later step could not be done any more if this entry
// counted in the one that waits.
func (m Matter) needed(step int, later []slot, p part, a Asked, entry int) bool {
	few, human := m.few(step), m.Directory.human[entry]
	wanted := func(x slot) bool { return x.humans[human] && len(x.humans) <= few }
	// Of more people than are wanted in all, nobody is needed.
	if !m.Directory.twice[human] && !slices.ContainsFunc(later, wanted) || !m.possible(step, p, a) {
		return false
	}
	p.now = append(slices.Clone(p.now), entry)
	return !m.possible(step, p, a)
}

// match reports whether each slot can have a human of its own.
func match(slots []slot) bool {
	return matched(slots, func(at int) []int { return slices.Collect(maps.Keys(slots[at].humans)) }) == len(slots)
}

// met is match with no others than these entries.
func met(slots []slot, by []int) bool { return len(slots) > 0 && fit(slots, by) == len(slots) }

// fit is how many of the slots can have one of these entries, another one each.
func fit(slots []slot, by []int) int {
	return matched(slots, func(at int) []int {
		return slices.DeleteFunc(slices.Clone(by), func(h int) bool { return !slots[at].entries[h] })
	})
}

// matched is how many slots can have a human, another one each.
func matched(slots []slot, of func(slot int) []int) (n int) {
	taken := map[int]int{} // human to slot
	var place func(at int, seen map[int]bool) bool
	place = func(at int, seen map[int]bool) bool {
		for _, h := range of(at) {
			if seen[h] {
				continue
			}
			seen[h] = true
			if other, is := taken[h]; !is || place(other, seen) {
				taken[h] = at
				return true
			}
		}
		return false
	}
	for at := range slots {
		if place(at, map[int]bool{}) {
			n++
		}
	}
	return n
}
