package main

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) restoreCommand() *cobra.Command {
	return group("restore", "Go on after a restore of Lapse's or Temporal's data", a.restoreFromCommand(), a.restoreReportCommand(), a.restoreAcceptCommand())
}

func (a *app) restoreReportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "report", Short: "Compare every target with what was restored", Args: cobra.NoArgs,
		Long: `Compare every target with what was restored. Nothing is changed.

What was restored may be older than the access that is there. Until an
administrator has accepted the report, Lapse grants, revokes, rotates and deletes
nothing; what ends meanwhile is overdue.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var out api.Restore
			if err := a.client.get(ctx, "/restore", nil, &out); err != nil {
				return err
			}
			names := slices.Clone(out.Missing)
			for _, s := range out.Integrations {
				names = append(names, s.Integration)
			}
			for _, name := range names {
				if err := a.client.post(ctx, "/integrations/"+url.PathEscape(name)+"/sweep", api.SweepArgs{}, &api.Sweep{}); err != nil {
					return err
				}
			}
			if err := a.client.get(ctx, "/restore", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { printRestore(w, out) })
		},
	}
}

func printRestore(w io.Writer, out api.Restore) {
	if out.ReportOnly == "" {
		fmt.Fprintln(w, "Nothing was restored, or it is accepted already.")
		return
	}
	fmt.Fprintf(w, "%s\nNoticed %s. Nothing is changed on a target until this is accepted.\n", clean(out.ReportOnly), out.Since.Local().Format(time.RFC1123))
	for _, s := range out.Integrations {
		fmt.Fprintf(w, "\n%s: ", s.Integration)
		rows := [][]string{{"FINDING", "SUBJECT", "WHAT", "WHEN ACCEPTED"}}
		for _, f := range s.Findings {
			if f.Kind == "restored" {
				continue
			}
			rows = append(rows, []string{strings.ReplaceAll(string(f.Kind), "_", " "), f.Subject, f.Text, f.Kind.Sort().Repair})
		}
		if len(rows) == 1 {
			fmt.Fprintln(w, "as it should be")
			continue
		}
		fmt.Fprintln(w, count(len(rows)-1, "difference"))
		table(w, "  ", rows...)
	}
	if len(out.Missing) > 0 {
		fmt.Fprintf(w, "\nNot compared: %s\n", strings.Join(out.Missing, ", "))
		return
	}
	fmt.Fprintf(w, "\nTo accept this:\n  lapse restore accept --report %s --reason \"what was compared\"\n", out.Report)
}

func (a *app) restoreAcceptCommand() *cobra.Command {
	var in api.AcceptRestore
	cmd := &cobra.Command{
		Use: "accept", Short: "Accept a report, and have the differences repaired", Args: cobra.NoArgs,
		Long: `Accept a report, and have the differences repaired.

From then on the store is what counts: every request and account that it knows
as open begins again from there, and a sweep of every integration takes away
what nobody has on record.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out api.Restored
			if err := a.client.post(cmd.Context(), "/restore/accept", in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				if out.Accepted {
					fmt.Fprintln(w, "Accepted. Every integration is swept and repaired now; lapse sweep NAME shows what is left.")
				} else {
					fmt.Fprintln(w, "There is nothing to accept.")
				}
			})
		},
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "what was compared, and why it is right to go on")
	cmd.Flags().StringVar(&in.Report, "report", "", "the report that is accepted, as lapse restore report names it")
	require(cmd, "reason", "report")
	return cmd
}
