package main

import (
	"context"
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

func (a *app) requestCommand() *cobra.Command {
	var one api.Want
	var wants []string
	var in api.NewRequest
	var wait bool
	cmd := &cobra.Command{
		Use:   "request --integration NAME --resource TYPE:PATH --permission NAME --for DURATION --reason TEXT",
		Short: "Ask for access",
		Example: `  lapse request --integration shop --resource schema:shop/public --permission read_only --for 1h --reason "a bug in the orders"
  lapse request --want shop/schema:shop/public=read_only --want crm/role:support=member --for 30m --reason "ticket 7" --wait`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if in.Wants, err = parseWants(one, wants); err != nil {
				return err
			}
			var r api.Request
			if err := a.client.post(cmd.Context(), "/requests", in, &r); err != nil {
				return err
			}
			if wait {
				if r, err = a.wait(cmd.Context(), r); err != nil {
					return err
				}
			}
			return a.show(r, func(w io.Writer) { asked(w, r, time.Now()) })
		},
	}
	whatIsWanted(cmd, &one, &wants)
	f := cmd.Flags()
	f.StringVar(&in.For, "for", "", "`duration`, for example 30m, 8h or 1h30m")
	f.StringVar(&in.Reason, "reason", "", "why; those who decide read it")
	f.BoolVar(&wait, "wait", false, "wait until the access is active")
	require(cmd, "for", "reason")
	return cmd
}

// whatIsWanted are the flags that parseWants reads.
func whatIsWanted(cmd *cobra.Command, one *api.Want, wants *[]string) {
	f := cmd.Flags()
	f.StringVar(&one.Integration, "integration", "", "`name` of the integration")
	f.StringVar(&one.Resource, "resource", "", "resource as `TYPE:PATH`, for example schema:shop/public")
	f.StringVar(&one.Permission, "permission", "", "`permission`, for example read_only")
	f.StringArrayVar(wants, "want", nil, "`INTEGRATION/TYPE:PATH=PERMISSION`, repeated for several")
	cmd.MarkFlagsRequiredTogether("integration", "resource", "permission")
	cmd.MarkFlagsOneRequired("integration", "want")
}

func require(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that the command does not have
		}
	}
}

// parseWants reads what is asked for from the flags.
func parseWants(one api.Want, wants []string) (list []api.Want, err error) {
	if one.Integration != "" {
		list = append(list, one)
	}
	for _, s := range wants {
		integration, rest, ok := strings.Cut(s, "/")
		i := strings.LastIndex(rest, "=")
		if !ok || i < 0 {
			return nil, fmt.Errorf("--want %s: want INTEGRATION/TYPE:PATH=PERMISSION, for example shop/schema:shop/public=read_only", s)
		}
		list = append(list, api.Want{Integration: integration, Resource: rest[:i], Permission: rest[i+1:]})
	}
	return list, nil
}

// asked prints what became of a new request.
func asked(w io.Writer, r api.Request, now time.Time) {
	fmt.Fprintf(w, "%s is %s\n", r.ID, r.State)
	switch r.State {
	case access.StatePending:
		fmt.Fprintf(w, "  waits for %s, until %s\n", clean(approvers(r)), at(r.ExpiresAt, now))
		fmt.Fprintf(w, "  lapse show %s\n", r.ID)
	case access.StateActive:
		rows := [][]string{}
		for _, h := range r.Holds {
			rows = append(rows, []string{what(h), string(h.State), until(h, now)})
		}
		table(w, "  ", rows...)
		fmt.Fprintf(w, "  lapse credentials %s\n", r.ID)
	}
	note(w, r)
}

// waitEvery is the time between two looks at a request.
const waitEvery = 500 * time.Millisecond

// wait waits until a request is active, and says on standard error how far it
// is. A request that ends otherwise is a failure.
func (a *app) wait(ctx context.Context, r api.Request) (api.Request, error) {
	a.interrupted = "the request goes on: lapse show " + r.ID
	fmt.Fprintf(a.err, "%s waits for %s\n", r.ID, clean(approvers(r)))
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for last := access.StatePending; ; {
		if r.State != last {
			last = r.State
			fmt.Fprintf(a.err, "%s is %s\n", r.ID, r.State)
		}
		switch {
		case r.State == access.StateActive && !slices.ContainsFunc(r.Holds, under):
			return r, nil
		case r.State.Final() || r.State == access.StateEnding || r.State == access.StateOverdue:
			return r, &failure{Text: fmt.Sprintf("%s is %s%s", r.ID, r.State, because(r)), Hint: "lapse show " + r.ID, Request: &r}
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-tick.C:
		}
		if err := a.client.get(ctx, "/requests/"+r.ID, nil, &r); err != nil {
			return r, err
		}
	}
}

// under reports whether somebody is at granting a hold.
func under(h api.Hold) bool {
	return h.State == access.StateGranting || h.State == access.StateApproved
}

// because is why a request came to nothing.
func because(r api.Request) string {
	for _, h := range r.Holds {
		if h.Error != "" {
			return ": " + h.Error
		}
	}
	for _, d := range slices.Backward(r.Decisions) {
		if d.Verdict == access.Deny {
			return " by " + d.By + ": " + d.Reason
		}
	}
	return ""
}

func (a *app) requestsCommand() *cobra.Command {
	var mine, toApprove bool
	var state, integration, person string
	var limit int
	cmd := &cobra.Command{
		Use: "requests", Short: "List requests, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {fmt.Sprint(limit)}}
			for name, value := range map[string]string{"state": state, "integration": integration, "person": person} {
				if value != "" {
					query.Set(name, value)
				}
			}
			for name, set := range map[string]bool{"mine": mine, "to_approve": toApprove} {
				if set {
					query.Set(name, "true")
				}
			}
			var list api.Requests
			if err := a.client.get(cmd.Context(), "/requests", query, &list); err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				if len(list.Requests) == 0 {
					fmt.Fprintln(w, "There are no such requests.")
					return
				}
				now := time.Now()
				rows := [][]string{{"ID", "STATE", "PERSON", "ACCESS", "ASKED", "REASON"}}
				for _, r := range list.Requests {
					rows = append(rows, []string{r.ID, string(r.State), r.Person, whats(r), at(r.CreatedAt, now), r.Reason})
				}
				table(w, "", rows...)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&mine, "mine", false, "only your own")
	f.BoolVar(&toApprove, "to-approve", false, "only those that wait for your decision")
	f.StringVar(&state, "state", "", "only those in this `state`: pending, active, overdue, ended, ...")
	f.StringVar(&integration, "integration", "", "only those for the integration with this `name`")
	f.StringVar(&person, "person", "", "only those of the person with this `e-mail` address")
	f.IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

// onRequest is a command on one request.
func (a *app) onRequest(use, short string, do func(ctx context.Context, id string) error) *cobra.Command {
	return &cobra.Command{Use: use + " ID", Short: short, Args: exactly("the id of one request: lapse requests lists them"), RunE: func(cmd *cobra.Command, args []string) error {
		id, err := a.client.requestID(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return do(cmd.Context(), url.PathEscape(id))
	}}
}

// exactly wants one argument, and says which.
func exactly(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &failure{Text: cmd.CommandPath() + " needs " + what, Hint: cmd.CommandPath() + " --help"}
		}
		return nil
	}
}

func (a *app) showCommand() *cobra.Command {
	return a.onRequest("show", "Show a request with its decisions, evidence and events", func(ctx context.Context, id string) error {
		var r api.Request
		if err := a.client.get(ctx, "/requests/"+id, nil, &r); err != nil {
			return err
		}
		return a.show(r, func(w io.Writer) { timeline(w, r, time.Now()) })
	})
}

// decide sends a decision and prints how the request stands then.
func (a *app) decide(ctx context.Context, path string, in any) error {
	var r api.Request
	if err := a.client.post(ctx, path, in, &r); err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s is %s\n", r.ID, r.State)
		now := time.Now()
		var rows [][]string
		for _, h := range r.Holds {
			rows = append(rows, []string{what(h), string(h.State), until(h, now)})
		}
		table(w, "  ", rows...)
		note(w, r)
	})
}

// verdict is the command with which somebody approves or denies.
func (a *app) verdict(v access.Verdict, short string) *cobra.Command {
	var reason string
	cmd := a.onRequest(string(v), short, func(ctx context.Context, id string) error {
		return a.decide(ctx, "/requests/"+id+"/decisions", api.Decide{Verdict: v, Reason: reason})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why; the requester reads it")
	return cmd
}

func (a *app) approveCommand() *cobra.Command { return a.verdict(access.Approve, "Approve a request") }
func (a *app) denyCommand() *cobra.Command    { return a.verdict(access.Deny, "Deny a request") }

func (a *app) extendCommand() *cobra.Command {
	var in api.Extend
	cmd := a.onRequest("extend", "Keep access for longer, within the access flow's maximum", func(ctx context.Context, id string) error {
		return a.decide(ctx, "/requests/"+id+"/extension", in)
	})
	cmd.Flags().StringVar(&in.By, "by", "", "`duration`, for example 30m")
	require(cmd, "by")
	return cmd
}

func (a *app) releaseCommand() *cobra.Command {
	var in api.Why
	cmd := a.onRequest("release", "Give access back early, or withdraw a request", func(ctx context.Context, id string) error {
		return a.decide(ctx, "/requests/"+id+"/release", in)
	})
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why")
	return cmd
}

func (a *app) revokeCommand() *cobra.Command {
	var in api.Why
	cmd := a.onRequest("revoke", "End somebody's access, as an approver or administrator", func(ctx context.Context, id string) error {
		return a.decide(ctx, "/requests/"+id+"/revoke", in)
	})
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why; the person whose access ends reads it")
	require(cmd, "reason")
	return cmd
}

func (a *app) credentialsCommand() *cobra.Command {
	var in api.NewCredential
	cmd := a.onRequest("credentials", "Show the credential of your account, once", func(ctx context.Context, id string) error {
		var c api.Credential
		if err := a.client.post(ctx, "/requests/"+id+"/credentials", in, &c); err != nil {
			return err
		}
		return a.show(c, func(w io.Writer) { credential(w, c) })
	})
	cmd.Flags().BoolVar(&in.New, "new", false, "make another credential; the old one stops working")
	cmd.Flags().StringVar(&in.Integration, "integration", "", "`name` of the integration, where the request has several")
	return cmd
}

// credential prints what a person needs to use an account. Details of several
// lines, such as a certificate, stay as they are, to be copied.
func credential(w io.Writer, c api.Credential) {
	rows := [][]string{{"Username", c.Username}, {"Password", c.Password}}
	if c.Command != "" {
		rows = append(rows, []string{"Command", c.Command})
	}
	var blocks []string
	for _, name := range slices.Sorted(maps.Keys(c.Details)) {
		if detail := strings.TrimSpace(c.Details[name]); strings.Contains(detail, "\n") {
			blocks = append(blocks, name)
		} else {
			rows = append(rows, []string{title(name), detail})
		}
	}
	table(w, "", rows...)
	for _, name := range blocks {
		fmt.Fprintf(w, "\n%s:\n", clean(title(name)))
		for line := range strings.Lines(strings.TrimSpace(c.Details[name])) {
			fmt.Fprintln(w, clean(strings.TrimRight(line, "\r\n")))
		}
	}
	fmt.Fprintln(w, "\nThis is shown only once.")
}

// title writes the name of a detail for people.
func title(name string) string {
	name = strings.ReplaceAll(name, "_", " ")
	if name == "" {
		return name
	}
	return strings.ToUpper(name[:1]) + name[1:]
}
