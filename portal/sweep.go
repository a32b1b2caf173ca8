package portal

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// sweepCall asks for a sweep.
type sweepCall struct {
	ByName
	Body api.SweepArgs
}

func (p *Portal) sweep(ctx context.Context, c *caller, in *sweepCall) (out api.Sweep, err error) {
	row, err := c.owned(in.Name)
	if err != nil {
		return out, err
	}
	args := access.SweepArgs{Integration: row.ID, DryRun: in.Body.DryRun, Repair: in.Body.Repair, Only: in.Body.Only}
	switch {
	case args.DryRun && args.Repair:
		return out, wrongs("", api.Wrong{Location: "body.dry_run", Message: "a dry run repairs nothing: leave one of the two out"})
	case len(args.Only) > 0 && !args.Repair:
		return out, wrongs("", api.Wrong{Location: "body.only", Message: "only goes with repair"})
	case args.Repair:
		event := access.Event{Key: "sweep/" + row.ID + "/" + access.NewID("rep"), Kind: "sweep.repair", At: c.now.UTC(), Actor: c.ID, Integration: row.ID,
			Text: fmt.Sprintf("%s has %s repaired", c.Email, row.Name)}
		if len(args.Only) > 0 {
			event.Text += fmt.Sprintf(", only: %v", args.Only)
		}
		if err := p.opts.Store.Append(ctx, event); err != nil {
			return out, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, longTimeout)
	defer cancel()
	var r access.SweepReport
	err = p.await(ctx, row, "sweep", &r, func() (client.WorkflowRun, error) { return engine.StartSweep(ctx, p.opts.Temporal, args) })
	out = swept(row, store.Swept{At: r.At, Findings: r.Findings})
	out.DryRun, out.ReportOnly, out.Notes = r.DryRun, r.ReportOnly, r.Notes
	return out, err
}

func (p *Portal) showSweep(ctx context.Context, c *caller, in *ByName) (out api.Sweep, err error) {
	row, err := c.owned(in.Name)
	if err != nil {
		return out, err
	}
	all, err := p.opts.Store.Sweeps(ctx)
	if err != nil {
		return out, err
	}
	out = swept(row, all[row.ID])
	out.ReportOnly, err = p.opts.Store.ReportOnly(ctx)
	return out, err
}

func swept(in store.IntegrationRow, s store.Swept) api.Sweep {
	return api.Sweep{Integration: in.Name, At: s.At, Policy: append([]access.FindingKind{}, in.Sweep.Repair...), Findings: append([]access.Finding{}, s.Findings...)}
}

// mine are the integrations that the caller owns.
func (c *caller) mine() (rows []store.IntegrationRow) {
	for _, in := range c.integrations {
		if !in.Removed && c.owns(in) {
			rows = append(rows, in)
		}
	}
	return rows
}

// sweptRow is an integration in the list.
type sweptRow struct {
	api.Sweep
	Counts []severityCount
}

// severityCount is how many findings are so grave.
type severityCount struct {
	Severity access.Severity
	Count    int
}

// severities counts findings, the gravest first; what is not there is left out.
func severities(findings []access.Finding) (counts []severityCount) {
	for _, s := range []access.Severity{access.Alarm, access.Warning, access.Remark} {
		n := 0
		for _, f := range findings {
			if f.Kind.Sort().Severity == s {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, severityCount{s, n})
		}
	}
	return counts
}

type sweepsView struct {
	ReportOnly    string
	Administrator bool
	Rows          []sweptRow
}

// sweepsPage lists the integrations of those who own some.
func (p *Portal) sweepsPage(r *http.Request, c *caller) (view, error) {
	rows := c.mine()
	if len(rows) == 0 {
		return view{}, problem(http.StatusForbidden, "ask an administrator, or be made an integration_owner", "only administrators and the owners of an integration may see this")
	}
	all, err := p.opts.Store.Sweeps(r.Context())
	if err != nil {
		return view{}, err
	}
	v := sweepsView{Administrator: c.administrator()}
	for _, in := range rows {
		s := swept(in, all[in.ID])
		v.Rows = append(v.Rows, sweptRow{s, severities(s.Findings)})
	}
	v.ReportOnly, err = p.opts.Store.ReportOnly(r.Context())
	return view{template: "sweeps", title: "Sweep", data: v}, err
}

// findingsShown bounds how many findings of one sort a page shows.
const findingsShown = 50

// sorted are the findings of one sort.
type sorted struct {
	access.FindingSort
	Count    int
	Findings []access.Finding
	ByItself bool // each sweep repairs it
	Askable  bool // it is repaired where somebody asks for it
}

type sweepView struct {
	api.Sweep
	Sorts []sorted
	Form  *form
}

func sortFindings(s api.Sweep) (sorts []sorted) {
	for _, sort := range access.FindingSorts {
		of := slices.DeleteFunc(slices.Clone(s.Findings), func(f access.Finding) bool { return f.Kind != sort.Kind })
		if len(of) == 0 {
			continue
		}
		slices.SortStableFunc(of, func(a, b access.Finding) int { return a.Since.Compare(b.Since) })
		byPolicy := sort.Mode == access.RepairByPolicy
		sorts = append(sorts, sorted{sort, len(of), of[:min(len(of), findingsShown)], sort.Mode == access.RepairAlways || slices.Contains(s.Policy, sort.Kind),
			byPolicy && s.ReportOnly == ""})
	}
	return sorts
}

func (p *Portal) sweepPage(r *http.Request, c *caller) (view, error) {
	s, err := p.showSweep(r.Context(), c, &ByName{Name: r.PathValue("name")})
	return p.sweepView(r, s, nil), err
}

func (p *Portal) sweepView(r *http.Request, s api.Sweep, why error) view {
	v := sweepView{Sweep: s, Sorts: sortFindings(s), Form: p.failure(r, why)}
	return view{template: "sweep", title: "Sweep of " + s.Integration, data: v, status: v.Form.status}
}

// sweepNowPage sweeps, shows what a sweep would do, or repairs one sort.
func (p *Portal) sweepNowPage(r *http.Request, c *caller) (view, error) {
	in := &sweepCall{}
	in.Name = r.PathValue("name")
	refused := func(why error) (view, error) {
		s, err := p.showSweep(r.Context(), c, &in.ByName)
		return p.sweepView(r, s, why), err
	}
	sort := access.FindingKind(r.PostForm.Get("sort"))
	switch do := r.PostForm.Get("do"); {
	case do == "sweep":
	case do == "dry-run":
		in.Body.DryRun = true
	case do == "repair" && slices.Contains(access.Repairable(), sort):
		in.Body.Repair, in.Body.Only = true, []access.FindingKind{sort}
		if r.PostForm.Get("sure") != "yes" {
			return refused(problem(http.StatusUnprocessableEntity, "", "say that you have looked at them before they are repaired"))
		}
	default:
		return refused(problem(http.StatusUnprocessableEntity, "", "there is nothing of that name to do"))
	}
	out, err := p.sweep(r.Context(), c, in)
	switch {
	case err != nil:
		return refused(err)
	case out.DryRun:
		return p.sweepView(r, out, nil), nil
	}
	return view{to: "/sweep/" + url.PathEscape(out.Integration), note: sweepNote(out, sort)}, nil
}

// sweepNote says what came of a sweep.
func sweepNote(out api.Sweep, sort access.FindingKind) string {
	if len(out.Findings) == 0 {
		return "Everything is as it should be."
	}
	if sort == "" {
		return fmt.Sprintf("Found: %d.", len(out.Findings))
	}
	repaired := 0
	for _, f := range out.Findings {
		if f.Kind == sort && f.Repaired != "" && !strings.HasPrefix(f.Repaired, "failed") {
			repaired++
		}
	}
	return fmt.Sprintf("Repaired, or under way: %d.", repaired)
}

// aged is how old a finding is.
func aged(since, now time.Time) string {
	if since.IsZero() {
		return "new"
	}
	return span(now.Sub(since))
}
