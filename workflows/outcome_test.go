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

// Whatever an integration says of a grant, what it may have written is taken
// away again: at once where it is no grant, at the end where it waits.
func TestGrantOutcomes(t *testing.T) {
	for _, c := range []struct {
		name  string
		entry func(access.Entry) []access.Entry
		after time.Duration // when nothing may be left
		state access.State  // at last
	}{
		{"a grant that is blocked", func(e access.Entry) []access.Entry {
			e.Outcome = access.Blocked
			return []access.Entry{e}
		}, time.Minute, access.StateFailed},
		{"a grant of which nothing is said", func(access.Entry) []access.Entry { return nil }, time.Minute, access.StateFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.env.RegisterActivityWithOptions(func(ctx context.Context, a access.GrantArgs) (access.GrantDone, error) {
				d, err := w.grant(ctx, a)
				if err == nil {
					d.Entries = c.entry(d.Entries[0])
				}
				return d, err
			}, activity.RegisterOptions{Name: workflows.ActGrant, DisableAlreadyRegisteredCheck: true})
			w.know("h1", "r1", "read_only", time.Hour)
			w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
			w.expect(t, c.after)
			w.runAccount(t)
			require.Equal(t, c.state, w.holds["h1"].State)
			require.False(t, w.account)
			require.Equal(t, 0, w.count("granted"))
		})
	}
}
