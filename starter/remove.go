package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) removeCommand() *cobra.Command {
	var in api.Why
	var dry, wait, accept, cancel bool
	cmd := onIntegration("remove", "Remove an integration: end what is held, delete the accounts, and forget it", func(cmd *cobra.Command, path string) error {
		ctx := cmd.Context()
		path += "/removal"
		var out api.Removal
		var err error
		switch {
		case dry:
			err = a.client.get(ctx, path, nil, &out)
		case accept:
			err = a.client.post(ctx, path+"/acceptance", in, &out)
		case cancel:
			err = a.client.post(ctx, path+"/cancellation", in, &out)
		default:
			err = a.client.post(ctx, path, in, &out)
		}
		if err == nil && wait {
			out, err = a.awaitRemoval(ctx, path, out)
		}
		if err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) { removal(w, out, dry) })
	})
	cmd.Long = `Remove an integration: end what is held, delete the accounts, and forget it.

From the first moment nobody can ask for anything on it any more. What is held
ends as by a revoke, accounts are deleted at once, and what Lapse keeps on the
target beside accounts is removed. Then it says what is left, such as an account
that owns a table. The integration is forgotten once nothing is left, or
somebody accepts what is, and the configuration does not have it any more. The
same command again says how it stands.`
	cmd.Example = `  lapse remove prod-pg --dry-run
  lapse remove prod-pg --reason "moved to the new cluster" --wait
  lapse remove prod-pg --accept-left --reason "the tables stay until May"
  lapse remove prod-pg --cancel`
	f := cmd.Flags()
	f.StringVar(&in.Reason, "reason", "", "why; everybody whose access ends reads it")
	f.BoolVar(&dry, "dry-run", false, "only say what would end, or how the removal stands")
	f.BoolVar(&wait, "wait", false, "wait until it is forgotten, or waits for somebody")
	f.BoolVar(&accept, "accept-left", false, "be content to leave what is left")
	f.BoolVar(&cancel, "cancel", false, "take it back; what has ended stays ended")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "accept-left", "cancel")
	cmd.MarkFlagsMutuallyExclusive("wait", "dry-run")
	cmd.MarkFlagsMutuallyExclusive("wait", "cancel")
	return cmd
}

// States of a removal.
const (
	removalRunning = "running"
	removalLeft    = "left"
)

// awaitRemoval waits until a removal is complete. One that waits for somebody is
// a failure.
func (a *app) awaitRemoval(ctx context.Context, path string, out api.Removal) (api.Removal, error) {
	a.interrupted = "the removal goes on: lapse remove " + out.Integration + " --dry-run"
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for out.State == removalRunning {
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-tick.C:
		}
		if err := a.client.get(ctx, path, nil, &out); err != nil {
			return out, err
		}
	}
	if out.State == removalLeft {
		hint := "mend it, or accept it: lapse remove " + out.Integration + " --accept-left --reason TEXT"
		if len(out.Left) == 1 && out.Left[0].Kind == access.LeftConfigured {
			hint = "take it out of lapse.yaml, and apply that"
		}
		return out, &failure{Text: "something is left of " + out.Integration, Hint: hint, Removal: &out, detail: func(w io.Writer) { lines(w, out.Left) }}
	}
	return out, nil
}

func lines(w io.Writer, left []access.Left) {
	for _, l := range left {
		fmt.Fprintf(w, "  %s\n", clean(l.Text))
	}
}

func removal(w io.Writer, r api.Removal, dry bool) {
	switch r.State {
	case removalRunning:
		fmt.Fprintf(w, "%s is being removed by %s: %s\n", r.Integration, clean(r.By), clean(r.Reason))
	case removalLeft:
		fmt.Fprintf(w, "%s is being removed by %s. Left is:\n", r.Integration, clean(r.By))
		lines(w, r.Left)
		return
	case "forgotten":
		fmt.Fprintf(w, "%s was removed by %s: %s\n", r.Integration, clean(r.By), clean(r.Reason))
		if len(r.Left) > 0 {
			fmt.Fprintf(w, "Left as it is by %s (%s):\n", clean(r.AcceptedBy), clean(r.Accepted))
			lines(w, r.Left)
		}
		return
	default:
		fmt.Fprintf(w, "Nobody removes %s.\n", r.Integration)
	}
	if r.ReportOnly != "" {
		fmt.Fprintf(w, "Nothing is removed before the restore is accepted: %s\n", clean(r.ReportOnly))
	}
	if len(r.Open) > 0 {
		if dry && r.State == "none" {
			fmt.Fprintln(w, "A removal would end:")
		}
		lines(w, r.Open)
	}
	if r.Configured {
		fmt.Fprintln(w, "The configuration in force has it: it is forgotten after a lapse.yaml without it was applied.")
	}
	if r.Note != "" {
		fmt.Fprintln(w, clean(r.Note))
	}
}
