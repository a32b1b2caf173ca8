package turn

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lapse-access/lapse/access"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := New()
		var inside, most atomic.Int32
		for range 5 {
			go turn.Run(t.Context(), func(context.Context) error {
				most.Store(max(most.Load(), inside.Add(1)))
				time.Sleep(time.Second)
				inside.Add(-1)
				return nil
			})
		}
		begun := time.Now()
		synctest.Wait()
		if err := turn.Run(t.Context(), func(context.Context) error { return nil }); err != nil || time.Since(begun) < 4*time.Second || most.Load() != 1 {
			t.Errorf("%v after %s, %d at once; want one at a time", err, time.Since(begun), most.Load())
		}
	})
}

func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conflict := access.Errorf(access.Conflict, "met another")
		for _, test := range []struct {
			name  string
			fails int
			err   error
			want  int
		}{
			{"none", 0, nil, 1},
			{"a conflict that goes away", 3, conflict, 4},
			{"a conflict that stays", 100, conflict, 10},
			{"another failure", 100, access.Errorf(access.Retry, "no answer"), 1},
		} {
			tries := 0
			err := New().Run(t.Context(), func(context.Context) error {
				if tries++; tries <= test.fails {
					return test.err
				}
				return nil
			})
			if tries != test.want || (err == nil) != (tries > test.fails) {
				t.Errorf("%s: %d tries and %v, want %d tries", test.name, tries, err, test.want)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := New().Run(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return Stopped(ctx.Err())
		})
		if access.KindOf(err) != access.Retry || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an operation without end: %v", err)
		}
		turn := New()
		turn <- struct{}{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turn.Run(ctx, func(context.Context) error { return nil }); access.KindOf(err) != access.Retry {
			t.Errorf("waiting for a turn that never comes: %v", err)
		}
		begun := time.Now()
		if err := Until(t.Context(), func() (bool, error) { return false, nil }); access.KindOf(err) != access.Retry || time.Since(begun) < patience {
			t.Errorf("waiting for what never comes: %v after %s", err, time.Since(begun))
		}
		if Left(ctx) != time.Millisecond || Left(context.Background()) != limit {
			t.Errorf("left: %s and %s", Left(ctx), Left(context.Background()))
		}
	})
}

func TestOf(t *testing.T) {
	run := func(ctx context.Context, do func(context.Context, int) error) error { return do(ctx, 20) }
	double := func(_ context.Context, n int) (int, error) { return 2 * n, nil }
	if got, err := Of(t.Context(), run, double); got != 40 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	half := func(context.Context, int) (string, error) { return "half a result", io.EOF }
	if got, err := Of(t.Context(), run, half); got != "half a result" || err != io.EOF {
		t.Errorf("what failed in part: %q, %v", got, err)
	}
}
