package github_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
	"github.com/lapse-access/lapse/internal/describe"
)

// TestSettings takes and refuses settings as lapse.yaml has them.
func TestSettings(t *testing.T) {
	certificationtest.Settings(t, github.Kind(), &github.Secret{Token: "t"},
		&github.Config{Organization: "acme", APIURL: "https://api.github.com", IdentitySource: "auto", RequestTimeout: access.Duration(30 * time.Second),
			BetweenChanges: access.Duration(time.Second), MaxResources: 10000},
		[][3]string{
			{"only the organization", "organization: acme", ""},
			{"everything", `{organization: acme, api_url: "https://github.example.com/api/v3", enterprise: acme-inc, identity_source: enterprise_saml, allow_outside_collaborators: true,
				resource_types: [repository, team], request_timeout: 10s, between_changes: 0s, include: ["repository:a-*"], exclude: ["team:x"], max_resources: 5}`, ""},
			{"data residency", `{organization: acme, api_url: "https://api.acme.ghe.com"}`, ""},
			{"no organization", "enterprise: acme-inc", "organization"},
			{"an organization that is no login", `{organization: "acme/../x"}`, "organization"},
			{"a source that is none", "{organization: acme, identity_source: magic}", "identity_source"},
			{"no enterprise", "{organization: acme, identity_source: enterprise_saml}", "enterprise"},
			{"a type that is none", "{organization: acme, resource_types: [project]}", "project"},
			{"a key that is none", "{organization: acme, token: x}", "token"},
			{"too long between changes", "{organization: acme, between_changes: 2m}", "between_changes"},
			{"plain text", `{organization: acme, api_url: "http://github.example.com/api/v3"}`, "unencrypted"},
			{"no address", `{organization: acme, api_url: "github.example.com"}`, "https://"},
			{"a login in the address", `{organization: acme, api_url: "https://u:p@github.example.com"}`, "host and a path"},
			{"certificates that are none", `{organization: acme, ca_certificate: x}`, "PEM"},
		})
}

// TestSecrets wants a token or an App, and shows neither.
func TestSecrets(t *testing.T) {
	for name, secret := range map[string]github.Secret{
		"a token and an App":         {Token: "canary", AppID: "1"},
		"half of an App":             {AppID: "1", PrivateKey: "canary"},
		"an App whose key is no PEM": {AppID: "1", InstallationID: 1, PrivateKey: "canary"},
		"an App whose key is no key": {AppID: "1", InstallationID: 1, PrivateKey: "-----BEGIN RSA PRIVATE KEY-----\nY2FuYXJ5\n-----END RSA PRIVATE KEY-----\n"},
	} {
		_, err := github.New(integrations.Target{Name: "x", Config: &github.Config{Organization: "acme", APIURL: "https://api.github.com"}, Secret: &secret})
		if access.KindOf(err) != access.Invalid || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want invalid, and no secret", name, err)
		}
	}
	h := newBed(t)
	a, _ := h.someone("member")
	h.core(t, a, func(_ *github.Config, s *github.Secret) { *s = github.Secret{} }).fails(access.Auth, onSite("read"))
}

// TestEnterpriseServer talks to the two APIs of a server of one's own.
func TestEnterpriseServer(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	a, u := h.someone("member")
	c := h.core(t, a, at(h.URL+"/api/v3/"))
	c.grant(access.Granted, onSite("write"))
	h.level(t, u, "site", "write")
	c.revoke(access.Gone, onSite("write"))
	h.Locked(func() {
		if !h.Paths["/api/graphql"] || h.Paths["/api/v3/graphql"] || !h.Paths["/api/v3/orgs/acme/memberships/"+u.Login] {
			t.Errorf("the requests went to %v", h.Paths)
		}
	})
}

// TestRedirect: no redirect gets the token, by neither API.
func TestRedirect(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	came := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { came <- r.Header.Get("Authorization") }))
	defer other.Close()
	a, _ := h.someone("member")
	c := h.core(t, a)
	c.grant(access.Granted, onSite("write"))
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		h.Locked(func() {
			h.Limited = func(w http.ResponseWriter) {
				w.Header().Set("Location", other.URL+"/elsewhere")
				w.WriteHeader(status)
			}
		})
		c.restarted(h)
		if _, err := c.tryRevoke(onSite("write")); err == nil {
			t.Errorf("%d: a redirect is taken for an answer", status)
		}
		if _, err := c.Discover(t.Context(), ""); err == nil {
			t.Errorf("%d: a redirect of the GraphQL API is taken for an answer", status)
		}
	}
	if len(came) > 0 {
		t.Errorf("another host was asked, with %q", <-came)
	}
}

// TestCheck says what is missing, with what mends it.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		spoil  func(h *hub)
		change func(*github.Config, *github.Secret)
		item   string // that is not met; "" is none
	}{
		{"all is well", func(*hub) {}, nil, ""},
		{"another organization", func(*hub) {}, func(c *github.Config, _ *github.Secret) { c.Organization = "elsewhere" }, "organization"},
		{"a wrong token", func(h *hub) { h.Token = "another" }, nil, "organization"},
		{"no owner", func(h *hub) { h.Self.Role = "member" }, nil, "rights"},
		{"no scope", func(h *hub) { h.Scopes = "repo, read:org" }, nil, "scopes"},
		{"no provider", func(h *hub) { h.Provider = nil }, func(c *github.Config, _ *github.Secret) { c.IdentitySource = "org_saml" }, "identities by org_saml"},
		{"no provider, and others", func(h *hub) { h.Provider = nil }, nil, ""},
		{"a limit", func(h *hub) { (&observer{h}).Throttle(nil, time.Second) }, nil, "organization"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newBed(t)
			test.spoil(h)
			change := test.change
			if change == nil {
				change = func(*github.Config, *github.Secret) {}
			}
			var missing []string
			for name, item := range certificationtest.Check(t, start(t, h.target(change))) {
				if !item.OK && !item.Optional {
					missing = append(missing, name)
				}
			}
			if strings.Join(missing, ",") != test.item {
				t.Errorf("not met: %q, want %q", missing, test.item)
			}
			h.changed(t)
		})
	}
}

// TestSetup asks for permissions that GitHub has, and takes no name that could get
// out of its quotes.
func TestSetup(t *testing.T) {
	k := github.Kind()
	known := githubtest.Described(t).REST.Components.Schemas["app-permissions"].Value.Properties
	asked := regexp.MustCompile(`&([a-z_]+)=(read|write)`)
	for _, tier := range []string{"discover", "full"} {
		script := certificationtest.Script(t, k, tier, describe.Options{"organization": {"acme"}, "connector_name": {"Lapse of acme"}})
		all := asked.FindAllStringSubmatch(script, -1)
		if len(all) < 4 || !strings.Contains(script, `"lapse-of-acme"`) {
			t.Errorf("%s asks for %v:\n%s", tier, all, script)
		}
		for _, m := range all {
			if p := known[m[1]]; p == nil || !slices.Contains(p.Value.Enum, any(m[2])) {
				t.Errorf("%s: GitHub has no permission %s=%s", tier, m[1], m[2])
			}
		}
	}
	for _, o := range []describe.Options{{"organization": {"acme; id"}}, {"organization": {"acme"}, "host": {"$(id)"}}, {"organization": {"acme"}, "connector_name": {"`id`"}}} {
		if _, err := describe.New(k, o); err == nil {
			t.Errorf("%v is taken", o)
		}
	}
}
