package grafana

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/httpapi"
)

func TestSettings(t *testing.T) {
	certificationtest.Settings(t, Kind(), &Secret{}, &Config{URL: "https://g", MaxResources: 10000}, [][3]string{
		{"only the URL", "url: https://g", ""},
		{"everything", `{url: "https://g.example.com/grafana/", tls_skip_verify: true, resource_types: [folder, organization],
			include: ["folder:Ops*/*"], exclude: ["folder:*/x"], max_resources: 5}`, ""},
		{"http on this machine", "url: http://127.0.0.1:3000", ""},
		{"no URL", "max_resources: 5", "url"},
		{"a type that is none", "{url: https://g, resource_types: [table]}", "resource_types"},
		{"a key that is none", "{url: https://g, grafana_url: https://g}", "grafana_url"},
		{"no resources at all", "{url: https://g, max_resources: 0}", "max_resources"},
		{"http to another machine", "url: http://grafana.example.com", "unencrypted"},
		{"a host alone", "url: grafana.example.com", "https://HOST"},
		{"a password", "url: https://u:p@grafana", "more than a host"},
		{"a query", "url: https://g?x=y", "more than a host"},
		{"a certificate that is none", "{url: https://g, ca_certificate: not PEM}", "not PEM"},
	})
}

// TestFailures has answers as Grafana gives them.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   access.ErrorKind // "" leaves it to the status
	}{
		{401, `{"message":"Invalid API key","messageId":"api-key.invalid"}`, access.Auth},
		{401, `{"message":"Unauthorized"}`, access.Auth},
		{401, `<html>`, access.Auth},
		{403, `{"message":"cannot change role for externally synced user","messageId":"org.externallySynced","statusCode":403}`, access.ExternallyManaged},
		{403, `{"message":"Cannot change role for externally synced user"}`, access.ExternallyManaged},
		{403, `{"message":"Cannot assign a role higher than user's role"}`, access.Privilege},
		{403, `{"message":"You'll need additional permissions to perform this action. Permissions needed: any of datasources.permissions:write, datasources.permissions:read"}`, access.Privilege},
		{403, `{"message":"Permissions needed: canary-secret <script>"}`, access.Privilege},
		{403, ``, access.Privilege},
		{400, `{"message":"Cannot change role so that there is no organization admin left"}`, access.Limit},
		{400, `{"message":"User is already added to this team"}`, access.Conflict},
		{400, `{"message":"user not found","messageId":"accesscontrol.assignmentEntityNotFound"}`, access.PersonMissing},
		{400, `{"message":"Permission [canary] is invalid for this resource type","messageId":"resourcePermissions.invalidPermission"}`, access.Unsupported},
		{400, `{"message":"bad request data"}`, ""},
		{404, `{"message":"Not found"}`, ""},
		{405, ``, access.Unsupported},
		{429, ``, ""},
		{500, `{"message":"canary-internal"}`, ""},
	} {
		got := failure(&httpapi.Response{Status: test.status, Header: http.Header{}, Body: []byte(test.body)})
		switch {
		case (got == nil) != (test.want == "") || got != nil && got.Kind != test.want:
			t.Errorf("%d %s: %v, want %s", test.status, test.body, got, test.want)
		case got != nil && (strings.Contains(got.Error(), "canary") || strings.Contains(got.Error(), "script")):
			t.Errorf("%d: the answer came out: %v", test.status, got)
		}
	}
	lacks := failure(&httpapi.Response{Status: 403, Body: []byte(`{"message":"... Permissions needed: any of datasources.permissions:write, datasources.permissions:read"}`)})
	if !strings.Contains(lacks.Text, "datasources.permissions:write or datasources.permissions:read") {
		t.Errorf("what is lacking is not named: %v", lacks)
	}
}

func TestParse(t *testing.T) {
	e := func(permission, typ string, names ...string) access.Entitlement {
		return access.Entitlement{Resource: access.NewResource(typ, names...), Permission: permission}
	}
	for _, good := range []access.Entitlement{
		e("query", typeDataSource, "a/b*", "P1809F7CD0C75ACF3"), e("admin", typeFolder, "x", "f_o-o"), e("view", typeDashboard, "x", "a.b:c"),
		e("member", typeTeam, "x", "7"), e("viewer", typeOrganization, "Main Org.", "1"),
	} {
		if _, err := parse([]access.Entitlement{good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []access.Entitlement{
		e("view", typeDataSource, "x", "u"), e("query", typeDataSource, "u"), e("query", typeDataSource, "x", "y", "u"), e("view", "table", "x", "u"), {},
		e("view", typeFolder, "x", "*"), e("view", typeFolder, "x", "."), e("view", typeFolder, "x", ".."), e("view", typeFolder, "x", "a/b"), e("view", typeFolder, "x", "a b"), e("view", typeFolder, "x", ""),
		e("member", typeTeam, "x", "0"), e("member", typeTeam, "x", "a"), e("none", typeOrganization, "x", "1"), e("viewer", typeOrganization, "x", "-1"),
	} {
		if _, err := parse([]access.Entitlement{bad}); access.KindOf(err) != access.Invalid {
			t.Errorf("%s: %v, want invalid", bad, err)
		}
	}
}

func TestAccountNames(t *testing.T) {
	for name, want := range map[string][2]int64{"ana (7@1)": {7, 1}, "": {}, "ana": {}, "ana (7@1) x": {}, "ana (9@9) (7@1)": {7, 1}, "ana (0@1)": {}, "ana(7@1)": {}} {
		if user, organization := ids(access.Account{Name: name}); [2]int64{user, organization} != want {
			t.Errorf("%q: %d and %d, want %v", name, user, organization, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for version, ok := range map[string]bool{"10.2.9": false, "9.5.1": false, "10.3.0": true, "13.1.0-24810": true, "12.0.0": true, "": true, "hidden": true} {
		if item := checkVersion(version); item.OK != ok || !ok && item.Remedy == "" {
			t.Errorf("%q: %+v", version, item)
		}
	}
}

func TestCheckTLS(t *testing.T) {
	for _, test := range []struct {
		config Config
		ok     bool
		said   string
	}{
		{Config{URL: "https://g"}, true, ""}, {Config{URL: "http://127.0.0.1"}, false, "unencrypted"}, {Config{URL: "https://g", TLSSkipVerify: true}, false, "nobody proves"},
	} {
		item := (&integration{config: test.config}).checkTLS()
		if item.OK != test.ok || !item.Optional || !strings.Contains(item.Detail, test.said) {
			t.Errorf("%+v: %+v", test.config, item)
		}
	}
}

// TestCheckRight: a right on a part is a right, and it is said on which.
func TestCheckRight(t *testing.T) {
	for _, test := range []struct {
		need   need
		scopes []string
		ok     bool
		detail string
	}{
		{need{"grant", typeFolder, "folders.permissions:write"}, nil, false, "lacks"},
		{need{"grant", typeFolder, "folders.permissions:write"}, []string{"folders:uid:a"}, true, "only on folders:uid:a"},
		{need{"grant", typeFolder, "folders.permissions:write"}, []string{"folders:uid:a", "folders:*"}, true, ""},
		{need{"grant", typeDashboard, "dashboards.permissions:write"}, []string{"folders:uid:*"}, true, ""},
		{need{"grant", typeDashboard, "dashboards.permissions:write"}, []string{"dashboards:uid:d"}, true, "only on"},
		{need{"grant", typeOrganization, "org.users:write"}, []string{"users:*"}, true, ""},
		{need{"grant", typeTeam, "teams.permissions:write"}, []string{"*"}, true, ""},
	} {
		item := checkRight(test.need, map[string][]string{test.need.action: test.scopes})
		if item.OK != test.ok || !strings.Contains(item.Detail, test.detail) || (item.Detail == "") != (test.detail == "") {
			t.Errorf("%v: %+v", test.scopes, item)
		}
	}
}
