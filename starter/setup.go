package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) applyCommand() *cobra.Command {
	var file string
	var dry bool
	cmd := &cobra.Command{
		Use: "apply -f lapse.yaml", Short: "Check a lapse.yaml, show what it changes, and take it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, err := readFile(file)
			if err != nil {
				return &failure{Text: err.Error(), Hint: "-f names a file that can be read, or - for standard input"}
			}
			query := url.Values{"file": {file}, "dry_run": {fmt.Sprint(dry)}}
			var out api.Applied
			if err := a.client.send(cmd.Context(), http.MethodPut, "/config", query, "application/yaml", source, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { applied(w, out) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` to apply; - is standard input")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	require(cmd, "file")
	return cmd
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}

func applied(w io.Writer, out api.Applied) {
	for _, line := range out.Changes {
		fmt.Fprintln(w, clean(line.String()))
	}
	for _, warning := range out.Warnings {
		fmt.Fprintln(w, "warning:", clean(warning.String()))
	}
	switch {
	case len(out.Changes) == 0:
		fmt.Fprintf(w, "Nothing changes: version %d says the same.\n", out.Version)
	case out.DryRun:
		fmt.Fprintf(w, "%s would change; nothing was.\n", count(len(out.Changes), "thing"))
		if out.TwoPersons {
			fmt.Fprintln(w, "Applied, it becomes a proposal: two people are needed for a change.")
		}
	case out.Proposal != "":
		fmt.Fprintf(w, "Proposed as %s. Version %d stays in force until another administrator approves it:\n  lapse changes approve %s\nTo take it back:\n  lapse changes withdraw %s\n",
			clean(out.Proposal), out.Version, clean(out.Proposal), clean(out.Proposal))
	default:
		fmt.Fprintf(w, "Applied as version %d.\n", out.Version)
	}
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// onIntegration is a command on one integration.
func onIntegration(use, short string, do func(cmd *cobra.Command, path string) error) *cobra.Command {
	return &cobra.Command{Use: use + " NAME", Short: short, Args: exactly("the name of one integration: lapse integrations list shows them"), RunE: func(cmd *cobra.Command, args []string) error {
		return do(cmd, "/integrations/"+url.PathEscape(args[0]))
	}}
}

func (a *app) checkCommand() *cobra.Command {
	return onIntegration("check", "Prove each right of the connector's account", func(cmd *cobra.Command, path string) error {
		var out api.Check
		if err := a.client.post(cmd.Context(), path+"/check", nil, &out); err != nil {
			return err
		}
		if !out.OK {
			return &failure{Text: out.Integration + " is not ready: something that is needed is missing", Hint: "do what stands in the column REMEDY, then check again",
				Check: &out, detail: func(w io.Writer) { checked(w, out) }}
		}
		return a.show(out, func(w io.Writer) {
			checked(w, out)
			fmt.Fprintf(w, "\n%s is ready.\n", out.Integration)
		})
	})
}

func checked(w io.Writer, c api.Check) {
	if c.Server != "" {
		fmt.Fprintf(w, "%s: %s\n\n", c.Integration, clean(c.Server))
	}
	rows := [][]string{{"", "FOR", "WHAT", "FOUND", "REMEDY"}}
	for _, i := range c.Items {
		mark := yes(i.OK)
		if !i.OK && i.Optional {
			mark = "warning"
		}
		remedy := i.Remedy
		if i.OK {
			remedy = ""
		}
		rows = append(rows, []string{mark, strings.ReplaceAll(i.Operation, "_", " "), i.Name, i.Detail, remedy})
	}
	table(w, "", rows...)
}

func (a *app) discoverCommand() *cobra.Command {
	return onIntegration("discover", "Refresh the catalog of an integration", func(cmd *cobra.Command, path string) error {
		var out access.DiscoveryReport
		stop := a.progress(cmd.Context(), path)
		err := a.client.post(cmd.Context(), path+"/discover", nil, &out)
		stop()
		if err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) {
			for _, warning := range out.Warnings {
				fmt.Fprintln(w, "warning:", clean(warning))
			}
			fmt.Fprintf(w, "%s in the catalog of %s\n", count(out.Resources, "resource"), out.Integration)
		})
	})
}

// progress says every few seconds how far a discovery is, until stop.
func (a *app) progress(ctx context.Context, path string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for last := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
			}
			var now api.Discovery
			if a.client.get(ctx, path+"/discovery", nil, &now) == nil && now.Running && now.Resources > last {
				last = now.Resources
				fmt.Fprintf(a.err, "%s so far\n", count(last, "resource"))
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (a *app) resourcesCommand() *cobra.Command {
	query := url.Values{"limit": {"1000"}}
	var typ, part string
	cmd := onIntegration("resources", "List what can be asked for on an integration", func(cmd *cobra.Command, path string) error {
		for name, value := range map[string]string{"type": typ, "q": part} {
			if value != "" {
				query.Set(name, value)
			}
		}
		all := api.Resources{Resources: []api.Resource{}}
		for {
			var page api.Resources
			if err := a.client.get(cmd.Context(), path+"/resources", query, &page); err != nil {
				return err
			}
			all.Resources = append(all.Resources, page.Resources...)
			if page.Next == "" {
				break
			}
			query.Set("after", page.Next)
		}
		return a.show(all, func(w io.Writer) {
			if len(all.Resources) == 0 {
				fmt.Fprintln(w, "Nothing is in the catalog: lapse discover NAME reads it again.")
				return
			}
			rows := [][]string{{"RESOURCE", "PERMISSIONS", "TAGS", "NOTE"}}
			for _, r := range all.Resources {
				rows = append(rows, []string{r.Resource, strings.Join(r.Permissions, " "), tags(r.Tags), r.Note})
			}
			table(w, "", rows...)
		})
	})
	cmd.Flags().StringVar(&typ, "type", "", "only this `type`, for example schema")
	cmd.Flags().StringVar(&part, "query", "", "only those with this `text` in their path")
	return cmd
}

func (a *app) keysCommand() *cobra.Command {
	data := cmp.Or(a.getenv("LAPSE_DATA"), defaultData)
	create := &cobra.Command{
		Use: "create", Short: "Make the keys that are missing, once for an installation", Args: cobra.NoArgs,
		Long: `Make the keys that are missing, once for an installation.

Give codec.keys, ticket.pub and sealing.pub to connectors on other machines, and
nothing else: with these a connector can neither allow a grant nor read a
credential. Keep a copy of the whole folder where nobody else can read it.`,
		RunE: func(*cobra.Command, []string) error {
			dir := filepath.Join(data, "keys")
			if _, err := keys.Open(dir, true); err != nil {
				return &failure{Text: err.Error(), Hint: "--data names a folder that can be written"}
			}
			out := struct {
				Folder string `json:"folder"`
			}{dir}
			return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "The keys are in %s.\n", dir) })
		},
	}
	create.Flags().StringVar(&data, "data", data, "`folder` of everything that lasts ($LAPSE_DATA)")
	return group("keys", "Make the keys of an installation", create)
}
