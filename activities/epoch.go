package activities

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// Epoch is a number that Temporal and the store both keep, and that moves on
// with every sweep and start. After a restore of one of them the two differ, and
// nothing on a target is changed until somebody has accepted that.
type Epoch struct {
	Store    *store.Store
	Temporal client.Client
	// Data reads the memo that is Temporal's half.
	Data converter.DataConverter

	mu       sync.Mutex // one at a time compares, or moves both on
	compared time.Time
}

const (
	epochMemo = "epoch"
	// Two numbers that differ are read again so often, and with such a pause.
	epochTries = 3
	epochPause = 300 * time.Millisecond
	// compareEvery is how old the last comparison may be when a target is about
	// to be changed.
	compareEvery = 10 * time.Second
)

// CheckEpoch compares the two numbers and moves both on. It says why nothing
// may be changed: the two differ, so one of them was restored from a backup, and
// nobody has accepted that yet.
func (e *Epoch) CheckEpoch(ctx context.Context) (restored string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if restored, err = e.Store.ReportOnly(ctx); err != nil || restored != "" {
		return restored, err
	}
	ours, theirs, restored, err := e.compare(ctx)
	if err != nil || restored != "" {
		return restored, err
	}
	return "", e.set(ctx, ours, max(ours, theirs)+1)
}

// Restored says why nothing may be changed on a target, as CheckEpoch does, and
// moves nothing.
func (e *Epoch) Restored(ctx context.Context) (why string, err error) {
	if why, err = e.Store.ReportOnly(ctx); err != nil || why != "" {
		return why, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.compared) < compareEvery {
		return "", nil
	}
	_, _, why, err = e.compare(ctx)
	return why, err
}

// compare reads both numbers. Where they differ, the store knows it from then on.
func (e *Epoch) compare(ctx context.Context) (ours, theirs int64, restored string, err error) {
	for try := 0; ; try++ {
		var next int64
		if ours, next, err = e.Store.Epoch(ctx); err != nil {
			return 0, 0, "", err
		}
		if theirs, err = e.theirs(ctx); err != nil {
			return 0, 0, "", err
		}
		// A process that was stopped on the way from ours to next leaves
		// Temporal at either.
		if theirs == ours || theirs == next {
			e.compared = time.Now()
			return ours, theirs, "", nil
		}
		if try == epochTries {
			break
		}
		// Another process may be moving both on right now.
		select {
		case <-ctx.Done():
			return 0, 0, "", ctx.Err()
		case <-time.After(epochPause):
		}
	}
	why := fmt.Sprintf("the store is at epoch %d and Temporal at %d: one of them was restored from a backup", ours, theirs)
	return ours, theirs, why, e.Store.SetReportOnly(ctx, why)
}

// accept lets targets be changed again, with both numbers moved on
// together.
func (e *Epoch) accept(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ours, _, err := e.Store.Epoch(ctx)
	if err != nil {
		return err
	}
	theirs, err := e.theirs(ctx)
	if err != nil {
		return err
	}
	if err := e.set(ctx, ours, max(ours, theirs)+1); err != nil {
		return err
	}
	return e.Store.SetReportOnly(ctx, "")
}

// set moves both numbers on: the store notes where it is going, Temporal goes
// there, and the store follows.
func (e *Epoch) set(ctx context.Context, ours, next int64) error {
	if err := e.Store.SetEpoch(ctx, ours, next); err != nil {
		return err
	}
	_, err := e.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.EpochID, TaskQueue: workflows.Queue, Memo: map[string]any{epochMemo: next},
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, workflows.EpochType)
	if err != nil {
		return err
	}
	return e.Store.SetEpoch(ctx, next, next)
}

func (e *Epoch) theirs(ctx context.Context) (n int64, err error) {
	d, err := e.Temporal.DescribeWorkflowExecution(ctx, workflows.EpochID, "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); missing {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	p, ok := d.WorkflowExecutionInfo.Memo.GetFields()[epochMemo]
	if !ok {
		return 0, nil
	}
	return n, e.Data.FromPayload(p, &n)
}
