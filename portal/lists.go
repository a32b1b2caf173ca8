package portal

import (
	"context"
	"net/http"
	"net/url"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

const (
	// rowsShown is how many rows a list has before "more".
	rowsShown = 20
	// mostOpen bounds how much of what one person has open, or waiting, is shown.
	mostOpen = 50
)

// more is the address of the next page of a list; empty at the end.
func more(r *http.Request, next string) string {
	if next == "" {
		return ""
	}
	query := r.URL.Query()
	query.Set("after", next)
	return r.URL.Path + "?" + query.Encode()
}

// mine is a request of the caller's with the credentials it has.
type mine struct {
	shown
	Credentials []string
}

type homeView struct {
	Open, Waiting, Over []mine
	Cut                 bool // there is more open, or waiting
	More                string
}

func (p *Portal) homePage(r *http.Request, c *caller) (view, error) {
	var v homeView
	changes := false
	list := func(f store.RequestFilter, into *[]mine) (next string, err error) {
		f.Person = c.ID
		rows, next, err := c.list(r.Context(), f)
		for _, row := range rows {
			q := mine{shown: c.shown(row, c.brief(row)), Credentials: p.credentials(c, row)}
			changes = changes || q.changing()
			*into = append(*into, q)
		}
		return next, err
	}
	for phase, into := range map[store.Phase]*[]mine{store.PhaseOpen: &v.Open, store.PhaseWaiting: &v.Waiting} {
		next, err := list(store.RequestFilter{Phase: phase, Limit: mostOpen}, into)
		if err != nil {
			return view{}, err
		}
		v.Cut = v.Cut || next != ""
	}
	next, err := list(store.RequestFilter{Phase: store.PhaseOver, Limit: rowsShown, After: r.Form.Get("after")}, &v.Over)
	v.More = more(r, next)
	return view{template: "home", title: "My access", data: v, changing: changes}, err
}

type inboxView struct {
	Requests, Reviews []shown
	More              string
}

func (p *Portal) inboxPage(r *http.Request, c *caller) (view, error) {
	rows, next, err := c.list(r.Context(), store.RequestFilter{Decider: &c.Person, Limit: rowsShown, After: r.Form.Get("after")})
	v := inboxView{More: more(r, next)}
	for _, row := range rows {
		q := c.shown(row, c.brief(row))
		if q.Review == access.ReviewDue {
			v.Reviews = append(v.Reviews, q)
		} else {
			v.Requests = append(v.Requests, q)
		}
	}
	return view{template: "inbox", title: "Inbox", data: v}, err
}

// openHold is a row of the list of everything that is open.
type openHold struct {
	api.Hold
	Person, Request string
}

type allView struct {
	Tabs          []tab
	ReportOnly    string
	Administrator bool
	UI            string
	Holds         []openHold
	Requests      []api.Request
	Empty         string
	More          string
}

// allPage is for administrators: what is open, late, or waits, of everybody.
func (p *Portal) allPage(r *http.Request, c *caller) (view, error) {
	if err := c.mustAdminister(); err != nil {
		return view{}, err
	}
	v := allView{Administrator: true}
	if p.opts.UI != "" {
		v.UI = UIPath + "/"
	}
	show := r.Form.Get("show")
	for _, t := range []struct{ show, text string }{{"", "Open"}, {"overdue", "Overdue"}, {"waiting", "Waiting"}, {"requests", "All requests"}} {
		to := "/all"
		if t.show != "" {
			to += "?" + url.Values{"show": {t.show}}.Encode()
		}
		v.Tabs = append(v.Tabs, tab{Path: to, Text: t.text, Here: t.show == show})
	}
	var err error
	if v.ReportOnly, err = p.opts.Store.ReportOnly(r.Context()); err != nil {
		return view{}, err
	}
	switch show {
	case "":
		v.Empty = "Nobody has access to anything right now."
		err = p.openHolds(r.Context(), c, r, store.HoldFilter{}, &v)
	case "overdue":
		v.Empty = "Nothing is overdue."
		err = p.openHolds(r.Context(), c, r, store.HoldFilter{EndsBefore: c.now.Add(-access.OverdueAfter)}, &v)
	case "waiting":
		v.Empty = "Nothing waits."
		err = p.allRequests(c, r, store.RequestFilter{Phase: store.PhaseWaiting}, &v)
	case "requests":
		v.Empty = "Nobody has asked for anything yet."
		err = p.allRequests(c, r, store.RequestFilter{}, &v)
	default:
		err = problem(http.StatusNotFound, "", "there is no such list")
	}
	return view{template: "all", title: "All access", data: v}, err
}

func (p *Portal) openHolds(ctx context.Context, c *caller, r *http.Request, f store.HoldFilter, v *allView) error {
	f.After, f.Limit = r.Form.Get("after"), rowsShown+1
	rows, err := p.opts.Store.OpenAccess(ctx, f)
	if len(rows) > rowsShown {
		rows = rows[:rowsShown]
		v.More = more(r, rows[rowsShown-1].Key())
	}
	for _, h := range rows {
		v.Holds = append(v.Holds, openHold{Hold: c.hold(h.Hold), Person: c.email(h.PersonID), Request: h.RequestID})
	}
	return err
}

func (p *Portal) allRequests(c *caller, r *http.Request, f store.RequestFilter, v *allView) error {
	f.After, f.Limit = r.Form.Get("after"), rowsShown
	rows, next, err := c.list(r.Context(), f)
	for _, row := range rows {
		v.Requests = append(v.Requests, c.brief(row))
	}
	v.More = more(r, next)
	return err
}
