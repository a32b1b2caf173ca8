package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) sweepCommand() *cobra.Command {
	var in api.SweepArgs
	var only []string
	var last bool
	cmd := onIntegration("sweep", "Compare the store, the workflows and the target of an integration", func(cmd *cobra.Command, path string) error {
		for _, kind := range only {
			in.Repair, in.Only = true, append(in.Only, access.FindingKind(kind))
		}
		var out api.Sweep
		var err error
		if path += "/sweep"; last {
			err = a.client.get(cmd.Context(), path, nil, &out)
		} else {
			err = a.client.post(cmd.Context(), path, in, &out)
		}
		if err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) { showSweep(w, out) })
	})
	cmd.Long = `Compare the store, the workflows and the target of an integration.

What is found is reported, and with --repair what can be repaired is:

` + sorts() + `
Nothing without the mark of this Lapse is touched.`
	f := cmd.Flags()
	f.BoolVar(&in.DryRun, "dry-run", false, "change nothing, on the target, in the store or in Temporal")
	f.BoolVar(&in.Repair, "repair", false, "repair all that can be repaired, whatever sweep.repair of the integration says")
	f.StringSliceVar(&only, "only", nil, "repair no more than these `findings`")
	f.BoolVar(&last, "last", false, "show what the newest sweep found, and begin none")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "repair", "last")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "only", "last")
	return cmd
}

// sorts lists the findings, for the help.
func sorts() string {
	var b strings.Builder
	var rows [][]string
	for _, s := range access.FindingSorts {
		who := map[access.RepairMode]string{access.RepairAlways: "each sweep: ", access.RepairByPolicy: "a repair: ", access.RepairNever: "no repair: "}[s.Mode]
		rows = append(rows, []string{string(s.Kind), s.Doc}, []string{"", who + s.Repair})
	}
	table(&b, "  ", rows...)
	return b.String()
}

func showSweep(w io.Writer, out api.Sweep) {
	if out.ReportOnly != "" {
		fmt.Fprintf(w, "Nothing is repaired: %s\n\n", clean(out.ReportOnly))
	}
	if out.DryRun {
		fmt.Fprintf(w, "A dry run: nothing was changed.\n\n")
	}
	switch {
	case len(out.Findings) > 0:
	case out.At.IsZero():
		fmt.Fprintf(w, "%s was never swept.\n", out.Integration)
		return
	default:
		fmt.Fprintf(w, "%s is as it should be.\n", out.Integration)
		return
	}
	rows := [][]string{{"FINDING", "SEVERITY", "SUBJECT", "WHAT", "REPAIRED"}}
	for _, f := range out.Findings {
		rows = append(rows, []string{strings.ReplaceAll(string(f.Kind), "_", " "), string(f.Kind.Sort().Severity), f.Subject, f.Text, f.Repaired})
	}
	table(w, "", rows...)
}
