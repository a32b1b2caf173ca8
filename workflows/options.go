package workflows

import (
	"math"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Priorities of activities: what takes access away goes first.
const (
	priorityRevoke   = 1
	priorityGrant    = 2
	priorityRotate   = 3
	prioritySweep    = 4
	priorityDiscover = 5
)

// forever is Temporal's "no limit", said so that its test environment, which
// stops at ten attempts otherwise, believes it too.
const forever = math.MaxInt32

// untilDone is for control activities: short, and repeated for ever, since the
// store and Temporal are ours and come back.
func untilDone(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           Queue,
		StartToCloseTimeout: 15 * time.Second,
		Summary:             summary,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second, MaximumAttempts: forever},
	})
}

// untilGone is for what takes access away: repeated for ever, every ten
// seconds at most while the target does not answer. Where it refuses us the
// activity itself asks for a longer delay.
func untilGone(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           queue,
		StartToCloseTimeout: 2 * time.Minute,
		HeartbeatTimeout:    10 * time.Second,
		Summary:             summary,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1.7, MaximumInterval: 10 * time.Second, MaximumAttempts: forever},
		Priority:            temporal.Priority{PriorityKey: priorityRevoke},
	})
}

// bounded is for what may fail in the end: a grant, a look at the baseline, a
// check, a page of discovery.
func bounded(ctx workflow.Context, queue, summary string, whole time.Duration, priority int) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    2 * time.Minute,
		ScheduleToCloseTimeout: whole,
		HeartbeatTimeout:       10 * time.Second,
		Summary:                summary,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second},
		Priority:               temporal.Priority{PriorityKey: priority},
	})
}

// credentialWindow is how long a new credential may take before it is stuck.
const credentialWindow = 5 * time.Minute

// opExposed is why a credential is changed that somebody else has seen.
const opExposed = "exposure"

// grantWindow is how long a grant may take before it is given up and undone.
const grantWindow = 10 * time.Minute
