package activities

import (
	"cmp"
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
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// SweepStore holds the store's rows against the workflows: an account that
// holds something gets a lost workflow back, a request that was never begun is
// begun, and one that was ended in Temporal before anything was granted is
// closed. After a restore, and on a dry run, it only reports.
func (c *Control) SweepStore(ctx context.Context, a access.SweepArgs) (access.SweepReport, error) {
	return guard(ctx, failed, func(ctx context.Context) (r access.SweepReport, err error) {
		in, err := c.Store.Integration(ctx, a.Integration)
		if errors.Is(err, store.ErrNotFound) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		r = access.SweepReport{ID: in.ID, Integration: in.Name, Connector: workflows.ConnectorQueue(in.Connector), Known: true, At: time.Now().UTC(), DryRun: a.DryRun, Findings: []access.Finding{}}
		look := c.CheckEpoch
		if a.DryRun {
			look = c.Store.ReportOnly // the other moves the epoch on
		}
		if r.ReportOnly, err = look(ctx); err != nil {
			return r, err
		}
		if r.ReportOnly != "" {
			r.Findings = append(r.Findings, access.Finding{Kind: access.FindingRestored, Subject: "lapse", Text: r.ReportOnly})
		}
		if acts(r) {
			r.Repair = repairs(a, in)
		}
		if err := c.sweepAccounts(ctx, a.Integration, &r); err != nil {
			return r, err
		}
		if err := c.sweepRequests(ctx, a.Integration, &r); err != nil {
			return r, err
		}
		if acts(r) && in.Removal.Running() {
			// Its workflow looks again, and is back where it was ended in Temporal.
			if err := engine.StartRemoval(ctx, c.Temporal, in.ID); err != nil {
				return r, err
			}
		}
		if err := c.sweepRotations(ctx, in, &r); err != nil || a.DryRun {
			return r, err
		}
		return r, c.logHead(ctx)
	})
}

// acts reports whether a sweep may change anything.
func acts(r access.SweepReport) bool { return r.ReportOnly == "" && !r.DryRun }

// repairs are the sorts that a sweep repairs beside those that it always does:
// those of the integration's policy, or those that somebody asks for.
func repairs(a access.SweepArgs, in store.IntegrationRow) []access.FindingKind {
	kinds := access.Repairable()
	if !a.Repair {
		return slices.DeleteFunc(kinds, func(k access.FindingKind) bool { return !slices.Contains(in.Sweep.Repair, k) })
	}
	return slices.DeleteFunc(kinds, func(k access.FindingKind) bool { return len(a.Only) > 0 && !slices.Contains(a.Only, k) })
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
			f := access.Finding{Kind: access.FindingLostAccount, Subject: person.Email, Text: fmt.Sprintf("the account has %d open holds and no workflow", len(row.Holds))}
			if acts(*r) {
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
				r.Findings = append(r.Findings, access.Finding{Kind: access.FindingOverdue, Subject: person.Email, About: h.Entitlement.String(),
					Text: fmt.Sprintf("%s should be gone for %s (request %s)", h.Entitlement, late.Round(time.Second), h.RequestID)})
			}
			if person.Disabled && acts(*r) && h.State == access.StateActive {
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
	stuck, err := c.Store.Stuck(ctx, in.ID)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(stuck)) {
		f := access.Finding{Kind: access.FindingStuckRotation, Subject: in.Name,
			Text: "the connector's own secret could not be changed: " + stuck[id] + " (lapse rotate " + in.Name + " --secret tries again)"}
		if id != in.ID {
			row, err := c.Store.Account(ctx, id)
			if err != nil {
				return err
			}
			if len(row.Holds) == 0 {
				continue
			}
			f.Subject = row.Email
			f.Text = "the password may be one that nobody knows: " + stuck[id] + " (lapse rotate " + in.Name + " --person " + row.Email + " makes another)"
		}
		r.Findings = append(r.Findings, f)
	}
	return nil
}

// sweepRequests looks after the requests that are not over.
func (c *Control) sweepRequests(ctx context.Context, integration string, r *access.SweepReport) error {
	for _, filter := range []store.RequestFilter{{State: access.StatePending}, {Phase: store.PhaseOpen}} {
		filter.Integration, filter.Limit = integration, 1000
		for {
			rows, err := c.Store.Requests(ctx, filter)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := c.sweepRequest(ctx, row, filter.Phase == store.PhaseOpen, r); err != nil {
					return err
				}
			}
			if len(rows) < filter.Limit {
				break
			}
			filter.After = rows[len(rows)-1].ID
		}
	}
	return nil
}

// sweepRequest looks after one request: something of it is granted, or nothing
// is yet.
func (c *Control) sweepRequest(ctx context.Context, row store.RequestRow, granted bool, r *access.SweepReport) error {
	status, err := c.status(ctx, workflows.RequestID(row.ID))
	if err != nil || status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return err
	}
	f := access.Finding{Kind: access.FindingLostRequest, Subject: row.ID}
	switch {
	case granted && status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return nil // what was open when it was looked up is over by now
	case granted:
		f.Text = "its workflow was ended in Temporal; what is held goes on, and its account ends it in time"
	case status == enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED && row.State == access.StatePending:
		// The portal stored it and was stopped before it could start it.
		if f.Text = "it had no workflow yet"; acts(*r) {
			if _, err := c.Temporal.ExecuteWorkflow(ctx, RequestStart(row.Request, ""), workflows.RequestType, workflows.RequestInput{RequestID: row.ID}); err != nil {
				return err
			}
			f.Repaired = "its workflow was started"
		}
	default:
		if f.Text = "its workflow was ended in Temporal before anything was granted"; acts(*r) {
			if err := c.closeRequest(ctx, row, f.Text); err != nil {
				return err
			}
			f.Repaired = "closed as failed"
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

// SweepCompare holds what the target shows against the store, repairs through
// the accounts what is to be repaired, and keeps the findings. A target that can
// be read wakes the accounts that wait for it.
func (c *Control) SweepCompare(ctx context.Context, a access.CompareArgs) (access.SweepReport, error) {
	return guard(ctx, failed, func(ctx context.Context) (access.SweepReport, error) {
		r := a.Report
		in, err := c.Store.Integration(ctx, r.ID)
		if errors.Is(err, store.ErrNotFound) {
			return r, nil // it was forgotten meanwhile
		}
		if err != nil {
			return r, err
		}
		if !a.Last {
			if !a.Read {
				r.Findings = append(r.Findings, access.Finding{Kind: access.FindingUnreadable, Subject: r.Integration, Text: a.Error})
			} else if err := c.compare(ctx, in, a, &r); err != nil || len(r.Doubts) > 0 {
				return r, err
			}
		}
		_, before, err := c.Store.Findings(ctx, in.ID)
		if err != nil {
			return r, err
		}
		var repaired []access.Change
		for i, f := range r.Findings {
			if f.Since.IsZero() {
				r.Findings[i].Since = r.At
				if seen := slices.IndexFunc(before, f.Same); seen >= 0 && !before[seen].Since.IsZero() {
					r.Findings[i].Since = before[seen].Since
				}
			}
			if f.Repaired != "" {
				repaired = append(repaired, access.Change{Event: access.Event{Key: strings.Join([]string{"sweep", in.ID, r.At.Format(time.RFC3339Nano), string(f.Kind), f.Subject, f.About}, "/"),
					Kind: "sweep.repaired", At: r.At, Integration: in.ID, Text: fmt.Sprintf("%s %s: %s; %s", f.Kind, f.Subject, f.Text, f.Repaired)}})
			}
		}
		slices.SortStableFunc(r.Findings, access.Finding.Compare)
		if r.DryRun {
			return r, nil
		}
		if err := c.Store.Record(ctx, repaired); err != nil {
			return r, err
		}
		return r, c.Store.PutFindings(ctx, in.ID, r.At.Format(time.RFC3339Nano), r.Findings)
	})
}

const (
	// clockSkew is how far the clocks of a connector and of the control worker
	// may be apart.
	clockSkew = 10 * time.Second
	// ending is how long before its end a hold is not called missing any more.
	ending = time.Minute
)

// compare holds what the target shows against the store's rows. Where a hold is
// not shown it leaves the report with a doubt, and does nothing, until somebody
// has verified it: a target may show what covers it instead.
func (c *Control) compare(ctx context.Context, in store.IntegrationRow, a access.CompareArgs, r *access.SweepReport) error {
	rows, err := c.Store.AccountsOf(ctx, in.ID)
	if err != nil {
		return err
	}
	byID := make(map[string]store.AccountRow, len(rows))
	for _, row := range rows {
		byID[row.ID] = row
	}
	if a.Verified == nil {
		if r.Doubts = doubts(rows, a.Principals, r.At); len(r.Doubts) > 0 {
			return nil
		}
	}
	seen := map[string]bool{}
	for _, p := range a.Principals {
		if p.Tombstone {
			continue
		}
		row, known := byID[p.AccountID]
		if !known {
			if err := c.unknown(ctx, in, p, r); err != nil {
				return err
			}
			continue
		}
		seen[p.AccountID] = true
		if err := c.drift(ctx, row, p, a.Verified[row.ID], r); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if !seen[row.ID] {
			// An account that is gone shows like one that holds nothing.
			if err := c.drift(ctx, row, access.Principal{Name: cmp.Or(row.Name, row.Email)}, a.Verified[row.ID], r); err != nil {
				return err
			}
		}
	}
	for _, u := range a.Unused {
		r.Findings = append(r.Findings, access.Finding{Kind: access.FindingUnusedRole, Subject: u.Name, About: u.Entitlement.String(),
			Text: "nobody has this role of ours, which carries " + u.Entitlement.String()})
	}
	if r.DryRun {
		return nil
	}
	return c.Wake(ctx, in.ID)
}

// unknown looks at a principal with our mark that belongs to no account that is
// in use.
func (c *Control) unknown(ctx context.Context, in store.IntegrationRow, p access.Principal, r *access.SweepReport) error {
	integration, person, err := access.SplitAccountID(p.AccountID)
	if err != nil || integration != in.ID {
		return nil
	}
	f := access.Finding{Kind: access.FindingUnknownPrincipal, Subject: p.Name, Text: "it carries our mark, and the store knows no such account"}
	_, err = c.Store.Account(ctx, p.AccountID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if r.Repairs(f.Kind) {
			r.Delete = append(r.Delete, access.Account{ID: p.AccountID, Integration: integration, PersonID: person, Name: p.Name})
		}
	case err != nil:
		return err
	default:
		if recent, err := c.recently(ctx, p.AccountID, "account.deleted", *r); err != nil || recent {
			return err
		}
		if f.Text = "it carries our mark, and the store knows its account as deleted"; r.Repairs(f.Kind) {
			// Its only writer deletes it again.
			err := c.Store.Record(ctx, []access.Change{{
				Event: access.Event{Key: "account/" + p.AccountID + "/found/" + r.At.Format(time.RFC3339Nano), Kind: "account.found", At: r.At, AccountID: p.AccountID,
					Integration: in.ID, Text: p.Name + " is on the target again, and is deleted again"},
				Account: &access.AccountChange{ID: p.AccountID, Name: p.Name, CleanupAt: r.At},
			}})
			if err == nil {
				err = c.restoreAccount(ctx, p.AccountID)
			}
			if err != nil {
				return err
			}
			f.Repaired = "its account deletes it"
		}
	}
	r.Findings = append(r.Findings, f)
	return nil
}

// recently reports whether an event of an account is so new that the target may
// have been read before it.
func (c *Control) recently(ctx context.Context, account, kind string, r access.SweepReport) (bool, error) {
	e, err := c.Store.LastEvent(ctx, account, kind)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return e.At.After(r.At.Add(-clockSkew)), err
}

// settled holds were active before the sweep began and are not about to end.
func settled(h access.Hold, at time.Time) bool {
	return h.State == access.StateActive && h.StartsAt.Before(at) && h.EndsAt.After(at.Add(ending))
}

// doubts are the settled holds that the target does not show, by account.
func doubts(rows []store.AccountRow, principals []access.Principal, at time.Time) (all []access.VerifyArgs) {
	shown := map[string][]access.Entitlement{}
	for _, p := range principals {
		shown[p.AccountID] = append(shown[p.AccountID], p.Entitlements...)
	}
	for _, row := range rows {
		doubt := access.VerifyArgs{Account: row.Account}
		for _, h := range row.Holds {
			if settled(h, at) && !slices.Contains(shown[row.ID], h.Entitlement) {
				doubt.Want = append(doubt.Want, h.Entitlement)
			}
		}
		if len(doubt.Want) > 0 {
			all = append(all, doubt)
		}
	}
	return all
}

// drift is what a target shows of an account that is not what its holds say. The
// account itself repairs it: it is the only writer.
func (c *Control) drift(ctx context.Context, row store.AccountRow, p access.Principal, v access.Verified, r *access.SweepReport) error {
	for _, h := range row.Holds {
		if !settled(h, r.At) || slices.Contains(p.Entitlements, h.Entitlement) || slices.Contains(v.There, h.Entitlement) {
			continue
		}
		f := access.Finding{Kind: access.FindingMissing, Subject: p.Name, About: h.Entitlement.String(), Text: h.Entitlement.String() + " was taken away on the target (request " + h.RequestID + ")"}
		if v.Error != "" {
			f.Text = h.Entitlement.String() + " is not shown by the target, and could not be verified: " + v.Error
		} else if r.Repairs(f.Kind) {
			op := workflows.Op{ID: "missing/" + h.ID, Kind: workflows.UpdateEnd, RequestID: h.RequestID, HoldIDs: []string{h.ID}, Actor: "lapse", Why: "it was taken away on the target"}
			if err := c.Tell(ctx, workflows.TellArgs{AccountID: row.ID, Op: op}); err != nil {
				return err
			}
			f.Repaired = "its account ends the hold"
		}
		r.Findings = append(r.Findings, f)
	}
	var unasked []access.Entitlement
	for _, e := range p.Entitlements {
		held := slices.ContainsFunc(row.Holds, func(h access.Hold) bool { return h.Entitlement == e })
		base := slices.ContainsFunc(row.Baseline, func(b access.Baseline) bool { return slices.Contains(b.HeldAs, e) })
		if !held && !base {
			unasked = append(unasked, e)
		}
	}
	if len(unasked) > 0 {
		recent, err := c.recently(ctx, row.ID, "ended", *r)
		if err != nil {
			return err
		}
		if recent {
			unasked = nil
		}
	}
	repaired := ""
	if len(unasked) > 0 && r.Repairs(access.FindingUnexpected) {
		op := workflows.Op{ID: "strip/" + r.At.Format(time.RFC3339Nano), Kind: workflows.UpdateStrip, Want: unasked, Actor: "lapse"}
		if err := c.Tell(ctx, workflows.TellArgs{AccountID: row.ID, Op: op}); err != nil {
			return err
		}
		repaired = "its account takes it away"
	}
	for _, e := range unasked {
		r.Findings = append(r.Findings, access.Finding{Kind: access.FindingUnexpected, Subject: p.Name, About: e.String(),
			Text: e.String() + " stands on the target, and no hold asks for it", Repaired: repaired})
	}
	for _, given := range p.Foreign {
		r.Findings = append(r.Findings, access.Finding{Kind: access.FindingForeign, Subject: p.Name, About: given, Text: given})
	}
	return nil
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

// Clean drops the roles of entitlements that nobody has, where the kind keeps
// such things, and says what is left and why.
func (p *Provision) Clean(ctx context.Context, integration string) ([]string, error) {
	return guard(ctx, failed, func(ctx context.Context) ([]string, error) {
		return changing(ctx, p, integration, func(i integrations.Integration) ([]string, error) {
			if c, ok := i.(integrations.Cleaner); ok {
				return c.Clean(ctx)
			}
			return nil, nil
		})
	})
}
