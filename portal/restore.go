package portal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// After a restore of Lapse's or Temporal's data nothing on a target is changed
// before an administrator has accepted a report of the differences.

func (p *Portal) registerRestore(to huma.API) {
	tags := []string{"restore"}
	register(p, to, huma.Operation{OperationID: "show-restore", Method: http.MethodGet, Path: "/restore", Tags: tags,
		Summary: "After a restore: the differences between the store, the workflows and the targets"}, p.showRestore)
	register(p, to, huma.Operation{OperationID: "accept-restore", Method: http.MethodPost, Path: "/restore/accept", Tags: tags,
		Summary: "After a restore: accept the report, and have the differences repaired"}, p.acceptRestore)
}

func (p *Portal) showRestore(ctx context.Context, c *caller, _ *nothing) (out api.Restore, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	out, _, err = p.restore(ctx)
	return out, err
}

// restore is what the sweeps found since a restore was noticed, and the
// integrations to which it matters.
func (p *Portal) restore(ctx context.Context) (out api.Restore, all []store.IntegrationRow, err error) {
	out.Integrations, out.Missing = []api.Sweep{}, []string{}
	if out.ReportOnly, err = p.opts.Store.ReportOnly(ctx); err != nil || out.ReportOnly == "" {
		return out, nil, err
	}
	if out.Since, err = p.opts.Store.ReportOnlySince(ctx); err != nil {
		return out, nil, err
	}
	rows, err := p.opts.Store.Integrations(ctx)
	if err != nil {
		return out, nil, err
	}
	sum := sha256.New()
	for _, row := range rows {
		left, err := p.opts.Store.AccountsOf(ctx, row.ID)
		if err != nil {
			return out, nil, err
		}
		if row.Removed && len(left) == 0 {
			continue
		}
		all = append(all, row)
		run, findings, err := p.opts.Store.Findings(ctx, row.ID)
		if err != nil {
			return out, nil, err
		}
		at, err := time.Parse(time.RFC3339Nano, run)
		if run == "" || err != nil || at.Before(out.Since) {
			out.Missing = append(out.Missing, row.Name)
			continue
		}
		out.Integrations = append(out.Integrations, api.Sweep{Integration: row.Name, At: at, ReportOnly: out.ReportOnly, Findings: findings})
		for _, f := range findings {
			fmt.Fprintf(sum, "%q %q %q %q\n", row.ID, f.Kind, f.Subject, f.About)
		}
	}
	if len(out.Missing) == 0 {
		out.Report = hex.EncodeToString(sum.Sum(nil))[:16]
	}
	return out, all, nil
}

// acceptCall says which report is accepted, and why.
type acceptCall struct{ Body api.AcceptRestore }

func (p *Portal) acceptRestore(ctx context.Context, c *caller, in *acceptCall) (out api.Restored, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	reason := strings.TrimSpace(in.Body.Reason)
	if reason == "" {
		return out, wrongs("", api.Wrong{Location: "body.reason", Message: "say what was compared, and why it is right to go on"})
	}
	now, integrations, err := p.restore(ctx)
	if out.Was = now.ReportOnly; err != nil || out.Was == "" {
		return out, err
	}
	const look = "lapse restore report shows it, and what to accept it with"
	switch {
	case len(now.Missing) > 0:
		return out, problem(http.StatusConflict, look, "there is no report yet of %s", strings.Join(now.Missing, ", "))
	case in.Body.Report != now.Report:
		return out, problem(http.StatusConflict, look, "the report is another one by now: %s", now.Report)
	}
	found := map[access.FindingKind]int{}
	for _, s := range now.Integrations {
		for _, f := range s.Findings {
			found[f.Kind]++
		}
	}
	// The word comes before the deed: what follows from it is on record.
	err = p.opts.Store.Append(ctx, access.Event{Key: "restore/" + access.NewID("acc"), Kind: "restore.accepted", At: c.now.UTC(), Actor: c.ID,
		Text: fmt.Sprintf("%s accepts the restore, report %s %v: %s", c.Email, now.Report, found, reason)})
	if err == nil {
		err = p.opts.AcceptRestore(ctx)
	}
	if err != nil {
		return out, err
	}
	out.Accepted = true
	for _, row := range integrations {
		_, failed := engine.StartSweep(ctx, p.opts.Temporal, access.SweepArgs{Integration: row.ID, Repair: true})
		err = errors.Join(err, failed)
	}
	return out, err
}

// restoreView is the report of a restore, by integration and sort.
type restoreView struct {
	api.Restore
	Parts []sweepView
	Form  *form
}

func (p *Portal) restoreView(r *http.Request, c *caller, why error) (view, error) {
	out, err := p.showRestore(r.Context(), c, nil)
	if err != nil {
		return view{}, err
	}
	v := restoreView{Restore: out, Form: p.failure(r, why)}
	for _, s := range out.Integrations {
		s.Findings = slices.DeleteFunc(s.Findings, func(f access.Finding) bool { return f.Kind == access.FindingRestored })
		v.Parts = append(v.Parts, sweepView{Sweep: s, Sorts: sortFindings(s)})
	}
	return view{template: "restore", title: "Restore", data: v, status: v.Form.status}, nil
}

func (p *Portal) restorePage(r *http.Request, c *caller) (view, error) {
	return p.restoreView(r, c, nil)
}

// restoreNowPage compares the targets anew, or accepts the report that was shown.
func (p *Portal) restoreNowPage(r *http.Request, c *caller) (view, error) {
	if r.PostForm.Get("do") == "accept" {
		_, err := p.acceptRestore(r.Context(), c, &acceptCall{Body: api.AcceptRestore{Reason: r.PostForm.Get("reason"), Report: r.PostForm.Get("report")}})
		if err != nil {
			return p.restoreView(r, c, err)
		}
		return view{to: "/sweep", note: "Accepted. Every integration is swept and repaired now."}, nil
	}
	if err := c.mustAdminister(); err != nil {
		return view{}, err
	}
	_, rows, err := p.restore(r.Context())
	for _, row := range rows {
		_, failed := engine.StartSweep(r.Context(), p.opts.Temporal, access.SweepArgs{Integration: row.ID})
		err = errors.Join(err, failed)
	}
	if err != nil {
		return p.restoreView(r, c, err)
	}
	return view{to: "/restore", note: "Every integration is compared now. Load this page again in a moment."}, nil
}
