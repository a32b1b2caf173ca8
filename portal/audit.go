package portal

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

func (p *Portal) registerAudit(to huma.API) {
	tags := []string{"audit"}
	register(p, to, huma.Operation{OperationID: "verify-audit", Method: http.MethodGet, Path: "/audit/verify", Tags: tags,
		Summary: "Walk the audit trail and find what was changed, taken out or put in"}, p.verifyAudit)
	register(p, to, huma.Operation{OperationID: "list-events", Method: http.MethodGet, Path: "/audit/events", Tags: tags,
		Summary: "List the audit trail, oldest first"}, p.listEvents)
}

// headCall names a head from before.
type headCall struct {
	Head string `query:"head" doc:"hash of an event that must be there" pattern:"^[0-9a-f]{64}$"`
}

func (p *Portal) verifyAudit(ctx context.Context, c *caller, in *headCall) (out api.Audit, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	report, err := p.opts.Store.VerifyAudit(ctx, in.Head)
	out = api.Audit{OK: report.OK(), Events: report.Events, Head: report.Head, Faults: []api.AuditFault{}}
	for _, f := range report.Faults {
		out.Faults = append(out.Faults, api.AuditFault{Seq: f.Seq, Text: f.Text})
	}
	return out, err
}

// eventFilter selects a part of the audit trail.
type eventFilter struct {
	Request string `query:"request" doc:"only events of this request"`
	After   int64  `query:"after" doc:"next of the page before" minimum:"0"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (p *Portal) listEvents(ctx context.Context, c *caller, in *eventFilter) (out api.Events, err error) {
	if err := c.mustAdminister(); err != nil {
		return out, err
	}
	rows, err := p.opts.Store.Events(ctx, store.EventFilter{RequestID: in.Request, After: in.After, Limit: in.Limit})
	out.Events = []api.Event{}
	for _, e := range rows {
		out.Events = append(out.Events, c.event(e))
	}
	if len(rows) == in.Limit {
		out.Next = rows[len(rows)-1].Seq
	}
	return out, err
}

// healthTimeout bounds the question whether Temporal is there.
const healthTimeout = 3 * time.Second

// registerHealth adds the one operation that needs no caller.
func (p *Portal) registerHealth(to huma.API) {
	type output struct {
		Status int
		Body   api.Health
	}
	huma.Register(to, huma.Operation{OperationID: "health", Method: http.MethodGet, Path: api.Prefix + "/health", Summary: "Say what works",
		Security: []map[string][]string{}},
		func(ctx context.Context, _ *nothing) (*output, error) {
			out := &output{Status: http.StatusOK, Body: api.Health{Store: "ok", Temporal: "ok"}}
			why, err := p.opts.Store.ReportOnly(ctx)
			out.Body.ReportOnly = why
			if err == nil {
				out.Body.Runbook, err = p.runbook(ctx)
			}
			if err != nil {
				out.Status, out.Body.Store = http.StatusServiceUnavailable, "failing"
			}
			ctx, cancel := context.WithTimeout(ctx, healthTimeout)
			defer cancel()
			if _, err := p.opts.Temporal.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
				out.Body.Temporal = "unreachable"
			}
			return out, nil
		})
}

// runbookLate is how many times in a row a runbook may not be written before
// somebody should look.
const runbookLate = 3

// runbook says what is wrong with the runbook, "" when nothing is.
func (p *Portal) runbook(ctx context.Context) (string, error) {
	_, cfg, err := p.opts.Store.Config(ctx)
	if errors.Is(err, store.ErrNotFound) || err == nil && cfg.Runbook.Every == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	at, err := p.opts.Store.RunbookAt(ctx)
	switch {
	case err != nil:
		return "", err
	case at.IsZero():
		return "none was written yet", nil
	case time.Since(at) > runbookLate*cfg.Runbook.Every.Std():
		return "the last one was written at " + at.Format(time.RFC3339) + ": the worker's log says why", nil
	}
	return "", nil
}
