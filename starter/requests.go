package main

import (
	"context"
	"errors"
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
	var fields []string
	var wait bool
	cmd := &cobra.Command{
		Use:   "request --integration NAME --resource TYPE:PATH --permission NAME --for DURATION --reason TEXT",
		Short: "Ask for access",
		Example: `  lapse request --integration shop --resource schema:shop/public --permission read_only --for 1h --reason "a bug in the orders"
  lapse request --want shop/schema:shop/public=read_only --want crm/role:support=member --for 30m --reason "ticket 7" --wait
  lapse request --bundle on-call --for 8h --start 2030-01-31T22:00:00+01:00 --field ticket=OPS-7 --reason "on call this night"
  lapse request --bundle on-call --for 1h --reason "orders are down" --break-glass`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if in.Wants, err = parseWants(one, wants); err != nil {
				return err
			}
			if in.Fields, err = parseFields(fields); err != nil {
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
	whatIsWanted(cmd, &one, &wants, &in.Options)
	f := cmd.Flags()
	f.StringVar(&in.For, "for", "", "`duration`, for example 30m, 8h or 1h30m")
	f.StringArrayVar(&fields, "field", nil, "`NAME=VALUE`, what else the access flow wants to know; repeated for several")
	f.StringVar(&in.Reason, "reason", "", "why; those who decide read it")
	f.BoolVar(&wait, "wait", false, "wait until the access is active")
	require(cmd, "for", "reason")
	return cmd
}

// whatIsWanted are the flags that say what is asked for, whose it becomes and
// when; parseWants reads the first of them.
func whatIsWanted(cmd *cobra.Command, one *api.Want, wants *[]string, o *api.Options) {
	f := cmd.Flags()
	f.StringVar(&one.Integration, "integration", "", "`name` of the integration")
	f.StringVar(&one.Resource, "resource", "", "resource as `TYPE:PATH`, for example schema:shop/public")
	f.StringVar(&one.Permission, "permission", "", "`permission`, for example read_only")
	f.StringArrayVar(wants, "want", nil, "`INTEGRATION/TYPE:PATH=PERMISSION`, repeated for several")
	f.StringVar(&o.Bundle, "bundle", "", "`name` of a bundle, beside anything else that is named")
	f.StringVar(&o.OnBehalfOf, "on-behalf-of", "", "e-mail `address` of the person whose access it becomes; yourself when left out")
	f.Var((*start)(o), "start", "`time` at which the access begins, as 2030-01-31T22:00:00Z or +2h; once it is approved when left out")
	f.BoolVar(&o.BreakGlass, "break-glass", false, "take it at once, in an emergency: everybody concerned is told, and it is reviewed afterwards")
	cmd.MarkFlagsRequiredTogether("integration", "resource", "permission")
	cmd.MarkFlagsOneRequired("integration", "want", "bundle")
}

// start is the flag for when access begins.
type start api.Options

func (s *start) Type() string { return "time" }

func (s *start) String() string {
	if s.StartAt == nil {
		return ""
	}
	return s.StartAt.Format(time.RFC3339)
}

func (s *start) Set(text string) error {
	at, err := time.Parse(time.RFC3339, text)
	if later, relative := strings.CutPrefix(text, "+"); relative {
		var d access.Duration
		if d, err = access.ParseDuration(later); err == nil && d < 0 {
			err = errors.New("negative")
		}
		at = time.Now().Add(d.Std()).UTC().Truncate(time.Second)
	}
	if err != nil {
		return errors.New("want a time such as 2030-01-31T22:00:00Z or 2030-01-31T22:00:00+01:00, or how much later, such as +2h")
	}
	s.StartAt = &at
	return nil
}

// parseFields reads NAME=VALUE.
func parseFields(list []string) (map[string]string, error) {
	fields := make(map[string]string, len(list))
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--field %s: want NAME=VALUE, for example ticket=OPS-7", s)
		}
		fields[name] = value
	}
	return fields, nil
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
	more, err := wantsOf("want", wants)
	return append(list, more...), err
}

// wantsOf reads INTEGRATION/TYPE:PATH=PERMISSION of a flag.
func wantsOf(flag string, wants []string) (list []api.Want, err error) {
	for _, s := range wants {
		integration, rest, ok := strings.Cut(s, "/")
		i := strings.LastIndex(rest, "=")
		if !ok || i < 0 {
			return nil, fmt.Errorf("--%s %s: want INTEGRATION/TYPE:PATH=PERMISSION, for example shop/schema:shop/public=read_only", flag, s)
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
		fmt.Fprintf(w, "  waits for %s, until %s\n", clean(waitsFor(r)), at(r.ExpiresAt, now))
		if s := begins(r, now); s != "" {
			fmt.Fprintln(w, "  begins "+s)
		}
		fmt.Fprintf(w, "  lapse show %s\n", r.ID)
	case access.StateActive:
		rows := [][]string{}
		for _, h := range r.Holds {
			rows = append(rows, []string{what(h), string(h.State), until(h, now)})
		}
		table(w, "  ", rows...)
		fmt.Fprintf(w, "  lapse credentials %s\n", r.ID)
	}
	if s := review(r, now); s != "" {
		fmt.Fprintln(w, "  "+s)
	}
	note(w, r)
}

// waitEvery is the time between two looks at a request.
const waitEvery = 500 * time.Millisecond

// wait waits until a request is active, and says on standard error how far it
// is. A request that ends otherwise is a failure.
func (a *app) wait(ctx context.Context, r api.Request) (api.Request, error) {
	a.interrupted = "the request goes on: lapse show " + r.ID
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for last := ""; ; {
		is := "is " + string(r.State)
		switch begins := begins(r, time.Now()); {
		case r.State == access.StatePending:
			is = "waits for " + waitsFor(r)
		case r.State == access.StateApproved && begins != "":
			is += ", begins " + begins
		}
		if is != last {
			last = is
			fmt.Fprintf(a.err, "%s %s\n", r.ID, clean(is))
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
				rows := [][]string{{"ID", "STATE", "PERSON", "ACCESS", "ASKED", "WAITS FOR", "REASON"}}
				for _, r := range list.Requests {
					rows = append(rows, []string{r.ID, string(r.State), r.Person, whats(r), at(r.CreatedAt, now), next(r, now), r.Reason})
				}
				table(w, "", rows...)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&mine, "mine", false, "only your own")
	f.BoolVar(&toApprove, "to-approve", false, "only those that wait for your decision, or your review")
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
		now := time.Now()
		fmt.Fprintf(w, "%s is %s\n", r.ID, r.State)
		if waits := next(r, now); waits != "" {
			fmt.Fprintf(w, "  waits for %s\n", clean(waits))
		}
		var rows [][]string
		for _, h := range r.Holds {
			rows = append(rows, []string{what(h), string(h.State), until(h, now)})
		}
		table(w, "  ", rows...)
		note(w, r)
	})
}

// verdict is the command with which somebody decides, or reviews.
func (a *app) verdict(v access.Verdict, short string) *cobra.Command {
	in := api.Decide{Verdict: v}
	var without []string
	cmd := a.onRequest(string(v), short, func(ctx context.Context, id string) (err error) {
		if in.Without, err = wantsOf("without", without); err != nil {
			return err
		}
		return a.decide(ctx, "/requests/"+id+"/decisions", in)
	})
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why; the requester reads it")
	switch {
	case v == access.Approve:
		cmd.Flags().StringVar(&in.For, "for", "", "for this `duration` at most, not longer than was asked for")
		cmd.Flags().StringArrayVar(&without, "without", nil, "`INTEGRATION/TYPE:PATH=PERMISSION` that you leave out; repeated for several")
	case v.Reviews():
		require(cmd, "reason")
	}
	return cmd
}

func (a *app) approveCommand() *cobra.Command {
	return a.verdict(access.Approve, "Approve a request, all of it or less")
}

func (a *app) denyCommand() *cobra.Command { return a.verdict(access.Deny, "Deny a request") }

func (a *app) justifyCommand() *cobra.Command {
	return a.verdict(access.Justify, "Review: it was right to break the glass")
}

func (a *app) objectCommand() *cobra.Command {
	return a.verdict(access.Object, "Review: it was not right to break the glass")
}

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
