package rediscloud

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/httpapi"
)

// TestSettings reads settings as lapse.yaml has them.
func TestSettings(t *testing.T) {
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{APIURL: "https://api.redislabs.com/v1", RequestTimeout: access.Duration(time.Minute), Endpoint: "public", CheckLogin: true, MaxResources: 10000}, [][3]string{
		{"nothing", "{}", ""},
		{"everything", `{api_url: "https://api.example.com/v1", request_timeout: 10s, subscriptions: [1206, 7], endpoint: private, check_login: false,
			include: ["database:production/*"], exclude: ["rule:*/*/*"], max_resources: 5}`, ""},
		{"an endpoint that is none", "{endpoint: secret}", "endpoint"},
		{"subscriptions by name", "{subscriptions: [production]}", "subscriptions"},
		{"a timeout without a unit", "{request_timeout: 30}", "request_timeout"},
		{"a key that is none", "{api_key: x}", "api_key"},
		{"plain text", "api_url: http://api.example.com/v1", "unencrypted"},
		{"no scheme", "api_url: api.example.com", "form"},
		{"a login in the URL", "api_url: https://x:y@api.example.com", "more than a host"},
		{"a certificate that is none", "{api_url: https://api.example.com, ca_certificate: not PEM}", "not PEM"},
	})
}

// TestFailures are answers as the API gives them.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   access.ErrorKind
	}{
		{400, `{"type": "ACL_USER_NAME_NOT_VALID", "description": "canary"}`, access.Invalid},
		{400, `{"error": {"type": "ACL_ROLE_IS_IN_PENDING_STATUS_AND_CANNOT_BE_UPDATED"}}`, access.Retry},
		{400, `{"error": "Bad Request"}`, access.Invalid},
		{400, `<html>canary`, access.Invalid},
		{401, `{"error": "Unauthorized"}`, access.Auth},
		{403, ``, access.Privilege},
		{404, `{"status": 404, "error": "Not Found"}`, access.ResourceMissing},
		{404, `{"type": "ACL_USER_NOT_FOUND"}`, access.ResourceMissing},
		{408, ``, access.Retry},
		{409, `{"type": "ACL_ROLE_NAME_ALREADY_EXISTS"}`, access.Conflict},
		{409, ``, access.Conflict},
		{412, ``, access.Unsupported},
		{422, `{"type": "ACL_ROLE_REDIS_RULE_MUST_BE_DEFINED_ONLY_ONCE_PER_DATABASE"}`, access.Invalid},
		{429, `{"type": "SUBSCRIPTION_NOT_ACTIVE"}`, access.RateLimited},
		{500, ``, access.Retry},
		{503, `{"type": "something new"}`, access.Retry},
	} {
		err := failure(&httpapi.Response{Status: test.status, Header: http.Header{}, Body: []byte(test.body)})
		kind := httpapi.Kind(test.status)
		if err != nil {
			kind = err.Kind
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("%d %s: the answer is repeated: %v", test.status, test.body, err)
			}
		}
		if kind != test.want {
			t.Errorf("%d %s: %s, want %s", test.status, test.body, kind, test.want)
		}
	}
	waits := failure(&httpapi.Response{Status: 429, Header: http.Header{"X-Rate-Limit-Retry-After-Seconds": {"12"}}})
	if waits.After != 12*time.Second {
		t.Errorf("asked to wait 12 seconds: %s", waits.After)
	}
}

func TestParse(t *testing.T) {
	e := func(permission, typ string, names ...string) access.Entitlement {
		return access.Entitlement{Resource: access.NewResource(typ, names...), Permission: permission}
	}
	for _, good := range []access.Entitlement{
		e(readOnly, typeDatabase, "s", "d"), e(fullAccess, typeDatabase, "s/1", "d*"), e(use, typeRule, "s", "d", "r"), e(assume, typeRole, "r"),
	} {
		if _, err := parse(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []access.Entitlement{
		e("admin", typeDatabase, "s", "d"), e(readOnly, typeDatabase, "d"), e(readOnly, typeDatabase, "s", "d", "x"), e(use, typeRule, "s", "d", "Full-Access"),
		e(assume, typeRole, "lapse_0123456789ab_p-1"), e(assume, typeRole, "a", "b"), e("x", "table", "t"), {},
	} {
		if _, err := parse(bad); access.KindOf(err) != access.Invalid {
			t.Errorf("%s: %v, want invalid", bad, err)
		}
	}
}

// TestCovers: of the customer's rules nothing is known.
func TestCovers(t *testing.T) {
	for _, test := range []struct {
		has, want string
		covers    bool
	}{
		{ruleReadOnly, ruleReadOnly, true}, {ruleReadWrite, ruleReadOnly, true}, {ruleFullAccess, ruleReadWrite, true}, {ruleReadOnly, ruleReadWrite, false},
		{ruleFullAccess, "custom", true}, {"custom", "custom", true}, {"custom", ruleReadOnly, false}, {ruleReadWrite, "custom", false}, {"custom", "other", false}, {"", ruleReadOnly, false},
	} {
		if got := covers(test.has, test.want); got != test.covers {
			t.Errorf("%q covers %q: %t", test.has, test.want, got)
		}
	}
}

func TestLabels(t *testing.T) {
	c := &catalog{subscriptions: []subscription{{ID: 1, Name: "one"}, {ID: 2, Name: "twin"}, {ID: 3, Name: "twin"}, {ID: 4, Name: "twin (3)"}}}
	for label, want := range map[string]int{"one": 1, "twin": 0, "twin (2)": 2, "twin (3)": 0, "none": 0} {
		if s, ok := c.find(label); s.ID != want || ok != (want > 0) {
			t.Errorf("%q is subscription %d, %t; want %d", label, s.ID, ok, want)
		}
	}
}

// TestNothingUntrustedInCommands: what people paste comes in part from the API.
func TestNothingUntrustedInCommands(t *testing.T) {
	for address, ok := range map[string]bool{
		"redis-1.c1.us-east-1-1.ec2.cloud.redislabs.com:17571": true, "$(id).example.com:1": false, "-x.example.com:1": false, "db.example.com:1;id": false, "db example:1": false, "": false,
	} {
		if host, port, is := split(address); is != ok {
			t.Errorf("%q is taken as an endpoint: %t (%s, %s)", address, is, host, port)
		}
	}
}

func TestPaceSpreadsCalls(t *testing.T) {
	var slept time.Duration
	at := time.Now()
	c := clock{now: func() time.Time { return at }, sleep: func(_ context.Context, d time.Duration) error {
		slept = max(slept, d)
		return nil
	}}
	a := &account{}
	for range 401 {
		if err := a.pace(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if slept < time.Minute {
		t.Errorf("401 calls at once are made within %s", slept)
	}
}
