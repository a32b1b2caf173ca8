package activities

import (
	"context"
	"errors"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// AcceptRestore lets targets be changed again. The store is what counts from now
// on: every request and account that it knows as open begins again from there,
// and a workflow of which it knows nothing is ended. What the sweep repairs then
// is the difference to the targets. It may be cut and repeated.
func (c *Control) AcceptRestore(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.accountsAgain, c.requestsAgain, c.endStrangers, c.Epoch.accept} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// again starts a workflow, in place of the one that may run.
func (c *Control) again(ctx context.Context, o client.StartWorkflowOptions, workflow string, input any) error {
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	o.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	_, err := c.Temporal.ExecuteWorkflow(ctx, o, workflow, input)
	return err
}

func (c *Control) accountsAgain(ctx context.Context) error {
	all, err := c.Store.Integrations(ctx)
	if err != nil {
		return err
	}
	for _, in := range all {
		rows, err := c.Store.AccountsOf(ctx, in.ID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if !needsWorkflow(row) {
				continue
			}
			start, err := c.accountStart(ctx, row.ID)
			if err == nil {
				err = c.again(ctx, start, workflows.AccountType, workflows.AccountInput{AccountID: row.ID})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// needsWorkflow is true for an account that something has to be done for, now
// or later.
func needsWorkflow(row store.AccountRow) bool { return len(row.Holds) > 0 || !row.CleanupAt.IsZero() }

func (c *Control) requestsAgain(ctx context.Context) error {
	for _, filter := range []store.RequestFilter{{Phase: store.PhaseWaiting}, {Phase: store.PhaseOpen}, {Review: access.ReviewDue}} {
		for filter.Limit = 1000; ; {
			rows, err := c.Store.Requests(ctx, filter)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := c.again(ctx, RequestStart(row.Request, ""), workflows.RequestType, workflows.RequestInput{RequestID: row.ID}); err != nil {
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

// endStrangers ends the workflows of requests and accounts of which the store
// does not know, or knows that they are over.
func (c *Control) endStrangers(ctx context.Context) error {
	list := &workflowservice.ListWorkflowExecutionsRequest{
		Query: "ExecutionStatus = 'Running' AND WorkflowType IN ('" + workflows.RequestType + "', '" + workflows.AccountType + "')",
	}
	for {
		page, err := c.Temporal.ListWorkflow(ctx, list)
		if err != nil {
			return err
		}
		for _, e := range page.Executions {
			open, err := c.isOpen(ctx, e.Execution.WorkflowId)
			if err != nil {
				return err
			}
			if open {
				continue
			}
			err = c.Temporal.TerminateWorkflow(ctx, e.Execution.WorkflowId, e.Execution.RunId, "the store was restored, and knows nothing of it")
			if _, over := errors.AsType[*serviceerror.NotFound](err); err != nil && !over {
				return err
			}
		}
		if list.NextPageToken = page.NextPageToken; len(list.NextPageToken) == 0 {
			return nil
		}
	}
}

// isOpen reports whether the store knows a workflow's request or account, and
// that it is not over.
func (c *Control) isOpen(ctx context.Context, workflow string) (open bool, err error) {
	if id, ok := strings.CutPrefix(workflow, workflows.RequestID("")); ok {
		row, err := c.Store.Request(ctx, id)
		if err == nil {
			return !row.State.Final(), nil
		}
		return false, known(err)
	}
	if id, ok := strings.CutPrefix(workflow, workflows.AccountID("")); ok {
		row, err := c.Store.Account(ctx, id)
		if err == nil {
			return needsWorkflow(row), nil
		}
		return false, known(err)
	}
	return false, nil
}

func known(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
