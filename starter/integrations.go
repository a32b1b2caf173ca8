package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/internal/describe"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/portal/api"
)

func (a *app) integrationsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "integrations", Short: "List the kinds of systems that can be integrated", Args: cobra.NoArgs,
		Long: `List the kinds of systems that can be integrated, and how each is certified.

The kinds are those of this program: no portal is needed. What is configured is
listed by lapse integrations list.`,
		RunE: func(*cobra.Command, []string) error {
			list, err := describe.List(all.Kinds())
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				rows := [][]string{{"KIND", "NAME", "CERTIFIED AGAINST", "SERVER", "CASES", "PASSED", "LEFT OUT"}}
				for _, c := range list {
					rows = append(rows, []string{c.Kind, c.Name, string(c.Against), c.Server, fmt.Sprint(c.Cases), fmt.Sprint(c.Passed), fmt.Sprint(len(c.Skipped))})
				}
				table(w, "", rows...)
			})
		},
	}
	cmd.AddCommand(a.configuredCommand(), a.describeCommand())
	return cmd
}

func (a *app) configuredCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the integrations that are configured", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out api.Integrations
			if err := a.client.get(cmd.Context(), "/integrations", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				if len(out.Integrations) == 0 {
					fmt.Fprintln(w, "There are no integrations yet: lapse apply -f lapse.yaml")
					return
				}
				rows := [][]string{{"NAME", "KIND", "CONNECTOR", "RESOURCES", "FINDINGS"}}
				for _, i := range out.Integrations {
					findings := ""
					if i.Owner {
						findings = fmt.Sprint(len(i.Findings))
					}
					rows = append(rows, []string{i.Name, i.Kind, i.Connector, strings.Join(i.Types, " "), findings})
				}
				table(w, "", rows...)
			})
		},
	}
}

func (a *app) describeCommand() *cobra.Command {
	const every = "all"
	var tier, connector string
	var set []string
	cmd := &cobra.Command{
		Use: "describe KIND", Short: "Show the settings, permissions and limits of a kind, and how to set it up",
		Args: exactly("a kind: lapse integrations lists them"),
		Example: `  lapse integrations describe postgresql
  lapse integrations describe postgresql --setup=full --connector-name lapse --set owner_roles=app_owner`,
		RunE: func(cmd *cobra.Command, args []string) error {
			kinds := all.Kinds()
			kind, ok := kinds[args[0]]
			if !ok {
				return &failure{Text: "there is no kind " + args[0], Hint: spec.DidYouMean(args[0], slices.Sorted(maps.Keys(kinds)))}
			}
			options := describe.Options{}
			if connector != "" {
				set = append(set, "connector_name="+connector)
			}
			for _, s := range set {
				if err := options.Set(s); err != nil {
					return &failure{Text: "--set " + s + ": " + err.Error(), Hint: cmd.CommandPath() + " " + kind.Name + " lists the options"}
				}
			}
			d, err := describe.New(kind, options)
			if err != nil {
				return &failure{Text: err.Error(), Hint: cmd.CommandPath() + " " + kind.Name + " lists the options"}
			}
			if tier != "" && tier != every {
				if d.Setup, err = only(d.Setup, tier); err != nil {
					return err
				}
			}
			return a.show(d, func(w io.Writer) {
				switch tier {
				case "":
					described(w, d)
				case every:
					for _, t := range d.Setup {
						fmt.Fprintf(w, "%s\n%s\n\n%s\n", strings.ToUpper(t.Name), t.Doc, t.Script)
					}
				default:
					fmt.Fprint(w, d.Setup[0].Script)
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&tier, "setup", "", "only print the setup scripts, or with --setup=`tier` the one of a tier, ready to be run")
	f.Lookup("setup").NoOptDefVal = every
	f.StringVar(&connector, "connector-name", "", "`name` of the connector's own account, for the scripts")
	f.StringArrayVar(&set, "set", nil, "`option=name` of the scripts, as often as needed")
	return cmd
}

// only is the tier of a name.
func only(tiers []integrations.Tier, name string) ([]integrations.Tier, error) {
	var names []string
	for i, t := range tiers {
		if t.Name == name {
			return tiers[i : i+1], nil
		}
		names = append(names, t.Name)
	}
	return nil, &failure{Text: "there is no tier " + name, Hint: "--setup=" + strings.Join(names, " or --setup=")}
}

// described prints a kind.
func described(w io.Writer, d describe.Kind) {
	fmt.Fprintf(w, "%s (kind: %s)\n%s\n%s\n", d.Name, d.Kind, d.Doc, d.Certification.Line(d.Name).Words())
	settings(w, "Settings, below config in lapse.yaml", d.Config)
	settings(w, "Secret, a JSON object", d.Secret)

	rows := [][]string{{"RESOURCE", "WHAT IT IS", "PERMISSIONS"}}
	for _, t := range d.ResourceTypes {
		var names []string
		for _, p := range t.Permissions {
			names = append(names, p.Name)
		}
		rows = append(rows, []string{t.Name + ":" + strings.Join(t.Path, "/"), t.Doc, strings.Join(names, " ")})
	}
	section(w, "What can be requested", rows)
	rows = [][]string{{"PERMISSION", "WHAT IT GIVES"}}
	for _, p := range d.Permissions() {
		rows = append(rows, []string{p.Name, p.Doc})
	}
	section(w, "Permissions", rows)

	rows = [][]string{{"TIER", "WHAT IT IS ENOUGH FOR"}}
	for _, t := range d.Setup {
		rows = append(rows, []string{t.Name, t.Doc})
	}
	section(w, "Setup, by lapse integrations describe "+d.Kind+" --setup=TIER", rows)
	settings(w, "Options of the setup, by --set OPTION=NAME", d.SetupOptions)

	fmt.Fprintf(w, "\nOpen sessions:\n  %s\n\nLimits:\n", d.Sessions)
	for _, limit := range d.Limits {
		fmt.Fprintf(w, "  - %s\n", limit)
	}
}

func settings(w io.Writer, title string, fields []spec.Field) {
	rows := [][]string{{"SETTING", "TYPE", "DEFAULT", "MEANING"}}
	for _, r := range spec.Rows(fields) {
		preset := r.Default
		if r.Required {
			preset = "(required)"
		}
		rows = append(rows, []string{r.Name, r.Type, preset, r.Doc})
	}
	section(w, title, rows)
}

func section(w io.Writer, title string, rows [][]string) {
	fmt.Fprintf(w, "\n%s:\n", title)
	table(w, "  ", rows...)
}
