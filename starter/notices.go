package main

import (
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) noticesCommand() *cobra.Command {
	var all, seen bool
	var after string
	var limit int
	cmd := &cobra.Command{
		Use: "notices", Short: "List what you were told and have not seen", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {fmt.Sprint(limit)}, "unseen": {fmt.Sprint(!all)}}
			if after != "" {
				query.Set("after", after)
			}
			var out api.Notices
			if err := a.client.get(cmd.Context(), "/notices", query, &out); err != nil {
				return err
			}
			if seen && len(out.Notices) > 0 {
				if err := a.client.post(cmd.Context(), "/notices/seen", api.SeeNotices{UpTo: out.Notices[0].ID}, &api.SeenNotices{}); err != nil {
					return err
				}
			}
			return a.show(out, func(w io.Writer) { listNotices(w, out, time.Now()) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "also those that you have seen")
	f.BoolVar(&seen, "seen", false, "mark the newest of these, and all that you were told before it, as seen")
	f.StringVar(&after, "after", "", "only what you were told before the notice with this `id`")
	f.IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

func listNotices(w io.Writer, out api.Notices, now time.Time) {
	if len(out.Notices) == 0 {
		fmt.Fprintln(w, "There is nothing to tell you.")
		return
	}
	rows := [][]string{{"TIME", "NOTICE", "REQUEST", ""}}
	for _, n := range out.Notices {
		rows = append(rows, []string{at(n.At, now), n.Title, n.RequestID, n.Text})
	}
	table(w, "", rows...)
	if out.Next != "" {
		fmt.Fprintf(w, "\nThere are more: --after %s\n", out.Next)
	}
}
