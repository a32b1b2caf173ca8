package portal

import (
	"context"
	"net/http"
	"slices"

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
	who := c.Person
	if email := in.Body.Person; email != "" && !access.SameEmail(email, c.Email) {
		if err := c.mustAdminister(); err != nil {
			return out, err
		}
		i := slices.IndexFunc(c.people, func(q access.Person) bool { return access.SameEmail(q.Email, email) })
		if i < 0 {
			known := make([]string, len(c.people))
			for n, q := range c.people {
				known[n] = q.Email
			}
			return out, wrongs("", api.Wrong{Location: "body.person", Message: "is not in the directory: " + spec.DidYouMean(email, known)})
		}
		who = c.people[i]
	}
	var faults []api.Wrong
	d, err := access.ParseDuration(in.Body.For)
	if err != nil || d <= 0 {
		faults = append(faults, api.Wrong{Location: "body.for", Message: "want a duration, for example 30m, 8h or 1h30m"})
	}
	asked, more, err := p.asked(ctx, c, in.Body.Wants)
	if err != nil {
		return out, err
	}
	if faults = append(faults, more...); len(faults) > 0 {
		return out, wrongs("lapse resources NAME lists what there is", faults...)
	}
	out = api.Explained{Person: who.Email, Explanation: access.Explain(c.config.AccessFlows, who, asked, d), Approvers: []string{}}
	out.Says = out.Text()
	for i, a := range asked {
		out.Grants = append(out.Grants, api.Meant{Want: in.Body.Wants[i], Means: p.means(c, a)})
	}
	flow, err := access.ChooseFlow(c.config.AccessFlows, who, asked, d)
	if err != nil {
		return out, nil // which the explanation says
	}
	for _, approver := range access.Approvers(flow, asked, who, c.people) {
		out.Approvers = append(out.Approvers, approver.Email)
	}
	if len(out.Approvers) == 0 {
		out.Says += ", and nobody may approve it"
	}
	return out, nil
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
