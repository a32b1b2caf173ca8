package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/engine"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// How the removal of an integration stands.
const (
	removalNone      = "none"
	removalRunning   = "running"
	removalLeft      = "left"
	removalForgotten = "forgotten"
)

func (p *Portal) registerRemoval(to huma.API) {
	tags := []string{"integrations"}
	path := "/integrations/{name}/removal"
	register(p, to, huma.Operation{OperationID: "show-removal", Method: http.MethodGet, Path: path, Tags: tags,
		Summary: "Show how the removal of an integration stands, or what one would end"}, p.showRemoval)
	register(p, to, huma.Operation{OperationID: "remove", Method: http.MethodPost, Path: path, Tags: tags,
		Summary: "Remove an integration: end what is held, delete the accounts, and forget it"}, p.remove)
	register(p, to, huma.Operation{OperationID: "accept-left", Method: http.MethodPost, Path: path + "/acceptance", Tags: tags,
		Summary: "Accept what the removal of an integration leaves"}, p.acceptLeft)
	register(p, to, huma.Operation{OperationID: "cancel-removal", Method: http.MethodPost, Path: path + "/cancellation", Tags: tags,
		Summary: "Take a removal back; what has ended stays ended"}, p.cancelRemoval)
}

// removalCall is a call with a reason on the removal of an integration.
type removalCall struct {
	ByName
	Body api.Why
}

// open is the error for integrations of which one is being removed, or was.
func (c *caller) open(ids ...string) error {
	for _, id := range ids {
		in, _ := c.integrationByID(id)
		if why := in.Removal.Closed(in.Name); why != "" {
			hint := "ask whoever removes it"
			if in.Removal.Running() && c.administrator() {
				hint = "lapse remove " + in.Name + " --cancel takes that back"
			}
			return problem(http.StatusConflict, hint, "%s", why)
		}
	}
	return nil
}

// removable finds the integration of a name that an administrator may remove:
// the one that is being removed, the one that is configured or was, and at last
// one that was forgotten.
func (p *Portal) removable(ctx context.Context, c *caller, name string) (in store.IntegrationRow, err error) {
	if err := c.mustAdminister(); err != nil {
		return in, err
	}
	if i := slices.IndexFunc(c.integrations, func(row store.IntegrationRow) bool { return row.Name == name && row.Removal.Running() }); i >= 0 {
		return c.integrations[i], nil
	}
	in, err = p.opts.Store.IntegrationByName(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return in, err
	}
	for _, row := range c.integrations {
		if row.Name == name && (in.Removal == nil || row.Removal.ForgottenAt.After(in.Removal.ForgottenAt)) {
			in = row
		}
	}
	if in.ID == "" {
		return in, problem(http.StatusNotFound, spec.DidYouMean(name, c.names()), "there is no such integration")
	}
	return in, nil
}

func (p *Portal) showRemoval(ctx context.Context, c *caller, in *ByName) (out api.Removal, err error) {
	row, err := p.removable(ctx, c, in.Name)
	if err != nil {
		return out, err
	}
	return p.removal(ctx, row)
}

func (p *Portal) removal(ctx context.Context, in store.IntegrationRow) (out api.Removal, err error) {
	out = api.Removal{Integration: in.Name, State: removalNone, Configured: !in.Removed, Left: []access.Left{}}
	if r := in.Removal; r != nil {
		out.By, out.At, out.Reason, out.Left = r.ByEmail, r.At, r.Reason, append(out.Left, r.Left...)
		out.State = removalRunning
		if r.Accepted != nil {
			out.AcceptedBy, out.Accepted = r.Accepted.ByEmail, r.Accepted.Reason
		}
		switch {
		case !r.Running():
			out.State = removalForgotten
		case slices.ContainsFunc(r.Left, func(l access.Left) bool { return !r.Accepts(l) }):
			out.State = removalLeft
		}
	}
	if out.Open, err = p.opts.Store.Open(ctx, in.ID); err != nil {
		return out, err
	}
	out.Open = append([]access.Left{}, out.Open...)
	out.ReportOnly, err = p.opts.Store.ReportOnly(ctx)
	return out, err
}

// change changes a removal, has its workflow look again, and shows it.
func (p *Portal) change(ctx context.Context, in store.IntegrationRow, change func(store.IntegrationRow) (*access.Removal, access.Event, error)) (out api.Removal, err error) {
	if in, err = p.opts.Store.ChangeRemoval(ctx, in.ID, change); err != nil {
		return out, err
	}
	waits := engine.StartRemoval(ctx, p.opts.Temporal, in.ID)
	if waits == nil && in.Removed && in.Removal.Running() && p.opts.OnApply != nil {
		waits = p.opts.OnApply(ctx) // its connector may be gone
	}
	if waits != nil && !unreachable(waits) {
		return out, waits
	}
	if out, err = p.removal(ctx, in); waits != nil {
		out.Note = "Temporal does not answer. The removal goes on when it is back."
	}
	return out, err
}

func (p *Portal) remove(ctx context.Context, c *caller, in *removalCall) (out api.Removal, err error) {
	row, err := p.removable(ctx, c, in.Name)
	if err != nil {
		return out, err
	}
	if row.Removal != nil && !row.Removal.Running() {
		return out, problem(http.StatusConflict, "", "%s", row.Removal.Closed(row.Name))
	}
	reason := strings.TrimSpace(in.Body.Reason)
	if reason == "" && row.Removal == nil {
		return out, wrongs("", api.Wrong{Location: "body.reason", Message: "say why: everybody who has access there will ask"})
	}
	if why, err := p.opts.Store.ReportOnly(ctx); err != nil {
		return out, err
	} else if why != "" {
		return out, problem(http.StatusConflict, "lapse restore says what is to be done", "nothing is removed before the restore is accepted: %s", why)
	}
	return p.change(ctx, row, func(now store.IntegrationRow) (*access.Removal, access.Event, error) {
		if now.Removal != nil {
			return nil, access.Event{}, nil // somebody removes it already
		}
		r := &access.Removal{ID: access.NewID("rem"), By: c.ID, ByEmail: c.Email, At: c.now.UTC(), Reason: reason}
		return r, access.Event{Key: "removal/" + r.ID + "/begun", Kind: "integration.removal", At: r.At, Actor: c.ID, Integration: now.ID,
			Text: fmt.Sprintf("%s removes %s: %s", c.Email, now.Name, reason)}, nil
	})
}

func (p *Portal) acceptLeft(ctx context.Context, c *caller, in *removalCall) (out api.Removal, err error) {
	row, err := p.running(ctx, c, in.Name)
	if err != nil {
		return out, err
	}
	by := &access.AcceptedLeft{By: c.ID, ByEmail: c.Email, At: c.now.UTC(), Reason: strings.TrimSpace(in.Body.Reason)}
	if by.Reason == "" {
		return out, wrongs("", api.Wrong{Location: "body.reason", Message: "say why it may stay: nobody looks after it any more"})
	}
	return p.change(ctx, row, func(now store.IntegrationRow) (*access.Removal, access.Event, error) {
		r := now.Removal
		if !r.Running() || r.LookedAt.IsZero() {
			return nil, access.Event{}, problem(http.StatusConflict, "lapse remove "+now.Name+" says how it stands", "the removal of %s goes on by itself; nothing has to be accepted yet", now.Name)
		}
		for _, l := range r.Left {
			if l.Kind != access.LeftConfigured {
				by.Left = append(by.Left, l)
			}
		}
		if len(by.Left) == 0 {
			return nil, access.Event{}, problem(http.StatusConflict, "take it out of lapse.yaml, and apply that", "nothing of %s is left that could be accepted", now.Name)
		}
		r.Accepted = by
		texts := make([]string, len(by.Left))
		for i, l := range by.Left {
			texts[i] = l.Text
		}
		return r, access.Event{Key: "removal/" + r.ID + "/accepted/" + access.NewID("acc"), Kind: "integration.left_accepted", At: by.At, Actor: c.ID, Integration: now.ID,
			Text: fmt.Sprintf("%s is content to leave of %s: %s (%s)", c.Email, now.Name, strings.Join(texts, "; "), by.Reason)}, nil
	})
}

func (p *Portal) cancelRemoval(ctx context.Context, c *caller, in *removalCall) (out api.Removal, err error) {
	row, err := p.running(ctx, c, in.Name)
	if err != nil {
		return out, err
	}
	return p.change(ctx, row, func(now store.IntegrationRow) (*access.Removal, access.Event, error) {
		if !now.Removal.Running() {
			return nil, access.Event{}, problem(http.StatusConflict, "", "it is too late: %s", now.Removal.Closed(now.Name))
		}
		event := access.Event{Key: "removal/" + now.Removal.ID + "/cancelled", Kind: "integration.removal_cancelled", At: c.now.UTC(), Actor: c.ID, Integration: now.ID,
			Text: fmt.Sprintf("%s takes the removal of %s back", c.Email, now.Name)}
		if why := strings.TrimSpace(in.Body.Reason); why != "" {
			event.Text += ": " + why
		}
		return nil, event, nil
	})
}

// running finds an integration that is being removed.
func (p *Portal) running(ctx context.Context, c *caller, name string) (in store.IntegrationRow, err error) {
	if in, err = p.removable(ctx, c, name); err == nil && !in.Removal.Running() {
		why := in.Removal.Closed(in.Name)
		if why == "" {
			why = "nobody removes " + in.Name
		}
		err = problem(http.StatusConflict, "", "%s", why)
	}
	return in, err
}

// removed are the warnings about integrations that are being removed, or that a
// configuration leaves out.
func (p *Portal) removed(ctx context.Context, file string, next config.Config) (warnings []spec.Fault, err error) {
	rows, err := p.opts.Store.Integrations(ctx)
	for _, in := range rows {
		has := slices.ContainsFunc(next.Integrations, func(i config.Integration) bool { return i.Name == in.Name && i.Kind == in.Kind })
		switch {
		case in.Removal.Running() && has:
			warnings = append(warnings, spec.Fault{File: file, Message: in.Removal.Closed(in.Name) + "; it stays closed",
				Fix: "take it out of the file, or take that back with lapse remove " + in.Name + " --cancel"})
		case in.Removal == nil && !in.Removed && !has:
			warnings = append(warnings, spec.Fault{File: file, Message: in.Name + " is not in the file any more: what is held on it goes on to its end",
				Fix: "lapse remove " + in.Name + " ends it at once, says what is left, and forgets the integration"})
		}
	}
	return warnings, err
}

// removalView is the page of a removal.
type removalView struct {
	api.Removal
	Form *form
}

func (p *Portal) removalPage(r *http.Request, c *caller) (view, error) {
	return p.removalView(r, c, nil)
}

func (p *Portal) removalView(r *http.Request, c *caller, why error) (view, error) {
	now, err := p.showRemoval(r.Context(), c, &ByName{Name: r.PathValue("name")})
	v := removalView{now, p.failure(r, why)}
	return view{template: "removal", title: "Removal of " + now.Integration, data: v, status: v.Form.status, changing: now.State == removalRunning}, err
}

// removePage removes an integration, accepts what is left of it, or takes that
// back.
func (p *Portal) removePage(r *http.Request, c *caller) (view, error) {
	in := &removalCall{Body: api.Why{Reason: r.PostForm.Get("reason")}}
	in.Name = r.PathValue("name")
	does := map[string]func(context.Context, *caller, *removalCall) (api.Removal, error){"remove": p.remove, "accept": p.acceptLeft, "cancel": p.cancelRemoval}
	do, ok := does[r.PostForm.Get("do")]
	if !ok {
		return p.removalView(r, c, problem(http.StatusUnprocessableEntity, "", "there is nothing of that name to do"))
	}
	out, err := do(r.Context(), c, in)
	if err != nil {
		return p.removalView(r, c, err)
	}
	return view{to: "/remove/" + url.PathEscape(out.Integration), note: out.Note}, nil
}
