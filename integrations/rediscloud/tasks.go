package rediscloud

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/turn"
)

const (
	// spacing keeps an account to 300 calls a minute, of the 400 that it has.
	spacing = 200 * time.Millisecond
	// The first and the longest time between two looks at what is not done yet.
	pollFirst = 2 * time.Second
	pollLast  = 15 * time.Second
	// patience is how long an operation looks at one thing. Lapse repeats it.
	patience = 60 * time.Second
	// twice is the time between the two looks that have to agree: a role that is
	// active can be pending again, and lists can be older than the last change.
	twice = 10 * time.Second
	// unknownTask is how often a task that is new may not be found.
	unknownTask = 5
)

// clock is the time, which tests make pass faster.
type clock struct {
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error
}

var realTime = clock{now: time.Now, sleep: func(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return turn.Stopped(ctx.Err())
	}
}}

// account is one of Redis Cloud, shared by all integrations of this process that
// have its key: it runs one change at a time, and counts calls.
type account struct {
	turn.Turn
	// gate lets one of those that give access wait for their turn, so that what
	// takes access away never waits for more than two of them.
	gate turn.Turn
	mu   sync.Mutex
	next time.Time // of the next call
}

var accounts sync.Map // of *account, by a hash of address and account key

func accountOf(url string, key integrations.Secret) *account {
	a, _ := accounts.LoadOrStore(sha256.Sum256([]byte(url+"\x00"+key.Reveal())), &account{Turn: turn.New(), gate: turn.New()})
	return a.(*account)
}

// runGiving runs an operation that gives access.
func (a *account) runGiving(ctx context.Context, operation func(context.Context) error) error {
	select {
	case a.gate <- struct{}{}:
		defer func() { <-a.gate }()
	case <-ctx.Done():
		return turn.Stopped(ctx.Err())
	}
	return a.Run(ctx, operation)
}

// pace waits for the turn of one call.
func (a *account) pace(ctx context.Context, c clock) error {
	a.mu.Lock()
	now := c.now()
	wait := max(0, a.next.Sub(now))
	a.next = now.Add(wait + spacing)
	a.mu.Unlock()
	if wait == 0 {
		return nil
	}
	return c.sleep(ctx, wait)
}

// errPending is in the chain of what is not done after all our patience.
var errPending = errors.New("it is not done yet")

// until looks again and again, for as long as our patience lasts. look says what
// is missing, "" when it is done.
func (i *integration) until(ctx context.Context, look func() (missing string, err error)) error {
	for waited, wait := time.Duration(0), pollFirst; ; waited, wait = waited+wait, min(wait*3/2, pollLast) {
		missing, err := look()
		if err != nil || missing == "" {
			return err
		}
		if waited >= patience {
			return access.Errorf(access.Retry, "%s: %w", missing, errPending)
		}
		if err := i.clock.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// idle waits until no change of the account runs: ours that was cut, or somebody
// else's.
func (i *integration) idle(ctx context.Context, who access.Account) error {
	return i.until(ctx, func() (string, error) {
		var answer struct{ Tasks []task }
		// The list goes back ten days. One that is too long is not waited for: a
		// change that comes too early is answered by 429.
		if err := i.list(ctx, []string{"tasks"}, nil, &answer); err != nil && access.KindOf(err) != access.Limit {
			return "", err
		}
		if n := slices.IndexFunc(answer.Tasks, func(t task) bool { return t.Status != completed && t.Status != erred }); n >= 0 {
			return "another change of the account runs", nil
		}
		i.running.Delete(who.ID)
		return "", nil
	})
}

// change asks for a change and waits for its task. A thing that is busy is asked
// again. When patience ends first, the task is kept for Verify to look at.
func (i *integration) change(ctx context.Context, who access.Account, method string, path []string, in any) error {
	return i.until(ctx, func() (string, error) {
		var t task
		err := i.call(ctx, method, path, nil, in, &t)
		if err == nil && t.ID == "" {
			return "", access.Errorf(access.Retry, "the answer to %s %s names no task", method, pathOf(path))
		}
		if err == nil {
			err = i.await(ctx, t.ID)
			if errors.Is(err, errPending) {
				i.running.Store(who.ID, unfinished{task: t.ID})
			}
		}
		if busy(err) {
			return err.Error(), nil
		}
		return "", err
	})
}

// await waits for the end of a task, and returns its failure as our error.
func (i *integration) await(ctx context.Context, id string) error {
	missed := 0
	return i.until(ctx, func() (string, error) {
		t, err := i.task(ctx, id)
		switch {
		case access.KindOf(err) == access.ResourceMissing && missed < unknownTask:
			missed++
			return "task " + id + " is not known yet", nil
		case err != nil:
			return "", err
		case t.Status == erred:
			return "", t.Response.Error.failure()
		case t.Status != completed:
			return "task " + id + " is " + t.Status, nil
		}
		return "", nil
	})
}

// unfinished is a change of an account that we stopped waiting for.
type unfinished struct {
	task string    // "" where it was completed, and does not show
	seen time.Time // when everything was active for the first time after it
}

// settled says whether the change of an account that we stopped waiting for is
// done, by its task and by two looks at what is active.
func (i *integration) settled(ctx context.Context, who access.Account, o func() (owned, error)) (missing string, err error) {
	v, ok := i.running.Load(who.ID)
	if !ok {
		return "", nil
	}
	u := v.(unfinished)
	if u.task != "" && u.seen.IsZero() {
		t, err := i.task(ctx, u.task)
		switch {
		case access.KindOf(err) == access.ResourceMissing:
			return "task " + u.task + " is not known", nil
		case err != nil:
			return "", err
		case t.Status == erred:
			i.running.CompareAndDelete(who.ID, v)
			return "", t.Response.Error.failure()
		case t.Status != completed:
			return "task " + u.task + " is " + t.Status, nil
		}
	}
	now, err := o()
	if err != nil {
		return "", err
	}
	missing, err = now.unsettled()
	switch {
	case err != nil:
		return "", err
	case missing != "":
		i.running.Store(who.ID, unfinished{task: u.task})
		return missing, nil
	case u.seen.IsZero():
		i.running.Store(who.ID, unfinished{task: u.task, seen: i.clock.now()})
		return "the change is to be looked at again", nil
	case i.clock.now().Sub(u.seen) < twice:
		return "the change is to be looked at again", nil
	}
	i.running.CompareAndDelete(who.ID, v)
	return "", nil
}

// confirm waits until two looks, some time apart, find nothing missing.
func (i *integration) confirm(ctx context.Context, look func() (missing string, err error)) error {
	return i.until(ctx, func() (string, error) {
		missing, err := look()
		if err != nil || missing != "" {
			return missing, err
		}
		if err := i.clock.sleep(ctx, twice); err != nil {
			return "", err
		}
		return look()
	})
}
