package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

// Promise 7: the clock of a grant starts when it is usable, which with an
// invitation is when it is accepted.
func TestPending(t *testing.T) {
	const length, until = time.Hour, 3 * time.Hour
	refused := func(w *world, at time.Duration, activity string, why error) {
		w.env.RegisterDelayedCallback(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.fault = func(name string) error {
				if name == activity {
					return why
				}
				return nil
			}
		}, at)
	}
	for _, c := range []struct {
		name    string
		happens func(t *testing.T, w *world)
		state   access.State
		says    string
		starts  time.Duration // 0: never
	}{
		{"it is accepted", func(t *testing.T, w *world) {
			w.invitation(30*time.Minute, access.Granted)
			w.expect(t, 90*time.Minute, "read_only")
			w.expect(t, 97*time.Minute)
		}, access.StateEnded, "", 30 * time.Minute},
		{"it is accepted while the target does not answer", func(_ *testing.T, w *world) {
			refused(w, 10*time.Minute, workflows.ActVerify, refuse(access.Auth, "refused"))
			w.invitation(30*time.Minute, access.Granted)
			refused(w, time.Hour, "", nil)
		}, access.StateEnded, "", time.Hour},
		{"nobody accepts it", func(t *testing.T, w *world) {
			w.expect(t, until-time.Minute, "read_only")
			w.expect(t, until+time.Minute)
		}, access.StateFailed, "not accepted in time", 0},
		{"it is declined", func(t *testing.T, w *world) {
			w.invitation(30*time.Minute, access.Gone)
			w.expect(t, 40*time.Minute)
		}, access.StateFailed, "declined", 0},
		{"it is given back before", func(t *testing.T, w *world) {
			w.op(30*time.Minute, workflows.UpdateEnd, "end/r1", "r1", "h1")
			w.expect(t, 31*time.Minute)
		}, access.StateEnded, "", 0},
		{"it is accepted when the flow allows it no more", func(t *testing.T, w *world) {
			refused(w, 10*time.Minute, workflows.ActTicket, refuse(access.NoTicket, "not in the group any more"))
			w.invitation(30*time.Minute, access.Granted)
			w.expect(t, 40*time.Minute)
		}, access.StateFailed, "may not be granted any more", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			begin := w.env.Now()
			w.invited = access.Entry{Outcome: access.Pending, Awaits: "an invitation", Link: "https://example.com/i/1", Until: begin.Add(until)}
			w.know("h1", "r1", "read_only", length)
			w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
			c.happens(t, w)
			w.runAccount(t)
			h := w.holds["h1"]
			require.Equal(t, c.state, h.State, h.Error)
			require.Contains(t, h.Error, c.says)
			require.Equal(t, 1, w.count("awaits"))
			require.Empty(t, w.has())
			require.False(t, w.account)
			if c.starts == 0 {
				require.Equal(t, 0, w.count("granted"))
				return
			}
			require.Equal(t, 1, w.count("granted"))
			require.WithinRange(t, h.StartsAt, begin.Add(c.starts), begin.Add(c.starts+6*time.Minute))
			require.Equal(t, length, h.EndsAt.Sub(h.StartsAt))
		})
	}
}
