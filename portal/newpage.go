package portal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
)

// mostWants is how many rows the API takes; of more than that one too many is
// read, so that it is refused.
const mostWants = 50

// resourcesShown is how many resources a search shows before "more".
const resourcesShown = 8

// newView is the form with which somebody asks for access.
type newView struct {
	Form         *form
	Nothing      string // why there is nothing to ask for
	Key          string // names the request, so that sending it twice makes one
	Expected     string // the access flow and the approvers that were shown
	Integrations []api.Integration
	Integration  string
	Found        string
	Results      []result
	Next         string
	Wants        []wanted
	Approvers    []access.Person
	Flow         string
	Expires      string
	Refusal      string                // why nobody can decide on it
	Explained    *access.FlowExplained // of the flow that is used, or the nearest
	Longest      string                // time that any access flow gives the caller
	Sent         bool                  // and it is not right yet
}

// result is a resource that was found, with what can be asked for on it.
type result struct {
	Resource string
	Note     string
	Choices  []choice
}

// choice is a permission for which an access flow lets the caller ask.
type choice struct {
	Permission, Value string
	Chosen            bool
}

// wanted is a row of the request.
type wanted struct {
	api.Want
	Means        string
	Value, Fault string
}

// wantValue names a want in a form.
func wantValue(w api.Want) string {
	return url.Values{"integration": {w.Integration}, "resource": {w.Resource}, "permission": {w.Permission}}.Encode()
}

// parseWant undoes wantValue.
func parseWant(value string) (w api.Want, ok bool) {
	v, err := url.ParseQuery(value)
	w = api.Want{Integration: v.Get("integration"), Resource: v.Get("resource"), Permission: v.Get("permission")}
	return w, err == nil && w.Integration != ""
}

// newPage is the form, what its buttons do before it is sent, and the sending.
// A link to it may choose what is asked for.
func (p *Portal) newPage(r *http.Request, c *caller) (view, error) {
	in := api.NewRequest{For: strings.TrimSpace(r.Form.Get("for")), Reason: r.Form.Get("reason")}
	for _, value := range r.Form["want"] {
		if w, ok := parseWant(value); ok && len(in.Wants) <= mostWants {
			in.Wants = append(in.Wants, w)
		}
	}
	if r.Form.Has("add") {
		if w, ok := parseWant(r.Form.Get("add")); ok && !slices.Contains(in.Wants, w) {
			in.Wants = append(in.Wants, w)
		}
	}
	if i, err := strconv.Atoi(r.Form.Get("remove")); err == nil && i >= 0 && i < len(in.Wants) {
		in.Wants = slices.Delete(in.Wants, i, i+1)
	}
	if r.Method == http.MethodGet {
		in.For = cmp.Or(in.For, min(usual, c.longest()).String())
		r.PostForm = url.Values{"for": {in.For}, "reason": {in.Reason}, "q": {r.Form.Get("q")}}
	}

	v := newView{Key: cmp.Or(r.Form.Get("key"), access.NewID("key")), Longest: c.longest().String()}
	v.Sent = r.Method == http.MethodPost && r.Form.Get("do") == "send"
	request, failed := p.draft(r.Context(), c, in, false)
	if failed == nil {
		flow := c.flow(request)
		v.Approvers, v.Flow, v.Expires = access.Approvers(flow, request.Asked, c.Person, c.people), flow.Name, flow.Approval.ExpiresAfter.String()
		v.Expected = expected(v)
	}
	if v.Sent {
		_, failed = p.draft(r.Context(), c, in, true)
	}
	if v.Sent && failed == nil {
		if v.Expected == r.PostForm.Get("expected") {
			out, err := p.createRequest(r.Context(), c, &newRequest{Key: v.Key, Body: in})
			if err == nil {
				return view{to: "/requests/" + url.PathEscape(out.ID), note: cmp.Or(out.Note, "Sent. It waits for "+strings.Join(out.Approvers, ", ")+".")}, nil
			}
			failed = err
		} else {
			failed = problem(http.StatusConflict, "", "this is decided by others than you were shown: look who decides, and send it again")
		}
	}
	v.Form = p.failure(r, failed)
	if !v.Sent {
		// What is not typed yet is not wrong; what is chosen may be.
		if v.Form.Text != "" && len(in.Wants) > 0 {
			v.Refusal = v.Form.Text
		}
		v.Form.Text, v.Form.Hint, v.Form.status = "", "", 0
		if len(in.Wants) == 0 {
			clear(v.Form.Faults)
		}
	}
	for i, w := range in.Wants {
		v.Wants = append(v.Wants, wanted{Want: w, Value: wantValue(w), Fault: wantFault(v.Form, i)})
	}
	p.explainForm(r.Context(), c, in, &v)
	if len(in.Wants) == 0 && v.Form.Faults["wants"] != "" {
		v.Form.Faults["wants"] = "Choose at least one thing from the list."
	}
	return view{template: "new", title: "Request access", data: &v, status: v.Form.status}, p.search(r, c, &v)
}

// explainForm says what is chosen means, and why it can or cannot be asked for.
func (p *Portal) explainForm(ctx context.Context, c *caller, in api.NewRequest, v *newView) {
	if len(in.Wants) == 0 {
		return
	}
	out, err := p.explain(ctx, c, &explainCall{Body: api.Explain{Wants: in.Wants, For: in.For}})
	if err != nil {
		return // the form says what is wrong
	}
	for i, g := range out.Grants {
		v.Wants[i].Means = g.Means
	}
	for _, f := range out.Flows {
		if f.Flow == cmp.Or(out.Flow, out.Nearest) {
			v.Explained = &f
		}
	}
}

// usual is the duration that the form proposes, where an access flow gives it.
const usual = access.Duration(time.Hour)

// longest is the longest time for which an access flow lets the caller ask.
func (c *caller) longest() (d access.Duration) {
	for _, f := range c.config.AccessFlows {
		if f.Requesters.Holds(c.Person) {
			d = max(d, f.MaxDuration)
		}
	}
	return d
}

// draft judges what is asked for as when it is sent. Until then the reason may
// be missing.
func (p *Portal) draft(ctx context.Context, c *caller, in api.NewRequest, send bool) (access.Request, error) {
	if !send && strings.TrimSpace(in.Reason) == "" {
		in.Reason = "to be said"
	}
	shape := valid(in)
	r, err := p.newRequest(ctx, c, in)
	if shape == nil {
		return r, err
	}
	// All that is wrong is said at once, what people wrote about it first.
	var faults []api.Wrong
	if known, ok := errors.AsType[*api.Problem](err); ok {
		faults = known.Errors
	}
	return r, wrongs("", append(faults, shape.Errors...)...)
}

// expected is what somebody was shown who sends the form.
func expected(v newView) string {
	emails := make([]string, len(v.Approvers))
	for i, who := range v.Approvers {
		emails[i] = who.Email
	}
	return v.Flow + ": " + strings.Join(emails, ", ")
}

// wantFault takes the first fault of a row.
func wantFault(f *form, i int) string {
	for _, field := range []string{"integration", "resource", "permission"} {
		if fault := f.Fault(fmt.Sprintf("wants[%d].%s", i, field)); fault != "" {
			return fault
		}
	}
	return ""
}

// search fills in what can be chosen.
func (p *Portal) search(r *http.Request, c *caller, v *newView) error {
	if !slices.ContainsFunc(c.config.AccessFlows, func(f access.Flow) bool { return f.Requesters.Holds(c.Person) }) {
		v.Nothing = "No access flow lets you ask for anything. An administrator can change that."
		return nil
	}
	for _, in := range c.integrations {
		if !in.Removed && in.Removal == nil {
			v.Integrations = append(v.Integrations, api.Integration{Name: in.Name, Title: p.opts.Kinds[in.Kind].Title})
		}
	}
	in, ok := c.integration(r.Form.Get("integration"))
	if !ok && len(v.Wants) > 0 {
		in, ok = c.integration(v.Wants[0].Integration)
	}
	if !ok {
		in, ok = c.integration(first(c.names()))
	}
	if !ok {
		v.Nothing = "There are no integrations yet."
		return nil
	}
	v.Integration = in.Name
	f := store.ResourceFilter{Integration: in.ID, Query: strings.TrimSpace(r.Form.Get("q")), Limit: resourcesShown + 1}
	if r.Form.Get("do") == "more" {
		f.After = r.Form.Get("after")
	}
	rows, err := p.opts.Store.Resources(r.Context(), f)
	if err != nil {
		return err
	}
	if len(rows) > resourcesShown {
		rows = rows[:resourcesShown]
		v.Next = rows[resourcesShown-1].Key()
	}
	v.Found = found(len(rows), v.Next != "", f, in.Name)
	for _, row := range rows {
		v.Results = append(v.Results, c.result(in, row, v.Wants))
	}
	return nil
}

// result says what the caller may ask for on a resource.
func (c *caller) result(in store.IntegrationRow, row store.ResourceRow, wants []wanted) result {
	out := result{Resource: row.Resource.String(), Note: row.Note}
	for _, permission := range row.Permissions {
		want := api.Want{Integration: in.Name, Resource: out.Resource, Permission: permission}
		if _, err := access.ChooseFlow(c.config.AccessFlows, c.Person, []access.Asked{asks(in, row.Found, permission)}, access.Duration(time.Second)); err == nil {
			chosen := slices.ContainsFunc(wants, func(w wanted) bool { return w.Want == want })
			out.Choices = append(out.Choices, choice{Permission: permission, Value: wantValue(want), Chosen: chosen})
		}
	}
	return out
}

func found(n int, more bool, f store.ResourceFilter, integration string) string {
	switch {
	case n == 0 && f.Query == "":
		return "The catalog of " + integration + " is empty. Its owner can have it read."
	case n == 0:
		return "Nothing on " + integration + " has this in its name."
	case more:
		return fmt.Sprintf("The first %d; type a part of the name to find others.", n)
	case n == 1:
		return "1 resource"
	}
	return fmt.Sprintf("%d resources", n)
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}
