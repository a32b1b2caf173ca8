package access

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Matter is a request with all that the rules look at. Whatever somebody does
// about a request is judged by it alone, on every surface and at every time.
type Matter struct {
	Flow           Flow // as it was when the request was made
	Request        Request
	State          State // of the decision phase
	Directory      *Directory
	Administrators Conditions
	// Decisions are those on record whose signatures were verified, in order.
	Decisions []Decision
	// Owes are the ids of what the one whose access it is took at once before, and
	// whose review is overdue.
	Owes []string
	Now  time.Time
}

// Terms are what the approvals on record leave of a request.
type Terms struct {
	// Duration is the shortest that an approver gave.
	Duration Duration
	// Without are the ids of the holds that approvers left out.
	Without []string
	// Maximum is how long access may last, extensions included.
	Maximum Duration
}

// Stage is a step of an approval and how it stands.
type Stage struct {
	Name  string   `json:"name"`
	Wants string   `json:"wants" doc:"which approvers it wants" example:"resource_owner or integration_owner"`
	State string   `json:"state" enum:"done,waits,later"`
	By    []string `json:"by,omitempty" doc:"e-mail addresses of those who approved"`
	Who   []string `json:"who,omitempty" doc:"e-mail addresses of those who may approve, now or when its turn comes"`
}

// requester is whose access it becomes, by who asked for it.
func (m Matter) requester() Person { return m.person(m.Request.PersonID) }
func (m Matter) by() Person {
	if m.Request.AskedBy == "" {
		return m.requester()
	}
	return m.person(m.Request.AskedBy)
}

// person finds somebody; who is not in the directory is as good as disabled.
func (m Matter) person(id string) Person {
	if p, ok := m.Directory.Person(id); ok {
		return p
	}
	return Person{ID: id, Email: id, Disabled: true}
}

// reviewed is true for access that was taken at once and is reviewed afterwards.
func (m Matter) reviewed() bool { return m.Flow.Trigger == BreakGlass }

// Draft is the matter of a request for what a flow admits, which nobody has made
// yet.
func (f Flow) Draft(a Ask, d *Directory, administrators Conditions) Matter {
	r := Request{ID: NewID("req"), PersonID: a.Person.ID, Duration: a.For, Asked: a.Asked, Flow: f.Name,
		CreatedAt: a.Now, ExpiresAt: a.Now.Add(f.Approval.ExpiresAfter.Std())}
	if a.By.ID != a.Person.ID {
		r.AskedBy = a.By.ID
	}
	if a.Start.After(a.Now) {
		r.StartAt = a.Start
	}
	for range a.Asked {
		r.HoldIDs = append(r.HoldIDs, NewID("hold"))
	}
	return Matter{Flow: f, Request: r, State: StatePending, Directory: d, Administrators: administrators, Now: a.Now}
}

// May says why a decision on the request does not count; the empty string means
// that it does. It is the one rule for the portal, the command line, the API,
// chat, the workflow's record and the ticket.
func (m Matter) May(d Decision) string {
	p, known := m.Directory.Person(d.By)
	switch {
	case !known:
		return d.ByEmail + " is not in the directory any more"
	case p.Disabled:
		return p.Email + " is disabled"
	}
	requester := m.requester()
	switch d.Verdict {
	case Approve:
		if m.Flow.Trigger == Automatic || m.reviewed() {
			return "nobody approves access that comes by the access flow " + m.Flow.Name
		}
		if why := m.next(d); why != "" {
			return why
		}
		return m.Admitted()
	case Deny:
		return m.concerns(d.By, d.ByEmail)
	case Justify, Object:
		if !m.reviewed() {
			return "only access that was taken by breaking the glass is reviewed"
		}
		if strings.TrimSpace(d.Reason) == "" {
			return "a review says why"
		}
		if d.Verdict == Object {
			return m.concerns(d.By, d.ByEmail)
		}
		return m.next(Decision{By: d.By, ByEmail: d.ByEmail, At: d.At})
	case Break:
		if !m.reviewed() || d.By != m.Request.taker() {
			return "only who asks may break the glass, by an access flow that is for it"
		}
		if len(m.Owes) > 0 {
			return fmt.Sprintf("%s broke the glass before, and the review of %s is overdue: it comes first", p.Email, strings.Join(m.Owes, ", "))
		}
		return m.Admitted()
	case Extend:
		if p.ID != requester.ID {
			return fmt.Sprintf("only %s may %s this access", requester.Email, d.Verdict)
		}
		return m.Admitted()
	case Release, Renew:
		if p.ID == requester.ID || d.Verdict == Release && p.ID == m.Request.AskedBy {
			return ""
		}
		return fmt.Sprintf("only %s may %s this access", requester.Email, d.Verdict)
	case Revoke:
		if m.Administrators.Holds(p) {
			return ""
		}
		return m.concerns(d.By, d.ByEmail)
	}
	return fmt.Sprintf("there is no verdict %q", d.Verdict)
}

// concerns says why somebody may neither deny nor end access: only who is one
// of the approvers of a step, for something that is asked for, or may decide
// now. Nobody does so for themselves.
func (m Matter) concerns(by, email string) string {
	i, why := m.entry(by, email)
	if why != "" {
		return why
	}
	for _, s := range m.Flow.Approval.Steps {
		for _, a := range m.Request.Asked {
			if m.could(slices.Concat(s.AnyOf, s.AllOf), a, nil).entries[i] {
				return ""
			}
		}
	}
	if m.next(Decision{By: by, ByEmail: email, At: m.Now}) == "" {
		return ""
	}
	if len(m.Request.Asked) == 0 {
		return "nothing is asked for"
	}
	if len(m.Flow.Approval.Steps) == 0 {
		// Nobody approves what comes by itself: its owners may end it.
		for _, a := range m.Request.Asked {
			if m.could([]string{"resource_owner", "integration_owner"}, a, nil).entries[i] {
				return ""
			}
		}
		return email + " owns nothing of it"
	}
	step := min(m.Step(), len(m.Flow.Approval.Steps)-1)
	return fmt.Sprintf("%s is not %s of %s %s", m.Directory.people[i].Email, m.Flow.Approval.Steps[step].Wants(), m.Request.Asked[0].Integration, m.Request.Asked[0].Entitlement.Resource)
}

// entry finds the entry of who decided, or says why nobody's is.
func (m Matter) entry(by, email string) (int, string) {
	i, ok := m.Directory.byID[by]
	switch {
	case !ok:
		return 0, email + " is not in the directory any more"
	case m.Directory.people[i].Disabled:
		return 0, m.Directory.people[i].Email + " is disabled"
	case slices.Contains(m.selves(), m.Directory.human[i]):
		return 0, "nobody approves for themselves"
	}
	return i, ""
}

// Admitted says why the flow does not give what the request is for any more;
// empty when it does. It is asked again at each decision that gives, at the
// grant and at each extension.
func (m Matter) Admitted() string {
	a := m.ask()
	if a.For > m.Flow.MaxDuration {
		return fmt.Sprintf("flow %s: %s is longer than its max_duration %s", m.Flow.Name, a.For, m.Flow.MaxDuration)
	}
	return m.Flow.gives(a)
}

// ask is the request as its flow judges it.
func (m Matter) ask() Ask {
	a := Ask{Person: m.requester(), By: m.by(), For: m.Request.Duration, Now: m.Now, Start: m.Request.StartAt, BreakGlass: m.reviewed()}
	without := m.Terms().Without
	for n, asked := range m.Request.Asked {
		if !slices.Contains(without, m.Request.hold(n)) {
			a.Asked = append(a.Asked, asked)
		}
	}
	return a
}

// Begins is when the access would begin, were it approved now.
func (m Matter) Begins() time.Time { return m.ask().begins() }

// Done reports whether what has to be decided before a grant is decided: by all
// steps, by the one who breaks the glass, or by the flow itself.
func (m Matter) Done() bool {
	switch m.Flow.Trigger {
	case Automatic:
		return true
	case BreakGlass:
		return slices.ContainsFunc(m.Decisions, func(d Decision) bool { return d.Verdict == Break && d.By == m.Request.taker() })
	}
	return len(m.Flow.Approval.Steps) > 0 && m.progress().step == len(m.Flow.Approval.Steps)
}

// Terms are what the approvals on record leave of the request.
func (m Matter) Terms() Terms { return m.progress().terms }

// Step is the step that waits; the number of steps when all are done.
func (m Matter) Step() int { return m.progress().step }

// Since is since when that step waits.
func (m Matter) Since() time.Time { return m.progress().since }

func (m Matter) stepName(step int) string {
	return StepName(m.Flow.Approval.Steps, step)
}

// Reviewed reports whether access that was taken at once was reviewed in every
// step.
func (m Matter) Reviewed() bool { return m.reviewed() && m.Step() == len(m.Flow.Approval.Steps) }

// ReviewBy is when a review is due.
func (m Matter) ReviewBy() time.Time {
	return m.Request.ExpiresAt
}

// Sees reports whether the request is somebody's business: who asked, whose
// access it becomes, and whoever a step names, also for later.
func (m Matter) Sees(p Person) bool {
	if p.ID == m.Request.PersonID || p.ID == m.Request.AskedBy {
		return true
	}
	i, ok := m.Directory.byID[p.ID]
	if !ok || p.Disabled || slices.Contains(m.selves(), m.Directory.human[i]) {
		return false
	}
	for _, s := range m.Flow.Approval.Steps {
		for _, a := range m.Request.Asked {
			if m.could(s.Roles(), a, nil).entries[i] {
				return true
			}
		}
	}
	return len(m.Flow.Approval.Steps) == 0 && m.concerns(p.ID, p.Email) == ""
}

// Approvers are those who may approve, or review, now; once nothing waits for
// that any more, all whom the steps name.
func (m Matter) Approvers() []Person {
	pr := m.progress()
	if pr.step == len(m.Flow.Approval.Steps) {
		return m.people(func(s Step) []string { return slices.Concat(s.AnyOf, s.AllOf) }, nil)
	}
	var out []Person
	vs := m.views(pr, m.Now)
	for _, i := range m.entries(vs) {
		p := m.Directory.people[i]
		if m.counts(pr, vs, Decision{By: p.ID, ByEmail: p.Email, At: m.Now}) == "" {
			out = append(out, p)
		}
	}
	return out
}

// Stages are the steps and how they stand.
func (m Matter) Stages() []Stage {
	pr := m.progress()
	stages := make([]Stage, len(m.Flow.Approval.Steps))
	for n, s := range m.Flow.Approval.Steps {
		stages[n] = Stage{Name: s.Name, Wants: s.Wants(), State: "later", By: pr.by[n]}
		switch {
		case n < pr.step:
			stages[n].State = "done"
			continue
		case n == pr.step:
			stages[n].State = "waits"
			for _, p := range m.Approvers() {
				stages[n].Who = append(stages[n].Who, p.Email)
			}
			continue
		}
		vs := make([]view, len(pr.parts))
		for k, p := range pr.parts {
			if !p.out {
				vs[k].slots = m.slots(n, part{used: slices.Concat(p.used, m.humans(p.now))}, m.Request.Asked[k], 0)
			}
		}
		for _, i := range m.entries(vs) {
			stages[n].Who = append(stages[n].Who, m.Directory.people[i].Email)
		}
	}
	return stages
}

// Stuck says why the request can never be decided by those who are there now:
// what has nobody left to decide on it. Empty when it can.
func (m Matter) Stuck() string {
	if m.Flow.Trigger == Automatic {
		return ""
	}
	if len(m.Flow.Approval.Steps) == 0 {
		return fmt.Sprintf("nobody may approve it: the access flow %s has no approvers", m.Flow.Name)
	}
	pr := m.progress()
	for n, p := range pr.parts {
		if p.out || m.possible(pr.step, p, m.Request.Asked[n]) {
			continue
		}
		// The first step that has too few is the one to name.
		step := pr.step
		for ; step < len(m.Flow.Approval.Steps)-1; step++ {
			if !match(m.slots(step, p, m.Request.Asked[n], 0)) {
				break
			}
		}
		s := m.Flow.Approval.Steps[step]
		why := fmt.Sprintf("nobody may approve %s: %s of the access flow %s wants %s", m.Request.Asked[n], m.stepName(step), m.Flow.Name, s.Wants())
		if len(m.Flow.Approval.Steps) == 1 {
			why = fmt.Sprintf("nobody may approve %s: the access flow %s wants %s", m.Request.Asked[n], m.Flow.Name, s.Wants())
		}
		if len(s.Fallback) > 0 {
			why += ", or in their place " + strings.Join(s.Fallback, " or ")
		}
		return why + ", and " + m.lacks(s, m.Request.Asked[n])
	}
	return ""
}

// lacks says what is wrong with the roles of a step that has too few people.
func (m Matter) lacks(s Step, a Asked) string {
	var only, none []string
	for _, role := range slices.Concat(s.AllOf, s.AnyOf, s.Fallback) {
		switch entries := m.fills(role, a); {
		case len(m.could([]string{role}, a, nil).entries) > 0:
		case slices.ContainsFunc(entries, func(i int) bool { return slices.Contains(m.selves(), m.Directory.human[i]) }):
			only = append(only, role)
		default:
			none = append(none, role)
		}
	}
	var parts []string
	if len(only) > 0 {
		parts = append(parts, "nobody else than the requester is "+strings.Join(only, " or "))
	}
	if len(none) > 0 {
		parts = append(parts, "nobody is "+strings.Join(none, " or "))
	}
	if len(parts) == 0 {
		return "there are too few different people"
	}
	return strings.Join(parts, ", and ")
}

// fills are the entries of those who fill a role for what is asked for.
func (m Matter) fills(role string, a Asked) []int {
	switch kind, value, _ := strings.Cut(role, ":"); kind {
	case "integration_owner":
		if o := a.IntegrationOwner; o != nil {
			return m.Directory.who(o.Attribute, o.Values...)
		}
	case "resource_owner":
		if o := a.ResourceOwner; o != nil && a.Tags[o.Key] != "" {
			return m.Directory.who(o.Attribute, a.Tags[o.Key])
		}
		return m.fills("integration_owner", a)
	case "manager":
		if i, ok := m.Directory.byAddress[NormalEmail(m.requester().Attributes[managerAttribute])]; ok {
			return []int{i}
		}
	case "group":
		return m.Directory.who("group", value)
	case "person":
		return m.Directory.who("email", value)
	}
	return nil
}

// selves are the humans whose access it becomes, and who asked for it.
func (m Matter) selves() (list []int) {
	for _, p := range []Person{m.requester(), m.by()} {
		if i, ok := m.Directory.byID[p.ID]; ok {
			list = append(list, m.Directory.human[i])
		}
	}
	return list
}
