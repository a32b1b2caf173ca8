package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// ruledYAML has a flow with everything that somebody may be asked, one that
// closes soon, and one for emergencies. cy is the manager of ana.
func ruledYAML(now time.Time) string {
	hours := now.Add(-time.Hour).Format("15:04") + "-" + now.Add(2*time.Hour).Format("15:04")
	flows := strings.Index(lapseYAML, "access_flows:")
	return strings.Replace(lapseYAML[:flows], "groups: [analytics]}", "groups: [analytics], attributes: {manager: cy@example.com}}", 1) + fmt.Sprintf(`
bundles:
  - name: on-call
    doc: what a night needs
    items: [{integration: shop, resource: "schema:shop/public", permission: read_only}, {integration: crm, resource: "role:support", permission: member}]
  - name: pay
    items: [{integration: shop, resource: "schema:hr/pay", permission: read_only}, {integration: crm, resource: "role:support", permission: member}]
access_flows:
  - name: read
    requesters: {any: [{attribute: group, values: [analytics]}]}
    on_behalf: {manager: true}
    targets:
      - {integration: shop, resources: ["schema:shop/*"], permissions: [read_only]}
      - {bundle: on-call}
    max_duration: 8h
    durations: [30m, 2h]
    schedule_ahead: 48h
    justification: {min_length: 8, hint: name the ticket}
    fields:
      - {name: ticket, title: Ticket, pattern: "[A-Z]+-[0-9]+", hint: as in OPS-7}
      - {name: impact, optional: true, options: [low, high]}
    approval:
      steps:
        - {name: owner, any_of: [integration_owner], fallback: ["person:bo@example.com"]}
        - {name: oversight, any_of: ["group:sales"], escalate: [{after: 30m, to: ["group:platform"]}]}
  - name: write
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: shop, resources: ["schema:shop/*"], permissions: [read_write]}]
    max_duration: 8h
    timeframe: {hours: %q, time_zone: Etc/GMT-3}
    approval: {steps: [{any_of: [integration_owner]}]}
  - name: auditors
    trigger: automatic
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: shop, resources: ["schema:shop/audit"], permissions: [read_only]}]
    max_duration: 24h
  - name: emergency
    trigger: break_glass
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: shop, resources: ["schema:*/*"], permissions: [read_only, read_write]}]
    max_duration: 2h
    approval: {steps: [{any_of: ["group:sales"]}], expires_after: 1h}
`, hours)
}

// gmt3 is the time zone of the flow that closes.
var gmt3 = time.FixedZone("Etc/GMT-3", 3*60*60)

// ruled is a rig with ruledYAML in force, whose clock a test can put forward.
func ruled(t *testing.T) (r *rig, forward func(time.Duration)) {
	var ahead atomic.Int64
	r = configured(t, func(o *Options) {
		o.Store.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(ahead.Load())) }
	})
	if _, err := r.portal.Apply(t.Context(), "lapse.yaml", []byte(ruledYAML(time.Now().In(gmt3)))); err != nil {
		t.Fatal(err)
	}
	return r, func(d time.Duration) { ahead.Add(int64(d)) }
}

// rightly is a request that the flow read takes.
func rightly() api.NewRequest {
	in := ask()
	in.For, in.Reason, in.Fields = "2h", "a bug in the orders", map[string]string{"ticket": "OPS-7"}
	return in
}

func TestOptionsRefused(t *testing.T) {
	r, _ := ruled(t)
	at := func(d time.Duration) *time.Time { s := time.Now().Add(d); return &s }
	for _, tc := range []struct {
		name   string
		as     string
		change func(*api.NewRequest)
		status int
		words  []string
	}{
		{"unknown bundle", ana, func(in *api.NewRequest) { in.Bundle = "on-cal" }, 422, []string{"body.bundle", "did you mean on-call?"}},
		{"nothing at all", ana, func(in *api.NewRequest) { in.Wants = nil }, 422, []string{"body.wants", "or a bundle"}},
		{"begins in the past", ana, func(in *api.NewRequest) { in.StartAt = at(-time.Hour) }, 422, []string{"body.start_at", "leave it out"}},
		{"begins too late", ana, func(in *api.NewRequest) { in.StartAt = at(49 * time.Hour) }, 403, []string{"to begin at most 48h ahead"}},
		{"breaks the glass later", ana, func(in *api.NewRequest) { in.StartAt, in.BreakGlass = at(time.Hour), true }, 422, []string{"body.start_at", "begins at once"}},
		{"for somebody else", ana, func(in *api.NewRequest) { in.OnBehalfOf = eve }, 422, []string{"body.on_behalf_of", "no access flow lets you ask"}},
		{"for a slip", cy, func(in *api.NewRequest) { in.OnBehalfOf = "anna@example.com" }, 422, []string{"body.on_behalf_of", "did you mean " + ana}},
		{"no field", ana, func(in *api.NewRequest) { in.Fields = nil }, 422, []string{"body.fields.ticket", "wants it: as in OPS-7"}},
		{"not such a field", ana, func(in *api.NewRequest) { in.Fields["ticket"] = "soon" }, 422, []string{"body.fields.ticket", "[A-Z]+-[0-9]+"}},
		{"not an option", ana, func(in *api.NewRequest) { in.Fields["impact"] = "huge" }, 422, []string{"body.fields.impact", "one of low, high"}},
		{"no such field", ana, func(in *api.NewRequest) { in.Fields["colour"] = "red" }, 422, []string{"body.fields.colour", "no such field"}},
		{"short reason", ana, func(in *api.NewRequest) { in.Reason = "a bug" }, 422, []string{"body.reason", "at least 8 characters", "name the ticket"}},
		{"other duration", ana, func(in *api.NewRequest) { in.For = "1h" }, 403, []string{"it wants 30m or 2h, and there is 1h"}},
		{"no glass for it", ana, func(in *api.NewRequest) { in.Bundle, in.BreakGlass = "on-call", true }, 403, []string{"emergency", "member on crm role:support"}},
		{"several at once", ana, func(in *api.NewRequest) { in.Bundle, in.OnBehalfOf, in.StartAt = "x", eve, at(-time.Hour) }, 422, []string{"body.bundle", "body.on_behalf_of", "body.start_at"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.TB = t
			in := rightly()
			tc.change(&in)
			r.refused(tc.status, tc.as, "POST", "/requests", in, tc.words...)
		})
	}
	r.TB = t

	// Who asks for others learns nothing about those for whom nobody lets them.
	in := rightly()
	in.OnBehalfOf = eve
	known := r.refused(422, ana, "POST", "/requests", in)
	in.OnBehalfOf = "nobody@example.com"
	if unknown := r.refused(422, ana, "POST", "/requests", in); unknown.Detail != known.Detail {
		t.Errorf("%q and %q", unknown.Detail, known.Detail)
	}
	if len(r.temporal.started) > 0 {
		t.Errorf("workflows were started: %v", r.temporal.started)
	}

	// What a bundle holds and the catalog does not is a fault of the bundle.
	shop, err := r.store.IntegrationByName(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.FinishDiscovery(t.Context(), shop.ID, "another"); err != nil {
		t.Fatal(err)
	}
	in = rightly()
	if res := r.as(ana, "GET", "/request", nil); strings.Contains(res.body, "on-call") {
		t.Errorf("a bundle is offered of which something is gone: %s", res.body)
	}
	in.Wants, in.Bundle = nil, "on-call"
	r.refused(422, ana, "POST", "/requests", in, "body.bundle", "read_only on shop schema:shop/public: the resource is not in the catalog")
}

func TestRequestWithOptions(t *testing.T) {
	r, _ := ruled(t)
	in := rightly()
	start := time.Now().Add(5 * time.Hour).UTC().Truncate(time.Second)
	in.Bundle, in.StartAt, in.Fields = "on-call", &start, map[string]string{"ticket": " OPS-7 ", "impact": ""}
	key := []string{api.HeaderIdempotencyKey, "k"}
	q := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in, key...)
	if len(q.Holds) != 2 || q.Bundle != "on-call" || q.StartAt == nil || !q.StartAt.Equal(start) || len(q.Fields) != 1 || q.Fields["ticket"] != "OPS-7" {
		t.Errorf("%+v", q)
	}
	if len(q.Steps) != 2 || q.Steps[0].State != "waits" || !slices.Equal(q.Steps[0].Who, []string{cy}) || q.Steps[1].State != "later" || !slices.Equal(q.Approvers, []string{cy}) {
		t.Errorf("steps: %+v, approvers %v", q.Steps, q.Approvers)
	}
	if again := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in, key...); again.ID != q.ID {
		t.Errorf("two requests of one key: %s and %s", q.ID, again.ID)
	}
	for name, change := range map[string]func(*api.NewRequest){
		"fields": func(in *api.NewRequest) { in.Fields = map[string]string{"ticket": "OPS-8"} },
		"bundle": func(in *api.NewRequest) {
			in.Bundle = ""
			in.Wants = []api.Want{in.Wants[0], {Integration: "crm", Resource: "role:support", Permission: "member"}}
		},
		"start": func(in *api.NewRequest) { in.StartAt = nil },
		"glass": func(in *api.NewRequest) { in.BreakGlass, in.StartAt, in.Bundle, in.Fields = true, nil, "", nil },
	} {
		other := in
		change(&other)
		if p := want[api.Problem](r, http.StatusUnprocessableEntity, ana, "POST", "/requests", other, key...); !strings.Contains(p.Detail, "another request") {
			t.Errorf("%s: %s", name, p.Detail)
		}
	}

	e := want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", api.Explain{Wants: ask().Wants, For: "2h"})
	if e.Flow != "read" || len(e.Steps) != 2 || len(e.Fields) != 2 || len(e.Durations) != 2 || e.Justification.Hint != "name the ticket" ||
		!slices.Contains(e.Unanswered, "When nobody has decided on the step oversight for 30m, group:platform may too.") {
		t.Errorf("explained: %+v", e)
	}
	e = want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", api.Explain{Wants: []api.Want{{Integration: "shop", Resource: "schema:shop/public", Permission: "read_write"}}, For: "4h"})
	if left := time.Until(deref(e.Closes)); left < time.Hour || left > 2*time.Hour {
		t.Errorf("it closes in %s", left)
	}
	e = want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", api.Explain{Wants: ask().Wants, For: "2h", Options: api.Options{BreakGlass: true}})
	if e.Flow != "emergency" || !slices.Equal(e.Approvers, []string{eve}) || !slices.Equal(e.Notified, []string{bo, cy, eve}) {
		t.Errorf("explained: %+v", e)
	}
}

func deref(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return *at
}

// Who asked on behalf of somebody sees the request and may withdraw it; the
// credential is for the one whose access it is.
func TestOnBehalf(t *testing.T) {
	r, _ := ruled(t)
	in := rightly()
	in.OnBehalfOf = ana
	q := want[api.Request](r, http.StatusCreated, cy, "POST", "/requests", in)
	if q.Person != ana || q.AskedBy != cy || slices.Contains(q.Approvers, cy) || !slices.Equal(q.Approvers, []string{bo}) {
		t.Errorf("%+v", q)
	}
	path := "/requests/" + q.ID
	for who, status := range map[string]int{ana: 200, cy: 200, bo: 200} {
		want[map[string]any](r, status, who, "GET", path, nil)
	}
	r.refused(http.StatusForbidden, cy, "POST", path+"/decisions", api.Decide{Verdict: access.Approve}, "nobody approves for themselves")
	r.refused(http.StatusForbidden, cy, "POST", path+"/credentials", api.NewCredential{}, "nobody but the person")
	r.refused(http.StatusConflict, ana, "POST", path+"/credentials", api.NewCredential{})
	r.refused(http.StatusForbidden, eve, "POST", path+"/release", api.Why{}, "only "+ana)
	r.temporal.decided(access.StateEnded)
	if q := want[api.Request](r, http.StatusOK, cy, "POST", path+"/release", api.Why{Reason: "not needed"}); q.State != access.StateEnded {
		t.Errorf("withdrawn: %s", q.State)
	}
}

func TestBreakGlass(t *testing.T) {
	r, forward := ruled(t)
	in := ask()
	in.BreakGlass = true
	q := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in)
	if q.Trigger != access.BreakGlass || q.Flow != "emergency" || len(q.Decisions) != 1 || q.Decisions[0].Verdict != access.Break || q.Decisions[0].By != ana || q.ReviewBy == nil {
		t.Errorf("%+v", q)
	}
	r.record(access.Change{Event: access.Event{Key: "approved", Kind: "request.approved", RequestID: q.ID}, Request: &access.RequestChange{ID: q.ID, State: access.StateApproved, Review: access.ReviewDue}})
	want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in)

	// An overdue review comes first, on the API and on the form.
	forward(2 * time.Hour)
	r.refused(http.StatusForbidden, ana, "POST", "/requests", in, "the review of "+q.ID+" is overdue", "have the review done first")
	form := url.Values{"want": {wantOf("shop", "schema:shop/public", "read_only")}, "for": {"1h"}, "reason": {"fire"}, "break_glass": {"yes"}}
	r.shows(r.as(ana, "POST", "/request", form), http.StatusOK, q.ID+" is overdue")
	r.record(access.Change{Event: access.Event{Key: "reviewed", Kind: "request.reviewed", RequestID: q.ID}, Request: &access.RequestChange{ID: q.ID, State: access.StateApproved, Review: access.ReviewDone}})
	want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in)
}

// What the form offers depends on what the access flows ask of whom.
func TestFormOptions(t *testing.T) {
	r, _ := ruled(t)
	public := wantOf("shop", "schema:shop/public", "read_only")
	hides := func(res answered, words ...string) {
		t.Helper()
		for _, w := range words {
			if strings.Contains(res.body, w) {
				t.Errorf("%q is there: %s", w, res.body)
			}
		}
	}
	res := r.as(ana, "GET", "/request?integration=shop", nil)
	r.shows(res, http.StatusOK, "+ on-call", "what a night needs", "role:support", `type="datetime-local"`, "up to 48h ahead", "In an emergency", "+ read_write")
	hides(res, "+ pay", `name="on_behalf_of"`, `type="radio"`, `name="field.`)
	res = r.as(eve, "GET", "/request", nil)
	hides(res, "on-call", "In an emergency", "datetime-local")

	// The manager asks for the one who reports to them, and sees what is theirs.
	res = r.as(cy, "GET", "/request", nil)
	r.shows(res, http.StatusOK, `name="on_behalf_of"`, `<option value="ana@example.com">`, "not open to you")
	hides(res, `<option value="eve@example.com">`)
	hides(r.as(cy, "POST", "/request", url.Values{"integration": {"shop"}, "on_behalf_of": {ana}}), "In an emergency", "+ read_write")
	res = r.as(cy, "POST", "/request", url.Values{"integration": {"shop"}, "on_behalf_of": {ana}, "take": {"on-call"}, "for": {"2h"}})
	r.shows(res, http.StatusOK, "For <strong>"+ana, "+ read_only", "Remove<span", bo)

	// The flow that is found says what it wants; nothing that was typed is lost.
	form := url.Values{"add": {public}, "for": {"1h"}, "reason": {"short"}, "field.ticket": {"ops"}, "field.other": {"kept"}}
	res = r.as(ana, "POST", "/request", form)
	r.shows(res, http.StatusOK, `value="30m" checked`, `value="2h"`, "Name the ticket.", "Ticket</label>", `name="field.ticket" maxlength="200" autocomplete="off" value="ops"`, "As in OPS-7.",
		`<input type="hidden" name="field.other" value="kept">`, "<option>low</option>", "<h3>Step 2 of 2: oversight</h3>", "It wants group:sales.", "group:platform may too", "it expires")
	hides(res, `type="text" id="for"`, `class="fault"`)
	want := "read: integration_owner (cy@example.com), then group:sales (eve@example.com)"
	if got := hidden(res, "expected").Get("expected"); got != want {
		t.Errorf("shown was %q, want %q", got, want)
	}

	form.Set("on_behalf_of", eve)
	r.shows(r.as(ana, "POST", "/request", form), http.StatusOK, `id="on_behalf_of-fault"`, `<input type="hidden" name="field.ticket" value="ops">`)

	// Sent, all that is wrong stands beside its field.
	form = url.Values{"want": {public}, "for": {"30m"}, "reason": {"short"}, "field.ticket": {"ops"}, "do": {"send"}, "start": {"soon"}, "on_behalf_of": {eve}, "zone": {"UTC"}}
	res = r.as(ana, "POST", "/request", form)
	r.shows(res, http.StatusUnprocessableEntity, `href="#start_at"`, `id="start_at-fault"`, `value="soon"`)
	form.Del("start")
	form.Del("on_behalf_of")
	res = r.as(ana, "POST", "/request", form)
	r.shows(res, http.StatusUnprocessableEntity, `href="#fields.ticket"`, "Want something like [A-Z]", `id="reason-fault"`, "at least 8 characters")

	// What was shown is what is sent: another step's people are noticed.
	form = url.Values{"want": {public}, "for": {"30m"}, "reason": {"long enough"}, "field.ticket": {"OPS-7"}, "do": {"send"}, "key": {"k"}}
	form.Set("expected", "read: integration_owner (cy@example.com), then group:sales (di@example.com)")
	r.shows(r.as(ana, "POST", "/request", form), http.StatusConflict, "decided by others than you were shown")
	form.Set("expected", want)
	form.Set("start", time.Now().Add(26*time.Hour).In(gmt3).Format(clockTime))
	form.Set("zone", "Etc/GMT-3")
	res = r.as(ana, "POST", "/request", form)
	q := wantRequest(r, res, ana)
	if q.StartAt == nil || time.Until(*q.StartAt).Round(time.Hour) != 26*time.Hour || q.Fields["ticket"] != "OPS-7" {
		t.Errorf("sent: %+v", q)
	}

	// A flow that closes says when, in its own time zone.
	write := wantOf("shop", "schema:shop/public", "read_write")
	r.shows(r.as(ana, "POST", "/request", url.Values{"want": {write}, "for": {"1h"}}), http.StatusOK, "It ends at <time", "the timeframe of the access flow closes", "Etc/GMT-3")

	audit := wantOf("shop", "schema:shop/audit", "read_only")
	r.shows(r.as(ana, "POST", "/request", url.Values{"want": {audit}, "for": {"1h"}}), http.StatusOK, `<span class="mono">auditors</span> gives it without a request`, "<h3>Step 1 of 2: owner</h3>")

	// Only the glass gives it; breaking it is shown before it is sent.
	pay := wantOf("shop", "schema:hr/pay", "read_only")
	form = url.Values{"want": {pay}, "for": {"1h"}, "reason": {"the payroll is down"}, "key": {"glass"}}
	res = r.as(ana, "POST", "/request", form)
	r.shows(res, http.StatusOK, "Breaking the glass would give it at once.", "Send request")
	form.Set("break_glass", "yes")
	form.Set("do", "send")
	form.Set("expected", hidden(res, "expected").Get("expected"))
	res = r.as(ana, "POST", "/request", form)
	r.shows(res, http.StatusConflict, "Told at once: "+bo+", "+cy+", "+eve, "reviewed by:", "Break the glass</button>", "The review is due within 1h.")
	form.Set("expected", hidden(res, "expected").Get("expected"))
	if q = wantRequest(r, r.as(ana, "POST", "/request", form), ana); q.Trigger != access.BreakGlass {
		t.Errorf("sent: %+v", q)
	}
}

// wantRequest is the request that a form made.
func wantRequest(r *rig, res answered, who string) api.Request {
	r.Helper()
	to := res.header.Get("Location")
	if res.status != http.StatusSeeOther || !strings.HasPrefix(to, "/requests/req-") {
		r.Fatalf("status %d to %q: %s", res.status, to, res.body)
	}
	return want[api.Request](r, http.StatusOK, who, "GET", to, nil)
}
