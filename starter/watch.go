package main

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) healthCommand() *cobra.Command {
	return &cobra.Command{Use: "health", Short: "Say whether the store and Temporal answer", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var out api.Health
		if err := a.client.get(cmd.Context(), "/health", nil, &out); err != nil {
			return err
		}
		if out.Temporal != "ok" {
			return &failure{Text: "Temporal is " + out.Temporal + "; the store is " + out.Store, Hint: "what is held ends when Temporal is back: start it, and look here again"}
		}
		return a.show(out, func(w io.Writer) {
			table(w, "", []string{"Store", out.Store}, []string{"Temporal", out.Temporal})
			if out.ReportOnly != "" {
				fmt.Fprintf(w, "\nNothing is changed on a target: %s\nlapse restore report shows what differs.\n", clean(out.ReportOnly))
			}
			if out.Runbook != "" {
				fmt.Fprintf(w, "\nThe runbook: %s\n", clean(out.Runbook))
			}
		})
	}}
}

func (a *app) rotateCommand() *cobra.Command {
	var in api.Rotate
	cmd := onIntegration("rotate", "Change credentials of accounts, or the connector's own secret, now", func(cmd *cobra.Command, path string) error {
		var out access.RotationReport
		if err := a.client.post(cmd.Context(), path+"/rotation", in, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) {
			for _, line := range []string{out.Why, out.Secret} {
				if line != "" {
					fmt.Fprintln(w, clean(line))
				}
			}
			for _, email := range out.Asked {
				fmt.Fprintf(w, "%s gets another credential: lapse credentials shows it to them\n", clean(email))
			}
		})
	})
	cmd.Flags().BoolVar(&in.Secret, "secret", false, "the connector's own secret instead of those of accounts")
	cmd.Flags().StringVar(&in.Person, "person", "", "only the account of the person with this `address`")
	cmd.Flags().BoolVar(&in.Exposed, "exposed", false, "somebody else has seen it: end open sessions too")
	return cmd
}

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "Read and verify the audit trail", a.verifyCommand(), a.eventsCommand())
}

func (a *app) verifyCommand() *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use: "verify", Short: "Find what was changed, taken out or put in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if head != "" {
				query.Set("head", head)
			}
			var out api.Audit
			if err := a.client.get(cmd.Context(), "/audit/verify", query, &out); err != nil {
				return err
			}
			if !out.OK {
				return &failure{Text: "the audit trail is not as it was written", Hint: "compare it with a backup, and find out who could write to the store", Audit: &out,
					detail: func(w io.Writer) {
						for _, f := range out.Faults {
							fmt.Fprintln(w, clean(f.Text))
						}
					}}
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s, each as it was written.\n", count(int(out.Events), "event"))
				fmt.Fprintf(w, "Head: %s\n", out.Head)
				if head == "" {
					fmt.Fprintln(w, "Keep it elsewhere; with --head it shows later that nothing before it was rewritten.")
				}
			})
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "`hash` of an event that must be there")
	return cmd
}

func (a *app) eventsCommand() *cobra.Command {
	var request string
	var after int64
	var limit int
	cmd := &cobra.Command{
		Use: "events", Short: "List the audit trail, oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"after": {fmt.Sprint(after)}, "limit": {fmt.Sprint(limit)}}
			if request != "" {
				id, err := a.client.requestID(cmd.Context(), request)
				if err != nil {
					return err
				}
				query.Set("request", id)
			}
			var out api.Events
			if err := a.client.get(cmd.Context(), "/audit/events", query, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				now := time.Now()
				rows := [][]string{{"#", "TIME", "EVENT", "ACTOR", ""}}
				for _, e := range out.Events {
					rows = append(rows, []string{fmt.Sprint(e.Seq), at(e.At, now), e.Kind, e.Actor, e.Text})
				}
				table(w, "", rows...)
				if out.Next > 0 {
					fmt.Fprintf(w, "\nThere are more: --after %d\n", out.Next)
				}
			})
		},
	}
	cmd.Flags().StringVar(&request, "request", "", "only events of the request with this `id`")
	cmd.Flags().Int64Var(&after, "after", 0, "only events after this `number`")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

// tags prints tags in the order of their keys.
func tags(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}
