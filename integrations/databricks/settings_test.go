package databricks

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

const example = "2b7a1c9e-0f4d-4c55-9a51-6f0d3c1e8b72"

// TestSettings reads them as lapse.yaml has them.
func TestSettings(t *testing.T) {
	const host = "accounts_url: https://accounts.cloud.databricks.com"
	with := func(more string) string { return "{" + host + ", account_id: " + example + more + "}" }
	at := func(url string) string { return "{account_id: " + example + ", accounts_url: \"" + url + "\"}" }
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{AccountsURL: "https://accounts.cloud.databricks.com", AccountID: example, RequestTimeout: access.Duration(30 * time.Second), RequestsPerSecond: 15, MaxResources: 10000}, [][3]string{
		{"what is needed", with(""), ""},
		{"everything", `{accounts_url: "https://accounts.gcp.databricks.com/", account_id: 2B7A1C9E-0f4d-4c55-9a51-6f0d3c1e8b72, request_timeout: 10s, requests_per_second: 5,
			admin_groups: true, include: ["group:data-*"], exclude: ["group:*-owners"], max_resources: 5}`, ""},
		{"no address", "{account_id: " + example + "}", "accounts_url"},
		{"no account", "{" + host + "}", "account_id"},
		{"an account by name", "{" + host + ", account_id: acme}", "account_id"},
		{"an account that leads elsewhere", with("/../x"), "account_id"},
		{"no requests at all", with(", requests_per_second: 0"), "requests_per_second"},
		{"a key of the vendor's", with(", host: x"), "host"},
		{"an address that is not encrypted", at("http://accounts.cloud.databricks.com"), "accounts_url"},
		{"an address without its scheme", at("accounts.cloud.databricks.com"), "accounts_url"},
		{"an address with a login", at("https://x:y@accounts.cloud.databricks.com"), "accounts_url"},
		{"an address with a path", at("https://accounts.cloud.databricks.com/login"), "accounts_url"},
		{"an address with a query", at("https://accounts.cloud.databricks.com/?o=1"), "accounts_url"},
		{"an authority that is none", with(", ca_certificate: x"), "PEM"},
	})
}

// TestMeanings are answers as Databricks and SCIM give them.
func TestMeanings(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   access.ErrorKind
	}{
		{400, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"400","scimType":"noTarget","detail":"canary"}`, access.ResourceMissing},
		{400, `{"status":"400","scimType":"mutability","detail":"canary"}`, access.ExternallyManaged},
		{400, `{"error_code":"INVALID_PARAMETER_VALUE","message":"canary: the group is Immutable"}`, access.ExternallyManaged},
		{400, `{"error_code":"INVALID_FILTER","message":"canary"}`, access.Invalid},
		{400, `{"error_code":"RESOURCE_LIMIT_EXCEEDED","message":"canary"}`, access.Limit},
		{400, `{"error_code":"INVALID_PARAMETER_VALUE","message":"canary: no noTarget here"}`, access.Invalid},
		{400, `{"error_code":400,"message":"canary"}`, access.Invalid},
		{400, `<html>canary`, access.Invalid},
		{401, `{"error_code":401,"message":"canary"}`, access.Auth},
		{403, `{"error_code":"PERMISSION_DENIED","message":"canary: only account admins"}`, access.Privilege},
		{403, `{"error_code":"PERMISSION_DENIED","message":"canary: immutable external groups"}`, access.ExternallyManaged},
		{403, `{"message":"Source IP address: canary is blocked by Databricks IP access list for account"}`, access.Privilege},
		{404, `{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"canary"}`, access.ResourceMissing},
		{404, `{"error_code":"ENDPOINT_NOT_FOUND","message":"canary"}`, access.Unsupported},
		{404, ``, access.ResourceMissing},
		{405, ``, access.Unsupported},
		{408, ``, access.Retry},
		{409, `{"error_code":"RESOURCE_CONFLICT"}`, access.Conflict},
		{412, ``, access.Conflict},
		{429, `{"error_code":"RESOURCE_EXHAUSTED"}`, access.RateLimited},
		{500, `{"error_code":"REQUEST_LIMIT_EXCEEDED"}`, access.RateLimited},
		{500, `{"error_code":"INTERNAL_ERROR"}`, access.Retry},
		{501, ``, access.Unsupported},
		{503, `upstream connect error`, access.Retry},
		{504, ``, access.Retry},
	} {
		err := judged(test.status, http.Header{}, []byte(test.body))
		if access.KindOf(err) != test.want || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d %s: %v (%s), want %s without a word of the answer", test.status, test.body, err, access.KindOf(err), test.want)
		}
	}
	if waits, _ := errors.AsType[*access.Error](judged(429, http.Header{"Retry-After": {"12"}}, nil)); waits.After != 12*time.Second {
		t.Errorf("asked to wait 12 seconds: %s", waits.After)
	}
}

// TestRefusedLogins are answers in place of a token.
func TestRefusedLogins(t *testing.T) {
	for _, test := range []struct {
		status     int
		code, body string
		want       access.ErrorKind
	}{
		{400, "invalid_client", `{"error":"invalid_client"}`, access.Auth},
		{401, "invalid_client", `{"error":"invalid_client","error_description":"canary"}`, access.Auth},
		{401, "", `<html>canary`, access.Auth},
		{400, "unauthorized_client", `{"error":"unauthorized_client"}`, access.Auth},
		{400, "invalid_request", `{"error":"invalid_request","error_description":"canary"}`, access.Invalid},
		{400, "invalid_request", `{"error":"invalid_request","error_description":"Temporarily throttled"}`, access.RateLimited},
		{429, "", ``, access.RateLimited},
		{403, "", `{"message":"canary is blocked by Databricks IP access list"}`, access.Privilege},
		{404, "", `{"error_code":"ENDPOINT_NOT_FOUND"}`, access.Invalid},
		{405, "", ``, access.Invalid},
		{500, "", ``, access.Retry},
		{503, "temporarily_unavailable", ``, access.Retry},
	} {
		err := refused(&oauth2.RetrieveError{Response: &http.Response{StatusCode: test.status, Header: http.Header{}}, Body: []byte(test.body), ErrorCode: test.code})
		if access.KindOf(err) != test.want || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d %s: %v (%s), want %s without a word of the answer", test.status, test.body, err, access.KindOf(err), test.want)
		}
	}
	if err := refused(errors.New("canary")); access.KindOf(err) != access.Retry || strings.Contains(err.Error(), "canary") {
		t.Errorf("something else: %v", err)
	}
}

func TestParse(t *testing.T) {
	e := func(permission, typ string, names ...string) access.Entitlement {
		return access.Entitlement{Resource: access.NewResource(typ, names...), Permission: permission}
	}
	if names, err := parse([]access.Entitlement{e(member, typeGroup, "a/b*%"), e(member, typeGroup, "ä")}); err != nil || names[0] != "a/b*%" || names[1] != "ä" {
		t.Errorf("%q, %v", names, err)
	}
	for _, bad := range []access.Entitlement{e("admin", typeGroup, "a"), e(member, "team", "a"), e(member, typeGroup, "a", "b"), e(member, typeGroup, ""), e(member, typeGroup, "a\x00"), {}} {
		if _, err := parse([]access.Entitlement{bad}); access.KindOf(err) != access.Invalid {
			t.Errorf("%s: %v, want invalid", bad, err)
		}
	}
}

// TestKeys finds what Lapse wrote for an entitlement, and nothing else, whatever
// groups are called.
func TestKeys(t *testing.T) {
	e := func(name string) access.Entitlement {
		return access.Entitlement{Resource: access.NewResource(typeGroup, name), Permission: member}
	}
	m, other := membership{"1", "2"}, membership{"3", "2"}
	strange := e("a=member@1/2")
	wrote := map[string]string{m.key(e("a")): member, other.key(e("a")): member, m.key(strange): member, m.key(e("A")): member,
		"group:a=member@": member, "group:a=member@1": member, "group:a=member@x/2": member, "group:a=member@1/2/3": member, "group:a=member@-1/2": member}
	if diff := cmp.Diff([]membership{m, other}, ours(wrote, e("a")), cmp.AllowUnexported(membership{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]membership{m}, ours(wrote, strange), cmp.AllowUnexported(membership{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLiteral(t *testing.T) {
	for value, want := range map[string]string{`a`: `"a"`, `a"b\c`: `"a\"b\\c"`, "<&>\n": `"<&>\n"`, "ü😀": `"ü😀"`, "a\x00": `"a\u0000"`} {
		if got := literal(value); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
