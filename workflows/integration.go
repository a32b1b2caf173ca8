package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// The workflows of one integration as a whole: check, discovery and sweep.

// Check proves each right of the connector's account. Accounts that wait for a
// target that is back, or a right that was mended, try again at once.
func Check(ctx workflow.Context, integration string) (access.CheckReport, error) {
	var b access.IntegrationBrief
	var report access.CheckReport
	if err := workflow.ExecuteActivity(untilDone(ctx, "which connector?"), ActIntegration, integration).Get(ctx, &b); err != nil {
		return report, err
	}
	err := workflow.ExecuteActivity(bounded(ctx, b.Connector, "check "+b.Name, time.Minute, priorityDiscover), ActCheck, integration).Get(ctx, &report)
	if err != nil || !report.OK() {
		return report, err
	}
	return report, workflow.ExecuteActivity(untilDone(ctx, "wake the accounts that wait"), ActWake, integration).Get(ctx, nil)
}

// DiscoveryInput starts a discovery, or the next run of one.
type DiscoveryInput struct {
	Integration string                 `json:"integration"`
	Cursor      string                 `json:"cursor,omitempty"`
	Run         string                 `json:"run,omitempty"`
	Report      access.DiscoveryReport `json:"report"`
}

// pagesPerRun is after how many pages a discovery continues as new.
const pagesPerRun = 100

// Discovery refreshes the catalog of an integration, page by page. Each page
// is stored before the next one is asked for, so it goes on where it was cut.
func Discovery(ctx workflow.Context, in DiscoveryInput) (access.DiscoveryReport, error) {
	report := in.Report
	if in.Run == "" {
		in.Run = workflow.GetInfo(ctx).WorkflowExecution.RunID
	}
	var b access.IntegrationBrief
	if err := workflow.ExecuteActivity(untilDone(ctx, "which connector?"), ActIntegration, in.Integration).Get(ctx, &b); err != nil {
		return report, err
	}
	report.Integration = b.Name
	for range pagesPerRun {
		var page access.Page
		err := workflow.ExecuteActivity(bounded(ctx, b.Connector, "read a page of "+b.Name, 10*time.Minute, priorityDiscover), ActDiscover,
			access.DiscoverArgs{Integration: in.Integration, Cursor: in.Cursor}).Get(ctx, &page)
		if err != nil {
			return report, err
		}
		err = workflow.ExecuteActivity(untilDone(ctx, "store a page"), ActStoreResources, access.StoreArgs{Integration: in.Integration, Run: in.Run, Page: page}).Get(ctx, nil)
		if err != nil {
			return report, err
		}
		report.Resources += len(page.Resources)
		report.Warnings = append(report.Warnings, page.Warnings...)
		if page.Next == "" {
			return report, nil
		}
		in.Cursor = page.Next
	}
	in.Report = report
	return report, workflow.NewContinueAsNewError(ctx, DiscoveryType, in)
}

// Sweep compares three things: the store's rows, the account workflows, and
// the target. An open hold whose account workflow is gone gets it back, with
// the stored end. What carries our mark and stands in no row is reported, and
// deleted only on repair.
func Sweep(ctx workflow.Context, in access.SweepArgs) (access.SweepReport, error) {
	var report access.SweepReport
	err := workflow.ExecuteActivity(untilDone(ctx, "compare the store with the workflows"), ActSweepStore, in).Get(ctx, &report)
	if err != nil || !report.Known {
		return report, err
	}
	compare := access.CompareArgs{Report: report, Read: true}
	for cursor := ""; ; {
		var page access.PrincipalPage
		err := workflow.ExecuteActivity(bounded(ctx, report.Connector, "list what carries our mark", 2*time.Minute, prioritySweep), ActPrincipals,
			access.DiscoverArgs{Integration: in.Integration, Cursor: cursor}).Get(ctx, &page)
		if err != nil {
			compare.Read, compare.Error = false, reason(err)
			break
		}
		compare.Principals = append(compare.Principals, page.Principals...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if compare.Read && report.ReportOnly == "" {
		err := workflow.ExecuteActivity(bounded(ctx, report.Connector, "bring up to date what belongs to everybody", 5*time.Minute, prioritySweep), ActMaintain,
			in.Integration).Get(ctx, &compare.Report.Notes)
		if err != nil {
			compare.Report.Findings = append(compare.Report.Findings, access.Finding{Kind: "outdated", Subject: report.Integration, Text: reason(err)})
		}
	}
	if err := workflow.ExecuteActivity(untilDone(ctx, "compare with the target"), ActSweepCompare, compare).Get(ctx, &report); err != nil {
		return report, err
	}
	if !in.Repair || report.ReportOnly != "" || len(report.Delete) == 0 {
		return report, nil
	}
	for _, acct := range report.Delete {
		var done access.DeleteDone
		// Nobody else writes for this account: it has no row, and so no workflow.
		err := workflow.ExecuteActivity(bounded(ctx, report.Connector, "delete "+acct.Name, 5*time.Minute, prioritySweep), ActDelete,
			access.DeleteArgs{Account: acct, Sequence: access.FirstSequence(workflow.Now(ctx).Unix())}).Get(ctx, &done)
		for i, f := range report.Findings {
			if f.Kind == "unknown_principal" && f.Subject == acct.Name {
				if report.Findings[i].Repaired = string(done.Outcome); err != nil {
					report.Findings[i].Repaired = "failed: " + reason(err)
				}
			}
		}
	}
	compare = access.CompareArgs{Report: report, Last: true}
	return report, workflow.ExecuteActivity(untilDone(ctx, "record the repair"), ActSweepCompare, compare).Get(ctx, &report)
}

// Epoch does nothing: the memo that it was started with is Temporal's half of
// the epoch, by which a restored store, or a restored Temporal, is noticed.
func Epoch(workflow.Context) error { return nil }
