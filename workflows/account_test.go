package workflows_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"pgregory.net/rapid"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/workflows"
)

func (w *world) runAccount(t require.TestingT) {
	w.env.ExecuteWorkflow(workflows.Account, workflows.AccountInput{AccountID: acct, Queue: w.first})
	require.True(t, w.env.IsWorkflowCompleted(), "the account's workflow should be over")
	require.NoError(t, w.env.GetWorkflowError())
}

func TestHoldLivesAndEnds(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.expect(t, 59*time.Minute, "read_only")
	w.expect(t, 62*time.Minute)
	w.env.RegisterDelayedCallback(func() { require.True(t, w.account, "the account waits for its cleanup") }, 47*time.Hour)
	w.runAccount(t)
	require.False(t, w.account, "the account is deleted")
	require.Equal(t, access.StateEnded, w.holds["h1"].State)
	require.Equal(t, 1, w.count("granted"))
	require.Equal(t, 1, w.count("ended"))
	require.Equal(t, 1, w.count("account.deleted"))
}

// Ending one of two overlapping holds keeps exactly what the other holds.
func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, later time.Duration
		between      string
	}{
		{"the narrow one ends first", time.Hour, 2 * time.Hour, "read_write"},
		{"the wide one ends first", 2 * time.Hour, time.Hour, "read_only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.know("h1", "r1", "read_only", c.first)
			w.know("h2", "r2", "read_write", c.later)
			w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
			w.op(time.Minute, workflows.UpdateHold, "hold/r2", "r2", "h2")
			w.expect(t, 50*time.Minute, "read_only", "read_write")
			w.expect(t, 90*time.Minute, c.between)
			w.expect(t, 125*time.Minute)
			w.runAccount(t)
		})
	}
}

func TestSameEntitlementTwice(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.know("h2", "r2", "read_only", 3*time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.op(time.Minute, workflows.UpdateHold, "hold/r2", "r2", "h2")
	w.expect(t, 2*time.Hour, "read_only")
	w.expect(t, 190*time.Minute)
	w.runAccount(t)
	require.Equal(t, access.Lowered, w.holds["h1"].Revoke.Outcome)
	require.Equal(t, access.Gone, w.holds["h2"].Revoke.Outcome)
}

func TestExtendMovesTheEnd(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.op(30*time.Minute, workflows.UpdateMove, "move/1", "r1", "h1")
	w.expect(t, 110*time.Minute, "read_only")
	w.expect(t, 125*time.Minute)
	w.runAccount(t)
	require.Equal(t, 1, w.count("extended"))
}

func TestExtendStopsAtTheMaximum(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", longest-30*time.Minute)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.op(30*time.Minute, workflows.UpdateMove, "move/1", "r1", "h1")
	w.expect(t, longest)
	w.runAccount(t)
	require.Equal(t, 0, w.count("extended"))
	require.Equal(t, 1, w.count("operation.refused"))
}

func TestGivenBackEarly(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.op(10*time.Minute, workflows.UpdateEnd, "end/r1", "r1", "h1")
	w.expect(t, 11*time.Minute)
	w.runAccount(t)
	require.Equal(t, access.StateEnded, w.holds["h1"].State)
}

// An end that comes while a grant is under way goes first, and the grant that
// it interrupts is made afterwards.
func TestEndInterruptsGrant(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.know("h2", "r2", "read_write", time.Hour)
	stuck := false
	w.fault = func(name string) error {
		if name == workflows.ActGrant && stuck {
			return fmt.Errorf("the target does not answer")
		}
		return nil
	}
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.env.RegisterDelayedCallback(func() { stuck = true }, 58*time.Minute)
	w.op(59*time.Minute, workflows.UpdateHold, "hold/r2", "r2", "h2")
	w.expect(t, 61*time.Minute)
	w.env.RegisterDelayedCallback(func() { stuck = false }, 62*time.Minute)
	w.expect(t, 70*time.Minute, "read_write")
	w.runAccount(t)
	require.Equal(t, 2, w.count("granted"))
}

// A grant that cannot be made is undone and said to have failed.
func TestGrantThatFails(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.lost = func(name string) error {
		if name == workflows.ActGrant {
			return fmt.Errorf("the answer was lost")
		}
		return nil
	}
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.expect(t, 20*time.Minute)
	w.runAccount(t)
	require.Equal(t, access.StateFailed, w.holds["h1"].State)
	require.Equal(t, 0, w.count("granted"))
}

// A revoke never gives up, says that it is overdue, and does not keep others
// of the same account from ending once the target is back.
func TestRevokeNeverGivesUp(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.know("h2", "r2", "read_write", 30*time.Hour)
	down := false
	w.fault = func(name string) error {
		if name == workflows.ActRevoke && down {
			return fmt.Errorf("the target does not answer")
		}
		return nil
	}
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.op(0, workflows.UpdateHold, "hold/r2", "r2", "h2")
	w.env.RegisterDelayedCallback(func() { down = true }, 50*time.Minute)
	w.env.RegisterDelayedCallback(func() { require.Equal(t, access.StateOverdue, w.holds["h1"].State) }, 2*time.Hour)
	w.env.RegisterDelayedCallback(func() { down = false }, 40*time.Hour)
	w.expect(t, 39*time.Hour, "read_only", "read_write")
	w.expect(t, 40*time.Hour+30*time.Second)
	w.runAccount(t)
	require.Equal(t, 2, w.count("overdue"))
	require.Equal(t, 2, w.count("ended"))
}

// The store being away delays nothing that takes access away.
func TestRevokeDoesNotWaitForTheStore(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	away := false
	w.fault = func(name string) error {
		if (name == workflows.ActRecord || name == workflows.ActTicket || name == workflows.ActLoadAccount) && away {
			return fmt.Errorf("the store is away")
		}
		return nil
	}
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.env.RegisterDelayedCallback(func() { away = true }, 50*time.Minute)
	w.expect(t, 61*time.Minute)
	w.env.RegisterDelayedCallback(func() { away = false }, 5*time.Hour)
	w.runAccount(t)
	require.Equal(t, 1, w.count("ended"), "the event is kept until it can be written")
}

func TestNewHoldCancelsCleanup(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.know("h2", "r2", "read_only", 100*time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.op(40*time.Hour, workflows.UpdateHold, "hold/r2", "r2", "h2")
	w.env.RegisterDelayedCallback(func() { require.True(t, w.account) }, 60*time.Hour)
	w.expect(t, 60*time.Hour, "read_only")
	w.runAccount(t)
	require.False(t, w.account)
	require.Equal(t, 1, w.count("account.deleted"))
	require.Equal(t, 2, w.row.Generation, "an account that held nothing gets a new credential")
}

// A hold that the store does not know grants nothing and is put on record.
func TestForgedHold(t *testing.T) {
	w := newWorld()
	w.op(0, workflows.UpdateHold, "hold/forged", "r9", "h9")
	w.runAccount(t)
	require.Empty(t, w.has())
	require.False(t, w.account)
	require.Equal(t, 1, w.count("operation.refused"))
}

func TestAccountIgnoresCancelling(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.env.RegisterDelayedCallback(w.env.CancelWorkflow, 10*time.Minute)
	w.expect(t, 50*time.Minute, "read_only")
	w.expect(t, 61*time.Minute)
	w.runAccount(t)
}

// A run that begins with holds in the store, because the one before was
// terminated, ends them at the stored end.
func TestLostAccountIsMadeAgain(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.know("h2", "r2", "read_write", time.Hour)
	h1, h2 := w.holds["h1"], w.holds["h2"]
	h1.State, h1.EndsAt = access.StateActive, w.env.Now().Add(-time.Minute)
	h2.State, h2.EndsAt = access.StateActive, w.env.Now().Add(time.Hour)
	w.target[h1.Entitlement], w.target[h2.Entitlement], w.account = true, true, true
	w.expect(t, time.Minute, "read_write")
	w.expect(t, 61*time.Minute)
	w.runAccount(t)
}

// A mark that has seen newer operations than the store knows of, as after a
// restore, delays an account and does not stop it.
func TestOvertakenAccountCatchesUp(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.last = 6 << 20
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.expect(t, 30*time.Minute, "read_only")
	w.expect(t, 70*time.Minute)
	w.runAccount(t)
	require.Equal(t, 1, w.count("granted"))
}

func TestContinuesAsNewWhenIdle(t *testing.T) {
	w := newWorld()
	w.know("h1", "r1", "read_only", time.Hour)
	w.op(0, workflows.UpdateHold, "hold/r1", "r1", "h1")
	w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 0)
	w.env.ExecuteWorkflow(workflows.Account, workflows.AccountInput{AccountID: acct, Queue: w.first})
	err := w.env.GetWorkflowError()
	require.True(t, workflow.IsContinueAsNewError(err), "got %v", err)
	require.Equal(t, []string{"read_only"}, w.has(), "it goes on holding")
	require.Equal(t, 1, w.count("granted"), "nothing is left unrecorded")
}

// Whatever comes in whatever order, with faults before and after every effect:
// a hold is granted once at most, access is gone at the end of the last hold
// that asks for it, and the account is deleted.
func TestAccountProperty(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld()
		permissions := []string{"read_only", "read_write", "admin"}
		n := rapid.IntRange(1, 5).Draw(r, "holds")
		for i := range n {
			id, request := fmt.Sprintf("h%d", i), fmt.Sprintf("r%d", i)
			length := time.Duration(rapid.IntRange(1, 300).Draw(r, "minutes")) * time.Minute
			at := time.Duration(0)
			if i > 0 {
				at = time.Duration(rapid.IntRange(0, 200).Draw(r, "at")) * time.Minute
			}
			w.know(id, request, rapid.SampledFrom(permissions).Draw(r, "permission"), length)
			w.op(at, workflows.UpdateHold, "hold/"+request, request, id)
			if rapid.Bool().Draw(r, "end early") {
				w.op(at+time.Duration(rapid.IntRange(0, 100).Draw(r, "after"))*time.Minute, workflows.UpdateEnd, "end/"+request, request, id)
			}
			if rapid.Bool().Draw(r, "extend") {
				w.op(at+time.Duration(rapid.IntRange(0, 100).Draw(r, "after"))*time.Minute, workflows.UpdateMove, "move/"+request, request, id)
			}
		}
		// Some activities fail before their effect, some lose the answer after it.
		before := rapid.SliceOfNDistinct(rapid.IntRange(1, 60), 0, 12, rapid.ID).Draw(r, "fail before")
		after := rapid.SliceOfNDistinct(rapid.IntRange(1, 60), 0, 12, rapid.ID).Draw(r, "lost after")
		calls, answers := 0, 0
		w.fault = func(string) error {
			if calls++; slices.Contains(before, calls) {
				return fmt.Errorf("planted fault")
			}
			return nil
		}
		w.lost = func(string) error {
			if answers++; slices.Contains(after, answers) {
				return fmt.Errorf("lost answer")
			}
			return nil
		}
		w.runAccount(r)
		if got := w.has(); len(got) > 0 || w.account {
			r.Fatalf("left behind: %v, account %v", got, w.account)
		}
		for id, h := range w.holds {
			// An account that came to hold nothing is over; in Temporal the
			// next operation would start it again.
			if !h.State.Final() && w.taken["hold/"+h.RequestID] {
				r.Errorf("hold %s is left %s", id, h.State)
			}
			if !h.StartsAt.IsZero() && h.EndsAt.Sub(h.StartsAt) > longest {
				r.Errorf("hold %s lasted %s, longer than the flow allows", id, h.EndsAt.Sub(h.StartsAt))
			}
		}
	})
}

// A grant that takes longer than what was asked for: the clock starts when it is
// usable, and not before.
func TestGrantSlowerThanItsAccess(t *testing.T) {
	w := newWorld()
	begun := w.env.Now()
	w.fault = func(name string) error {
		if name == workflows.ActGrant && w.env.Now().Sub(begun) < 2*time.Minute {
			return temporal.NewApplicationError("the target is slow", string(access.Retry))
		}
		return nil
	}
	w.know("h1", "r1", "read_only", 30*time.Second)
	w.op(0, workflows.UpdateHold, "o1", "r1", "h1")
	w.runAccount(t)
	require.Equal(t, 1, w.count("granted"))
	require.Equal(t, 1, w.count("ended"))
	h := w.holds["h1"]
	require.Equal(t, 30*time.Second, h.EndsAt.Sub(h.StartsAt), "it has all of its time")
}

// What stands on the target without a hold is taken away by the account, which
// keeps all that is held, whatever it is asked.
func TestStrip(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   []access.Entitlement
		fault  error
		left   []string
		events string
	}{
		{"what no hold asks for goes", []access.Entitlement{entitlement("admin")}, nil, []string{"read_only"}, "account.stripped"},
		{"what is held stays", []access.Entitlement{entitlement("admin"), entitlement("read_only")}, nil, []string{"read_only"}, "account.stripped"},
		{"nothing is done where all is held", []access.Entitlement{entitlement("read_only")}, nil, []string{"admin", "read_only"}, ""},
		{"what the target refuses is on record, and left to the next sweep", []access.Entitlement{entitlement("admin")}, refuse(access.Privilege, "no right"), []string{"admin", "read_only"}, "operation.refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.know("h1", "r1", "read_only", time.Hour)
			w.op(0, workflows.UpdateHold, "o1", "r1", "h1")
			w.env.RegisterDelayedCallback(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.target[entitlement("admin")] = true // by hand
				w.fault = func(name string) error {
					if name == workflows.ActRevoke {
						return c.fault
					}
					return nil
				}
			}, time.Minute)
			w.opWith(2*time.Minute, workflows.Op{ID: "strip/1", Kind: workflows.UpdateStrip, Want: c.want})
			w.expect(t, 10*time.Minute, c.left...)
			w.env.RegisterDelayedCallback(func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.fault = nil
				delete(w.target, entitlement("admin"))
			}, 11*time.Minute)
			w.runAccount(t)
			for _, kind := range []string{"account.stripped", "operation.refused"} {
				n := 0
				if kind == c.events {
					n = 1
				}
				require.Equal(t, n, w.count(kind), kind)
			}
			require.Equal(t, 1, w.count("ended"), "the hold ends in time")
		})
	}
}
