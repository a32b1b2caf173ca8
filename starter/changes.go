package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) changesCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the newest proposals, the newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out api.Changes
			if err := a.client.get(cmd.Context(), "/changes", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { changes(w, out, time.Now()) })
		},
	}
	show := onChange("show", "Show a proposal, and what would change", func(cmd *cobra.Command, path string) error {
		var out api.Change
		if err := a.client.get(cmd.Context(), path, nil, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) { change(w, out, time.Now()) })
	})
	cmd := group("changes", "Decide on changed files, where two people are needed for a change", list, show,
		a.decideChangeCommand(api.ChangeApprove, "Approve a proposal: it is in force then"),
		a.decideChangeCommand(api.ChangeReject, "Reject a proposal"),
		a.decideChangeCommand(api.ChangeWithdraw, "Take back a proposal of your own"))
	cmd.RunE = list.RunE
	cmd.Long = `Decide on changed files, where two people are needed for a change.

While lapse.yaml says two_person_changes: true, lapse apply proposes. Another
administrator, who is another human under whatever address, approves or rejects.
It is in force then as it was proposed, or refused as stale when something else
came into force meanwhile.`
	return cmd
}

// onChange is a command on one proposal.
func onChange(use, short string, do func(cmd *cobra.Command, path string) error) *cobra.Command {
	return &cobra.Command{Use: use + " ID", Short: short, Args: exactly("the id of one proposal: lapse changes list shows them"), RunE: func(cmd *cobra.Command, args []string) error {
		return do(cmd, "/changes/"+url.PathEscape(args[0]))
	}}
}

func (a *app) decideChangeCommand(v api.ChangeVerdict, short string) *cobra.Command {
	in := api.DecideChange{Verdict: v}
	cmd := onChange(string(v), short, func(cmd *cobra.Command, path string) error {
		var out api.Change
		if err := a.client.post(cmd.Context(), path+"/decision", in, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "%s is %s.\n", clean(out.ID), clean(out.State))
			if out.Note != "" {
				fmt.Fprintln(w, clean(out.Note))
			}
		})
	})
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why; required to reject")
	return cmd
}

func changes(w io.Writer, out api.Changes, now time.Time) {
	if !out.TwoPersons {
		fmt.Fprintln(w, "The configuration in force wants one person for a change.")
	}
	if len(out.Changes) == 0 {
		fmt.Fprintln(w, "Nothing was proposed.")
		return
	}
	rows := [][]string{{"ID", "STATE", "PROPOSED BY", "AT", "CHANGES", "DECIDED BY", "REASON"}}
	for _, c := range out.Changes {
		rows = append(rows, []string{c.ID, c.State, c.By, at(c.At, now), fmt.Sprint(len(c.Changes)), c.DecidedBy, c.Reason})
	}
	table(w, "", rows...)
}

func change(w io.Writer, c api.Change, now time.Time) {
	fmt.Fprintf(w, "%s is %s: %s, proposed by %s at %s, compared with version %d\n", clean(c.ID), clean(c.State), clean(c.File), clean(c.By), at(c.At, now), c.Base)
	if c.Sponsor != "" {
		fmt.Fprintf(w, "%s stands for it\n", clean(c.Sponsor))
	}
	if c.DecidedBy != "" {
		fmt.Fprintf(w, "Decided by %s at %s: %s\n", clean(c.DecidedBy), at(c.DecidedAt, now), clean(c.Reason))
	}
	fmt.Fprintln(w)
	for _, line := range c.Changes {
		fmt.Fprintln(w, clean(line.String()))
		for _, value := range line.Values() {
			fmt.Fprintln(w, "   ", clean(value))
		}
	}
	for _, warning := range c.Warnings {
		fmt.Fprintln(w, "warning:", clean(warning.String()))
	}
	for _, fault := range c.Faults {
		fmt.Fprintln(w, "it cannot be approved any more:", clean(fault.String()))
	}
	if len(c.May) > 0 {
		var ways []string
		for _, v := range c.May {
			ways = append(ways, fmt.Sprintf("lapse changes %s %s", v, c.ID))
		}
		fmt.Fprintf(w, "\n%s\n", clean(strings.Join(ways, ", or ")))
	}
}
