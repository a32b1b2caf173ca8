package main

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/all"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/datadir"
	"github.com/lapse-access/lapse/internal/keys"
	"github.com/lapse-access/lapse/internal/runbook"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/workers"
)

func (a *app) runbookCommand() *cobra.Command {
	return group("runbook", "Take access away by hand when Lapse cannot be brought back", a.runbookOpenCommand(), a.runbookWriteCommand())
}

// opened is what a runbook says, and who says so.
type opened struct {
	File     string `json:"file"`
	Verified bool   `json:"verified"`
	runbook.Book
}

func (a *app) runbookOpenCommand() *cobra.Command {
	data := cmp.Or(a.getenv("LAPSE_DATA"), defaultData)
	var key, verify, integration, person string
	var steps bool
	cmd := &cobra.Command{
		Use: "open [FILE]", Short: "Show who holds what, and the statements or calls that take it away", Args: cobra.MaximumNArgs(1),
		Long: `Show who holds what where, until when, and the statements or calls that take it
away. It needs the file and the key, and neither Lapse nor Temporal nor a
network. Without a file it is the newest one in the data folder.

Run the steps as an administrator of each target. To run them twice does no
harm. When Lapse is back it finds that the access is gone.`,
		Example: `  lapse runbook open
  lapse runbook open runbook-20261122T030000.000Z.age --key ~/.ssh/id_ed25519 --person ana@example.com
  lapse runbook open --integration prod-pg --steps | psql ...`,
		RunE: func(_ *cobra.Command, args []string) error {
			out := opened{}
			var err error
			if len(args) == 1 {
				out.File = args[0]
			} else if out.File, err = runbook.Newest(filepath.Join(data, config.RunbookPath)); err != nil {
				return &failure{Text: err.Error(), Hint: "name the file, or with --data the folder"}
			}
			if out.Book, out.Verified, err = openBook(out.File, cmp.Or(key, filepath.Join(data, datadir.Keys, runbook.KeyFile)), verify, filepath.Join(data, datadir.Keys, "ticket.pub")); err != nil {
				return err
			}
			if out.Integrations, err = narrowed(out.Integrations, integration, person); err != nil {
				return err
			}
			if steps {
				return a.runbookSteps(out)
			}
			return a.show(out, func(w io.Writer) { describeBook(w, out, time.Now()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", data, "`folder` of everything that lasts ($LAPSE_DATA)")
	f.StringVar(&key, "key", "", "`file` of the key: of age, or an SSH private key without a passphrase (keys/runbook.key in the data folder)")
	f.StringVar(&verify, "verify", "", "`file` with the ticket.pub of the Lapse that must have written it (keys/ticket.pub in the data folder, where there is one)")
	f.StringVar(&integration, "integration", "", "only the integration with this `name`")
	f.StringVar(&person, "person", "", "only the person with this `address`")
	f.BoolVar(&steps, "steps", false, "print what is to be run and nothing else; needs --integration where there are several")
	return cmd
}

// openBook opens a file and holds it against the key of those who write it. A
// key that was named has to be there; the usual one may be missing.
func openBook(file, key, verify, usual string) (b runbook.Book, verified bool, err error) {
	identities, err := runbook.Identities(key)
	if err != nil {
		return b, false, &failure{Text: err.Error(), Hint: "--key names the file of one of the keys to which it was sealed"}
	}
	var by ed25519.PublicKey
	switch by, err = keys.TicketPublic(cmp.Or(verify, usual)); {
	case err == nil:
	case verify == "" && errors.Is(err, fs.ErrNotExist):
		by = nil
	default:
		return b, false, &failure{Text: err.Error(), Hint: "--verify names a copy of ticket.pub"}
	}
	f, err := os.Open(file)
	if err != nil {
		return b, false, &failure{Text: err.Error(), Hint: "name a file that lapse runbook write made"}
	}
	defer f.Close()
	if b, err = runbook.Open(f, by, identities...); err != nil {
		return b, false, &failure{Text: file + ": " + err.Error(), Hint: "take a file and a key that belong together, and trust no other"}
	}
	return b, by != nil, nil
}

// narrowed is the part of a book about an integration, or a person.
func narrowed(list []runbook.Integration, integration, person string) (out []runbook.Integration, err error) {
	for _, in := range list {
		in.People = slices.DeleteFunc(in.People, func(p runbook.Person) bool { return person != "" && !access.SameEmail(p.Email, person) })
		if (integration == "" || in.Name == integration) && len(in.People) > 0 {
			out = append(out, in)
		}
	}
	if len(out) == 0 && integration+person != "" {
		return nil, &failure{Text: "nothing is held there by them in this runbook", Hint: "leave --integration and --person out to see everything"}
	}
	return out, nil
}

// runbookSteps prints what is to be run on one integration.
func (a *app) runbookSteps(o opened) error {
	switch {
	case !o.Verified:
		return &failure{Text: "nobody knows who wrote this runbook", Hint: "give --verify a copy of ticket.pub, or read it without --steps"}
	case len(o.Integrations) > 1:
		return &failure{Text: fmt.Sprintf("%d integrations are in it", len(o.Integrations)), Hint: "choose one with --integration"}
	}
	var out strings.Builder
	for _, in := range o.Integrations {
		if in.Missing != "" {
			return &failure{Text: "there are no steps for " + in.Name + ": " + in.Missing}
		}
		if in.Language == "sh" {
			out.WriteString(in.Command)
		}
		for _, p := range in.People {
			if p.Missing != "" {
				return &failure{Text: "there are no steps for " + p.Email + ": " + p.Missing, Hint: "choose somebody else with --person"}
			}
			out.WriteString(p.Steps)
		}
	}
	_, err := io.WriteString(a.out, out.String())
	return err
}

// describeBook is for somebody who was woken up.
func describeBook(w io.Writer, o opened, now time.Time) {
	people, holds := map[string]bool{}, 0
	for _, in := range o.Integrations {
		for _, p := range in.People {
			people[p.Email] = true
			holds += len(p.Holds)
		}
	}
	fmt.Fprintf(w, "Runbook of %s, written %s ago, at %s.\n", clean(o.Instance), span(now.Sub(o.WrittenAt)), o.WrittenAt.Format("2006-01-02 15:04:05 UTC"))
	if o.Verified {
		fmt.Fprintln(w, "Its signature is that of this Lapse.")
	} else {
		fmt.Fprintln(w, "NOBODY KNOWS WHO WROTE IT: its signature was not verified (--verify ticket.pub). Read the steps before you run them.")
	}
	if late := 3 * o.Every.Std(); late > 0 && now.Sub(o.WrittenAt) > late {
		fmt.Fprintf(w, "IT IS OLD: a new one should come every %s.\n", o.Every)
	}
	fmt.Fprintf(w, "What was granted or changed since then is not in it. Epoch %d; audit trail: %s, head %s.\n\n", o.Epoch, count(int(o.Events), "event"), cmp.Or(clean(o.Head), "none"))
	if holds == 0 {
		fmt.Fprintln(w, "Nobody held anything.")
		return
	}
	who := "1 person"
	if len(people) > 1 {
		who = fmt.Sprintf("%d people", len(people))
	}
	fmt.Fprintf(w, "%s held by %s on %s.\n", count(holds, "entitlement"), who, count(len(o.Integrations), "integration"))
	for _, in := range o.Integrations {
		describeTarget(w, in, now)
	}
}

func describeTarget(w io.Writer, in runbook.Integration, now time.Time) {
	comment := map[string]string{"sql": "--"}[in.Language]
	title := fmt.Sprintf("%s (%s)", clean(in.Name), clean(cmp.Or(in.Title, in.Kind)))
	fmt.Fprintf(w, "\n%s\n%s\n\n", title, strings.Repeat("=", len(title)))
	rows := [][]string{{"WHO", "ACCOUNT", "WHAT", "UNTIL"}}
	for _, p := range in.People {
		for _, h := range p.Holds {
			end := at(h.EndsAt, now)
			if h.EndsAt.Before(now) {
				end += " (over)"
			} else {
				end += " (" + span(h.EndsAt.Sub(now)) + " left)"
			}
			rows = append(rows, []string{p.Email, p.Account, h.Permission + " on " + h.Resource, end})
		}
	}
	table(w, "", rows...)
	if in.Missing != "" {
		fmt.Fprintf(w, "\nTHERE ARE NO STEPS: %s\n", clean(in.Missing))
		return
	}
	if in.Language == "sh" {
		fmt.Fprintf(w, "\n1. Start a shell, and in it, with your secret for the dots:\n\n%s\n2. Then for each person:\n", in.Command)
	} else {
		fmt.Fprintf(w, "\n1. Connect, with your secret for the dots:\n\n%s\n2. Paste there, for each person:\n", in.Command)
	}
	for _, p := range in.People {
		fmt.Fprintf(w, "\n%s %s\n", cmp.Or(comment, "#"), clean(p.Email))
		if p.Missing != "" {
			fmt.Fprintf(w, "%s THERE ARE NO STEPS: %s\n", cmp.Or(comment, "#"), clean(p.Missing))
		}
		fmt.Fprint(w, p.Steps)
	}
}

func (a *app) runbookWriteCommand() *cobra.Command {
	data := cmp.Or(a.getenv("LAPSE_DATA"), defaultData)
	cmd := &cobra.Command{
		Use: "write", Short: "Write a runbook now, on a machine with the store and the keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ring, err := keys.Open(filepath.Join(data, datadir.Keys), false)
			if err != nil {
				return starting(err)
			}
			st, err := store.Open(cmd.Context(), filepath.Join(data, datadir.Store))
			if err != nil {
				return starting(err)
			}
			defer st.Close()
			node := &workers.Node{Store: st, Kinds: all.Kinds(), Log: slog.New(slog.NewTextHandler(a.err, nil))}
			path, err := node.Control(ring).WriteRunbook(cmd.Context(), data)
			if err != nil {
				return &failure{Text: "no runbook was written: " + err.Error()}
			}
			out := struct {
				File string `json:"file"`
			}{path}
			return a.show(out, func(w io.Writer) { fmt.Fprintln(w, path) })
		},
	}
	cmd.Flags().StringVar(&data, "data", data, "`folder` of everything that lasts ($LAPSE_DATA)")
	return cmd
}
