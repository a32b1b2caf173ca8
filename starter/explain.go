package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
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
  lapse explain --want shop/schema:shop/public=read_only --for 9h --person ana@example.com
  lapse explain --bundle on-call --for 1h --break-glass`,
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
	whatIsWanted(cmd, &one, &wants, &in.Options)
	f := cmd.Flags()
	f.StringVar(&in.For, "for", "", "`duration`, for example 30m, 8h or 1h30m")
	f.StringVar(&in.Person, "person", "", "`address` of who would ask, for administrators; yourself when left out")
	require(cmd, "for")
	return cmd
}

func explained(w io.Writer, e api.Explained) {
	fmt.Fprintf(w, "%s: %s.\n", e.Person, e.Says)
	switch who := strings.Join(e.Approvers, " or "); {
	case who == "":
	case len(e.Notified) > 0:
		fmt.Fprintf(w, "It would begin at once. Told of it: %s. Reviewed afterwards by %s.\n", clean(strings.Join(e.Notified, ", ")), clean(who))
	default:
		fmt.Fprintf(w, "It would wait for %s.\n", clean(who))
	}
	for _, s := range e.Unanswered {
		fmt.Fprintln(w, clean(s))
	}
	if e.Closes != nil {
		fmt.Fprintf(w, "It would end at %s at the latest, when the timeframe of the access flow closes.\n", at(*e.Closes, time.Now()))
	}
	if len(e.Steps) > 1 {
		fmt.Fprintln(w)
		steps(w, e.Steps)
	}
	if len(e.Fields) > 0 {
		fmt.Fprintln(w, "\nWhat the access flow wants to know:")
		var rows [][]string
		for _, f := range e.Fields {
			optional := ""
			if f.Optional {
				optional = "optional"
			}
			rows = append(rows, []string{"--field " + f.Name + "=...", cmp.Or(f.Title, f.Name), strings.Join(f.Options, " or "), f.Hint, optional})
		}
		table(w, "  ", rows...)
	}
	if len(e.Durations) > 0 {
		fmt.Fprintf(w, "\nThe durations that it gives: %s\n", durations(e.Durations))
	}
	fmt.Fprintln(w, "\nWhat it would grant:")
	var rows [][]string
	for _, g := range e.Grants {
		rows = append(rows, []string{g.Permission, g.Integration, g.Resource, g.Means})
	}
	table(w, "  ", rows...)
	told(w, e.Grants)
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

func durations(list []access.Duration) string {
	out := make([]string, len(list))
	for i, d := range list {
		out[i] = d.String()
	}
	return strings.Join(out, ", ")
}

// told says what targets would be told.
func told(w io.Writer, grants []api.Meant) {
	for _, g := range grants {
		if len(g.Told) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nWhat %s would be told for %s on %s, of somebody who has nothing there yet\n(‹...› is what only it knows, *** a secret):\n", g.Integration, g.Permission, clean(g.Resource))
		for _, line := range g.Told {
			for part := range strings.SplitSeq(line, "\n") {
				fmt.Fprintln(w, "  "+clean(part))
			}
		}
	}
}
