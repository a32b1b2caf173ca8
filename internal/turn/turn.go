// Package turn runs the operations of one integration: each bounded, those that
// write one at a time, and again when they met somebody else's change.
package turn

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/lapse-access/lapse/access"
)

const (
	// limit bounds an operation whose context has no deadline.
	limit = 2 * time.Minute
	// attempts bounds how often an operation that met another one is repeated.
	attempts = 10
	// patience is how long, and poll how often, Until asks.
	patience = 10 * time.Second
	poll     = 25 * time.Millisecond
)

// Turn lets one operation of this process at a time wait for the lock on the
// server, so that the others hold no connection meanwhile.
type Turn chan struct{}

// New makes a turn that is free.
func New() Turn { return make(Turn, 1) }

// Bounded gives every operation an end of its own.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, limit)
}

// Left is how long the context may still run, at least a millisecond, which
// servers take as a limit where 0 would be none.
func Left(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return limit
	}
	return max(time.Until(deadline), time.Millisecond)
}

// Run runs an operation alone, and again when it ends in access.Conflict.
// Everything in it may therefore be run twice.
func (t Turn) Run(ctx context.Context, operation func(context.Context) error) error {
	ctx, cancel := Bounded(ctx)
	defer cancel()
	select {
	case t <- struct{}{}:
		defer func() { <-t }()
	case <-ctx.Done():
		return Stopped(ctx.Err())
	}
	for try := 1; ; try++ {
		err := operation(ctx)
		if access.KindOf(err) != access.Conflict || try == attempts {
			return err
		}
		select {
		case <-time.After(pause(try)):
		case <-ctx.Done():
			return err
		}
	}
}

// pause grows from 50 ms to 2 s, and is drawn so that two who met once do not
// meet again.
func pause(try int) time.Duration {
	top := min(50*time.Millisecond<<try, 2*time.Second)
	return 50*time.Millisecond + rand.N(top-50*time.Millisecond)
}

// Of gives run, which knows how to run an operation on an S, one that has a
// result: that of the last attempt, also beside an error.
func Of[S, T any](ctx context.Context, run func(context.Context, func(context.Context, S) error) error, operation func(context.Context, S) (T, error)) (result T, err error) {
	err = run(ctx, func(ctx context.Context, s S) (err error) {
		result, err = operation(ctx, s)
		return err
	})
	return result, err
}

// Until asks again and again, for ten seconds at most.
func Until(ctx context.Context, done func() (bool, error)) error {
	deadline := time.After(patience)
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(poll):
		case <-deadline:
			return access.Errorf(access.Retry, "not done after %s", patience)
		case <-ctx.Done():
			return Stopped(ctx.Err())
		}
	}
}

// Stopped is the error of a context that ended, or nil for any other error.
func Stopped(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return access.Errorf(access.Retry, "stopped before the server answered: %w", context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return access.Errorf(access.Retry, "the server did not answer in time: %w", context.DeadlineExceeded)
	}
	return nil
}
