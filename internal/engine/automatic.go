package engine

import (
	"context"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/workflows"
)

// EnsureAutomatic makes the schedule of the automatic access flows, or removes it
// where there is no use for it. An operator's pause is kept.
func EnsureAutomatic(ctx context.Context, c client.Client, use bool) error {
	return ensure(ctx, c, client.ScheduleOptions{
		ID:            workflows.AutomaticID,
		Spec:          client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: workflows.AutomaticEvery}}},
		Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		CatchupWindow: time.Minute,
		Action:        &client.ScheduleWorkflowAction{ID: workflows.AutomaticID, Workflow: workflows.AutomaticType, TaskQueue: workflows.Queue, StaticSummary: "automatic access flows"},
	}, use)
}

// StartAutomatic looks at the automatic access flows at once; a look that runs is
// repeated.
func StartAutomatic(ctx context.Context, c client.Client) error {
	start := client.StartWorkflowOptions{
		ID: workflows.AutomaticID, TaskQueue: workflows.Queue, StaticSummary: "automatic access flows",
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}
	_, err := c.SignalWithStartWorkflow(ctx, start.ID, workflows.SignalWake, nil, start, workflows.AutomaticType)
	return err
}
