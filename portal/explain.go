package portal

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/portal/api"
)

// explainCall is a request that nobody makes.
type explainCall struct{ Body api.Explain }

func (p *Portal) registerExplain(to huma.API, tags []string) {
	register(p, to, huma.Operation{OperationID: "explain", Method: http.MethodPost, Path: "/explain", Tags: tags,
		Summary: "Say what would become of a request: which access flow is used or why none is, who would decide, and what would be granted"}, p.explain)
}

func (p *Portal) explain(ctx context.Context, c *caller, in *explainCall) (out api.Explained, err error) {
	by := c.Person
	if email := in.Body.Person; email != "" && !access.SameEmail(email, c.Email) {
		if err := c.mustAdminister(); err != nil {
			return out, err
		}
		who, known := c.directory.ByAddress(email)
		if !known {
			return out, wrongs("", api.Wrong{Location: "body.person", Message: "is not in the directory: " + spec.DidYouMean(email, emails(c.directory.People()))})
		}
		by = who
	}
	ask, wants, faults, err := p.ask(ctx, c, by, in.Body.Wants, in.Body.For, in.Body.Options)
	if err != nil {
		return out, err
	}
	if len(faults) > 0 {
		return out, wrongs("lapse resources NAME lists what there is", faults...)
	}
	return p.explained(ctx, c, ask, wants)
}

// explained is what would become of a request in which nothing is wrong.
func (p *Portal) explained(ctx context.Context, c *caller, ask access.Ask, wants []api.Want) (out api.Explained, err error) {
	out = api.Explained{Person: ask.Person.Email, Explanation: access.Explain(c.config.AccessFlows, ask), Approvers: []string{}, Steps: []access.Stage{}}
	out.Says, out.Automatic = out.Text(), access.GivenBy(c.config.AccessFlows, ask)
	if len(out.Automatic) > 0 {
		out.Says = fmt.Sprintf("the automatic access flow %s gives it without a request; beside that, %s", strings.Join(out.Automatic, ", "), out.Says)
	}
	for i, a := range ask.Asked {
		told, err := p.told(ctx, c, ask.Person, a, ask.For)
		if err != nil {
			return out, err
		}
		out.Grants = append(out.Grants, api.Meant{Want: wants[i], Means: p.means(c, a), Told: told})
	}
	flow, err := access.ChooseFlow(c.config.AccessFlows, ask)
	if err != nil {
		return out, nil // which the explanation says
	}
	m := c.drafted(ask, flow)
	out.Steps, out.Fields, out.Durations, out.Justification, out.Unanswered = m.Stages(), flow.Fields, flow.Durations, flow.Justification, unanswered(flow)
	if _, closes := flow.Timeframe.Open(m.Begins()); !closes.IsZero() {
		out.Closes = moment(closes)
	}
	out.Approvers = append(out.Approvers, emails(m.Approvers())...)
	why, err := p.mayBreak(ctx, c, m)
	if err != nil {
		return out, err
	}
	if out.Stuck = cmp.Or(m.Stuck(), why); out.Stuck != "" {
		out.Says += ", and " + out.Stuck
	}
	if flow.Trigger == access.BreakGlass {
		_, told := m.Notice(access.RemindArgs{Kind: access.NoticeBreakGlass})
		out.Notified = emails(told)
	}
	return out, nil
}

func emails(people []access.Person) []string {
	out := make([]string, len(people))
	for i, p := range people {
		out[i] = p.Email
	}
	return out
}

// unanswered says what happens when nobody decides on what goes by a flow.
func unanswered(f access.Flow) (says []string) {
	for i, s := range f.Approval.Steps {
		step := "it"
		if len(f.Approval.Steps) > 1 {
			step = access.StepName(f.Approval.Steps, i)
		}
		for _, t := range s.Escalate {
			says = append(says, fmt.Sprintf("When nobody has decided on %s for %s, %s may too.", step, t.After, strings.Join(t.To, " or ")))
		}
	}
	if f.Trigger == access.BreakGlass {
		return append(says, fmt.Sprintf("The review is due within %s. Until an overdue one is done, you cannot break the glass again.", f.Approval.ExpiresAfter))
	}
	return append(says, fmt.Sprintf("It waits for %s; then it expires, and can be asked for anew.", f.Approval.ExpiresAfter))
}

// means is what a permission gives on a target, in words.
func (p *Portal) means(c *caller, a access.Asked) string {
	in, _ := c.integration(a.Integration)
	t, _ := p.opts.Kinds[in.Kind].Type(a.Entitlement.Resource.Type)
	for _, permission := range t.Permissions {
		if permission.Name == a.Entitlement.Permission {
			return permission.Doc
		}
	}
	return t.Doc
}
