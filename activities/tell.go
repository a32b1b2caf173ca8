package activities

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// TellAccount puts an operation into an account's queue.
func (c *Control) TellAccount(ctx context.Context, a workflows.TellArgs) error {
	_, err := guard(ctx, failed, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Tell(ctx, a) })
	return err
}

// Tell puts an operation into an account's queue, and starts the account's
// workflow where it does not run. It does not wait for the operation: the
// account answers the request with a signal. The portal uses it too, for a
// request whose own workflow is gone.
func (c *Control) Tell(ctx context.Context, a workflows.TellArgs) error {
	start, err := c.accountStart(ctx, a.AccountID)
	if err != nil {
		return err
	}
	handle, err := c.Temporal.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.Temporal.NewWithStartWorkflowOperation(start, workflows.AccountType, workflows.AccountInput{AccountID: a.AccountID}),
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: a.Op.ID, WorkflowID: start.ID, UpdateName: a.Op.Kind, Args: []any{a.Op}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}

// accountStart is how an account's workflow is started, by whomever.
func (c *Control) accountStart(ctx context.Context, id string) (client.StartWorkflowOptions, error) {
	b, err := c.account(ctx, id)
	if err != nil {
		return client.StartWorkflowOptions{}, err
	}
	return client.StartWorkflowOptions{
		ID: workflows.AccountID(id), TaskQueue: workflows.Queue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            b.Account.Email + " on " + b.Integration,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.AttrPerson.ValueSet(b.Account.PersonID), workflows.AttrIntegration.ValueSet([]string{b.Account.Integration})),
	}, nil
}

// restoreAccount gives an account its workflow back; one that runs reads the
// store again.
func (c *Control) restoreAccount(ctx context.Context, id string) error {
	start, err := c.accountStart(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.Temporal.SignalWithStartWorkflow(ctx, start.ID, workflows.SignalReload, nil, start, workflows.AccountType, workflows.AccountInput{AccountID: id})
	return err
}

// RequestStart is how a request's workflow is started: once.
func RequestStart(r access.Request, summary string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID: workflows.RequestID(r.ID), TaskQueue: workflows.Queue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:            summary,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.AttrState.ValueSet(string(access.StatePending)), workflows.AttrPerson.ValueSet(r.PersonID), workflows.AttrIntegration.ValueSet(r.Integrations())),
	}
}
