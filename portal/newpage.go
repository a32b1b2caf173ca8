package portal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/config"
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
	Expected     string // who decides, as it was shown
	Integrations []api.Integration
	Integration  string
	Found        string
	Results      []result
	Next         string
	Wants        []wanted
	Bundles      []bundle          // that may be asked for
	Bundle       *bundle           // the one that is asked for
	Others       []access.Person   // for whom the caller may ask
	Durations    []access.Duration // the only ones, where it is so
	Longest      string            // time that any access flow gives
	Ahead        access.Duration   // that access may begin later
	Start, Zone  string            // when it begins, on the clock of a time zone
	StartAt      *time.Time
	Fields       []detail
	Kept         []detail // fields of an access flow that is not used now
	Hint         string   // for the reason
	Glass        bool     // the caller may break the glass for something
	BreakGlass   bool     // and chose to
	OnlyGlass    bool     // nothing else gives what is chosen
	Explained    *api.Explained
	Flow         *access.FlowExplained // that is used, or the nearest
	Steps        []step
	Refusal      string // why nothing can become of it
	Sent         bool   // and it is not right yet
}

// bundle is one that the caller may ask for.
type bundle struct {
	Name, Doc string
	Items     []wanted
}

// detail is something that an access flow wants to know, as it was typed.
type detail struct {
	access.RequestField
	Value string
}

// step is one step of an approval, or of a review.
type step struct {
	Title, Wants string
	Who          []access.Person
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
	Told         []string
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

// clockTime is how browsers send a date and a time.
const clockTime = "2006-01-02T15:04"

// typed reads the form, or a link to it.
func typed(form url.Values) (in api.NewRequest, faults []api.Wrong) {
	in = api.NewRequest{For: strings.TrimSpace(form.Get("for")), Reason: form.Get("reason"), Fields: map[string]string{}}
	for _, value := range form["want"] {
		if w, ok := parseWant(value); ok && len(in.Wants) <= mostWants {
			in.Wants = append(in.Wants, w)
		}
	}
	if w, ok := parseWant(form.Get("add")); ok && !slices.Contains(in.Wants, w) {
		in.Wants = append(in.Wants, w)
	}
	if i, err := strconv.Atoi(form.Get("remove")); err == nil && i >= 0 && i < len(in.Wants) {
		in.Wants = slices.Delete(in.Wants, i, i+1)
	}
	if !form.Has("drop") {
		in.Bundle = cmp.Or(form.Get("take"), form.Get("bundle"))
	}
	in.OnBehalfOf, in.BreakGlass = strings.TrimSpace(form.Get("on_behalf_of")), form.Get("break_glass") != ""
	for key := range form {
		if name, ok := strings.CutPrefix(key, "field."); ok && strings.TrimSpace(form.Get(key)) != "" {
			in.Fields[name] = form.Get(key)
		}
	}
	if start := strings.TrimSpace(form.Get("start")); start != "" && !in.BreakGlass {
		at, err := time.ParseInLocation(clockTime, start, location(form.Get("zone")))
		if err != nil {
			faults = append(faults, api.Wrong{Location: "body.start_at", Message: "want a date and a time, for example 2030-01-31T09:00, or nothing for access that begins once it is approved"})
		} else {
			in.StartAt = &at
		}
	}
	return in, faults
}

// location is a time zone by its name, UTC for one that there is not.
func location(zone string) *time.Location {
	if at, err := time.LoadLocation(zone); err == nil && zone != "Local" {
		return at
	}
	return time.UTC
}

// newPage is the form, what its buttons do before it is sent, and the sending.
// A link to it may choose what is asked for.
func (p *Portal) newPage(r *http.Request, c *caller) (view, error) {
	in, faults := typed(r.Form)
	if r.Method == http.MethodGet {
		in.For = cmp.Or(in.For, min(usual, c.longest()).String())
		r.PostForm = url.Values{"for": {in.For}, "reason": {in.Reason}, "q": {r.Form.Get("q")}, "start": {r.Form.Get("start")}, "on_behalf_of": {in.OnBehalfOf}}
	}
	v := newView{Key: cmp.Or(r.Form.Get("key"), access.NewID("key")), Longest: c.longest().String(), Zone: "UTC", BreakGlass: in.BreakGlass}
	v.Sent = r.Method == http.MethodPost && r.Form.Get("do") == "send"
	more, err := p.consider(r, c, &in, &v)
	if err != nil {
		return view{}, err
	}
	var failed error
	switch faults = append(faults, more...); {
	case v.Sent:
		failed = p.sendable(r.Context(), c, in, faults)
	case len(faults) > 0:
		failed = wrongs("", faults...)
	}
	if v.Sent && failed == nil {
		if v.Expected == r.PostForm.Get("expected") {
			out, err := p.createRequest(r.Context(), c, &newRequest{Key: v.Key, Body: in})
			if err == nil {
				return view{to: "/requests/" + url.PathEscape(out.ID), note: cmp.Or(out.Note, sent(out))}, nil
			}
			failed = err
		} else {
			failed = problem(http.StatusConflict, "", "this is decided by others than you were shown: look who decides, and send it again")
		}
	}
	if v.Form = p.failure(r, failed); !v.Sent {
		v.Form.Text, v.Form.Hint, v.Form.status = "", "", 0
	}
	for i := range in.Wants {
		v.Wants[i].Fault = wantFault(v.Form, i)
	}
	if v.Form.Faults["wants"] != "" && len(in.Wants) == 0 {
		v.Form.Faults["wants"] = "Choose at least one thing from the list."
	}
	return view{template: "new", title: "Request access", data: &v, status: v.Form.status}, p.search(r, c, in, &v)
}

// sent says what follows.
func sent(out api.Request) string {
	if out.Trigger == access.BreakGlass {
		return "You broke the glass. Everybody concerned is told, and it is reviewed afterwards by " + strings.Join(out.Approvers, ", ") + "."
	}
	return "Sent. It waits for " + strings.Join(out.Approvers, ", ") + "."
}

// sendable says what is wrong with a form that was sent: all of it at once,
// what people wrote about it first.
func (p *Portal) sendable(ctx context.Context, c *caller, in api.NewRequest, faults []api.Wrong) error {
	_, err := p.newRequest(ctx, c, in)
	shape := valid(in)
	if shape == nil && len(faults) == 0 {
		return err
	}
	if known, ok := errors.AsType[*api.Problem](err); ok {
		faults = append(faults, known.Errors...)
	}
	if shape != nil {
		faults = append(faults, shape.Errors...)
	}
	return wrongs("", faults...)
}

// consider judges what is chosen: which access flow is used, what it wants to
// know, and who decides. What is not typed yet is not wrong.
func (p *Portal) consider(r *http.Request, c *caller, in *api.NewRequest, v *newView) (faults []api.Wrong, err error) {
	for _, w := range in.Wants {
		v.Wants = append(v.Wants, wanted{Want: w, Value: wantValue(w)})
	}
	if i := slices.IndexFunc(c.config.Bundles, func(b config.Bundle) bool { return b.Name == in.Bundle }); i >= 0 {
		v.Bundle = &bundle{Name: in.Bundle, Doc: c.config.Bundles[i].Doc}
	}
	keep := func(of []access.RequestField) {
		for _, name := range slices.Sorted(maps.Keys(in.Fields)) {
			if !slices.ContainsFunc(of, func(f access.RequestField) bool { return f.Name == name }) {
				v.Kept = append(v.Kept, detail{access.RequestField{Name: name}, in.Fields[name]})
				delete(in.Fields, name)
			}
		}
	}
	if in.StartAt != nil {
		v.Start, v.Zone, v.StartAt = in.StartAt.Format(clockTime), in.StartAt.Location().String(), in.StartAt
	} else {
		v.Start = r.Form.Get("start")
	}
	if len(in.Wants) == 0 && in.Bundle == "" {
		keep(nil)
		return nil, nil
	}
	ask, wants, faults, err := p.ask(r.Context(), c, c.Person, in.Wants, in.For, in.Options)
	if err != nil {
		return nil, err
	}
	lengths, longest := lengthsOf(c.config.AccessFlows, ask)
	if longest > 0 {
		v.Durations, v.Longest = lengths, longest.String()
	}
	if len(lengths) > 0 && !v.Sent && !slices.Contains(lengths, ask.For) {
		// Of the few that there are, the longest that is not longer than what was
		// typed before they were known.
		i := max(0, slices.IndexFunc(lengths, func(d access.Duration) bool { return d > ask.For })-1)
		if lengths[len(lengths)-1] < ask.For {
			i = len(lengths) - 1
		}
		ask.For, in.For = lengths[i], lengths[i].String()
		r.PostForm.Set("for", in.For)
		faults = slices.DeleteFunc(faults, func(w api.Wrong) bool { return w.Location == "body.for" })
	}
	if len(faults) > 0 {
		keep(nil)
		return faults, nil
	}
	out, err := p.explained(r.Context(), c, ask, wants)
	if err != nil {
		return nil, err
	}
	v.Explained = &out
	for i, g := range out.Grants {
		if i < len(v.Wants) {
			v.Wants[i].Means, v.Wants[i].Told = g.Means, g.Told
		} else {
			v.Bundle.Items = append(v.Bundle.Items, wanted{Want: g.Want, Means: g.Means, Told: g.Told})
		}
	}
	named := cmp.Or(out.Flow, out.Nearest)
	for _, f := range out.Flows {
		if f.Flow == named {
			v.Flow = &f
		}
	}
	var flow access.Flow
	if i := slices.IndexFunc(c.config.AccessFlows, func(f access.Flow) bool { return f.Name == named }); i >= 0 {
		flow = c.config.AccessFlows[i]
	}
	keep(flow.Fields)
	for _, want := range flow.Fields {
		v.Fields = append(v.Fields, detail{want, in.Fields[want.Name]})
	}
	v.Hint = flow.Justification.Hint
	if at := location(flow.Timeframe.TimeZone); v.StartAt != nil {
		v.Start, v.Zone = v.StartAt.In(at).Format(clockTime), at.String()
	} else if v.Start == "" {
		v.Zone = at.String()
	}
	switch {
	case out.Flow == "":
		v.Refusal = sentence(out.Text())
		ask.BreakGlass, ask.Start = true, time.Time{}
		_, longest = lengthsOf(c.config.AccessFlows, ask)
		v.OnlyGlass = !in.BreakGlass && longest > 0
	case out.Stuck != "":
		v.Refusal = sentence(out.Stuck)
	default:
		v.Expected = expected(out, in.BreakGlass)
	}
	for i, s := range out.Steps {
		one := step{Wants: s.Wants}
		if len(out.Steps) > 1 {
			one.Title = strings.TrimSuffix(fmt.Sprintf("Step %d of %d: %s", i+1, len(out.Steps), s.Name), ": ")
		}
		for _, email := range s.Who {
			if who, ok := c.directory.ByAddress(email); ok {
				one.Who = append(one.Who, who)
			}
		}
		v.Steps = append(v.Steps, one)
	}
	return nil, nil
}

// lengthsOf are the durations that access flows give what is wanted: the only
// ones where they name them, sorted, and the longest; 0 where none gives any.
func lengthsOf(flows []access.Flow, a access.Ask) (only []access.Duration, longest access.Duration) {
	free := false
	for _, f := range flows {
		a.For = f.MaxDuration
		if len(f.Durations) > 0 {
			a.For = slices.Max(f.Durations)
		}
		if _, err := access.ChooseFlow([]access.Flow{f}, a); err != nil {
			continue
		}
		only, longest, free = append(only, f.Durations...), max(longest, a.For), free || len(f.Durations) == 0
	}
	if free {
		return nil, longest
	}
	slices.Sort(only)
	return slices.Compact(only), longest
}

// usual is the duration that the form proposes, where an access flow gives it.
const usual = access.Duration(time.Hour)

// longest is the longest time for which an access flow lets the caller ask.
func (c *caller) longest() (d access.Duration) {
	for _, f := range c.asksBy(c.Person, c.Person) {
		d = max(d, f.MaxDuration)
	}
	return cmp.Or(d, usual)
}

// expected is what somebody was shown who sends the form: the access flow, and
// who decides on each step.
func expected(out api.Explained, glass bool) string {
	var steps []string
	for _, s := range out.Steps {
		steps = append(steps, fmt.Sprintf("%s (%s)", s.Wants, strings.Join(s.Who, ", ")))
	}
	shown := out.Flow + ": " + strings.Join(steps, ", then ")
	if glass {
		shown += ", after the glass is broken"
	}
	return shown
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
func (p *Portal) search(r *http.Request, c *caller, want api.NewRequest, v *newView) error {
	person, why := c.beneficiary(c.Person, want.OnBehalfOf)
	if why != "" {
		person = c.Person
	}
	v.Others = c.others(c.Person)
	flows := c.asksBy(c.Person, person)
	for _, f := range flows {
		v.Glass, v.Ahead = v.Glass || f.Trigger == access.BreakGlass, max(v.Ahead, f.ScheduleAhead)
	}
	if len(v.Others) == 0 && len(flows) == 0 {
		v.Nothing = "No access flow lets you ask for anything. An administrator can change that."
		return nil
	}
	if err := p.bundles(r.Context(), c, flows, person, v); err != nil {
		return err
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
		v.Results = append(v.Results, c.result(in, row, flows, person, v.Wants))
	}
	return nil
}

// bundles fills in those of which one access flow offers a person everything.
func (p *Portal) bundles(ctx context.Context, c *caller, flows []access.Flow, person access.Person, v *newView) error {
	var all []access.Entitlement
	for _, b := range c.config.Bundles {
		for _, item := range b.Items {
			if in, ok := c.integration(item.Integration); ok && in.Removal == nil {
				resource, _ := access.ParseResource(item.Resource) // it was parsed when it was applied
				all = append(all, access.Entitlement{Integration: in.ID, Resource: resource, Permission: item.Permission})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	catalog, err := p.opts.Store.Named(ctx, all)
	if err != nil {
		return err
	}
	for _, b := range c.config.Bundles {
		one, asked := bundle{Name: b.Name, Doc: b.Doc}, []access.Asked{}
		for _, item := range b.Items {
			one.Items = append(one.Items, wanted{Want: api.Want(item)})
			in, ok := c.integration(item.Integration)
			at := slices.IndexFunc(catalog, func(r store.ResourceRow) bool {
				return ok && in.Removal == nil && r.Integration == in.ID && r.Resource.String() == item.Resource && slices.Contains(r.Permissions, item.Permission)
			})
			if at >= 0 {
				asked = append(asked, asks(in, catalog[at].Found, item.Permission))
			}
		}
		offers := func(f access.Flow) bool {
			return !slices.ContainsFunc(asked, func(a access.Asked) bool { return !access.Offered([]access.Flow{f}, person, a) })
		}
		if len(asked) == len(b.Items) && slices.ContainsFunc(flows, offers) {
			v.Bundles = append(v.Bundles, one)
		}
	}
	return nil
}

// result says what a person may have on a resource.
func (c *caller) result(in store.IntegrationRow, row store.ResourceRow, flows []access.Flow, person access.Person, wants []wanted) result {
	out := result{Resource: row.Resource.String(), Note: row.Note}
	for _, permission := range row.Permissions {
		want := api.Want{Integration: in.Name, Resource: out.Resource, Permission: permission}
		if access.Offered(flows, person, asks(in, row.Found, permission)) {
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
