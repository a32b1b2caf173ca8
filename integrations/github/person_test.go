package github_test

import (
	"strings"
	"testing"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
)

// TestPeople finds people by each source, and nobody by half of an address.
func TestPeople(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	member := func(login string) *githubtest.User { return h.AddUser(login, "member") }
	byName, byAddress, byDirectory := member("saml-name"), member("saml-address"), member("scim")
	inEnterprise, domain, public := member("managed"), member("domain"), member("public")
	similar := member("similar")
	h.Provider = []*githubtest.Identity{
		{SAML: []string{"Name@example.com"}, User: byName},
		{SAML: []string{"opaque", "first@example.com", "address@example.com"}, User: byAddress},
		{SAML: []string{"opaque2"}, SCIM: []string{"scim@example.com"}, User: byDirectory},
		{SAML: []string{"unlinked@example.com"}},
		{SAML: []string{"clash@example.com"}, User: byName}, {SAML: []string{"opaque3", "clash@example.com"}, User: byAddress},
		{SAML: []string{"opaque4", "twice@example.com"}, User: byAddress}, {SAML: []string{"opaque5", "twice@example.com"}, User: byName},
	}
	for n := range 250 { // more than two pages
		h.Provider = append(h.Provider, &githubtest.Identity{SAML: []string{"filler" + number(int64(n))}})
	}
	last := member("last-page")
	h.Provider = append(h.Provider, &githubtest.Identity{SAML: []string{"opaque6", "last@example.com"}, User: last})
	h.Enterprise = []*githubtest.Identity{{SCIM: []string{"managed@example.com"}, User: inEnterprise}}
	domain.Verified = []string{"Domain@example.com"}
	public.Public, similar.Public = "pub@example.com", "not-pub@example.com.evil.example"
	h.AddUser("impostor", "member").Public = "a-pub@example.com"

	for _, test := range []struct {
		address, source string
		want            *githubtest.User // nil is nobody
	}{
		{"name@example.com", "auto", byName}, {"address@example.com", "auto", byAddress}, {"scim@example.com", "auto", byDirectory}, {"last@example.com", "auto", last},
		{"managed@example.com", "auto", inEnterprise}, {"domain@example.com", "auto", domain}, {" PUB@example.com ", "auto", public},
		{"clash@example.com", "auto", byName}, // whom the provider calls so
		{"name@example.com", "org_saml", byName}, {"scim@example.com", "scim", nil}, {"managed@example.com", "scim", inEnterprise}, {"managed@example.com", "enterprise_saml", inEnterprise},
		{"pub@example.com", "org_saml", nil}, {"name@example.com", "public_email", nil}, {"domain@example.com", "verified_domain", domain}, {"domain@example.com", "public_email", nil},
		{"nobody@example.com", "auto", nil}, {"pub@example", "auto", nil}, {"example.com", "auto", nil}, {"@example.com", "auto", nil}, {"", "auto", nil},
		{`" OR 1=1`, "auto", nil}, {"unlinked@example.com", "auto", nil}, {"twice@example.com", "auto", nil},
	} {
		c := h.core(t, account("who@example.com"), func(c *github.Config, _ *github.Secret) { c.IdentitySource, c.Enterprise = test.source, "acme-inc" })
		c.Account.Email = test.address
		if test.want == nil {
			err := c.fails(access.PersonMissing, onSite("read"))
			if err == nil {
				t.Errorf("%q is somebody by %s", test.address, test.source)
			}
			if test.address == "unlinked@example.com" && (err == nil || !strings.Contains(err.Error(), "sign in")) {
				t.Errorf("an identity without a login: %v", err)
			}
			continue
		}
		c.grant(access.Granted, onSite("read"))
		h.level(t, test.want, "site", "read")
		c.revoke(access.Gone, onSite("read"))
	}
	h.changedNot(t, "impostor", "similar")
}

// changedNot demands that nobody of these was touched.
func (h *hub) changedNot(t *testing.T, logins ...string) {
	t.Helper()
	for _, line := range h.Log {
		for _, login := range logins {
			if strings.Contains(line, "/"+login) {
				t.Errorf("%s was changed: %s", login, line)
			}
		}
	}
}

// TestSourceThatIsNone: a source that was asked for by name and cannot be read is an
// error, not somebody unknown.
func TestSourceThatIsNone(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	h.Provider = nil
	for source, kind := range map[string]access.ErrorKind{"org_saml": access.Unsupported, "scim": access.Unsupported, "enterprise_saml": access.Unsupported, "auto": access.PersonMissing} {
		c := h.core(t, account("who@example.com"), func(c *github.Config, _ *github.Secret) {
			if c.IdentitySource = source; source == "enterprise_saml" {
				c.Enterprise = "elsewhere"
			}
		})
		c.fails(kind, onSite("read"))
	}
}

// TestRemembered asks once for whom a grant asks several times, and anew after a
// while or by another process.
func TestRemembered(t *testing.T) {
	t.Parallel()
	h := newBed(t)
	h.Provider = nil
	public := h.AddUser("public", "member")
	public.Public = "public@example.com"
	c := h.core(t, account("public@example.com"), func(c *github.Config, _ *github.Secret) { c.IdentitySource = "public_email" })
	c.grant(access.Granted, onSite("read"))
	before := h.Reads
	c.verify(access.Granted, onSite("read"))
	if n := h.Reads - before; n > 5 {
		t.Errorf("a look at one level takes %d requests", n)
	}
}
