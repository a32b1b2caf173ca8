package workflows

import (
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// Sweep compares three things: the store's rows, the account workflows, and
// the target. An open hold whose account workflow is gone gets it back, with
// the stored end. What else it finds is reported, and repaired where the
// integration's policy or the caller says so. Nothing without our mark is
// touched, and a dry run changes nothing at all.
func Sweep(ctx workflow.Context, in access.SweepArgs) (access.SweepReport, error) {
	// Each result has a variable of its own: decoding into one that is in use
	// keeps what the result leaves out.
	var begun, report, repair access.SweepReport
	err := workflow.ExecuteActivity(thorough(ctx, "compare the store with the workflows"), ActSweepStore, in).Get(ctx, &begun)
	if err != nil || !begun.Known {
		return begun, err
	}
	compare := access.CompareArgs{Report: begun, Read: true}
	page, err := principals(ctx, begun.Connector, in.Integration, 2*time.Minute)
	if compare.Principals, compare.Unused = page.Principals, page.Unused; err != nil {
		compare.Read, compare.Error = false, reason(err)
	}
	if compare.Read && begun.ReportOnly == "" && !in.DryRun {
		err := workflow.ExecuteActivity(bounded(ctx, begun.Connector, "bring up to date what belongs to everybody", 5*time.Minute, prioritySweep), ActMaintain,
			in.Integration).Get(ctx, &compare.Report.Notes)
		if err != nil {
			compare.Report.Findings = append(compare.Report.Findings, access.Finding{Kind: access.FindingOutdated, Subject: begun.Integration, Text: reason(err)})
		}
	}
	if err := workflow.ExecuteActivity(thorough(ctx, "compare with the target"), ActSweepCompare, compare).Get(ctx, &report); err != nil {
		return begun, err
	}
	if len(report.Doubts) > 0 {
		compare.Verified = verified(ctx, begun.Connector, report.Doubts)
		report = access.SweepReport{}
		if err := workflow.ExecuteActivity(thorough(ctx, "compare with what was verified"), ActSweepCompare, compare).Get(ctx, &report); err != nil {
			return begun, err
		}
	}
	unused := report.Repairs(access.FindingUnusedRole) && slices.ContainsFunc(report.Findings, func(f access.Finding) bool { return f.Kind == access.FindingUnusedRole })
	if !in.Repair && len(report.Repair) == 0 || report.ReportOnly != "" || len(report.Delete) == 0 && !unused {
		return report, nil
	}
	for _, acct := range report.Delete {
		// Nobody else writes for this account: it had no row when the sweep began,
		// and what was granted to it since has a higher number.
		var done access.DeleteDone
		err := workflow.ExecuteActivity(bounded(ctx, report.Connector, "delete "+acct.Name, 5*time.Minute, prioritySweep), ActDelete,
			access.DeleteArgs{Account: acct, Sequence: access.FirstSequence(report.At.Unix())}).Get(ctx, &done)
		repaired(report, access.FindingUnknownPrincipal, acct.Name, strings.ReplaceAll(string(done.Outcome), "_", " "), err)
	}
	if unused {
		var left []string
		err := workflow.ExecuteActivity(bounded(ctx, report.Connector, "drop the roles that nobody has", 5*time.Minute, prioritySweep), ActClean, in.Integration).Get(ctx, &left)
		for _, f := range report.Findings {
			if f.Kind == access.FindingUnusedRole && !slices.ContainsFunc(left, func(kept string) bool { return strings.Contains(kept, f.Subject) }) {
				repaired(report, f.Kind, f.Subject, "dropped", err)
			}
		}
	}
	compare = access.CompareArgs{Report: report, Last: true}
	err = workflow.ExecuteActivity(thorough(ctx, "record the repair"), ActSweepCompare, compare).Get(ctx, &repair)
	return repair, err
}

// mostDoubts bounds how many accounts one sweep verifies. What is over that is
// reported, and not repaired.
const mostDoubts = 500

// verified reads on the target how the holds stand that the list does not show.
func verified(ctx workflow.Context, connector string, doubts []access.VerifyArgs) map[string]access.Verified {
	out := map[string]access.Verified{}
	for n, doubt := range doubts {
		if n >= mostDoubts {
			out[doubt.Account.ID] = access.Verified{Error: "there are too many to verify all"}
			continue
		}
		var entries []access.Entry
		v := access.Verified{}
		err := workflow.ExecuteActivity(bounded(ctx, connector, "verify what is held by "+doubt.Account.Name, time.Minute, prioritySweep), ActVerify, doubt).Get(ctx, &entries)
		if err != nil {
			v.Error = reason(err)
		}
		for _, e := range entries {
			switch e.Outcome {
			case access.Granted, access.AlreadyHeld, access.Pending, access.Propagating:
				v.There = append(v.There, e.Entitlement)
			}
		}
		out[doubt.Account.ID] = v
	}
	return out
}

// repaired says what became of a finding.
func repaired(r access.SweepReport, kind access.FindingKind, subject, how string, err error) {
	if err != nil {
		how = "failed: " + reason(err)
	}
	for i, f := range r.Findings {
		if f.Kind == kind && f.Subject == subject {
			r.Findings[i].Repaired = how
		}
	}
}

// thorough is untilDone for what goes through every account of an integration.
func thorough(ctx workflow.Context, summary string) workflow.Context {
	o := workflow.GetActivityOptions(untilDone(ctx, summary))
	o.StartToCloseTimeout, o.HeartbeatTimeout = 10*time.Minute, 10*time.Second
	o.Priority = temporal.Priority{PriorityKey: prioritySweep}
	return workflow.WithActivityOptions(ctx, o)
}
