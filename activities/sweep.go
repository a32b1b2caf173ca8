package activities

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// SweepStore holds the store's rows against the workflows: an account that
// holds something gets a lost workflow back, a request that was never begun is
// begun, and one that was ended in Temporal before anything was granted is
// closed. After a restore it only reports.
func (c *Control) SweepStore(ctx context.Context, a access.SweepArgs) (access.SweepReport, error) {
	return guard(ctx, failed, func(ctx context.Context) (r access.SweepReport, err error) {
		in, err := c.Store.Integration(ctx, a.Integration)
		if errors.Is(err, store.ErrNotFound) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		r = access.SweepReport{Integration: in.Name, Connector: workflows.ConnectorQueue(in.Connector), Known: true, At: time.Now().UTC(), Findings: []access.Finding{}}
		if r.ReportOnly, err = c.CheckEpoch(ctx); err != nil {
			return r, err
		}
		if r.ReportOnly != "" {
			r.Findings = append(r.Findings, access.Finding{Kind: "restored", Subject: "lapse", Text: r.ReportOnly})
		}
		if err := c.sweepAccounts(ctx, a.Integration, &r); err != nil {
			return r, err
		}
		if err := c.sweepRequests(ctx, a.Integration, &r); err != nil {
			return r, err
		}
		if err := c.sweepRotations(ctx, in, &r); err != nil {
			return r, err
		}
		return r, c.logHead(ctx)
	})
}

// headEvery is the time between two signed heads in the log, in seconds.
const headEvery = 3600

// logHead writes the signed head of the audit trail to the log, which is kept
// elsewhere: a tail that is rewritten later does not lead to it any more.
func (c *Control) logHead(ctx context.Context) error {
	seq, hash, err := c.Store.Head(ctx)
	if err != nil || seq == 0 {
		return err
	}
	if last, now := c.headLogged.Load(), time.Now().Unix(); now-last < headEvery || !c.headLogged.CompareAndSwap(last, now) {
		return nil
	}
	signature := ed25519.Sign(c.TicketKey, fmt.Appendf(nil, "lapse audit head v1\x00%d\x00%s", seq, hash))
	c.Log.Info("audit head", "events", seq, "head", hash, "signature", base64.StdEncoding.EncodeToString(signature))
	return nil
}

func (c *Control) sweepAccounts(ctx context.Context, integration string, r *access.SweepReport) error {
	rows, err := c.Store.AccountsOf(ctx, integration)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if len(row.Holds) == 0 && row.CleanupAt.IsZero() {
			continue
		}
		person, err := c.Store.Person(ctx, row.PersonID)
		if err != nil {
			return err
		}
		lost, impostor, err := c.lost(ctx, row.ID)
		if err != nil {
			return err
		}
		if lost {
			f := access.Finding{Kind: "lost_account", Subject: person.Email, Text: fmt.Sprintf("the account has %d open holds and no workflow", len(row.Holds))}
			if r.ReportOnly == "" {
				if impostor != "" {
					f.Text += "; another one had its id: " + impostor
					if err := c.Temporal.TerminateWorkflow(ctx, workflows.AccountID(row.ID), "", "not Lapse's"); err != nil {
						return err
					}
				}
				if err := c.restoreAccount(ctx, row.ID); err != nil {
					return err
				}
				f.Repaired = "its workflow was started again from the store"
			}
			r.Findings = append(r.Findings, f)
		}
		for _, h := range row.Holds {
			if late := h.OverdueAt(r.At); late > access.OverdueAfter {
				r.Findings = append(r.Findings, access.Finding{Kind: "overdue", Subject: person.Email, Text: fmt.Sprintf("%s should be gone for %s", h.Entitlement, late.Round(time.Second))})
			}
			if person.Disabled && r.ReportOnly == "" && h.State == access.StateActive {
				op := workflows.Op{ID: "disabled/" + h.ID, Kind: workflows.UpdateEnd, RequestID: h.RequestID, HoldIDs: []string{h.ID}, Actor: "lapse", Why: "the person is disabled"}
				if err := c.Tell(ctx, workflows.TellArgs{AccountID: row.ID, Op: op}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sweepRotations tells of credentials whose change failed half way.
func (c *Control) sweepRotations(ctx context.Context, in store.IntegrationRow, r *access.SweepReport) error {
	secret, accounts, err := c.Store.Rotations(ctx, in.ID)
	if err != nil {
		return err
	}
	stuck := func(subject, why, remedy string) {
		r.Findings = append(r.Findings, access.Finding{Kind: "stuck_rotation", Subject: subject, Text: why + " (" + remedy + ")"})
	}
	if secret.Stuck != "" {
		stuck(in.Name, "the connector's own secret could not be changed: "+secret.Stuck, "lapse rotate "+in.Name+" --secret tries again")
	}
	for _, id := range slices.Sorted(maps.Keys(accounts)) {
		if why := accounts[id].Stuck; why != "" {
			row, err := c.Store.Account(ctx, id)
			if err != nil {
				return err
			}
			if len(row.Holds) > 0 {
				stuck(row.Email, "the password may be one that nobody knows: "+why, "lapse rotate "+in.Name+" --person "+row.Email+" makes another")
			}
		}
	}
	return nil
}

func (c *Control) sweepRequests(ctx context.Context, integration string, r *access.SweepReport) error {
	filter := store.RequestFilter{Integration: integration, State: access.StatePending, Limit: 1000}
	for {
		rows, err := c.Store.Requests(ctx, filter)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := c.sweepRequest(ctx, row, r); err != nil {
				return err
			}
		}
		if len(rows) < filter.Limit {
			return nil
		}
		filter.After = rows[len(rows)-1].ID
	}
}

// sweepRequest looks after a request of which nothing was granted yet.
func (c *Control) sweepRequest(ctx context.Context, row store.RequestRow, r *access.SweepReport) error {
	status, err := c.status(ctx, workflows.RequestID(row.ID))
	if err != nil {
		return err
	}
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING || r.ReportOnly != "" {
		return nil
	}
	f := access.Finding{Kind: "lost_request", Subject: row.ID}
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED && row.State == access.StatePending {
		// The portal stored it and was stopped before it could start it.
		if _, err := c.Temporal.ExecuteWorkflow(ctx, RequestStart(row.Request, ""), workflows.RequestType, workflows.RequestInput{RequestID: row.ID}); err != nil {
			return err
		}
		f.Text, f.Repaired = "it had no workflow yet", "its workflow was started"
	} else {
		f.Text, f.Repaired = "its workflow was ended in Temporal before anything was granted", "closed as failed"
		if err := c.closeRequest(ctx, row, f.Text); err != nil {
			return err
		}
	}
	r.Findings = append(r.Findings, f)
	return nil
}

// closeRequest puts on record that nothing comes of a request any more.
func (c *Control) closeRequest(ctx context.Context, row store.RequestRow, why string) error {
	var changes []access.Change
	if row.State == access.StatePending {
		changes = append(changes, access.Change{Event: access.Event{Key: "request/" + row.ID + "/failed", Kind: "request.failed", At: time.Now().UTC(), RequestID: row.ID, Text: why},
			Request: &access.RequestChange{ID: row.ID, State: access.StateFailed, Why: why}})
	}
	for _, h := range row.Holds {
		if h.State == access.StatePending && h.Grant == nil {
			h.State, h.Error = access.StateFailed, why
			changes = append(changes, access.Change{Event: access.Event{Key: "hold/" + h.ID + "/failed", Kind: "failed", At: time.Now().UTC(), RequestID: row.ID, HoldID: h.ID,
				AccountID: h.AccountID, Text: "not granted: " + why}, Holds: []access.Hold{h}})
		}
	}
	return c.Store.Record(ctx, changes)
}

// lost reports whether no workflow of ours runs for an account, and what runs
// under its id instead.
func (c *Control) lost(ctx context.Context, account string) (lost bool, impostor string, err error) {
	d, err := c.Temporal.DescribeWorkflowExecution(ctx, workflows.AccountID(account), "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); missing {
		return true, "", nil
	}
	if err != nil {
		return false, "", err
	}
	info := d.WorkflowExecutionInfo
	if info.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return true, "", nil
	}
	if info.Type.GetName() != workflows.AccountType || info.TaskQueue != workflows.Queue {
		return true, fmt.Sprintf("a %s on the queue %s", info.Type.GetName(), info.TaskQueue), nil
	}
	return false, "", nil
}

// status is a workflow's; unspecified when Temporal knows no such workflow.
func (c *Control) status(ctx context.Context, id string) (enumspb.WorkflowExecutionStatus, error) {
	d, err := c.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); missing {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, nil
	}
	if err != nil {
		return enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED, err
	}
	return d.WorkflowExecutionInfo.Status, nil
}

// SweepCompare holds what the target shows against the store, and keeps the
// findings. A target that can be read wakes the accounts that wait for it.
func (c *Control) SweepCompare(ctx context.Context, a access.CompareArgs) (access.SweepReport, error) {
	return guard(ctx, failed, func(ctx context.Context) (access.SweepReport, error) {
		r := a.Report
		in, err := c.Store.IntegrationByName(ctx, r.Integration)
		if err != nil {
			return r, err
		}
		if !a.Last {
			if !a.Read {
				r.Findings = append(r.Findings, access.Finding{Kind: "unreadable", Subject: r.Integration, Text: a.Error})
			} else if err := c.compare(ctx, in.ID, a.Principals, &r); err != nil {
				return r, err
			}
		}
		var repaired []access.Change
		for _, f := range r.Findings {
			if f.Repaired != "" {
				repaired = append(repaired, access.Change{Event: access.Event{Key: strings.Join([]string{"sweep", in.ID, r.At.Format(time.RFC3339Nano), f.Kind, f.Subject}, "/"),
					Kind: "sweep.repaired", At: r.At, Integration: in.ID, Text: fmt.Sprintf("%s %s: %s; %s", f.Kind, f.Subject, f.Text, f.Repaired)}})
			}
		}
		if err := c.Store.Record(ctx, repaired); err != nil {
			return r, err
		}
		return r, c.Store.PutFindings(ctx, in.ID, r.At.Format(time.RFC3339Nano), r.Findings)
	})
}

func (c *Control) compare(ctx context.Context, integration string, principals []access.Principal, r *access.SweepReport) error {
	rows, err := c.Store.AccountsOf(ctx, integration)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range principals {
		if p.Tombstone {
			continue
		}
		i := slices.IndexFunc(rows, func(row store.AccountRow) bool { return row.ID == p.AccountID })
		if i < 0 {
			id, person, err := access.SplitAccountID(p.AccountID)
			if err != nil || id != integration {
				continue
			}
			r.Findings = append(r.Findings, access.Finding{Kind: "unknown_principal", Subject: p.Name, Text: "it carries our mark, and the store knows no such account"})
			r.Delete = append(r.Delete, access.Account{ID: p.AccountID, Integration: integration, PersonID: person, Name: p.Name})
			continue
		}
		seen[p.AccountID] = true
		r.Findings = append(r.Findings, drift(rows[i], p, r.At)...)
	}
	for _, row := range rows {
		if !seen[row.ID] && slices.ContainsFunc(row.Holds, func(h access.Hold) bool { return settled(h, r.At) }) {
			r.Findings = append(r.Findings, access.Finding{Kind: "missing", Subject: row.Name, Text: "the account was taken away on the target while it holds something"})
		}
	}
	return c.Wake(ctx, integration)
}

// Wake has the accounts that wait to repeat a revoke try again at once: the
// target answers, or a right was mended.
func (c *Control) Wake(ctx context.Context, integration string) error {
	rows, err := c.Store.AccountsOf(ctx, integration)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, row := range rows {
		if !slices.ContainsFunc(row.Holds, func(h access.Hold) bool { return h.OverdueAt(now) > access.OverdueAfter }) {
			continue
		}
		err := c.Temporal.SignalWorkflow(ctx, workflows.AccountID(row.ID), "", workflows.SignalWake, nil)
		if _, missing := errors.AsType[*serviceerror.NotFound](err); err != nil && !missing {
			return err
		}
	}
	return nil
}

// settled holds were active before the sweep began and are not about to end.
func settled(h access.Hold, at time.Time) bool {
	return h.State == access.StateActive && h.StartsAt.Before(at) && h.EndsAt.After(at.Add(time.Minute))
}

// drift is what a target shows of an account that is not what its holds say.
func drift(row store.AccountRow, p access.Principal, at time.Time) (out []access.Finding) {
	for _, h := range row.Holds {
		if settled(h, at) && !slices.Contains(p.Entitlements, h.Entitlement) {
			out = append(out, access.Finding{Kind: "missing", Subject: p.Name, Text: h.Entitlement.String() + " was taken away by hand"})
		}
	}
	for _, e := range p.Entitlements {
		held := slices.ContainsFunc(row.Holds, func(h access.Hold) bool { return h.Entitlement == e })
		base := slices.ContainsFunc(row.Baseline, func(b access.Baseline) bool { return slices.Contains(b.HeldAs, e) })
		if !held && !base {
			out = append(out, access.Finding{Kind: "unexpected", Subject: p.Name, Text: e.String() + " stands on the target, and no hold asks for it"})
		}
	}
	for _, f := range p.Foreign {
		out = append(out, access.Finding{Kind: "foreign", Subject: p.Name, Text: f})
	}
	return out
}
