package portal

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/portal/api"
)

// answered is what a browser got.
type answered struct {
	status  int
	header  http.Header
	cookies []*http.Cookie
	body    string
}

// send makes a call as a browser does: a form where there is one, with the
// cookie of somebody.
func (r *rig) send(method, path, cookie string, form url.Values, headers ...string) (out answered) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, r.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,*/*")
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	return answered{res.StatusCode, res.Header, res.Cookies(), string(body)}
}

// as makes a call of somebody who is signed in.
func (r *rig) as(who, method, path string, form url.Values) answered {
	r.Helper()
	cookie := ""
	if who != "" {
		cookie = r.cookie(who)
	}
	return r.send(method, path, cookie, form)
}

// shows fails unless a page answers with a status and has these words.
func (r *rig) shows(res answered, status int, words ...string) {
	r.Helper()
	if res.status != status {
		r.Errorf("status %d, want %d: %s", res.status, status, res.body)
	}
	for _, w := range words {
		if !strings.Contains(res.body, w) {
			r.Errorf("%q is not in %s", w, res.body)
		}
	}
}

// everybody are the people of the tests, and nobody.
var everybody = []string{ana, bo, cy, eve, ""}

// Who may see and do what, on every route. In the pages somebody who is not
// signed in is sent to the sign-in, and what is not one's own is not there.
func TestRoutesAndPeople(t *testing.T) {
	r := configured(t)
	ui := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(ui.Close)
	o := r.portal.opts
	o.UI = ui.URL
	var err error
	if r.portal, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.server.Config.Handler = r.portal

	running, waiting := r.active(), r.pending()
	r.sealed(r.account(running), 1, "c4n4ry")
	r.temporal.onUpdate = func(access.Decision) error { return applicationError("TooLate", "taken") } // 409: it got through
	r.temporal.result = access.CheckReport{}
	form := func(pairs ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	table := []struct {
		route, path string
		form        url.Values
		body        string            // JSON, for the API
		want        map[string]int    // by person
		has         map[string]string // words that these people see, and nobody else
	}{
		{route: "GET /{$}", path: "/", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 303}, has: map[string]string{ana: running.ID}},
		{route: "GET /request", path: "/request", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 303}, has: map[string]string{ana: "+ read_only", cy: "+ read_only"}},
		{route: "POST /request", path: "/request", form: form("do", "send"), want: map[string]int{ana: 422, bo: 422, cy: 422, eve: 422, "": 401}},
		{route: "GET /inbox", path: "/inbox", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 303}, has: map[string]string{cy: waiting.ID}},
		{route: "POST /notices/seen", path: "/notices/seen", form: form("up_to", "ntc-none"), want: map[string]int{ana: 404, bo: 404, cy: 404, eve: 404, "": 401}},
		{route: "GET /all", path: "/all", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 303}, has: map[string]string{bo: running.ID}},
		{route: "GET /changes", path: "/changes", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 303}},
		{route: "GET /changes/{id}", path: "/changes/chg-0", want: map[string]int{ana: 403, bo: 404, cy: 403, eve: 403, "": 303}},
		{route: "POST /changes/{id}", path: "/changes/chg-0", form: form("verdict", "approve"), want: map[string]int{ana: 403, bo: 404, cy: 403, eve: 403, "": 401}},
		{route: "GET /restore", path: "/restore", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 303}},
		{route: "POST /restore", path: "/restore", form: form("do", "compare"), want: map[string]int{ana: 403, bo: 303, cy: 403, eve: 403, "": 401}},
		{route: "GET /remove/{name}", path: "/remove/crm", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 303}, has: map[string]string{bo: "Remove crm"}},
		{route: "POST /remove/{name}", path: "/remove/crm", form: form("do", "remove"), want: map[string]int{ana: 403, bo: 422, cy: 403, eve: 403, "": 401}},
		{route: "GET /sweep", path: "/sweep", want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 303}},
		{route: "GET /sweep/{name}", path: "/sweep/shop", want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 303}},
		{route: "POST /sweep/{name}", path: "/sweep/shop", form: form("do", "repair", "sort", "unexpected"), want: map[string]int{ana: 403, bo: 422, cy: 422, eve: 403, "": 401}}, // 422: it is not confirmed
		{route: "GET /requests/{id}", path: "/requests/" + running.ID, want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 404, "": 303}, has: map[string]string{ana: "Show the login"}},
		{route: "POST /requests/{id}/decisions", path: "/requests/" + waiting.ID + "/decisions", form: form("verdict", "approve"), want: map[string]int{ana: 403, bo: 403, cy: 409, eve: 404, "": 401}},
		{route: "POST /requests/{id}/extension", path: "/requests/" + running.ID + "/extension", form: form("by", "30m"), want: map[string]int{ana: 409, bo: 403, cy: 403, eve: 404, "": 401}},
		{route: "POST /requests/{id}/release", path: "/requests/" + running.ID + "/release", want: map[string]int{ana: 409, bo: 403, cy: 403, eve: 404, "": 401}},
		{route: "POST /requests/{id}/revoke", path: "/requests/" + running.ID + "/revoke", form: form("reason", "x"), want: map[string]int{ana: 403, bo: 409, cy: 409, eve: 404, "": 401}},
		{route: "POST /requests/{id}/credentials", path: "/requests/" + running.ID + "/credentials", want: map[string]int{bo: 403, cy: 403, eve: 404, "": 401, ana: 200}, has: map[string]string{ana: "c4n4ry"}},
		{route: "GET /sign-in", path: "/sign-in", want: map[string]int{ana: 200, "": 200}},
		{route: "POST /sign-in", path: "/sign-in", form: form("as", eve), want: map[string]int{ana: 303, "": 303}},
		{route: "POST /sign-out", path: "/sign-out", want: map[string]int{ana: 303, "": 303}},
		{route: "GET /static/{hash}/{file}", path: assetPath("portal.css"), want: map[string]int{ana: 200, "": 200}},
		{route: UIPath + "/", path: UIPath + "/namespaces", want: map[string]int{ana: 403, bo: 418, cy: 403, eve: 403, "": 303}},
		{route: "POST " + codecPath, path: codecPath, want: map[string]int{ana: 403, bo: 400, cy: 403, eve: 403, "": 401}}, // 400: no payloads were sent

		{route: "GET " + api.Prefix + "/requests", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 401}, has: map[string]string{ana: running.ID, bo: running.ID, cy: running.ID}},
		{route: "POST " + api.Prefix + "/requests", body: `{"wants":[],"for":"1h","reason":"x"}`, want: map[string]int{ana: 422, bo: 422, cy: 422, eve: 422, "": 401}},
		{route: "POST " + api.Prefix + "/explain", body: `{"wants":[],"for":"1h"}`, want: map[string]int{ana: 422, bo: 422, cy: 422, eve: 422, "": 401}},
		{route: "GET " + api.Prefix + "/requests/{id}", path: running.ID, want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 404, "": 401}},
		{route: "POST " + api.Prefix + "/requests/{id}/decisions", path: waiting.ID, body: `{"verdict":"deny"}`, want: map[string]int{ana: 403, bo: 403, cy: 409, eve: 404, "": 401}},
		{route: "POST " + api.Prefix + "/requests/{id}/extension", path: running.ID, body: `{"by":"30m"}`, want: map[string]int{ana: 409, bo: 403, cy: 403, eve: 404, "": 401}},
		{route: "POST " + api.Prefix + "/requests/{id}/release", path: running.ID, body: `{}`, want: map[string]int{ana: 409, bo: 403, cy: 403, eve: 404, "": 401}},
		{route: "POST " + api.Prefix + "/requests/{id}/revoke", path: running.ID, body: `{"reason":"x"}`, want: map[string]int{ana: 403, bo: 409, cy: 409, eve: 404, "": 401}},
		{route: "POST " + api.Prefix + "/requests/{id}/credentials", path: running.ID, body: `{}`, want: map[string]int{bo: 403, cy: 403, eve: 404, "": 401, ana: 409}}, // 409: it was shown above
		{route: "GET " + api.Prefix + "/integrations", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 401}},
		{route: "GET " + api.Prefix + "/integrations/{name}", path: "shop", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 401}},
		{route: "GET " + api.Prefix + "/integrations/{name}/resources", path: "shop", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/check", path: "shop", want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/integrations/{name}/discovery", path: "shop", want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/discover", path: "shop", want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/sweep", path: "shop", body: `{}`, want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/integrations/{name}/sweep", path: "shop", want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/rotation", path: "shop", body: `{}`, want: map[string]int{ana: 403, bo: 200, cy: 200, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/integrations/{name}/removal", path: "crm", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/removal", path: "crm", body: `{"reason":"x"}`, want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/removal/acceptance", path: "crm", body: `{"reason":"x"}`, want: map[string]int{ana: 403, bo: 409, cy: 403, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/integrations/{name}/removal/cancellation", path: "crm", body: `{}`, want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/config", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "PUT " + api.Prefix + "/config", body: lapseYAML, want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/changes", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/changes/{id}", path: "chg-0", want: map[string]int{ana: 403, bo: 404, cy: 403, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/changes/{id}/decision", path: "chg-0", body: `{"verdict":"approve"}`, want: map[string]int{ana: 403, bo: 404, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/audit/verify", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/audit/events", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/restore", want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "POST " + api.Prefix + "/restore/accept", body: `{"reason":"x"}`, want: map[string]int{ana: 403, bo: 200, cy: 403, eve: 403, "": 401}},
		{route: "GET " + api.Prefix + "/notices", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 401}},
		{route: "POST " + api.Prefix + "/notices/seen", body: `{"up_to":"ntc-none"}`, want: map[string]int{ana: 404, bo: 404, cy: 404, eve: 404, "": 401}},
		{route: "GET " + api.Prefix + "/health", want: map[string]int{ana: 200, bo: 200, cy: 200, eve: 200, "": 200}},
	}
	var tried []string
	for _, tc := range table {
		tried = append(tried, tc.route)
		method, pattern, _ := strings.Cut(tc.route, " ")
		if !strings.Contains(tc.route, " ") {
			method = "GET"
		}
		// What changes something for good comes last.
		people := slices.Clone(everybody)
		slices.SortStableFunc(people, func(a, b string) int { return tc.want[a]/100%4 - tc.want[b]/100%4 })
		slices.Reverse(people)
		for _, who := range people {
			status, ok := tc.want[who]
			if !ok {
				continue
			}
			var body string
			var got int
			if rest, isAPI := strings.CutPrefix(pattern, api.Prefix); isAPI {
				var in any
				if tc.body != "" {
					in = tc.body
				}
				got, body = r.call(who, method, api.Prefix+regexp.MustCompile(`\{\w+\}`).ReplaceAllString(rest, tc.path), in)
			} else {
				res := r.as(who, method, tc.path, tc.form)
				got, body = res.status, res.body
				if res.header.Get("Content-Security-Policy") == "" || res.header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s as %q: headers %v", tc.route, who, res.header)
				}
			}
			if got != status {
				t.Errorf("%s as %q: status %d, want %d: %.300s", tc.route, who, got, status, body)
			}
			for reader, words := range tc.has {
				if (reader == who) != strings.Contains(body, words) && tc.has[who] != words {
					t.Errorf("%s as %q: %q is there or missing: %s", tc.route, who, words, body)
				}
			}
		}
	}

	// Every route is in the table.
	for _, pattern := range r.portal.patterns {
		if !slices.Contains(tried, pattern) && !slices.Contains([]string{"/", api.Prefix + "/"}, pattern) {
			t.Errorf("nobody tried %s: add it to the table", pattern)
		}
	}
	doc := want[struct {
		Paths map[string]map[string]any `json:"paths"`
	}](r, http.StatusOK, "", "GET", "/openapi.json", nil)
	for path, methods := range doc.Paths {
		for method := range methods {
			if route := strings.ToUpper(method) + " " + path; !slices.Contains(tried, route) {
				t.Errorf("nobody tried %s: add it to the table", route)
			}
		}
	}
}

// Another site cannot have a form sent, and no page runs what it did not bring.
func TestPagesAreProtected(t *testing.T) {
	r := configured(t)
	cookie := r.cookie(cy)
	q := r.pending()
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "http://evil.example.com"}, {"Sec-Fetch-Site", "", "Origin", "null"},
	} {
		res := r.send("POST", "/requests/"+q.ID+"/decisions", cookie, url.Values{"verdict": {"approve"}}, headers...)
		r.shows(res, http.StatusForbidden, "Another site")
	}
	if len(r.temporal.taken) > 0 {
		t.Errorf("decisions were taken: %+v", r.temporal.taken)
	}
	for _, path := range []string{"/", "/sign-in", "/request", "/inbox", "/requests/" + q.ID, "/nowhere"} {
		res := r.send("GET", path, cookie, nil)
		policy := res.header.Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, rule) {
				t.Errorf("%s: %s is not in %s", path, rule, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || res.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, res.header)
		}
		if inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son\w+=|javascript:|<script>`).FindString(res.body); inline != "" {
			t.Errorf("%s has %q in it", path, inline)
		}
	}
}

// What people wrote is text and nothing else, wherever it is shown.
func TestPagesEscape(t *testing.T) {
	r := configured(t)
	const evil = `<script>alert(1)</script>"'><img src=x>`
	in := ask()
	in.Reason = evil
	q := want[api.Request](r, http.StatusCreated, ana, "POST", "/requests", in)
	for who, path := range map[string]string{ana: "/requests/" + q.ID, cy: "/inbox", bo: "/requests/" + q.ID} {
		res := r.as(who, "GET", path, nil)
		if strings.Contains(res.body, "<script>alert") || strings.Contains(res.body, "<img") || !strings.Contains(res.body, "&lt;script&gt;") {
			t.Errorf("%s: %s", path, res.body)
		}
	}
	res := r.as(ana, "POST", "/request", url.Values{"do": {"send"}, "reason": {evil}, "for": {evil}, "q": {evil}})
	if strings.Contains(res.body, "<script>alert") || strings.Contains(res.body, "<img") {
		t.Error(res.body)
	}
}

// wantOf is a want as the form carries it.
func wantOf(integration, resource, permission string) string {
	return wantValue(api.Want{Integration: integration, Resource: resource, Permission: permission})
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)">`)

// hidden are the fields of a form that nobody sees.
func hidden(res answered, names ...string) url.Values {
	v := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(res.body, -1) {
		if slices.Contains(names, m[1]) {
			v.Add(m[1], strings.ReplaceAll(strings.ReplaceAll(m[2], "&amp;", "&"), "&#43;", "+"))
		}
	}
	return v
}

func TestRequestForm(t *testing.T) {
	r := configured(t)
	public, support := wantOf("shop", "schema:shop/public", "read_only"), wantOf("crm", "role:support", "member")

	// Searching and adding keep what was typed.
	typed := url.Values{"integration": {"shop"}, "q": {"publ"}, "searched": {""}, "for": {"45m"}, "reason": {"a bug"}}
	res := r.as(ana, "POST", "/request", typed)
	r.shows(res, http.StatusOK, "1 resource", "schema:shop/public", `value="publ"`, `value="45m"`, ">a bug</textarea>", "It shows here once")
	if strings.Contains(res.body, "schema:shop/audit") || strings.Contains(res.body, `role="alert"`) {
		t.Errorf("the search is not one: %s", res.body)
	}
	typed.Set("add", public)
	res = r.as(ana, "POST", "/request", typed)
	r.shows(res, http.StatusOK, "Remove", cy, "analysts", "read_only chosen", `value="45m"`, "8h at most")

	// Several rows, of several integrations; one is taken out again.
	typed = url.Values{"want": {public, support}, "for": {"45m"}, "reason": {"a bug"}, "remove": {"0"}}
	res = r.as(ana, "POST", "/request", typed)
	if got := hidden(res, "want")["want"]; !slices.Equal(got, []string{support}) {
		t.Errorf("after removing a row: %q", got)
	}

	// What is wrong is said beside the field, and everything is still there.
	typed = url.Values{"want": {public, wantOf("shop", "schema:shop/gone", "read_only")}, "for": {"soon"}, "reason": {""}, "do": {"send"}}
	res = r.as(ana, "POST", "/request", typed)
	r.shows(res, http.StatusUnprocessableEntity, `id="for-fault"`, "Want a duration of at least 1s", `value="soon"`, "Is not in the catalog", `role="alert"`)
	if got := hidden(res, "want")["want"]; len(got) != 2 {
		t.Errorf("the rows are lost: %q", got)
	}
	typed = url.Values{"want": {public}, "for": {"1h"}, "reason": {" "}, "do": {"send"}}
	r.shows(r.as(ana, "POST", "/request", typed), http.StatusUnprocessableEntity, `id="reason-fault"`, "analysts: integration_owner ("+cy)
	typed = url.Values{"want": {public}, "for": {"9h"}, "reason": {"x"}, "do": {"send"}}
	r.shows(r.as(ana, "POST", "/request", typed), http.StatusForbidden, "8h at most, and there is 9h", `value="9h"`)
	typed = url.Values{"for": {"1h"}, "reason": {strings.Repeat("x", 1001)}, "do": {"send"}}
	r.shows(r.as(ana, "POST", "/request", typed), http.StatusUnprocessableEntity, `id="reason-fault"`, "Choose at least one thing")

	// Nobody else may decide on it: that is said before it is sent.
	r.shows(r.as(cy, "POST", "/request", url.Values{"want": {public}, "for": {"1h"}}), http.StatusOK, "Nobody may approve read_only on shop schema:shop/public: the access flow")
	if len(r.temporal.started) > 0 {
		t.Fatalf("workflows were started: %v", r.temporal.started)
	}

	// Sent is what was shown; a second time it is the same request.
	typed = url.Values{"want": {public, support}, "for": {"45m"}, "reason": {"a bug"}}
	res = r.as(ana, "POST", "/request", typed)
	sending := hidden(res, "want", "key", "expected")
	sending.Set("for", "45m")
	sending.Set("reason", "a bug")
	sending.Set("do", "send")
	first, second := r.as(ana, "POST", "/request", sending), r.as(ana, "POST", "/request", sending)
	to := first.header.Get("Location")
	if first.status != http.StatusSeeOther || !strings.HasPrefix(to, "/requests/req-") || second.header.Get("Location") != to {
		t.Fatalf("sent: %d to %s, then %s: %s", first.status, to, second.header.Get("Location"), first.body)
	}
	q := want[api.Request](r, http.StatusOK, ana, "GET", to, nil)
	if len(q.Holds) != 2 || q.Duration.String() != "45m" || q.Reason != "a bug" {
		t.Errorf("request: %+v", q)
	}
	sending.Set("key", "another")
	sending.Set("expected", "analysts: somebody else")
	r.shows(r.as(ana, "POST", "/request", sending), http.StatusConflict, "decided by others than you were shown")
}

// A link chooses what is asked for, and sends nothing.
func TestRequestByLink(t *testing.T) {
	r := configured(t)
	link := again(api.Request{Duration: access.Duration(2 * time.Hour), Reason: "once more", Holds: []api.Hold{{Integration: "shop", Resource: "schema:shop/public", Permission: "read_write"}}})
	r.shows(r.as(ana, "GET", link+"&do=send", nil), http.StatusOK, "read_write chosen", `value="2h"`, ">once more</textarea>", cy)
	if len(r.temporal.started) > 0 {
		t.Error("a link sent a request")
	}
}

func TestDecideOnThePage(t *testing.T) {
	r := configured(t)
	q := r.pending()
	r.shows(r.as(cy, "GET", "/inbox", nil), http.StatusOK, ana, "a bug in the orders", "Approve")
	path := "/requests/" + q.ID + "/decisions"
	r.shows(r.as(cy, "POST", path, url.Values{"verdict": {"perhaps"}}), http.StatusUnprocessableEntity)
	r.temporal.onUpdate = func(access.Decision) error { return applicationError("Refused", "the account is locked") }
	r.shows(r.as(cy, "POST", path, url.Values{"verdict": {"approve"}, "reason": {"as agreed"}}), http.StatusForbidden, "The account is locked.", `value="as agreed"`)

	r.temporal.decided(access.StateApproved)
	res := r.as(cy, "POST", path, url.Values{"verdict": {"approve"}, "reason": {"as agreed"}, "from": {"inbox"}})
	if res.status != http.StatusSeeOther || res.header.Get("Location") != "/inbox" {
		t.Errorf("approved: %d to %s", res.status, res.header.Get("Location"))
	}
	if d := r.temporal.taken[len(r.temporal.taken)-1]; d.From != "portal" || d.Reason != "as agreed" {
		t.Errorf("decision: %+v", d)
	}
	cookie := r.cookie(cy)
	for _, c := range res.cookies {
		cookie += "; " + c.Name + "=" + c.Value
	}
	after := r.send("GET", "/inbox", cookie, nil)
	r.shows(after, http.StatusOK, "It counts.", "Nothing waits for you")
}

func TestFaultsOnThePageOfARequest(t *testing.T) {
	r := configured(t)
	q := r.active()
	path := "/requests/" + q.ID
	r.shows(r.as(ana, "POST", path+"/extension", url.Values{"by": {"a bit"}}), http.StatusUnprocessableEntity, `id="by-fault"`, `value="a bit"`)
	r.shows(r.as(ana, "POST", path+"/extension", url.Values{"by": {"9h"}}), http.StatusConflict, "7h longer than now", `value="9h"`)
	r.shows(r.as(bo, "POST", path+"/revoke", url.Values{"reason": {" "}}), http.StatusUnprocessableEntity, `id="why-fault"`)
	r.shows(r.as(bo, "GET", path, nil), http.StatusOK, "Revoke now")
	r.shows(r.as(ana, "GET", path, nil), http.StatusOK, "At most 7h more", "Give back now", "is a member")
}

// Every state has its look.
func TestStatesOnPages(t *testing.T) {
	r := configured(t)
	q := r.active(api.Want{Integration: "shop", Resource: "schema:shop/public", Permission: "read_only"}, api.Want{Integration: "crm", Resource: "role:support", Permission: "member"})
	path := "/requests/" + q.ID
	r.hold(q.Holds[1].ID, func(h *access.Hold) { h.State, h.Error = access.StateFailed, "the forge does not know this person" })
	r.shows(r.as(ana, "GET", path, nil), http.StatusOK, "state-active", "state-failed", "the forge does not know this person")
	r.hold(q.Holds[0].ID, func(h *access.Hold) { h.EndsAt = time.Now().Add(-90 * time.Second) })
	r.shows(r.as(ana, "GET", "/", nil), http.StatusOK, "state-overdue", "1m 30s", "past its end")
	r.shows(r.as(bo, "GET", "/all?show=overdue", nil), http.StatusOK, "state-overdue", ana)
	r.hold(q.Holds[0].ID, func(h *access.Hold) { h.State = access.StateEnded })
	r.shows(r.as(ana, "GET", path, nil), http.StatusOK, "state-ended", "Ask again")
	r.shows(r.as(bo, "GET", "/all?show=overdue", nil), http.StatusOK, "Nothing is overdue.")
	r.shows(r.as(eve, "GET", "/", nil), http.StatusOK, "You have access to nothing right now.")
	r.shows(r.as(eve, "GET", "/request", nil), http.StatusOK, "No access flow lets you ask for anything.")
}

func TestCredentialOnThePage(t *testing.T) {
	r := configured(t)
	q := r.active()
	r.sealed(r.account(q), 1, "c4n4ryPassw0rd")
	path := "/requests/" + q.ID + "/credentials"
	res := r.as(ana, "POST", path, url.Values{"integration": {"shop"}})
	r.shows(res, http.StatusOK, "c4n4ryPassw0rd", "shown only once", "Use the read replica.", "data-copy")
	if res.header.Get("Cache-Control") != "no-store" || res.header.Get("Location") != "" || len(res.cookies) > 0 {
		t.Errorf("headers: %v", res.header)
	}
	r.shows(r.as(ana, "POST", path, url.Values{"integration": {"shop"}}), http.StatusConflict, "fetched already", "Make a new one")
	for _, page := range []string{"/", "/requests/" + q.ID} {
		if strings.Contains(r.as(ana, "GET", page, nil).body, "c4n4ry") {
			t.Errorf("%s has the password", page)
		}
	}
	if strings.Contains(r.log.String(), "c4n4ry") {
		t.Error("the password is in the log")
	}
}

// The Web UI gets nothing of the session, and runs only its own scripts.
func TestProxyToTheUI(t *testing.T) {
	var got http.Header
	ui := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "frame-src *")
		io.WriteString(w, "<script>start()</script>"+r.URL.RequestURI())
	}))
	t.Cleanup(ui.Close)
	r := configured(t, func(o *Options) { o.UI = ui.URL })
	res := r.send("GET", UIPath+"/namespaces/default/workflows/request%2Freq-1?x=1", r.cookie(bo)+"; _csrf=theirs", nil, api.HeaderAs, bo, "Authorization", "Bearer x")
	r.shows(res, http.StatusOK, UIPath+"/namespaces/default/workflows/request%2Freq-1?x=1")
	if got.Get("Cookie") != "_csrf=theirs" || got.Get("Authorization") != "" || got.Get(api.HeaderAs) != "" {
		t.Errorf("the Web UI got %v", got)
	}
	// The hash of start(), as openssl dgst -sha256 -binary | base64 has it.
	if policy := res.header.Values("Content-Security-Policy"); len(policy) != 1 || !strings.Contains(policy[0], "script-src 'self' 'sha256-") || strings.Contains(policy[0], "*") {
		t.Errorf("policy: %q", policy)
	}
	ui.Close()
	r.shows(r.as(bo, "GET", UIPath+"/", nil), http.StatusBadGateway, "does not answer")
}

func TestReturnAfterSignIn(t *testing.T) {
	r := configured(t)
	res := r.send("GET", "/requests/req-1?x=1", "", nil)
	if to := res.header.Get("Location"); to != "/sign-in?next=%2Frequests%2Freq-1%3Fx%3D1" {
		t.Errorf("sent to %s", to)
	}
	for next, want := range map[string]string{"/inbox": "/inbox", "//evil.example.com": "/", "https://evil.example.com": "/", `/\evil.example.com`: "/", "": "/"} {
		if to := r.send("POST", "/sign-in", "", url.Values{"as": {ana}, "next": {next}}).header.Get("Location"); to != want {
			t.Errorf("%q leads to %q, want %q", next, to, want)
		}
	}
}
