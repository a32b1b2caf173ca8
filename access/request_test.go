package access

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var states = []State{StatePending, StateApproved, StateGranting, StateActive, StateEnding, StateOverdue, StateEnded, StateDenied, StateExpired, StateFailed}

func TestHoldStateAt(t *testing.T) {
	end := signedAt
	for _, c := range []struct {
		name  string
		state State
		at    time.Duration // from the end
		want  State
	}{
		{"before its end an active hold is active", StateActive, -time.Second, StateActive},
		{"at its end it still is", StateActive, 0, StateActive},
		{"right after its end it is ending", StateActive, time.Nanosecond, StateEnding},
		{"for a little while it stays so", StateActive, OverdueAfter, StateEnding},
		{"then it is overdue", StateActive, OverdueAfter + time.Nanosecond, StateOverdue},
		{"so is one whose grant never came to an end", StateGranting, time.Hour, StateOverdue},
		{"so is one that is being taken away", StateEnding, time.Hour, StateOverdue},
		{"one that ends early is ending", StateEnding, -time.Hour, StateEnding},
		{"one that waits for an invitation is pending", StatePending, time.Hour, StatePending},
		{"one that is proven gone is ended", StateEnded, time.Hour, StateEnded},
		{"one that failed has failed", StateFailed, time.Hour, StateFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Hold{State: c.state, EndsAt: end}
			if got := h.StateAt(end.Add(c.at)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	t.Run("one without an end is as it is", func(t *testing.T) {
		if got := (Hold{State: StateGranting}).StateAt(end); got != StateGranting {
			t.Errorf("got %s", got)
		}
	})
}

func TestRequestState(t *testing.T) {
	now := signedAt
	hold := func(s State, end time.Duration) Hold { return Hold{State: s, EndsAt: now.Add(end)} }
	active, pending, ended, failed := hold(StateActive, time.Hour), Hold{State: StatePending}, hold(StateEnded, -time.Hour), Hold{State: StateFailed}
	for _, c := range []struct {
		name    string
		decided State
		holds   []Hold
		want    State
	}{
		{"before the decision it is pending", StatePending, []Hold{pending}, StatePending},
		{"a denied one stays denied, whatever its holds say", StateDenied, []Hold{active}, StateDenied},
		{"an expired one stays expired", StateExpired, []Hold{pending}, StateExpired},
		{"one that was withdrawn has ended", StateEnded, []Hold{pending}, StateEnded},
		{"an approved one that is not begun is pending", StateApproved, []Hold{pending}, StatePending},
		{"one without holds is approved", StateApproved, nil, StateApproved},
		{"one granted is granting", StateApproved, []Hold{pending, hold(StateGranting, time.Hour)}, StateGranting},
		{"one active is active", StateApproved, []Hold{pending, active, failed, ended}, StateActive},
		{"one that is ending weighs more", StateApproved, []Hold{active, hold(StateActive, -time.Second)}, StateEnding},
		{"one that is overdue weighs most", StateApproved, []Hold{active, hold(StateActive, -time.Second), hold(StateActive, -time.Hour)}, StateOverdue},
		{"all gone is ended", StateApproved, []Hold{ended, ended}, StateEnded},
		{"gone and failed is ended", StateApproved, []Hold{failed, ended}, StateEnded},
		{"all failed is failed", StateApproved, []Hold{failed, failed}, StateFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := RequestState(c.decided, c.holds, now); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A request is over exactly when nothing of it can have access or still come
// to have it.
func TestRequestIsOverWithItsHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holds := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Hold {
			return Hold{State: rapid.SampledFrom([]State{StatePending, StateGranting, StateActive, StateEnding, StateOverdue, StateEnded, StateFailed}).Draw(t, "state"),
				EndsAt: signedAt.Add(time.Duration(rapid.IntRange(-20, 20).Draw(t, "seconds")) * time.Second)}
		}), 1, 4).Draw(t, "holds")
		over := true
		for _, h := range holds {
			over = over && h.State.Final()
		}
		if got := RequestState(StateApproved, holds, signedAt); got.Final() != over {
			t.Fatalf("%+v are together %s", holds, got)
		}
	})
}

func TestFinalAndOpenAreApart(t *testing.T) {
	for _, s := range states {
		if s.Final() && s.Open() {
			t.Errorf("%s is both final and open", s)
		}
	}
}
