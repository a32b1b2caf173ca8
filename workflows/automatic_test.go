package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// automatic runs the look at the automatic flows, in which the nth look says what
// says does, and returns when each was, counted from the start.
func (w *world) automatic(t *testing.T, says func(n int, now time.Time) access.AutomaticReport) (at []time.Duration, total access.AutomaticReport) {
	t.Helper()
	begun := w.env.Now()
	w.env.RegisterActivityWithOptions(func(_ context.Context, most int) (access.AutomaticReport, error) {
		if most <= 0 {
			t.Errorf("at most %d changes", most)
		}
		at = append(at, w.env.Now().Sub(begun))
		return says(len(at), w.env.Now()), nil
	}, activity.RegisterOptions{Name: workflows.ActAutomatic})
	w.env.ExecuteWorkflow(workflows.Automatic)
	require.NoError(t, w.env.GetWorkflowResult(&total))
	return at, total
}

func TestAutomatic(t *testing.T) {
	t.Run("until nothing is left", func(t *testing.T) {
		at, total := newWorld().automatic(t, func(n int, _ time.Time) access.AutomaticReport {
			return access.AutomaticReport{Asked: n, Ended: 1, More: n < 3, Capped: []string{"flow x"}}
		})
		require.Len(t, at, 3)
		require.Equal(t, access.AutomaticReport{Asked: 6, Ended: 3, Capped: []string{"flow x"}}, total)
	})
	t.Run("a lease that is renewed before the next minute is waited for", func(t *testing.T) {
		at, _ := newWorld().automatic(t, func(_ int, now time.Time) access.AutomaticReport {
			return access.AutomaticReport{Next: now.Add(25 * time.Second)}
		})
		require.Equal(t, []time.Duration{0, 25 * time.Second, 50 * time.Second}, at)
	})
	t.Run("somebody who calls while it looks is heard", func(t *testing.T) {
		w := newWorld()
		at, _ := w.automatic(t, func(n int, _ time.Time) access.AutomaticReport {
			if n == 1 {
				w.env.SignalWorkflow(workflows.SignalWake, nil)
			}
			return access.AutomaticReport{Why: "it was restored"}
		})
		require.Len(t, at, 2)
	})
	t.Run("and while it waits", func(t *testing.T) {
		w := newWorld()
		w.env.RegisterDelayedCallback(func() { w.env.SignalWorkflow(workflows.SignalWake, nil) }, 10*time.Second)
		at, _ := w.automatic(t, func(n int, now time.Time) access.AutomaticReport {
			if n == 1 {
				return access.AutomaticReport{Next: now.Add(50 * time.Second)}
			}
			return access.AutomaticReport{}
		})
		require.Equal(t, []time.Duration{0, 10 * time.Second}, at)
	})
}
