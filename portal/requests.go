package portal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/activities"
	"github.com/lapse-access/lapse/internal/config"
	"github.com/lapse-access/lapse/internal/spec"
	"github.com/lapse-access/lapse/internal/store"
	"github.com/lapse-access/lapse/portal/api"
	"github.com/lapse-access/lapse/workflows"
)

// ByID is the path of an operation on one request.
type ByID struct {
	ID string `path:"id" doc:"id of the request" maxLength:"100"`
}

func (p *Portal) registerRequests(to huma.API) {
	tags := []string{"requests"}
	register(p, to, huma.Operation{OperationID: "create-request", Method: http.MethodPost, Path: "/requests", DefaultStatus: http.StatusCreated, Tags: tags,
		Summary: "Ask for access"}, p.createRequest)
	register(p, to, huma.Operation{OperationID: "list-requests", Method: http.MethodGet, Path: "/requests", Tags: tags,
		Summary: "List the requests that the caller may see, newest first"}, p.listRequests)
	register(p, to, huma.Operation{OperationID: "show-request", Method: http.MethodGet, Path: "/requests/{id}", Tags: tags,
		Summary: "Show a request with its decisions, evidence and events"}, p.showRequest)
	p.registerDecisions(to, tags)
	p.registerExplain(to, tags)
	register(p, to, huma.Operation{OperationID: "take-credentials", Method: http.MethodPost, Path: "/requests/{id}/credentials", Tags: tags,
		Summary: "Show the credential of the requester's account, once"}, p.takeCredential)
}

// newRequest is the call that creates a request.
type newRequest struct {
	Key  string `header:"Idempotency-Key" doc:"a second call with the same key finds the request of the first" maxLength:"200"`
	Body api.NewRequest
}

func (p *Portal) createRequest(ctx context.Context, c *caller, in *newRequest) (out api.Request, err error) {
	m, err := p.newRequest(ctx, c, in.Body)
	if err != nil && in.Key != "" {
		// What has been asked for already may not be possible any more.
		row, unknown := c.request(ctx, keyedID(c.ID, in.Key))
		if unknown == nil && row.Reason == strings.TrimSpace(in.Body.Reason) && row.Duration.String() == in.Body.For {
			return p.show(ctx, c, row)
		}
	}
	if err != nil {
		return out, err
	}
	if in.Key != "" {
		// The same key names the same request.
		m.Request.ID = keyedID(c.ID, in.Key)
	}
	row, err := p.keep(ctx, c, m)
	if err != nil {
		return out, err
	}
	err = p.start(ctx, c, row.Request)
	if err != nil && !unreachable(err) {
		return out, err
	}
	note := ""
	switch {
	case err != nil:
		note = "Temporal does not answer. The request is stored, and starts when Temporal is back."
	case m.Flow.Trigger == access.BreakGlass:
		// Nobody else decides: what is shown is what came of it.
		if note, err = p.outcome(ctx, row, access.Decision{Verdict: access.Break}); err == nil {
			row, err = p.opts.Store.Request(ctx, row.ID)
			c.now = p.opts.Store.Now()
		}
		if err != nil {
			return out, err
		}
	}
	out, err = p.show(ctx, c, row)
	out.Note = note
	return out, err
}

// newRequest judges what is asked for, and puts it together.
func (p *Portal) newRequest(ctx context.Context, c *caller, in api.NewRequest) (m access.Matter, err error) {
	if c.version == 0 {
		return m, problem(http.StatusConflict, "apply one with lapse apply -f lapse.yaml", "there is no configuration yet")
	}
	var faults []api.Wrong
	if in.Reason = strings.TrimSpace(in.Reason); in.Reason == "" {
		faults = append(faults, api.Wrong{Location: "body.reason", Message: "say why: those who decide read it"})
	}
	ask, _, more, err := p.ask(ctx, c, c.Person, in.Wants, in.For, in.Options)
	if err != nil {
		return m, err
	}
	if faults = append(faults, more...); len(faults) > 0 {
		return m, wrongs("lapse integrations list and lapse resources NAME list what there is; lapse discover NAME reads it again", faults...)
	}
	flow, err := access.ChooseFlow(c.config.AccessFlows, ask)
	if err != nil {
		return m, problem(http.StatusForbidden, "ask for less, or have an access flow changed", "%v", err)
	}
	for _, w := range flow.Faults(in.Reason, in.Fields) {
		faults = append(faults, api.Wrong{Location: "body." + w.Field, Message: w.Message})
	}
	if len(faults) > 0 {
		return m, wrongs("", faults...)
	}
	m = c.drafted(ask, flow)
	m.Request.Reason, m.Request.Bundle, m.Request.Fields = in.Reason, in.Bundle, trimmed(in.Fields)
	if why := m.Stuck(); why != "" {
		return m, problem(http.StatusConflict, "have an owner named for it, or another approver or a fallback in the access flow "+flow.Name, "%s", why)
	}
	why, err := p.mayBreak(ctx, c, m)
	if err == nil && why != "" {
		err = problem(http.StatusForbidden, "have the review done first", "%s", why)
	}
	return m, err
}

// ask is what somebody wants as flows judge it, with all that is wanted, or
// what is wrong with it.
func (p *Portal) ask(ctx context.Context, c *caller, by access.Person, wants []api.Want, length string, o api.Options) (a access.Ask, all []api.Want, faults []api.Wrong, err error) {
	wrong := func(field, message string) {
		faults = append(faults, api.Wrong{Location: "body." + field, Message: message})
	}
	a = access.Ask{By: by, Now: c.now.UTC(), BreakGlass: o.BreakGlass}
	if a.For, err = access.ParseDuration(length); err != nil || a.For.Std() < time.Second {
		wrong("for", "want a duration of at least 1s, for example 30m, 8h or 1h30m")
	}
	var why string
	if a.Person, why = c.beneficiary(by, o.OnBehalfOf); why != "" {
		wrong("on_behalf_of", why)
	}
	switch {
	case o.StartAt == nil:
	case o.BreakGlass:
		wrong("start_at", "leave it out: access that is taken by breaking the glass begins at once")
	case o.StartAt.Before(c.now.Add(-startGrace)):
		wrong("start_at", "is past: leave it out for access that begins once it is approved")
	default:
		a.Start = o.StartAt.UTC()
	}
	if len(wants) == 0 && o.Bundle == "" {
		wrong("wants", "want at least one thing to ask for, or a bundle")
	}
	if all, why = c.bundled(wants, o.Bundle); why != "" {
		wrong("bundle", why)
	}
	var more []api.Wrong
	a.Asked, more, err = p.asked(ctx, c, all, len(wants))
	return a, all, append(faults, more...), err
}

// startGrace is how long past a beginning may be that counts as at once: clocks
// differ, and people choose the minute that it is.
const startGrace = 2 * time.Minute

// mayBreak says why somebody may not break the glass; empty where they may, and
// where nobody breaks any.
func (p *Portal) mayBreak(ctx context.Context, c *caller, m access.Matter) (why string, err error) {
	if m.Flow.Trigger != access.BreakGlass {
		return "", nil
	}
	if m.Owes, err = c.store.Owes(ctx, m); err != nil {
		return "", err
	}
	by := cmp.Or(m.Request.AskedBy, m.Request.PersonID)
	return m.May(access.Decision{Verdict: access.Break, By: by, ByEmail: c.email(by), At: m.Now}), nil
}

// drafted is the matter of a request that nobody has made yet.
func (c *caller) drafted(a access.Ask, flow access.Flow) access.Matter {
	m := flow.Draft(a, c.directory, c.config.Administrators)
	m.Request.FlowVersion = c.version
	return m
}

// trimmed are the fields that somebody filled in.
func trimmed(fields map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range fields {
		if value = strings.TrimSpace(value); value != "" {
			out[name] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// beneficiary is the person whose access a request becomes, or what is wrong
// with the address. Nobody learns by it who is in the directory.
func (c *caller) beneficiary(by access.Person, address string) (p access.Person, why string) {
	if address == "" || access.SameEmail(address, by.Email) {
		return by, ""
	}
	if p, ok := c.directory.ByAddress(address); ok && (p.ID == by.ID || len(c.asksBy(by, p)) > 0) {
		return p, ""
	}
	others := emails(c.others(by))
	if why = "no access flow lets you ask for this person"; len(others) > 0 {
		why += ": " + spec.DidYouMean(address, others)
	}
	return p, why
}

// asksBy are the access flows by which somebody may ask for a person at all.
func (c *caller) asksBy(by, person access.Person) (flows []access.Flow) {
	for _, f := range c.config.AccessFlows {
		anyTime := f
		anyTime.Timeframe, anyTime.Durations = access.Timeframe{}, nil // judged with the request
		if f.Trigger != access.Automatic && anyTime.Admits(access.Ask{Person: person, By: by, Now: c.now}) == "" {
			flows = append(flows, f)
		}
	}
	return flows
}

// mostOthers is how many people are suggested to somebody who asks for others.
const mostOthers = 100

// others are people for whom an access flow lets somebody ask.
func (c *caller) others(by access.Person) (list []access.Person) {
	if !slices.ContainsFunc(c.config.AccessFlows, func(f access.Flow) bool {
		return f.OnBehalf.Manager || len(f.OnBehalf.By.Any)+len(f.OnBehalf.By.All) > 0
	}) {
		return nil
	}
	for _, p := range c.directory.People() {
		if p.ID != by.ID && len(list) < mostOthers && len(c.asksBy(by, p)) > 0 {
			list = append(list, p)
		}
	}
	return list
}

// bundled puts what a bundle holds behind what is wanted.
func (c *caller) bundled(wants []api.Want, bundle string) (all []api.Want, why string) {
	if bundle == "" {
		return wants, ""
	}
	i := slices.IndexFunc(c.config.Bundles, func(b config.Bundle) bool { return b.Name == bundle })
	if i < 0 {
		var names []string
		for _, b := range c.config.Bundles {
			names = append(names, b.Name)
		}
		return wants, "there is no such bundle: " + spec.DidYouMean(bundle, names)
	}
	all = slices.Clone(wants)
	for _, item := range c.config.Bundles[i].Items {
		if want := (api.Want{Integration: item.Integration, Resource: item.Resource, Permission: item.Permission}); !slices.Contains(all, want) {
			all = append(all, want)
		}
	}
	return all, ""
}

// asked finds what is wanted in the catalog. Those from own on are of a bundle.
func (p *Portal) asked(ctx context.Context, c *caller, wants []api.Want, own int) (asked []access.Asked, faults []api.Wrong, err error) {
	named := make([]access.Entitlement, len(wants))
	for i, want := range wants {
		if in, ok := c.integration(want.Integration); ok {
			resource, _ := access.ParseResource(want.Resource) // its fault is told below
			named[i] = access.Entitlement{Integration: in.ID, Resource: resource, Permission: want.Permission}
		}
	}
	catalog, err := p.opts.Store.Named(ctx, named)
	if err != nil {
		return nil, nil, err
	}
	for i, want := range wants {
		wrong := func(field, format string, args ...any) {
			w := api.Wrong{Location: fmt.Sprintf("body.wants[%d].%s", i, field), Message: fmt.Sprintf(format, args...)}
			if i >= own {
				w = api.Wrong{Location: "body.bundle", Message: fmt.Sprintf("%s on %s %s: the %s ", want.Permission, want.Integration, want.Resource, field) + w.Message}
			}
			faults = append(faults, w)
		}
		in, ok := c.integration(want.Integration)
		if !ok {
			wrong("integration", "there is no such integration: %s", spec.DidYouMean(want.Integration, c.names()))
			continue
		}
		if why := in.Removal.Closed(in.Name); why != "" {
			wrong("integration", "%s", why)
			continue
		}
		if named[i].Resource == (access.Resource{}) {
			wrong("resource", "want TYPE:PATH, for example schema:shop/public")
			continue
		}
		at := slices.IndexFunc(catalog, func(r store.ResourceRow) bool { return r.Integration == in.ID && r.Resource == named[i].Resource })
		if at < 0 {
			near, err := p.near(ctx, in, named[i].Resource)
			if err != nil {
				return nil, nil, err
			}
			wrong("resource", "is not in the catalog of %s: %s", in.Name, near)
			continue
		}
		found := catalog[at].Found
		if len(found.Permissions) == 0 && found.Note != "" {
			wrong("resource", "cannot be asked for: %s", found.Note)
			continue
		}
		if !slices.Contains(found.Permissions, want.Permission) {
			wrong("permission", "is not offered on %s: %s", found.Resource, spec.DidYouMean(want.Permission, found.Permissions))
			continue
		}
		a := asks(in, found, want.Permission)
		if slices.ContainsFunc(asked, func(b access.Asked) bool { return b.Entitlement == a.Entitlement }) {
			wrong("resource", "is asked for twice with the same permission")
			continue
		}
		asked = append(asked, a)
	}
	return asked, faults, nil
}

// asks is a permission on a resource of the catalog, with what the rules need
// to judge it.
func asks(in store.IntegrationRow, found access.Found, permission string) access.Asked {
	return access.Asked{
		Entitlement: access.Entitlement{Integration: in.ID, Resource: found.Resource, Permission: permission},
		Integration: in.Name, Tags: config.ApplyTags(in.Integration, found), IntegrationOwner: in.IntegrationOwner, ResourceOwner: in.ResourceOwner,
	}
}

// near names what somebody may have meant by a resource that is not there.
func (p *Portal) near(ctx context.Context, in store.IntegrationRow, r access.Resource) (string, error) {
	rows, err := p.opts.Store.Resources(ctx, store.ResourceFilter{Integration: in.ID, Type: r.Type, Limit: 1000})
	if err != nil {
		return "", err
	}
	known := make([]string, len(rows))
	for i, row := range rows {
		known[i] = row.Resource.String()
	}
	hint := spec.DidYouMean(r.String(), known)
	switch {
	case len(known) == 0:
		return fmt.Sprintf("it has nothing of this type; lapse discover %s reads it again", in.Name), nil
	case len(known) > 10 && !strings.HasPrefix(hint, "did you mean"):
		return fmt.Sprintf("lapse resources %s lists it, lapse discover %s reads it again", in.Name, in.Name), nil
	}
	return hint, nil
}

// keyedID is the id of a request that came with an idempotency key.
func keyedID(person, key string) string {
	sum := sha256.Sum256([]byte("lapse idempotency v1\x00" + person + "\x00" + key))
	return "req-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
}

// keep stores a request with its event, and with the decision of who breaks the
// glass; or finds the one that is stored under its id already and asks for the
// same.
func (p *Portal) keep(ctx context.Context, c *caller, m access.Matter) (row store.RequestRow, err error) {
	r := m.Request
	var decisions []access.Decision
	verb := "asks"
	if m.Flow.Trigger == access.BreakGlass {
		d := c.signable(store.RequestRow{Request: r}, access.Decision{Verdict: access.Break, Reason: r.Reason})
		if err := c.open(r.Integrations()...); err != nil {
			return row, err
		}
		decisions, verb = append(decisions, d.Sign(p.opts.Keys.PortalKey)), "breaks the glass"
	}
	event := access.Event{Key: "request/" + r.ID + "/created", Kind: "request.created", At: r.CreatedAt, Actor: c.ID, RequestID: r.ID,
		Text: fmt.Sprintf("%s %s for %s for %s: %s", c.Email, verb, summary(r), r.Duration, r.Reason)}
	if r.AskedBy != "" {
		event.Text = fmt.Sprintf("%s %s on behalf of %s for %s for %s: %s", c.Email, verb, c.email(r.PersonID), summary(r), r.Duration, r.Reason)
	}
	failed := p.opts.Store.CreateRequest(ctx, r, event, decisions...)
	row, err = p.opts.Store.Request(ctx, r.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return row, failed
	case err != nil:
		return row, err
	}
	if err := c.learn(ctx, row); err != nil {
		return row, err
	}
	same := row.Reason == r.Reason && row.Duration == r.Duration && row.PersonID == r.PersonID && row.StartAt.Equal(r.StartAt) && row.Bundle == r.Bundle &&
		maps.Equal(row.Fields, r.Fields) && slices.Equal(entitlements(row.Request), entitlements(r))
	if !same || (c.flow(row.Request).Trigger == access.BreakGlass) != (m.Flow.Trigger == access.BreakGlass) {
		return row, problem(http.StatusUnprocessableEntity, "use a key of its own for each request", "the %s was used for another request", api.HeaderIdempotencyKey)
	}
	return row, nil
}

func entitlements(r access.Request) []access.Entitlement {
	out := make([]access.Entitlement, len(r.Asked))
	for i, a := range r.Asked {
		out[i] = a.Entitlement
	}
	return out
}

// summary says what a request is about.
func summary(r access.Request) string {
	out := make([]string, len(r.Asked))
	for i, a := range r.Asked {
		out[i] = a.String()
	}
	return strings.Join(out, ", ")
}

const (
	// startTimeout is how long a call waits for Temporal to start a workflow.
	startTimeout = 10 * time.Second
	// summaryLimit keeps the encrypted summary below Temporal's own limit.
	summaryLimit = 150
)

// start starts the workflow of a request. One that was started already is left
// alone.
func (p *Portal) start(ctx context.Context, c *caller, r access.Request) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	text := c.email(r.PersonID) + ": " + summary(r)
	if len(text) > summaryLimit {
		text = strings.ToValidUTF8(text[:summaryLimit], "") + "..."
	}
	_, err := p.opts.Temporal.ExecuteWorkflow(ctx, activities.RequestStart(r, text), workflows.RequestType, workflows.RequestInput{RequestID: r.ID})
	return err
}

func (p *Portal) showRequest(ctx context.Context, c *caller, in *ByID) (out api.Request, err error) {
	row, err := c.request(ctx, in.ID)
	if err != nil {
		return out, err
	}
	return p.show(ctx, c, row)
}

// show is everything that is known about a request.
func (p *Portal) show(ctx context.Context, c *caller, row store.RequestRow) (out api.Request, err error) {
	if err := c.learn(ctx, row); err != nil {
		return out, err
	}
	if c.decisions, err = p.opts.Store.DecisionsOn(ctx, []string{row.ID}); err != nil {
		return out, err
	}
	out = c.brief(row)
	for _, d := range c.decisions[row.ID] {
		out.Decisions = append(out.Decisions, api.Decision{By: cmp.Or(c.email(d.By), d.ByEmail), Verdict: d.Verdict, Reason: d.Reason, At: d.At, For: d.For, Without: d.Without})
	}
	events, err := p.opts.Store.RequestEvents(ctx, row.ID, accounts(row.Holds))
	for _, e := range events {
		out.Events = append(out.Events, c.event(e))
	}
	return out, err
}

// events reads all events that a filter selects.
func (p *Portal) events(ctx context.Context, f store.EventFilter) (all []store.EventRow, err error) {
	f.Limit = 1000
	for {
		page, err := p.opts.Store.Events(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < f.Limit {
			return all, nil
		}
		f.After = page[len(page)-1].Seq
	}
}

// accounts are the ids of the accounts of holds, sorted.
func accounts(holds []access.Hold) []string {
	ids := map[string]bool{}
	for _, h := range holds {
		ids[h.AccountID] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// brief is a request, whose flow was learned, as lists show it.
func (c *caller) brief(row store.RequestRow) api.Request {
	holds := seen(row)
	out := api.Request{
		ID: row.ID, State: access.RequestState(row.State, holds, c.now), Person: c.email(row.PersonID), Reason: row.Reason, Why: row.Why, Flow: row.Flow,
		Duration: row.Duration, CreatedAt: row.CreatedAt, ExpiresAt: row.ExpiresAt,
		StartAt: moment(row.StartAt), Fields: row.Fields, Bundle: row.Bundle, Review: row.Review,
		Approvers: []string{}, Steps: []access.Stage{}, Holds: []api.Hold{}, Decisions: []api.Decision{}, Events: []api.Event{},
	}
	if row.AskedBy != "" {
		out.AskedBy = c.email(row.AskedBy)
	}
	m := c.matter(row)
	out.Trigger = cmp.Or(m.Flow.Trigger, access.SelfServe)
	if out.Trigger == access.BreakGlass {
		out.ReviewBy = moment(row.ExpiresAt)
	}
	if _, learned := c.decisions[row.ID]; learned || row.State == access.StatePending || row.Review == access.ReviewDue {
		out.Steps = append(out.Steps, m.Stages()...)
		if terms := m.Terms(); terms.Duration < row.Duration {
			out.ApprovedFor = terms.Duration
		}
	}
	for _, approver := range m.Approvers() {
		out.Approvers = append(out.Approvers, approver.Email)
	}
	for _, h := range holds {
		out.Holds = append(out.Holds, c.hold(h))
	}
	return out
}

func (c *caller) hold(h access.Hold) api.Hold {
	return api.Hold{
		ID: h.ID, Integration: c.integrationName(h.Entitlement.Integration), Resource: h.Entitlement.Resource.String(), Permission: h.Entitlement.Permission,
		State: h.StateAt(c.now), StartsAt: moment(h.StartsAt), EndsAt: moment(h.EndsAt),
		OverdueSeconds: max(0, int64(h.OverdueAt(c.now)/time.Second)), Error: h.Error,
		Evidence: api.HoldEvidence{Grant: h.Grant, Revoke: h.Revoke},
	}
}

// seen are the holds of a request as people see them: those of which nothing
// has begun yet share the outcome of the decision.
func seen(row store.RequestRow) []access.Hold {
	holds := slices.Clone(row.Holds)
	for i, h := range holds {
		if h.State == access.StatePending && h.Grant == nil {
			holds[i].State = row.State
		}
	}
	return holds
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// event is an entry of the audit trail with names instead of ids.
func (c *caller) event(e store.EventRow) api.Event {
	return api.Event{Seq: e.Seq, At: e.At, Kind: e.Kind, Actor: c.email(e.Actor), RequestID: e.RequestID, HoldID: e.HoldID, AccountID: e.AccountID,
		Integration: c.integrationName(e.Integration), Text: e.Text, Data: e.Data, Hash: e.Hash}
}

// listFilter selects requests.
type listFilter struct {
	Person      string       `query:"person" doc:"e-mail address of the requester"`
	Integration string       `query:"integration" doc:"name of an integration"`
	State       access.State `query:"state" enum:"pending,approved,granting,active,ending,overdue,ended,denied,expired,failed"`
	Mine        bool         `query:"mine" doc:"only the caller's own"`
	ToApprove   bool         `query:"to_approve" doc:"only those that wait for the caller's decision or review"`
	Limit       int          `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (p *Portal) listRequests(ctx context.Context, c *caller, in *listFilter) (out api.Requests, err error) {
	out.Requests = []api.Request{}
	f := store.RequestFilter{State: in.State, Limit: 200}
	if in.State == access.StateApproved {
		f.State = access.StatePending // nothing has begun yet, as far as the holds go
	}
	if in.ToApprove {
		f.Decider = &c.Person
	}
	if in.Integration != "" {
		i, ok := c.integration(in.Integration)
		if !ok {
			return out, wrongs("", api.Wrong{Location: "query.integration", Message: "there is no such integration: " + spec.DidYouMean(in.Integration, c.names())})
		}
		f.Integration = i.ID
	}
	if in.Person != "" {
		person, err := p.opts.Store.PersonByEmail(ctx, in.Person)
		if errors.Is(err, store.ErrNotFound) {
			return out, wrongs("", api.Wrong{Location: "query.person", Message: "nobody in the directory has this e-mail address"})
		}
		if err != nil {
			return out, err
		}
		f.Person = person.ID
	}
	if in.Mine {
		f.Person = c.ID
	}
	for {
		rows, next, err := c.list(ctx, f)
		if err != nil {
			return out, err
		}
		for _, row := range rows {
			if r := c.brief(row); in.State == "" || r.State == in.State {
				out.Requests = append(out.Requests, r)
			}
			if len(out.Requests) == in.Limit {
				return out, nil
			}
		}
		if next == "" {
			return out, nil
		}
		f.After = next
	}
}

// list is a page of the requests that a filter selects, without those that the
// caller may not see, or not decide on where the filter says so. Next begins
// the next page; it is empty at the end.
func (c *caller) list(ctx context.Context, f store.RequestFilter) (rows []store.RequestRow, next string, err error) {
	limit := f.Limit
	f.Limit++
	page, err := c.store.Requests(ctx, f)
	if err != nil {
		return nil, "", err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	if err := c.learn(ctx, page...); err != nil {
		return nil, "", err
	}
	for _, row := range page {
		if f.Decider != nil && !c.waits(row) || !c.sees(row.Request) {
			continue
		}
		rows = append(rows, row)
	}
	return rows, next, nil
}
