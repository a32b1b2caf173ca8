package workflows

import (
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

// The holds that an account has, and what it says of them.

// holdsOf returns the known holds of an operation.
func (a *account) holdsOf(op Op) []access.Hold {
	var out []access.Hold
	for _, h := range a.Holds {
		if slices.Contains(op.HoldIDs, h.ID) {
			out = append(out, h)
		}
	}
	return out
}

// put replaces or adds holds.
func (a *account) put(holds ...access.Hold) {
	for _, h := range holds {
		if i := a.index(h.ID); i >= 0 {
			a.Holds[i] = h
		} else {
			a.Holds = append(a.Holds, h)
		}
	}
}

func (a *account) index(id string) int {
	return slices.IndexFunc(a.Holds, func(h access.Hold) bool { return h.ID == id })
}

func (a *account) dropFinal() {
	a.Holds = slices.DeleteFunc(a.Holds, func(h access.Hold) bool { return h.State.Final() })
}

// forgetBaseline drops what was noted for slots on which no hold is open.
func (a *account) forgetBaseline() {
	a.Baseline = slices.DeleteFunc(a.Baseline, func(b access.Baseline) bool {
		return !slices.ContainsFunc(b.Holds, func(id string) bool { return a.index(id) >= 0 })
	})
}

// remain is what the account must keep while the holds with these ids are
// opened or ended.
func (a *account) remain(except []string) []access.Claim {
	var out []access.Claim
	for _, h := range a.Holds {
		if !h.State.Final() && !slices.Contains(except, h.ID) {
			out = append(out, access.Claim{Entitlement: h.Entitlement})
		}
	}
	for _, b := range a.Baseline {
		for _, e := range b.HeldAs {
			out = append(out, access.Claim{Entitlement: e, Baseline: true})
		}
	}
	return out
}

// event is one of the account, on record once for each key.
func (a *account) event(kind, key string, at time.Time, request, text string) access.Event {
	return access.Event{Key: "account/" + a.ID() + "/" + key, Kind: kind, At: at, RequestID: request, AccountID: a.ID(), Integration: a.Account.Integration, Text: text}
}

// holdEvent is one of a hold, on record once for each kind.
func (a *account) holdEvent(h access.Hold, kind string, at time.Time, text string) access.Event {
	return access.Event{Key: "hold/" + h.ID + "/" + kind, Kind: kind, At: at, RequestID: h.RequestID, HoldID: h.ID, AccountID: a.ID(), Integration: a.Account.Integration, Text: text}
}

// record puts a change into the outbox; flush writes it.
func (a *account) record(c access.Change) { a.outbox = append(a.outbox, c) }

// flush writes the outbox in order, beside whatever else goes on.
func (a *account) flush(ctx workflow.Context) {
	if a.flushing || len(a.outbox) == 0 {
		return
	}
	a.flushing = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { a.flushing = false }()
		for len(a.outbox) > 0 {
			batch := slices.Clone(a.outbox)
			if err := workflow.ExecuteActivity(untilDone(ctx, "record "+batch[0].Event.Kind), ActRecord, batch).Get(ctx, nil); err != nil {
				a.log.Error("recording is refused, and will be tried again", "error", err)
				_ = workflow.Sleep(ctx, time.Minute)
				continue
			}
			a.outbox = a.outbox[len(batch):]
		}
	})
}

// tell lets a request know how its holds stand. A request that is over does
// not mind.
func (a *account) tell(ctx workflow.Context, request string, told HoldsTold) {
	workflow.SignalExternalWorkflow(ctx, RequestID(request), "", SignalHolds, told)
}

func ids(holds []access.Hold) []string {
	out := make([]string, len(holds))
	for i, h := range holds {
		out[i] = h.ID
	}
	return out
}

func names(es []access.Entitlement) string {
	out := make([]string, len(es))
	for i, e := range es {
		out[i] = e.String()
	}
	return strings.Join(out, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
