package portal

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/api/serviceerror"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

func TestRequestShape(t *testing.T) {
	r := configured(t)
	q := r.active()
	raw := want[map[string]any](r, http.StatusOK, ana, "GET", "/requests/"+q.ID, nil)
	for name, keys := range map[string][]string{
		"request":  {"id", "state", "person", "reason", "holds", "decisions", "events", "flow", "duration", "created_at", "expires_at", "approvers"},
		"hold":     {"id", "integration", "resource", "permission", "state", "starts_at", "ends_at", "overdue_seconds", "evidence"},
		"evidence": {"grant", "revoke"},
		"decision": {"by", "verdict", "reason", "at"},
	} {
		hold := raw["holds"].([]any)[0].(map[string]any)
		have := map[string]map[string]any{"request": raw, "hold": hold, "evidence": hold["evidence"].(map[string]any), "decision": raw["decisions"].([]any)[0].(map[string]any)}[name]
		for _, key := range keys {
			if _, ok := have[key]; !ok {
				t.Errorf("%s has no %s: %v", name, key, slices.Sorted(maps.Keys(have)))
			}
		}
	}
	if q.Person != ana || q.State != access.StateActive || q.Flow != "analysts" || q.Duration.String() != "1h" || !slices.Equal(q.Approvers, []string{cy}) {
		t.Errorf("request: %+v", q)
	}
	if h := q.Holds[0]; h.Integration != "shop" || h.Resource != "schema:shop/public" || h.Permission != "read_only" || h.Evidence.Grant == nil || h.OverdueSeconds != 0 {
		t.Errorf("hold: %+v", h)
	}
	if d := q.Decisions[0]; d.By != cy || d.Verdict != access.Approve {
		t.Errorf("decision: %+v", d)
	}
	if got := kindsOf(q); !slices.Equal(got, []string{"request.created", "decision.approve", "request.approved", "hold.changed"}) {
		t.Errorf("events: %v", got)
	}
}

// Before its workflow has begun with them, the holds of a request stand where
// its decision stands.
func TestStateFollowsTheDecision(t *testing.T) {
	r := configured(t)
	if q := r.approved(); q.State != access.StateApproved || q.Holds[0].State != access.StateApproved {
		t.Errorf("after the approval: %s, %s", q.State, q.Holds[0].State)
	}
	q := r.pending()
	r.temporal.decided(access.StateDenied)
	q = want[api.Request](r, http.StatusOK, cy, "POST", "/requests/"+q.ID+"/decisions", api.Decide{Verdict: access.Deny, Reason: "not now"})
	if q.State != access.StateDenied || q.Holds[0].State != access.StateDenied {
		t.Errorf("after the denial: %s, %s", q.State, q.Holds[0].State)
	}
}

func TestOverdueIsShown(t *testing.T) {
	r := configured(t)
	q := r.active()
	r.hold(q.Holds[0].ID, func(h *access.Hold) { h.EndsAt = time.Now().Add(-time.Minute) })
	q = want[api.Request](r, http.StatusOK, ana, "GET", "/requests/"+q.ID, nil)
	if q.State != access.StateOverdue || q.Holds[0].OverdueSeconds < 60 {
		t.Errorf("%s, %d seconds", q.State, q.Holds[0].OverdueSeconds)
	}
}

func TestEventsOfTheAccount(t *testing.T) {
	r := configured(t)
	q := r.active()
	hold, err := r.store.Hold(t.Context(), q.Holds[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	other := r.pending()
	r.record(access.Change{Event: access.Event{Key: "deleted", Kind: "account.deleted", AccountID: hold.AccountID}})
	r.record(access.Change{Event: access.Event{Key: "others", Kind: "others", AccountID: hold.AccountID, RequestID: other.ID}})
	q = want[api.Request](r, http.StatusOK, ana, "GET", "/requests/"+q.ID, nil)
	if got := kindsOf(q); !slices.Contains(got, "account.deleted") || slices.Contains(got, "others") {
		t.Errorf("events: %v", got)
	}
}

func TestRequestRefused(t *testing.T) {
	r := configured(t)
	public := api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}
	with := func(change func(*api.NewRequest)) api.NewRequest {
		in := ask()
		change(&in)
		return in
	}
	for _, tc := range []struct {
		name   string
		as     string
		in     api.NewRequest
		status int
		words  []string
	}{
		{"unknown integration", ana, ask(api.Want{Integration: "shap", Resource: "schema:shop/public", Permission: "read_only"}), 422, []string{"body.wants[0].integration", "did you mean shop?"}},
		{"no resource", ana, ask(api.Want{Integration: "shop", Resource: "public", Permission: "read_only"}), 422, []string{"body.wants[0].resource", "TYPE:PATH"}},
		{"unknown resource", ana, ask(api.Want{Integration: "shop", Resource: "schema:shop/pubic", Permission: "read_only"}), 422, []string{"did you mean schema:shop/public?", "lapse discover"}},
		{"unknown type", ana, ask(api.Want{Integration: "shop", Resource: "table:shop/public/a", Permission: "read_only"}), 422, []string{"lapse discover shop"}},
		{"unknown permission", ana, ask(api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "write"}), 422, []string{"body.wants[0].permission", "read_write"}},
		{"twice", ana, ask(public, public), 422, []string{"body.wants[1].resource", "twice"}},
		{"several faults", ana, with(func(in *api.NewRequest) { in.For, in.Reason, in.Wants[0].Integration = "soon", " ", "x" }), 422, []string{"body.for", "body.reason", "body.wants[0].integration"}},
		{"no duration", ana, with(func(in *api.NewRequest) { in.For = "0s" }), 422, []string{"body.for"}},
		{"negative duration", ana, with(func(in *api.NewRequest) { in.For = "-1h" }), 422, []string{"body.for"}},
		{"long reason", ana, with(func(in *api.NewRequest) { in.Reason = strings.Repeat("x", 1001) }), 422, []string{"body.reason"}},
		{"nothing", ana, with(func(in *api.NewRequest) { in.Wants = nil }), 422, []string{"body.wants"}},
		{"too much", ana, with(func(in *api.NewRequest) { in.Wants = slices.Repeat(in.Wants, 51) }), 422, []string{"body.wants"}},
		{"too long", ana, with(func(in *api.NewRequest) { in.For = "9h" }), 403, []string{"8h at most, and there is 9h"}},
		{"no flow for it", ana, ask(api.Want{Integration: "shop", Resource: "schema:hr/pay", Permission: "read_only"}), 403, []string{"there is read_only on shop schema:hr/pay"}},
		{"no requester", eve, ask(), 403, []string{"it wants group is analytics or dba, and there is group sales"}},
		{"nobody else approves", cy, ask(), 409, []string{"nobody may approve"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.TB = t
			r.refused(tc.status, tc.as, "POST", "/requests", tc.in, tc.words...)
		})
	}
	if len(r.temporal.started) > 0 {
		t.Errorf("workflows were started: %v", r.temporal.started)
	}
}

func TestRequestBeforeConfiguration(t *testing.T) {
	r := empty(t)
	r.refused(http.StatusConflict, ana, "POST", "/requests", ask(), "lapse apply")
}

func TestIdempotencyKey(t *testing.T) {
	r := configured(t)
	key := []string{api.HeaderIdempotencyKey, "k1"}
	first := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", ask(), key...)
	second := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", ask(), key...)
	if first.ID != second.ID || first.Holds[0].ID != second.Holds[0].ID {
		t.Errorf("two requests from one key: %s, %s", first.ID, second.ID)
	}
	other := ask()
	other.For = "2h"
	want[api.Problem](r, http.StatusUnprocessableEntity, ana, "POST", "/requests", other, key...)
	if third := r.pending(); third.ID == first.ID {
		t.Error("a request without a key got the same id")
	}
	// It is found also once it could not be made any more.
	if _, err := r.portal.Apply(t.Context(), "lapse.yaml", []byte(strings.ReplaceAll(lapseYAML, "max_duration: 8h", "max_duration: 1m"))); err != nil {
		t.Fatal(err)
	}
	if again := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", ask(), key...); again.ID != first.ID {
		t.Errorf("another request from one key: %s, %s", first.ID, again.ID)
	}
	want[api.Problem](r, http.StatusForbidden, ana, "POST", "/requests", ask())
	want[api.Problem](r, http.StatusForbidden, ana, "POST", "/requests", other, key...)
}

func TestTemporalAway(t *testing.T) {
	r := configured(t)
	r.temporal.startErr = serviceerror.NewUnavailable("down")
	q := r.pending()
	if q.State != access.StatePending || !strings.Contains(q.Note, "starts when Temporal is back") {
		t.Errorf("%s: %s", q.State, q.Note)
	}
	// The first decision starts it.
	r.temporal.startErr = nil
	r.temporal.decided(access.StateApproved)
	q = want[api.Request](r, http.StatusOK, cy, "POST", "/requests/"+q.ID+"/decisions", api.Decide{Verdict: access.Approve})
	if q.State != access.StateApproved {
		t.Errorf("approved: %s", q.State)
	}
}

func TestListRequests(t *testing.T) {
	r := configured(t)
	waiting, running := r.pending(), r.active(api.Want{Integration: "crm", Resource: "role:support", Permission: "member"})
	for _, tc := range []struct {
		as, query string
		want      []string
	}{
		{ana, "", []string{running.ID, waiting.ID}},
		{ana, "?mine=true", []string{running.ID, waiting.ID}},
		{cy, "?mine=true", nil},
		{cy, "", []string{running.ID, waiting.ID}},
		{cy, "?to_approve=true", []string{waiting.ID}},
		{ana, "?to_approve=true", nil},
		{bo, "?state=active", []string{running.ID}},
		{bo, "?state=pending", []string{waiting.ID}},
		{bo, "?state=approved", nil},
		{bo, "?integration=crm", []string{running.ID}},
		{bo, "?person=ana@example.com&limit=1", []string{running.ID}},
		{bo, "?person=cy@example.com", nil},
		{eve, "", nil},
	} {
		t.Run(tc.as+tc.query, func(t *testing.T) {
			r.TB = t
			var got []string
			for _, q := range want[api.Requests](r, http.StatusOK, tc.as, "GET", "/requests"+tc.query, nil).Requests {
				got = append(got, q.ID)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	r.TB = t
	r.refused(422, bo, "GET", "/requests?integration=crn", nil, "did you mean crm?")
	r.refused(422, bo, "GET", "/requests?person=nobody@example.com", nil, "nobody in the directory")
	r.refused(422, bo, "GET", "/requests?state=lost", nil, "query.state")
}

// Nobody sees, and nobody does, what is not theirs.
func TestWhoMay(t *testing.T) {
	r := configured(t)
	q := r.active()
	waiting := r.pending()
	r.temporal.onUpdate = func(access.Decision) error { return applicationError("TooLate", "taken") } // 409: it got through
	r.temporal.result = access.CheckReport{}
	for _, tc := range []struct {
		method, path, in string
		want             map[string]int
	}{
		{"GET", "/requests/" + q.ID, "", map[string]int{ana: 200, bo: 200, cy: 200, eve: 404, di: 403, "": 401, "stranger@example.com": 403}},
		{"POST", "/requests/" + waiting.ID + "/decisions", `{"verdict":"approve"}`, map[string]int{ana: 403, bo: 403, cy: 409, eve: 404, di: 403}},
		{"POST", "/requests/" + waiting.ID + "/decisions", `{"verdict":"deny"}`, map[string]int{ana: 403, bo: 403, cy: 409, eve: 404}},
		{"POST", "/requests/" + q.ID + "/extension", `{"by":"30m"}`, map[string]int{ana: 409, bo: 403, cy: 403, eve: 404}},
		{"POST", "/requests/" + q.ID + "/release", `{}`, map[string]int{ana: 409, bo: 403, cy: 403, eve: 404}},
		{"POST", "/requests/" + q.ID + "/revoke", `{"reason":"x"}`, map[string]int{ana: 403, bo: 409, cy: 409, eve: 404}},
		{"POST", "/requests/" + q.ID + "/credentials", `{}`, map[string]int{ana: 409, bo: 403, cy: 403, eve: 404}},
		{"GET", "/integrations", "", map[string]int{ana: 200, eve: 200, di: 403, "": 401}},
		{"GET", "/integrations/shop/resources", "", map[string]int{ana: 200, "": 401}},
		{"POST", "/integrations/shop/check", "", map[string]int{ana: 403, bo: 200, cy: 200, eve: 403}},
		{"POST", "/integrations/shop/discover", "", map[string]int{ana: 403, bo: 200, cy: 200, eve: 403}},
		{"POST", "/integrations/shop/sweep", `{}`, map[string]int{ana: 403, bo: 200, cy: 200, eve: 403}},
		{"GET", "/config", "", map[string]int{ana: 403, bo: 200, cy: 403, eve: 403}},
		{"PUT", "/config?dry_run=true", lapseYAML, map[string]int{ana: 403, bo: 200, cy: 403, eve: 403}},
		{"GET", "/audit/verify", "", map[string]int{ana: 403, bo: 200, cy: 403, eve: 403}},
		{"GET", "/audit/events", "", map[string]int{ana: 403, bo: 200, cy: 403, eve: 403}},
		{"GET", "/restore", "", map[string]int{ana: 403, bo: 200, cy: 403, eve: 403}},
		{"POST", "/restore/accept", `{"reason":"x"}`, map[string]int{ana: 403, bo: 200, cy: 403, eve: 403}},
		{"GET", "/health", "", map[string]int{"": 200}},
	} {
		for as, status := range tc.want {
			var in any
			if tc.in != "" {
				in = tc.in
			}
			if got, answer := r.call(as, tc.method, api.Prefix+tc.path, in); got != status {
				t.Errorf("%s %s as %q: status %d, want %d: %s", tc.method, tc.path, as, got, status, answer)
			}
		}
	}
}

// What was sent never comes back in an error, and never goes to the log.
func TestNoEcho(t *testing.T) {
	const canary = "c4n4ryS3cret"
	r := configured(t)
	q := r.active()
	quote := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	for _, tc := range []struct{ method, path, in string }{
		{"POST", "/requests", `{"wants": "` + canary + `"}`},
		{"POST", "/requests", `{"wants": [{"integration": "` + canary + `"}], "for": 7}`},
		{"POST", "/requests", `{"wants": [{"integration": "` + canary + `", "resource": "` + canary + `", "permission": "` + canary + `"}], "for": "` + canary + `", "reason": " "}`},
		{"POST", "/requests", `{"wants": [{"integration": "shop", "resource": "schema:` + canary + `", "permission": "x"}], "for": "1h", "reason": "r"}`},
		{"POST", "/requests", `{"wants": [{"integration": "shop", "resource": "schema:shop/public", "permission": "` + canary + `"}], "for": "1h", "reason": "r"}`},
		{"POST", "/requests", `{"password": "` + canary + `"}`},
		{"POST", "/requests", canary},
		{"POST", "/requests", `{"for": ` + canary},
		{"POST", "/requests/" + q.ID + "/decisions", `{"verdict": "` + canary + `"}`},
		{"POST", "/requests/" + q.ID + "/extension", `{"by": "` + canary + `"}`},
		{"POST", "/requests/" + q.ID + "/credentials", `{"integration": "` + canary + `"}`},
		{"POST", "/requests/" + q.ID + "/credentials", `{"new": "` + canary + `"}`},
		{"GET", "/requests/" + canary, ""},
		{"GET", "/requests?limit=" + canary, ""},
		{"GET", "/requests?state=" + canary, ""},
		{"GET", "/requests?integration=" + canary, ""},
		{"GET", "/requests?person=" + canary, ""},
		{"GET", "/integrations/" + canary, ""},
		{"GET", "/audit/verify?head=" + canary, ""},
		{"GET", "/" + canary, ""},
		{"PUT", "/config", quote(canary)},
		{"PUT", "/config", "password: " + canary},
		{"PUT", "/config", "integrations: [{name: x, kind: database, config: {hostname: h, password: " + canary + "}, secret: " + canary + "}]"},
	} {
		status, answer := r.call(bo, tc.method, api.Prefix+tc.path, tc.in)
		if tc.path == "/requests/"+q.ID+"/credentials" || tc.path == "/requests/"+q.ID+"/extension" || strings.HasSuffix(tc.path, "/decisions") || tc.path == "/requests" {
			status, answer = r.call(ana, tc.method, api.Prefix+tc.path, tc.in)
		}
		if status < 400 || strings.Contains(answer, canary) {
			t.Errorf("%s %s %s: status %d: %s", tc.method, tc.path, tc.in, status, answer)
		}
	}
	if _, answer := r.call(canary, "GET", api.Prefix+"/requests", nil); strings.Contains(answer, canary) {
		t.Errorf("identity: %s", answer)
	}
	if strings.Contains(r.log.String(), canary) {
		t.Errorf("log: %s", r.log)
	}
}

// What cannot be granted says why before anybody asks for it.
func TestNotes(t *testing.T) {
	r := configured(t)
	in, err := r.store.IntegrationByName(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	const note = "its members come from the identity provider: ask there"
	synced := access.Found{Resource: access.NewResource("schema", "shop", "synced"), Note: note}
	if err := r.store.PutResources(t.Context(), in.ID, "run", []access.Found{synced}); err != nil {
		t.Fatal(err)
	}
	r.shows(r.as(ana, "GET", "/request?integration=shop&q=synced", nil), http.StatusOK, note, "cannot be asked for")
	listed := want[api.Resources](r, http.StatusOK, ana, "GET", "/integrations/shop/resources?q=synced", nil)
	if len(listed.Resources) != 1 || listed.Resources[0].Note != note {
		t.Errorf("listed: %+v", listed)
	}
	ask := api.NewRequest{Wants: []api.Want{{Integration: "shop", Resource: "schema:shop/synced", Permission: "read_only"}}, For: "1h", Reason: "x"}
	r.refused(http.StatusUnprocessableEntity, ana, "POST", "/requests", ask, "wants[0].resource", note)
}

func TestExplain(t *testing.T) {
	r := configured(t)
	in := api.Explain{Wants: ask().Wants, For: "1h"}
	out := want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", in)
	if out.Flow != "analysts" || out.Person != ana || !slices.Contains(out.Approvers, cy) || slices.Contains(out.Approvers, ana) {
		t.Errorf("explained: %+v", out)
	}
	if len(out.Grants) != 1 || out.Grants[0].Permission != "read_only" || out.Grants[0].Means != "read every table" {
		t.Errorf("what is granted: %+v", out.Grants)
	}
	in.For = "9h"
	if out := want[api.Explained](r, http.StatusOK, ana, "POST", "/explain", in); out.Flow != "" || out.Nearest != "analysts" || !strings.Contains(out.Says, "8h at most, and there is 9h") {
		t.Errorf("too long: %+v", out)
	}
	in.Person = ana
	if out := want[api.Explained](r, http.StatusOK, bo, "POST", "/explain", in); out.Person != ana {
		t.Errorf("for somebody else: %+v", out)
	}
	r.refused(http.StatusForbidden, cy, "POST", "/explain", in)
	in.Person = "anna@example.com"
	r.refused(http.StatusUnprocessableEntity, bo, "POST", "/explain", in, "body.person", "did you mean "+ana)
	in = api.Explain{Wants: []api.Want{{Integration: "shop", Resource: "schema:shop/publik", Permission: "read_only"}}, For: "soon"}
	r.refused(http.StatusUnprocessableEntity, ana, "POST", "/explain", in, "body.for", "wants[0].resource", "schema:shop/public")

	// The form says the same.
	typed := url.Values{"want": {wantValue(ask().Wants[0])}, "for": {"9h"}, "reason": {"x"}}
	r.shows(r.as(ana, "POST", "/request", typed), http.StatusOK, "The nearest access flow: analysts", "it wants 8h at most; there is 9h")
}
