package githubtest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestDescribed: a request that GitHub does not describe is refused, so that every
// test here is one of the requests too.
func TestDescribed(t *testing.T) {
	v := Described(t)
	for _, test := range []struct {
		method, path, body string
		ok                 bool
	}{
		{"PUT", "/repos/acme/site/collaborators/u", `{"permission":"push"}`, true},
		{"PUT", "/repos/acme/site/collaborators/u", `{"permissions":"write"}`, false},
		{"PATCH", "/repos/acme/site/invitations/1", `{"permissions":"write"}`, true},
		{"PATCH", "/repos/acme/site/invitations/1", `{"permissions":"push"}`, false},
		{"PATCH", "/repos/acme/site/invitations/x", `{"permissions":"write"}`, false},
		{"PUT", "/orgs/acme/memberships/u", `{"role":"owner"}`, false},
		{"DELETE", "/orgs/acme/organization-roles/users/u", ``, false},
		{"DELETE", "/orgs/acme/memberships/u", ``, false},
		{"GET", "/orgs/acme/members?role=owner", ``, false},
		{"GET", "/orgs/acme/members?rolle=admin", ``, false},
	} {
		r := httptest.NewRequest(test.method, test.path, nil)
		if test.body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if _, err := v.request(r, []byte(test.body)); (err == nil) != test.ok {
			t.Errorf("%s %s %s: %v; GitHub describes it: %t", test.method, test.path, test.body, err, test.ok)
		}
	}
}

// TestLimits refuses what is over a limit, until its time is over.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method, path string
		within       int
		header       string // that says when to come back
	}{
		{"POST", "/graphql", 2000, "Retry-After"},
		{"GET", "/orgs/acme", 900, "Retry-After"},
		{"PUT", "/orgs/acme/memberships/u", 180, "Retry-After"},
		{"GET", "/search/users", 30, "X-Ratelimit-Reset"},
	} {
		h := &Hub{spent: map[string]*window{}}
		r := httptest.NewRequest(test.method, test.path, nil)
		for range test.within {
			if h.over(httptest.NewRecorder(), r, 1) {
				t.Fatalf("%s %s: refused within the limit", test.method, test.path)
			}
		}
		w := httptest.NewRecorder()
		if !h.over(w, r, 1) || w.Code != http.StatusForbidden || w.Header().Get(test.header) == "" {
			t.Errorf("%s %s: %d %v, want one over the limit to be refused", test.method, test.path, w.Code, w.Header())
		}
		for _, spent := range h.spent {
			spent.since = time.Now().Add(-time.Hour)
		}
		if h.over(httptest.NewRecorder(), r, 1) {
			t.Errorf("%s %s: refused an hour later", test.method, test.path)
		}
		if !h.over(httptest.NewRecorder(), r, mostTogether+1) {
			t.Errorf("%s %s: more than %d at once are taken", test.method, test.path, mostTogether)
		}
	}
}
