// Command lapse asks for access, decides on it, and runs the parts of Lapse.
//
// Everything but portal, worker, keys, runbook, certify, flows and the kinds of
// integrations talks to the portal's API, at LAPSE_URL.
// A command exits with 0 only when it did what it was asked; otherwise nothing
// is on standard output, and standard error says what is wrong and what to do.
// Only what certify and flows test found is on standard output also when a case
// failed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/integrations/all"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run runs one command and returns its exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	a := &app{getenv: getenv, out: stdout, err: stderr, client: newClient(getenv)}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	f, ok := errors.AsType[*failure](err)
	switch {
	case ctx.Err() != nil:
		f = &failure{Text: "interrupted", Hint: a.interrupted}
	case !ok:
		f = &failure{Text: err.Error(), Hint: cmd.CommandPath() + " --help"}
	}
	f.print(stderr, a.json || asksForJSON(args))
	if ctx.Err() != nil {
		return 130 // as a shell says of a command that Ctrl-C ended
	}
	return 1
}

// asksForJSON finds -o json also where the flags could not be read.
func asksForJSON(args []string) bool {
	for i, s := range args {
		switch s {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// app is what the commands share.
type app struct {
	getenv   func(string) string
	out, err io.Writer
	client   *client
	json     bool
	// interrupted is the hint for somebody who pressed Ctrl-C.
	interrupted string
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lapse",
		Short: "Just-in-time access: asked for, approved, granted, and gone again",
		Long: `Just-in-time access: asked for, approved, granted, and gone again.

Environment:
  LAPSE_URL       the portal (http://127.0.0.1:8080)
  LAPSE_AS        your e-mail address, as long as sign-in is the dev identity
  LAPSE_TOKEN     the portal's token, where it has one
  LAPSE_DATA      folder of everything that lasts, for portal, worker and keys
  LAPSE_PORTAL    address of lapse portal (127.0.0.1:8080)
  LAPSE_TEMPORAL  address of Temporal, for portal and worker (127.0.0.1:7233)
  LAPSE_METRICS   address of the numbers for Prometheus, for portal (none)`,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	output := "text"
	root.PersistentFlags().StringVarP(&output, "output", "o", output, "`format`: text or json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		a.json = output == "json"
		if !a.json && output != "text" {
			return fmt.Errorf("--output is text or json")
		}
		return nil
	}
	root.AddGroup(&cobra.Group{ID: "access", Title: "Access:"}, &cobra.Group{ID: "setup", Title: "Setting up:"},
		&cobra.Group{ID: "watch", Title: "Watching:"}, &cobra.Group{ID: "parts", Title: "The parts, for more than one machine:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("access", a.requestCommand(), a.requestsCommand(), a.showCommand(), a.approveCommand(), a.denyCommand(), a.justifyCommand(), a.objectCommand(), a.extendCommand(),
		a.releaseCommand(), a.revokeCommand(), a.credentialsCommand(), a.explainCommand(), a.noticesCommand())
	add("setup", a.applyCommand(), a.changesCommand(), a.flowsCommand(all.Kinds()), a.checkCommand(), a.certifyCommand(all.Kinds()), a.discoverCommand(), a.integrationsCommand(), a.resourcesCommand(), a.removeCommand(), a.keysCommand())
	add("watch", a.healthCommand(), a.sweepCommand(), a.rotateCommand(), a.auditCommand(), a.backupCommand(), a.restoreCommand(), a.runbookCommand())
	add("parts", a.portalCommand(), a.workerCommand())
	root.AddCommand(a.versionCommand())
	return root
}

// group is a command that only has subcommands.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	var names []string
	for _, c := range sub {
		names = append(names, c.Name())
	}
	g := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return fmt.Errorf("%s what? %s", cmd.CommandPath(), strings.Join(names, " or "))
	}}
	g.AddCommand(sub...)
	return g
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		v := struct {
			Version string `json:"version"`
			Go      string `json:"go"`
		}{"unknown", runtime.Version()}
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		return a.show(v, func(w io.Writer) { fmt.Fprintf(w, "lapse %s (%s)\n", v.Version, v.Go) })
	}}
}

// show prints a result, as JSON or as text.
func (a *app) show(v any, text func(w io.Writer)) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	text(a.out)
	return nil
}
