package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// The workflows of one integration as a whole: check and discovery. The sweep is
// in sweep.go.

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

const (
	// pagesPerRun is after how many pages a discovery continues as new.
	pagesPerRun = 100
	// pageWindow is how long a page may take. A target that limits us by the hour
	// says when to come back.
	pageWindow = 90 * time.Minute
)

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
	if err := workflow.SetQueryHandler(ctx, QueryState, func() (access.DiscoveryReport, error) { return report, nil }); err != nil {
		return report, err
	}
	for range pagesPerRun {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d resources of %s so far", report.Resources, b.Name))
		var page access.Page
		err := workflow.ExecuteActivity(bounded(ctx, b.Connector, "read a page of "+b.Name, pageWindow, priorityDiscover), ActDiscover,
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

// Epoch does nothing: the memo that it was started with is Temporal's half of
// the epoch, by which a restored store, or a restored Temporal, is noticed.
func Epoch(workflow.Context) error { return nil }
