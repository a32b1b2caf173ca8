package portal

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// TestAwaits tells a request that waits for a decision from one that waits for the
// person, and makes a link of nothing else than what is awaited.
func TestAwaits(t *testing.T) {
	for _, test := range []struct {
		name  string
		state access.State
		facts []string // of the grant; nil before there is one
		want  *awaited
	}{
		{"not decided yet", access.StatePending, nil, nil},
		{"invited", access.StatePending, []string{"https://evil.example", "awaits ana accepts the invitation", "https://github.com/acme/site/invitations"}, &awaited{"ana accepts the invitation", "https://github.com/acme/site/invitations"}},
		{"no page of the web", access.StatePending, []string{"awaits a call", "javascript:alert(1)"}, &awaited{What: "a call"}},
		{"granted", access.StateActive, []string{"awaits nothing"}, nil},
	} {
		h := api.Hold{State: test.state}
		if test.facts != nil {
			h.Evidence.Grant = &access.Evidence{Facts: test.facts}
		}
		v := requestView{shown: shown{Request: api.Request{State: test.state, Holds: []api.Hold{h}}}}
		if diff := cmp.Diff(test.want, v.Awaits(h)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if v.Undecided() != (test.facts == nil) {
			t.Errorf("%s: undecided is %t", test.name, v.Undecided())
		}
		if v.changing() != (test.want != nil) {
			t.Errorf("%s: the page looks again: %t", test.name, v.changing())
		}
	}
}

// moreFlows are access flows before that of lapseYAML: one of two steps, one for
// later, and one for emergencies.
const moreFlows = `access_flows:
  - name: careful
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: shop, resources: ["schema:shop/*"], permissions: [read_only]}]
    max_duration: 8h
    fields: [{name: ticket, title: Ticket number, optional: true}]
    approval: {steps: [{name: owner, any_of: [integration_owner]}, {name: platform, any_of: ["group:platform"]}]}
  - name: later
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: shop, resources: ["schema:shop/*"], permissions: [read_write]}]
    max_duration: 8h
    schedule_ahead: 2h
    on_behalf: {by: {any: [{attribute: group, values: [platform]}]}}
    approval: {steps: [{any_of: [integration_owner]}]}
  - name: birthright
    trigger: automatic
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: crm, resources: ["role:*"], permissions: [member]}]
    max_duration: 8h
  - name: emergency
    trigger: break_glass
    requesters: {any: [{attribute: group, values: [analytics]}]}
    targets: [{integration: crm, resources: ["role:*"], permissions: [member]}]
    max_duration: 8h
    approval: {steps: [{any_of: [integration_owner]}], expires_after: 1h}
`

// withFlows is configured with moreFlows. Decisions are put on record.
func withFlows(t *testing.T) *rig {
	t.Helper()
	r := configured(t)
	if _, err := r.portal.Apply(t.Context(), "lapse.yaml", []byte(strings.Replace(lapseYAML, "access_flows:\n", moreFlows, 1))); err != nil {
		t.Fatal(err)
	}
	r.onRecord(nil)
	return r
}

// onRecord puts what is decided on record, with what follows from it.
func (r *rig) onRecord(to *access.RequestChange) {
	r.temporal.onUpdate = func(d access.Decision) error {
		event := access.Event{Key: "decision/" + d.Nonce, Kind: "decision." + string(d.Verdict), At: d.At, Actor: d.By, RequestID: d.RequestID, Text: string(d.Verdict)}
		if err := r.store.AddDecision(context.Background(), d, event); err != nil || to == nil {
			return err
		}
		to.ID = d.RequestID
		change := access.Change{Event: access.Event{Key: "after/" + d.Nonce, Kind: "request." + string(to.State), At: d.At, RequestID: d.RequestID}, Request: to}
		return r.store.Record(context.Background(), []access.Change{change})
	}
}

// noted sends a form, and is the page after it with what it says came of that.
func (r *rig) noted(as, path string, form url.Values) answered {
	r.Helper()
	res := r.as(as, "POST", path, form)
	if res.status != http.StatusSeeOther {
		r.Fatalf("POST %s as %s: %d: %s", path, as, res.status, res.body)
	}
	cookie := r.cookie(as)
	for _, c := range res.cookies {
		cookie += "; " + c.Name + "=" + c.Value
	}
	return r.send("GET", res.header.Get("Location"), cookie, nil)
}

// lacks fails when a page has one of these words.
func (r *rig) lacks(res answered, words ...string) {
	r.Helper()
	for _, w := range words {
		if strings.Contains(res.body, w) {
			r.Errorf("%q is in %s", w, res.body)
		}
	}
}

// Two people decide one after the other. The first shortens and leaves something
// out, and the second sees what is left.
func TestStepsOnThePage(t *testing.T) {
	r := withFlows(t)
	public, audit := wantOf("shop", "schema:shop/public", "read_only"), wantOf("shop", "schema:shop/audit", "read_only")
	in := ask(api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}, api.Want{Integration: "shop", Resource: "schema:shop/audit", Permission: "read_only"})
	in.Fields = map[string]string{"ticket": "OPS-7"}
	q := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in)
	path, decisions := "/requests/"+q.ID, "/requests/"+q.ID+"/decisions"

	r.shows(r.as(cy, "GET", path, nil), http.StatusOK, "Step 1 of 2: owner", "Waits for "+cy, "Step 2 of 2: platform", "Then "+bo, "Ticket number", "OPS-7", `value="1h"`)
	r.shows(r.as(cy, "GET", "/inbox", nil), http.StatusOK, "Step 1 of 2: owner", "Ticket number", "OPS-7")
	early := r.as(bo, "GET", path, nil)
	r.shows(early, http.StatusOK, "not your turn", `value="deny"`)
	r.lacks(early, `value="approve"`, `name="keep"`)
	r.shows(r.as(bo, "GET", "/inbox", nil), http.StatusOK, "Nothing waits for you")
	r.shows(r.as(bo, "POST", decisions, url.Values{"verdict": {"approve"}}), http.StatusForbidden, "is not integration_owner")

	typed := url.Values{"verdict": {"approve"}, "asked": {public, audit}, "keep": {public}, "for": {"2h"}, "reason": {"one is enough"}}
	wrong := r.as(cy, "POST", decisions, typed)
	r.shows(wrong, http.StatusUnprocessableEntity, `id="for-fault"`, "at most 1h", `value="2h"`, `value="one is enough"`)
	if checked := strings.Count(wrong.body, " checked>"); checked != 1 {
		t.Errorf("%d of the two are checked after a fault", checked)
	}
	typed["for"] = []string{""}
	delete(typed, "keep")
	r.shows(r.as(cy, "POST", decisions, typed), http.StatusUnprocessableEntity, `id="without-fault"`, "Nothing would be left")
	typed["keep"], typed["for"] = []string{public}, []string{"30m"}
	r.shows(r.noted(cy, decisions, typed), http.StatusOK, "Your approval counts. The request of "+ana+" waits for "+bo+", step 2 of 2: platform.", "Done by "+cy, "An approver left it out")
	if d := r.temporal.taken[0]; d.For.String() != "30m" || !slices.Equal(d.Without, []string{q.Holds[1].ID}) {
		t.Errorf("decision: %+v", d)
	}

	second := r.as(bo, "GET", path, nil)
	r.shows(second, http.StatusOK, "30m, of 1h that were asked for", `value="30m"`, "An approver left it out")
	r.lacks(second, `name="keep"`)
	r.shows(r.as(bo, "POST", decisions, url.Values{"verdict": {"approve"}, "for": {"45m"}}), http.StatusUnprocessableEntity, "at most 30m")
	waits := r.as(bo, "GET", "/inbox", nil)
	r.shows(waits, http.StatusOK, "Step 2 of 2: platform", "<strong>30m</strong>", "of 1h that were asked for", "schema:shop/public")
	r.lacks(waits, "schema:shop/audit")
	r.shows(r.as(ana, "GET", "/", nil), http.StatusOK, "Step 2 of 2: platform. Waits for "+bo)

	r.onRecord(&access.RequestChange{State: access.StateDenied, Why: "denied"})
	r.shows(r.noted(bo, decisions, url.Values{"verdict": {"deny"}, "reason": {"not now"}}), http.StatusOK, "is denied.", "Denied by "+bo+".")
}

// Access that begins later is approved, waits without changing, and can be
// withdrawn.
func TestScheduledOnThePage(t *testing.T) {
	r := withFlows(t)
	start := time.Now().Add(90 * time.Minute)
	in := ask(api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_write"})
	in.StartAt, in.OnBehalfOf = &start, ana
	q := want[api.Request](r, http.StatusCreated, bo, "POST", "/requests", in)
	r.shows(r.as(cy, "GET", "/inbox", nil), http.StatusOK, "to begin <time", "by "+bo)
	r.onRecord(&access.RequestChange{State: access.StateApproved, Why: "approved"})
	began := time.Now()
	r.shows(r.noted(cy, "/requests/"+q.ID+"/decisions", url.Values{"verdict": {"approve"}}), http.StatusOK, "is approved. It begins in 1h 29m.")
	if took := time.Since(began); took > grantTimeout {
		t.Errorf("the call waited %s for what comes later", took)
	}
	page := r.as(ana, "GET", "/requests/"+q.ID, nil)
	r.shows(page, http.StatusOK, "state-approved", "until it begins", "Withdraw the request", "not before <time", "by "+bo+", on behalf of "+ana)
	r.lacks(page, "data-changing", "Give back")
	home := r.as(ana, "GET", "/", nil)
	r.shows(home, http.StatusOK, "Approved, begins <time")
	r.lacks(home, "data-changing")

	// Its workflow was ended in Temporal: it can be withdrawn all the same.
	r.temporal.gone()
	r.shows(r.noted(ana, "/requests/"+q.ID+"/release", nil), http.StatusOK, "It has ended.", "Withdrawn by "+ana)
}

// Who breaks the glass is named at the top, and who reviews it says why.
func TestGlassOnThePage(t *testing.T) {
	r := withFlows(t)
	in := ask(api.Want{Integration: "crm", Resource: "role:support", Permission: "member"})
	in.BreakGlass = true
	taken := func() (path string) {
		q := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in)
		r.shows(r.as(ana, "GET", "/", nil), http.StatusOK, "The glass was broken, about to be granted")
		r.record(access.Change{Event: access.Event{Key: q.ID + "/approved", Kind: "request.approved", RequestID: q.ID},
			Request: &access.RequestChange{ID: q.ID, State: access.StateApproved, Why: "approved", Review: access.ReviewDue}})
		return "/requests/" + q.ID
	}
	path := taken()
	page := r.as(ana, "GET", path, nil)
	r.shows(page, http.StatusOK, "The glass was broken.", "The review is due until <time", "Glass broken by "+ana, "Waits for "+cy)
	r.lacks(page, "Your review", "<p class=\"muted\">Approved.</p>")
	r.shows(r.as(cy, "GET", "/inbox", nil), http.StatusOK, "To review", "took it without an approval", `value="justify"`, `value="object"`)
	r.shows(r.as(cy, "POST", path+"/decisions", url.Values{"verdict": {"justify"}, "reason": {" "}}), http.StatusUnprocessableEntity, `id="found-fault"`, "Say what you found")
	r.onRecord(&access.RequestChange{State: access.StateApproved, Why: "approved", Review: access.ReviewDone})
	r.shows(r.noted(cy, path+"/decisions", url.Values{"verdict": {"justify"}, "reason": {"sales stood still"}}), http.StatusOK, "the review is complete", "it was right", "Found right by "+cy, "sales stood still")

	path = taken()
	r.onRecord(&access.RequestChange{State: access.StateApproved, Why: "approved", Review: access.ReviewBad})
	r.shows(r.noted(cy, path+"/decisions", url.Values{"verdict": {"object"}, "reason": {"no need"}}), http.StatusOK, "Your objection is on record", "it was not right", "Objected to by "+cy+".")
	r.shows(r.as(cy, "POST", path+"/decisions", url.Values{"verdict": {"justify"}, "reason": {"x"}}), http.StatusConflict, "nothing to review")
}

// What came by itself has no approval, and says where it came from.
func TestAutomaticOnThePage(t *testing.T) {
	r := withFlows(t)
	who, err := r.store.PersonByEmail(t.Context(), ana)
	if err != nil {
		t.Fatal(err)
	}
	crm, err := r.store.IntegrationByName(t.Context(), "crm")
	if err != nil {
		t.Fatal(err)
	}
	version, _, err := r.store.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	q := access.Request{ID: "req-auto", PersonID: who.ID, Reason: "by its access flow", Duration: access.Duration(8 * time.Hour), HoldIDs: []string{"hold-auto"}, Flow: "birthright", FlowVersion: version,
		CreatedAt: now, ExpiresAt: now, Asked: []access.Asked{asks(crm, access.Found{Resource: access.NewResource("role", "support")}, "member")}}
	if err := r.store.CreateRequest(t.Context(), q, access.Event{Key: q.ID, Kind: "request.created", At: now, RequestID: q.ID}); err != nil {
		t.Fatal(err)
	}
	r.record(access.Change{Event: access.Event{Key: "auto/approved", Kind: "request.approved", RequestID: q.ID}, Request: &access.RequestChange{ID: q.ID, State: access.StateApproved, Why: "approved"}})
	r.hold("hold-auto", func(h *access.Hold) {
		h.State, h.StartsAt, h.EndsAt, h.MaxEnd = access.StateActive, now, now.Add(8*time.Hour), now.Add(8*time.Hour)
	})
	page := r.as(ana, "GET", "/requests/req-auto", nil)
	r.shows(page, http.StatusOK, "It came by itself, by the access flow birthright.", "Give back now")
	r.lacks(page, ">Approval<", ">Extend<", "Nobody may decide")
	r.shows(r.as(ana, "GET", "/", nil), http.StatusOK, "By itself, by the access flow birthright")
}

// TestShown is what pages say of requests that are rare.
func TestShown(t *testing.T) {
	now := time.Now()
	before := now.Add(-time.Minute)
	s := shown{now: now, Request: api.Request{State: access.StateEnded, Trigger: access.BreakGlass, Review: access.ReviewDue, ReviewBy: &before, StartAt: &before}}
	if !s.Late() || !s.Taken() || s.Scheduled() || s.Alone() {
		t.Errorf("a review that is overdue: %+v", s)
	}
	s.Review = access.ReviewDone
	if s.Late() {
		t.Error("a review that is done is overdue")
	}
	many := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	for _, test := range []struct {
		names []string
		want  string
	}{{nil, ""}, {many[:1], "a"}, {many[:3], "a, b or c"}, {many, "a, b, c, d, e, f, g, h or 2 more"}} {
		if got := listed(test.names, "or"); got != test.want {
			t.Errorf("%v: %q, want %q", test.names, got, test.want)
		}
	}
	waiting := api.Request{State: access.StatePending, Steps: []access.Stage{
		{Name: "owner", Wants: "2 of group:dba", State: "waits", By: []string{"a"}, Who: []string{"b", "c"}}, {Wants: "manager", State: "later"}}}
	for _, test := range []struct {
		state access.State
		want  []stage
	}{
		{access.StatePending, []stage{{"Step 1 of 2: owner", "2 of group:dba", "waits", "Done by a. Waits for b or c."}, {"Step 2 of 2", "manager", "later", "Nobody can decide on it now."}}},
		{access.StateExpired, []stage{{"Step 1 of 2: owner", "2 of group:dba", "later", "Done by a. It was not decided."}, {"Step 2 of 2", "manager", "later", "It was not decided."}}},
	} {
		waiting.State = test.state
		if diff := cmp.Diff(test.want, shown{Request: waiting, now: now}.Stages()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.state, diff)
		}
	}
}
