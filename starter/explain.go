package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) explainCommand() *cobra.Command {
	var one api.Want
	var wants []string
	var in api.Explain
	cmd := &cobra.Command{
		Use:   "explain --integration NAME --resource TYPE:PATH --permission NAME --for DURATION",
		Short: "Say what would become of a request, and why",
		Long: `Say what would become of a request, and why: which access flow is used or why
none is, who could approve it, and what would be granted. Nothing is asked for.`,
		Example: `  lapse explain --integration shop --resource schema:shop/public --permission read_only --for 1h
  lapse explain --want shop/schema:shop/public=read_only --for 9h --person ana@example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if in.Wants, err = parseWants(one, wants); err != nil {
				return err
			}
			var out api.Explained
			if err := a.client.post(cmd.Context(), "/explain", in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { explained(w, out) })
		},
	}
	whatIsWanted(cmd, &one, &wants)
	f := cmd.Flags()
	f.StringVar(&in.For, "for", "", "`duration`, for example 30m, 8h or 1h30m")
	f.StringVar(&in.Person, "person", "", "`address` of who would ask, for administrators; yourself when left out")
	require(cmd, "for")
	return cmd
}

func explained(w io.Writer, e api.Explained) {
	fmt.Fprintf(w, "%s: %s.\n", e.Person, e.Says)
	if len(e.Approvers) > 0 {
		fmt.Fprintf(w, "It would wait for %s.\n", strings.Join(e.Approvers, " or "))
	}
	fmt.Fprintln(w, "\nWhat it would grant:")
	var rows [][]string
	for _, g := range e.Grants {
		rows = append(rows, []string{g.Permission, g.Integration, g.Resource, g.Means})
	}
	table(w, "  ", rows...)
	rows = [][]string{{"FLOW", "WANTS", "THERE IS", ""}}
	for _, f := range e.Flows {
		name := f.Flow
		for _, c := range f.Checks {
			verdict := "no"
			if c.Holds {
				verdict = "yes"
			}
			rows = append(rows, []string{name, c.Want, c.Have, verdict})
			name = ""
		}
	}
	fmt.Fprintln(w)
	table(w, "", rows...)
}
