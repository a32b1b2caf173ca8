package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/internal/datadir"
)

// backed is what lapse backup made.
type backed struct {
	Folder string `json:"folder"`
	datadir.Manifest
}

func (a *app) backupCommand() *cobra.Command {
	var data, to string
	cmd := &cobra.Command{
		Use: "backup", Short: "Copy everything that lasts, also while Lapse runs", Args: cobra.NoArgs,
		Long: `Copy the store, Temporal's data (of lapse-dev) and the keys into a new folder,
also while Lapse runs. Keep the copy as safe as the secrets of your targets.

The secrets of your targets are not in it: where Lapse rotates them, an old copy
would lock the connector out. Keep them where they are, or back them up after
each rotation.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := datadir.Backup(cmd.Context(), data, to)
			if err != nil {
				return &failure{Text: "no backup was made: " + err.Error()}
			}
			out := backed{Folder: to, Manifest: m}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s of the audit trail, head %s\n", to, count(int(m.Events), "event"), cmp.Or(m.Head, "none"))
				if len(out.Secrets) > 0 {
					fmt.Fprintf(w, "Not in it: %s\n", strings.Join(out.Secrets, ", "))
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", cmp.Or(a.getenv("LAPSE_DATA"), defaultData), "`folder` of everything that lasts ($LAPSE_DATA)")
	f.StringVar(&to, "to", "", "new `folder` for the copy")
	require(cmd, "to")
	return cmd
}

func (a *app) restoreFromCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "from FOLDER", Short: "Put a backup in the place of what is there", Args: cobra.ExactArgs(1),
		Long: `Put a backup that lapse backup made in the place of what is there, which is kept
beside it. Lapse must not run. After the next start nothing is changed on a target
before lapse restore accept.`,
		RunE: func(_ *cobra.Command, args []string) error {
			m, kept, err := datadir.Restore(args[0], data)
			if err != nil {
				return &failure{Text: "nothing was restored: " + err.Error()}
			}
			out := struct {
				datadir.Manifest
				Kept string `json:"kept"`
			}{m, kept}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is as it was at %s. What was there is in %s.\nStart Lapse, and then: lapse restore report\n", data, m.At.Local().Format(time.RFC1123), kept)
			})
		},
	}
	cmd.Flags().StringVar(&data, "data", cmp.Or(a.getenv("LAPSE_DATA"), defaultData), "`folder` of everything that lasts ($LAPSE_DATA)")
	return cmd
}
