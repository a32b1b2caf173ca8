package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/lapse-access/lapse/access"
)

const (
	// AutomaticEvery is how often it is looked whether everybody has what the
	// automatic flows give.
	AutomaticEvery = time.Minute
	// automaticMost is how many changes one activity makes.
	automaticMost = 500
)

// Automatic gives everybody what the automatic access flows give, and ends what
// they do not give any more. What it makes are requests like all others, and it
// ends holds through their accounts. Leases that are to be renewed before it is
// started the next time are waited for.
func Automatic(ctx workflow.Context) (total access.AutomaticReport, err error) {
	wake := workflow.GetSignalChannel(ctx, SignalWake)
	until := workflow.Now(ctx).Add(AutomaticEvery)
	for {
		for wake.ReceiveAsync(nil) {
		}
		var r access.AutomaticReport
		if err := workflow.ExecuteActivity(thorough(ctx, "who has what by an automatic flow?"), ActAutomatic, automaticMost).Get(ctx, &r); err != nil {
			return total, err
		}
		r.Asked, r.Ended = total.Asked+r.Asked, total.Ended+r.Ended
		total = r
		workflow.SetCurrentDetails(ctx, automaticDetails(total))
		if info := workflow.GetInfo(ctx); info.GetContinueAsNewSuggested() && wake.Len() == 0 {
			return total, workflow.NewContinueAsNewError(ctx, AutomaticType)
		}
		renews := !r.Next.IsZero() && r.Next.Before(until)
		switch {
		case r.More:
			// Accounts are at what they were told; other workflows have a turn too.
			if err := workflow.Sleep(ctx, time.Second); err != nil {
				return total, err
			}
		case renews:
			awaitUntil(ctx, "a lease is renewed", r.Next, func() bool { return wake.Len() > 0 })
			if err := ctx.Err(); err != nil {
				return total, err
			}
		case wake.Len() == 0:
			return total, nil
		}
	}
}

// automaticDetails is the report for Temporal's Web UI.
func automaticDetails(r access.AutomaticReport) string {
	if r.Why != "" {
		return "Nothing was done: " + r.Why + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests made, %d holds to end\n", r.Asked, r.Ended)
	for _, text := range r.Capped {
		fmt.Fprintf(&b, "- %s\n", text)
	}
	return b.String()
}
