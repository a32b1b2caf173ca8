// Package engine is where Temporal runs: how Lapse reaches it, and what it
// needs to find there. Every other package sees a client.Client and does not
// know whether the server is in the same process, on a cluster or in Temporal
// Cloud.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/codec"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workflows"
)

// Options say how to reach Temporal.
type Options struct {
	Address   string // host:port
	Namespace string
	// Codec encrypts every payload.
	Codec []keys.Codec
	Log   *slog.Logger
}

// Connect makes a client. It does not connect before it is used, so that the
// portal can say "Temporal does not answer" instead of not starting.
func Connect(o Options) (client.Client, error) {
	data, failure := codec.New(o.Codec)
	return client.NewLazyClient(client.Options{
		HostPort: o.Address, Namespace: o.Namespace, Logger: sdklog.NewStructuredLogger(slog.New(warnings{o.Log.Handler()})),
		DataConverter: data, FailureConverter: failure,
	})
}

// warnings passes on what is a warning or worse. Temporal's SDK tells of every
// worker and every poller otherwise.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}
func (w warnings) WithAttrs(as []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(as)} }
func (w warnings) WithGroup(name string) slog.Handler    { return warnings{w.Handler.WithGroup(name)} }

// SearchAttributes are those that the namespace must have.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	out := map[string]enumspb.IndexedValueType{}
	for _, a := range []temporal.SearchAttributeKey{workflows.AttrState, workflows.AttrPerson, workflows.AttrIntegration, workflows.AttrExpires} {
		out[a.GetName()] = a.GetValueType()
	}
	return out
}

// EnsureSearchAttributes adds those that the namespace lacks. Temporal Cloud
// does not let a client do that; the error then names them.
func EnsureSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("listing the search attributes of namespace %s: %w", namespace, err)
	}
	missing := SearchAttributes()
	maps.DeleteFunc(missing, func(name string, _ enumspb.IndexedValueType) bool { _, ok := have.CustomAttributes[name]; return ok })
	if len(missing) == 0 {
		return nil
	}
	if _, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing}); err != nil {
		return fmt.Errorf("adding the search attributes %v to namespace %s (add them by hand where a client may not): %w", slices.Sorted(maps.Keys(missing)), namespace, err)
	}
	return nil
}

// Use says which schedules an integration is to have.
type Use struct{ Sweep, Discover, Rotate bool }

// EnsureSchedules makes the schedules of an integration what they should be,
// and removes those that it is not to have. An operator's pause is kept.
func EnsureSchedules(ctx context.Context, c client.Client, in store.IntegrationRow, use Use) error {
	sweep, discover, rotate := schedules(in)
	return errors.Join(ensure(ctx, c, sweep, use.Sweep), ensure(ctx, c, discover, use.Discover), ensure(ctx, c, rotate, use.Rotate))
}

// rotateEvery is how often it is looked what is due, so that it is a little
// late at most: a tenth of the shortest time between two changes, within bounds.
func rotateEvery(in store.IntegrationRow) time.Duration {
	shortest := time.Duration(math.MaxInt64)
	for _, days := range []access.Days{in.CredentialRotationDays, in.SecretRotationDays} {
		if days > 0 {
			shortest = min(shortest, days.Std())
		}
	}
	return min(max(shortest/10, 10*time.Second), 15*time.Minute).Round(time.Second)
}

func schedules(in store.IntegrationRow) (sweep, discover, rotate client.ScheduleOptions) {
	schedule := func(id, workflow string, arg any, every, jitter, catchUp time.Duration) client.ScheduleOptions {
		return client.ScheduleOptions{
			ID:            id,
			Spec:          client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}, Jitter: jitter},
			Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
			CatchupWindow: catchUp,
			Action: &client.ScheduleWorkflowAction{ID: id, Workflow: workflow, Args: []any{arg}, TaskQueue: workflows.Queue, StaticSummary: in.Name,
				TypedSearchAttributes: temporal.NewSearchAttributes(workflows.AttrIntegration.ValueSet([]string{in.ID}))},
		}
	}
	every, sweepEvery := in.Discover.Every.Std(), max(in.Sweep.Every.Std(), time.Minute)
	return schedule(workflows.SweepID(in.ID), workflows.SweepType, access.SweepArgs{Integration: in.ID}, sweepEvery, sweepEvery/10, sweepEvery),
		schedule(workflows.DiscoveryID(in.ID), workflows.DiscoveryType, workflows.DiscoveryInput{Integration: in.ID}, every, every/10, 10*time.Minute),
		schedule(workflows.RotationID(in.ID), workflows.RotationType, access.RotationArgs{Integration: in.ID}, rotateEvery(in), in.Rotation.Jitter.Std(), 10*time.Minute)
}

func ensure(ctx context.Context, c client.Client, want client.ScheduleOptions, use bool) error {
	handle := c.ScheduleClient().GetHandle(ctx, want.ID)
	if !use {
		if err := handle.Delete(ctx); err != nil && !isNotFound(err) {
			return fmt.Errorf("removing schedule %s: %w", want.ID, err)
		}
		return nil
	}
	_, err := c.ScheduleClient().Create(ctx, want)
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		err = handle.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			s.Action, s.Spec = want.Action, &want.Spec
			s.Policy = &client.SchedulePolicies{Overlap: want.Overlap, CatchupWindow: want.CatchupWindow}
			return &client.ScheduleUpdate{Schedule: &s}, nil
		}})
		if isNotFound(err) {
			return nil // it was removed meanwhile, as when an integration is forgotten; the next apply or start looks again
		}
	}
	if err != nil {
		return fmt.Errorf("schedule %s: %w", want.ID, err)
	}
	return nil
}

// StartSweep begins a sweep at once, or finds the one that runs. A dry run and a
// repair go beside it.
func StartSweep(ctx context.Context, c client.Client, a access.SweepArgs) (client.WorkflowRun, error) {
	id := workflows.SweepID(a.Integration)
	if a.DryRun || a.Repair {
		id += "/" + access.NewID("now")
	}
	return c.ExecuteWorkflow(ctx, now(id, a.Integration), workflows.SweepType, a)
}

// StartDiscovery begins a discovery at once, or finds the one that runs.
func StartDiscovery(ctx context.Context, c client.Client, integration string) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, now(workflows.DiscoveryID(integration), integration), workflows.DiscoveryType, workflows.DiscoveryInput{Integration: integration})
}

// StartCheck begins a check.
func StartCheck(ctx context.Context, c client.Client, integration string) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, now(workflows.CheckID(integration), integration), workflows.CheckType, integration)
}

// StartRotation begins a rotation of what is named, beside the one that comes by
// schedule.
func StartRotation(ctx context.Context, c client.Client, a access.RotationArgs) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, now(workflows.RotationID(a.Integration)+"/"+access.NewID("now"), a.Integration), workflows.RotationType, a)
}

// StartRemoval begins the removal that the store has of an integration, or makes
// the one that runs look again.
func StartRemoval(ctx context.Context, c client.Client, integration string) error {
	start := now(workflows.RemovalID(integration), integration)
	_, err := c.SignalWithStartWorkflow(ctx, start.ID, workflows.SignalWake, nil, start, workflows.RemovalType, integration)
	return err
}

func now(id, integration string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID: id, TaskQueue: workflows.Queue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		TypedSearchAttributes:    temporal.NewSearchAttributes(workflows.AttrIntegration.ValueSet([]string{integration})),
	}
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[*serviceerror.NotFound](err)
	return ok
}
