package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/lapse-access/lapse/workflows"
)

// The epoch is a number that Temporal and the store both keep, and that moves
// on with every sweep and start. After a restore of one of them the two differ.

const epochMemo = "epoch"

// CheckEpoch compares the number that Temporal and the store both keep, and
// moves both on. It says why the sweep may only report: the two differ, so one
// of them was restored from a backup, and nobody has accepted that yet.
func (c *Control) CheckEpoch(ctx context.Context) (reportOnly string, err error) {
	c.epoch.Lock()
	defer c.epoch.Unlock()
	if reportOnly, err = c.Store.ReportOnly(ctx); err != nil || reportOnly != "" {
		return reportOnly, err
	}
	var ours, next, theirs int64
	for try := 0; ; try++ {
		if ours, next, err = c.Store.Epoch(ctx); err != nil {
			return "", err
		}
		if theirs, err = c.temporalEpoch(ctx); err != nil {
			return "", err
		}
		// A process that was stopped on the way from ours to next leaves
		// Temporal at either.
		if theirs == ours || theirs == next {
			return "", c.setEpoch(ctx, ours, max(ours, theirs)+1)
		}
		if try == epochTries {
			break
		}
		// Another process may be moving both on right now.
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(epochPause):
		}
	}
	why := fmt.Sprintf("the store is at epoch %d and Temporal at %d: one of them was restored from a backup (compare, then accept with: lapse restore accept --reason ...)", ours, theirs)
	return why, c.Store.SetReportOnly(ctx, why)
}

// Two numbers that differ are read again so often, and with such a pause.
const (
	epochTries = 3
	epochPause = 300 * time.Millisecond
)

// AcceptRestore lets the sweep act again, with both halves of the epoch moved
// on together.
func (c *Control) AcceptRestore(ctx context.Context) error {
	c.epoch.Lock()
	defer c.epoch.Unlock()
	ours, _, err := c.Store.Epoch(ctx)
	if err != nil {
		return err
	}
	theirs, err := c.temporalEpoch(ctx)
	if err != nil {
		return err
	}
	if err := c.setEpoch(ctx, ours, max(ours, theirs)+1); err != nil {
		return err
	}
	return c.Store.SetReportOnly(ctx, "")
}

// setEpoch moves both halves on: the store notes where it is going, Temporal
// goes there, and the store follows.
func (c *Control) setEpoch(ctx context.Context, ours, next int64) error {
	if err := c.Store.SetEpoch(ctx, ours, next); err != nil {
		return err
	}
	_, err := c.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.EpochID, TaskQueue: workflows.Queue, Memo: map[string]any{epochMemo: next},
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, workflows.EpochType)
	if err != nil {
		return err
	}
	return c.Store.SetEpoch(ctx, next, next)
}

func (c *Control) temporalEpoch(ctx context.Context) (n int64, err error) {
	d, err := c.Temporal.DescribeWorkflowExecution(ctx, workflows.EpochID, "")
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
	return n, c.Data.FromPayload(p, &n)
}
