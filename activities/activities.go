// Package activities is what workflows do to the world: Provision on a
// connector, near the targets, and Control beside the store. It is the one
// place that maps error kinds to Temporal.
package activities

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// refusedDelay is how long what takes access away waits before it asks again a
// target that refuses us. A target that does not answer is asked by the
// activity's own retry policy, every ten seconds at most.
const refusedDelay = 5 * time.Minute

// final are the kinds that time does not heal: a grant that meets one is over.
var final = map[access.ErrorKind]bool{
	access.Auth: true, access.Privilege: true, access.ResourceMissing: true, access.PersonMissing: true, access.Invalid: true,
	access.NameTaken: true, access.Limit: true, access.Unsupported: true, access.ExternallyManaged: true, access.NoTicket: true, access.Superseded: true,
}

// failed is an error as Temporal shall see it, for what may fail in the end.
func failed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok && e.Type() == workflows.ErrUnknownRequest {
		return e
	}
	kind, opts := describe(err)
	opts.NonRetryable = final[kind]
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), opts)
}

// unfinished is an error as Temporal shall see it, for what never gives up:
// only a newer operation of the same account ends it.
func unfinished(err error) error {
	if err == nil {
		return nil
	}
	kind, opts := describe(err)
	opts.NonRetryable = kind == access.Superseded
	if final[kind] || kind == access.Unknown {
		opts.NextRetryDelay = refusedDelay
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), opts)
}

func describe(err error) (access.ErrorKind, temporal.ApplicationErrorOptions) {
	kind := access.KindOf(err)
	if kind == access.Unknown && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		kind = access.Retry
	}
	var opts temporal.ApplicationErrorOptions
	if e, ok := errors.AsType[*access.Error](err); ok {
		opts.NextRetryDelay = e.After
	}
	return kind, opts
}

// guard runs one activity: heartbeats while it works, ends its context before
// the activity's own limit, so that a late attempt cannot re-open what was
// closed, and turns a panic into an error.
func guard[T any](ctx context.Context, wrap func(error) error, work func(context.Context) (T, error)) (result T, err error) {
	info := activity.GetInfo(ctx)
	limit := info.StartToCloseTimeout
	ctx, cancel := context.WithDeadline(ctx, info.StartedTime.Add(limit-limit/8))
	defer cancel()
	if info.HeartbeatTimeout > 0 {
		go beat(ctx, info.HeartbeatTimeout/3)
	}
	defer func() {
		if p := recover(); p != nil {
			activity.GetLogger(ctx).Error("activity panicked", "panic", harmless(p), "stack", string(debug.Stack()))
			err = wrap(access.Errorf(access.Unknown, "internal error in %s", info.ActivityType.Name))
		}
	}()
	result, err = work(ctx)
	return result, wrap(err)
}

// beat tells Temporal that the activity is alive, so that one whose process
// was killed is begun again within seconds.
func beat(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			activity.RecordHeartbeat(ctx)
		}
	}
}

// harmless is a panic's text where the runtime wrote it, and its type where
// somebody else did, who may have put a secret into it.
func harmless(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", p)
}
