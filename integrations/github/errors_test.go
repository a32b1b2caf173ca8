package github

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
)

// TestJudge turns what GitHub answers into kinds, and shows nothing of it.
func TestJudge(t *testing.T) {
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for _, test := range []struct {
		name          string
		status        int
		header        map[string]string
		message, page string
		kind          access.ErrorKind
		after         time.Duration
	}{
		{"a wrong token", 401, nil, "Bad credentials", "", access.Auth, 0},
		{"no right", 403, nil, "Must have admin rights to Repository.", "", access.Privilege, 0},
		{"no single sign-on", 403, map[string]string{"X-GitHub-SSO": "required; url=https://github.com/orgs/acme/sso"}, "Resource protected by organization SAML enforcement.", "", access.Auth, 0},
		{"no single sign-on, in another word", 403, map[string]string{"X-GitHub-SSO": "partial-results"}, "", "", access.Auth, 0},
		{"another address", 403, nil, "Although you appear to have the correct authorization credentials, the `acme` organization has an IP allow list enabled", "", access.Auth, 0},
		{"archived", 403, nil, "Repository was archived so is read-only.", "", access.Invalid, 0},
		{"gone", 404, nil, "Not Found", "", access.ResourceMissing, 0},
		{"a conflict", 409, nil, "Conflict", "", access.Conflict, 0},
		{"what cannot be", 422, nil, "Validation Failed", "", access.Invalid, 0},
		{"below the base permission", 422, nil, "Cannot assign member permission of read", "", access.Invalid, 0},
		{"an owner already", 422, nil, "Validation Failed already_org_admin ", "", access.Conflict, 0},
		{"renamed", 301, map[string]string{"Location": "https://api.github.com/repositories/1"}, "Moved Permanently", "", access.Conflict, 0},
		{"down", 502, nil, "Server Error", "", access.Retry, 0},
		{"a secondary limit that says how long", 403, map[string]string{"Retry-After": "30"}, "You have exceeded a secondary rate limit.", "", access.RateLimited, 30 * time.Second},
		{"a secondary limit that does not", 403, nil, "You have exceeded a secondary rate limit.", "", access.RateLimited, time.Minute},
		{"a secondary limit by its page", 403, nil, "Wait", "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits", access.RateLimited, time.Minute},
		{"a secondary limit as 429, without a word", 429, nil, "", "", access.RateLimited, time.Minute},
		{"the primary limit", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(10 * time.Minute)}, "API rate limit exceeded for user ID 1.", "", access.RateLimited, 10 * time.Minute},
		{"the primary limit as 429", 429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(2 * time.Minute)}, "", "", access.RateLimited, 2 * time.Minute},
		{"the primary limit of a moment ago", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": in(-time.Minute)}, "", "", access.RateLimited, 0},
		{"the primary limit without an end", 403, map[string]string{"X-RateLimit-Remaining": "0"}, "", "", access.RateLimited, time.Minute},
		{"no right, with requests left", 403, map[string]string{"X-RateLimit-Remaining": "4999"}, "", "", access.Privilege, 0},
	} {
		header := http.Header{}
		for k, v := range test.header {
			header.Set(k, v)
		}
		err := judge(test.status, header, test.message, test.page)
		if err.Kind != test.kind || err.After.Round(2*time.Second) != test.after {
			t.Errorf("%s: %v (%s) after %s, want %s after %s", test.name, err, err.Kind, err.After, test.kind, test.after)
		}
		if test.message != "" && strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: the error quotes the answer: %v", test.name, err)
		}
	}
}

func TestGraphErrors(t *testing.T) {
	for typ, kind := range map[string]access.ErrorKind{"FORBIDDEN": access.Privilege, "INSUFFICIENT_SCOPES": access.Privilege, "RATE_LIMITED": access.RateLimited, "": access.Retry, "SOMETHING": access.Unknown} {
		if err := (graphError{Type: typ, Message: "secret"}).failure(http.Header{}); err.Kind != kind || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v (%s), want %s", typ, err, err.Kind, kind)
		}
	}
	saml := graphError{Type: "FORBIDDEN"}
	saml.Extensions.SAML = true
	if err := saml.failure(http.Header{}); err.Kind != access.Auth {
		t.Errorf("no single sign-on: %v (%s)", err, err.Kind)
	}
	limited := graphError{Type: "RATE_LIMITED"}
	if err := limited.failure(http.Header{"X-Ratelimit-Reset": {strconv.FormatInt(time.Now().Add(90*time.Second).Unix(), 10)}}); err.After.Round(5*time.Second) != 90*time.Second {
		t.Errorf("the GraphQL API's own limit: %s", err.After)
	}
}

func TestNumbered(t *testing.T) {
	for name, want := range map[string]int64{"583231+octocat": 583231, "octocat": 0, "": 0, "+octocat": 0, "1+": 0, "99999999999999999999+x": 0, "12+a+b": 12} {
		if got := numbered(name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}

// TestSplitKey: names of roles may have what stands before the id.
func TestSplitKey(t *testing.T) {
	for _, name := range []string{"site", "a@b", "@", "a@b@7@8"} {
		at := spot{typeRole, name}
		key := state{id: "R_1"}.key(at, person{id: 42})
		if resource, id, number := splitKey(key); resource != at.resource().String() || id != "R_1" || number != 42 {
			t.Errorf("%q: %q, %q and %d", key, resource, id, number)
		}
		if keys := writtenAt(map[string]string{key: "assigned"}, spot{typeRole, "a"}); len(keys) > 0 {
			t.Errorf("the key of role %q is taken for that of another: %q", name, keys)
		}
	}
	for _, key := range []string{"", "x", "x@1", "x@R_1@y"} {
		if resource, _, _ := splitKey(key); resource != "" {
			t.Errorf("%q is taken for a key", key)
		}
	}
}

// TestPace keeps changes apart, also those of several integrations with one token.
func TestPace(t *testing.T) {
	one, other := &Secret{Token: "a"}, &Secret{Token: "b"}
	if paceOf("x", one) != paceOf("x", &Secret{Token: "a"}) || paceOf("x", one) == paceOf("x", other) || paceOf("x", one) == paceOf("y", one) {
		t.Error("changes with one token are not counted together, or with others")
	}
	begun := time.Now()
	done := make(chan error)
	for range 5 {
		go func() { done <- paceOf("x", one).wait(t.Context(), 20*time.Millisecond) }()
	}
	for range 5 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(begun); took < 80*time.Millisecond {
		t.Errorf("five changes within %s, want 80ms", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &pace{next: time.Now().Add(time.Minute)}
	if err := p.wait(ctx, time.Second); access.KindOf(err) != access.Retry {
		t.Errorf("stopped while it waits: %v, want retry", err)
	}
}
