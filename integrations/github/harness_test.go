package github_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/integrations/github"
	"github.com/lapse-access/lapse/integrations/github/githubtest"
	"github.com/lapse-access/lapse/integrations/integrationtest"
	"github.com/lapse-access/lapse/internal/certificationtest"
)

// The integration under test.
const (
	instance    = "lapse-test"
	integration = "gh-test"
)

// hostile is a name that wants to break out of everything.
const hostile = "we\"ird';--\\ %s $1 ../?a=b&c#d \t😀 \u202ex/*|.+@1"

// hub is a model, and an integration with it.
type hub struct{ *githubtest.Hub }

func newHub(t testing.TB) *hub { return &hub{githubtest.Start(t)} }

// newBed is a model with something on it.
func newBed(t testing.TB) *hub {
	h := newHub(t)
	for _, name := range []string{"site", "tools", "docs", "Mixed.Case_1"} {
		h.AddRepository(name)
	}
	h.AddRepository("old").Archived = true
	for _, slug := range []string{"ops", "web", "on-call"} {
		h.AddTeam(slug)
	}
	h.AddTeam("ent-all").Type = "enterprise"
	h.AddRole("auditors")
	h.AddRole(hostile)
	h.CustomRoles = []githubtest.CustomRole{
		{ID: h.NewID(), Name: "reader-plus", Base: "read", Permissions: []string{"delete_alerts_code_scanning"}},
		{ID: h.NewID(), Name: "labeler", Base: "triage", Permissions: []string{"add_label"}},
		{ID: h.NewID(), Name: hostile, Base: "write"},
	}
	h.Provider = []*githubtest.Identity{}
	return h
}

// target is the integration as configured for the connector.
func (h *hub) target(change ...func(*github.Config, *github.Secret)) integrations.Target {
	config := &github.Config{Organization: h.Organization, APIURL: h.URL, IdentitySource: "auto", AllowOutside: true, RequestTimeout: access.Duration(30 * time.Second), MaxResources: 10000,
		ResourceTypes: []string{"repository", "repository_role", "team", "organization_role", "organization"}}
	secret := &github.Secret{Token: githubtest.Token}
	for _, f := range change {
		f(config, secret)
	}
	return integrations.Target{Instance: instance, ID: integration, Name: "test", Config: config, Secret: secret}
}

func entitlement(permission, typ string, names ...string) access.Entitlement {
	return access.Entitlement{Integration: integration, Resource: access.NewResource(typ, names...), Permission: permission}
}

func onSite(level string) access.Entitlement  { return entitlement(level, "repository", "site") }
func onTools(level string) access.Entitlement { return entitlement(level, "repository", "tools") }

func chain(typ, name string, levels ...string) (all []access.Entitlement) {
	for _, l := range levels {
		all = append(all, entitlement(l, typ, name))
	}
	return all
}

var people atomic.Int64

// someone is somebody new, who is found by one of the sources in turn.
func (h *hub) someone(role string) (access.Account, *githubtest.User) {
	n := people.Add(1)
	address := fmt.Sprintf("Person-%d@example.com", n)
	var u *githubtest.User
	h.Locked(func() {
		u = h.AddUser(fmt.Sprintf("person%d", n), role)
		switch source := n % 4; {
		case role == "" || source == 0:
			u.Public = address
		case source == 1:
			h.Provider = append(h.Provider, &githubtest.Identity{SAML: []string{address}, User: u})
		case source == 2:
			h.Provider = append(h.Provider, &githubtest.Identity{SAML: []string{fmt.Sprintf("opaque-%d", n), "other@example.com", address}, User: u})
		default:
			u.Verified = []string{address}
		}
	})
	return account(address), u
}

func account(address string) access.Account {
	id := "p-" + strings.ToLower(strings.NewReplacer("@", "-", ".", "-").Replace(address))
	return access.Account{ID: access.AccountID(integration, id), Integration: integration, PersonID: id, Email: strings.ToLower(address)}
}

// harness is the bed as the suite takes it.
func (h *hub) harness() *integrationtest.Harness {
	return &integrationtest.Harness{
		Kind:   github.Kind(),
		Target: h.target(),
		Person: func(integrationtest.T) access.Account { a, _ := h.someone("member"); return a },
		Chains: [][]access.Entitlement{
			chain("repository", "site", githubtest.Levels...),
			{onTools("read"), entitlement("assigned", "repository_role", "tools", "reader-plus"), onTools("admin")},
			{entitlement("triage", "repository", "docs"), entitlement("assigned", "repository_role", "docs", "labeler")},
			chain("team", "ops", "member", "maintainer"),
			chain("organization_role", "auditors", "assigned"),
		},
		Apart: [2]access.Entitlement{onSite("write"), entitlement("member", "team", "web")},
		Absent: []access.Entitlement{
			entitlement("read", "repository", "nowhere"), entitlement("assigned", "repository_role", "site", "nobody"), entitlement("member", "team", "nowhere"),
			entitlement("assigned", "organization_role", "nobody"), entitlement("owner", "organization", "elsewhere"),
		},
		Hostile:  []access.Entitlement{entitlement("assigned", "organization_role", hostile), entitlement("assigned", "repository_role", "docs", hostile)},
		Existing: onTools("admin"),
		Levels:   chain("repository", "site", githubtest.Levels...),
		Canaries: []string{githubtest.Token, "ghp_canaryWrong"},
		Wrong: func() integrations.Target {
			return h.target(func(_ *github.Config, s *github.Secret) { s.Token = "ghp_canaryWrong" })
		},
		Address:  h.Listener.Addr().String(),
		Changes:  certificationtest.Requests("/graphql", "/api/graphql"),
		Via:      func(address string) integrations.Target { return h.target(at("http://" + address)) },
		Observer: &observer{h},
	}
}

func at(api string) func(*github.Config, *github.Secret) {
	return func(c *github.Config, _ *github.Secret) { c.APIURL = api }
}

// observer looks into the model.
type observer struct{ *hub }

var _ interface {
	integrationtest.HandObserver
	integrationtest.LevelObserver
	integrationtest.Inheriter
	integrationtest.Accepter
	integrationtest.DirectoryObserver
	integrationtest.Throttler
	integrationtest.Closer
	integrationtest.Deafener
	integrationtest.Administrator
} = (*observer)(nil)

// of is the user behind an account; with the lock held.
func (o *observer) of(a access.Account) *githubtest.User {
	for _, u := range o.Users {
		if access.SameEmail(u.Public, a.Email) || slices.ContainsFunc(u.Verified, func(s string) bool { return access.SameEmail(s, a.Email) }) {
			return u
		}
	}
	for _, x := range o.Provider {
		if slices.ContainsFunc(append(x.SAML, x.SCIM...), func(s string) bool { return access.SameEmail(s, a.Email) }) {
			return x.User
		}
	}
	return nil
}

func (o *observer) Can(t integrationtest.T, a access.Account, e access.Entitlement) (can bool) {
	t.Helper()
	names, err := e.Resource.Names()
	if err != nil {
		t.Fatalf("%v", err)
	}
	o.Locked(func() {
		u := o.of(a)
		if u == nil {
			return
		}
		switch e.Resource.Type {
		case "repository":
			r := o.FindRepository(names[0])
			can = r != nil && o.Has(u, r, e.Permission)
		case "repository_role":
			r := o.FindRepository(names[0])
			can = r != nil && o.Has(u, r, names[1])
		case "team":
			g := o.FindTeam(names[0])
			can = g != nil && (o.InTeam(g, u) == "maintainer" || o.InTeam(g, u) == e.Permission)
		case "organization_role":
			can = slices.ContainsFunc(o.Roles, func(r *githubtest.Role) bool { return r.Name == names[0] && (r.Users[u.ID] || r.ByTeam[u.ID]) })
		case "organization":
			can = names[0] == o.Organization && u.Role == "admin"
		}
	})
	return can
}

func (o *observer) Give(_ integrationtest.T, a access.Account) {
	o.Locked(func() { o.FindRepository("tools").Direct[o.of(a).ID] = "admin" })
}

func (o *observer) Given(_ integrationtest.T, a access.Account) (given bool) {
	o.Locked(func() { given = o.FindRepository("tools").Direct[o.of(a).ID] == "admin" })
	return given
}

func (o *observer) Level(_ integrationtest.T, a access.Account, r access.Resource) (level string) {
	o.Locked(func() { level = o.FindRepository(r.Path).Direct[o.of(a).ID] })
	return level
}

func (o *observer) SetLevel(_ integrationtest.T, a access.Account, r access.Resource, level string) {
	o.Locked(func() {
		if level == "" {
			delete(o.FindRepository(r.Path).Direct, o.of(a).ID)
		} else {
			o.FindRepository(r.Path).Direct[o.of(a).ID] = level
		}
	})
}

// Inherit puts the person into a team that has the level.
func (o *observer) Inherit(_ integrationtest.T, a access.Account, e access.Entitlement) {
	o.Locked(func() {
		g := o.AddTeam("gives-" + strconv.FormatInt(o.NewID(), 10))
		g.Members[o.of(a).ID] = "member"
		o.FindRepository(e.Resource.Path).Teams[g.Slug] = e.Permission
	})
}

func (o *observer) Invited(integrationtest.T) access.Account {
	a, _ := o.someone("")
	return a
}

// Accept follows the link, behind which is what the person is invited to.
func (o *observer) Accept(_ integrationtest.T, a access.Account, e access.Entry) {
	o.Locked(func() { o.Hub.Accept(o.of(a), e.Link) })
}

func (o *observer) Unknown(integrationtest.T) access.Account { return account("nobody@example.com") }

func (o *observer) Ambiguous(integrationtest.T) access.Account {
	const address = "two@example.com"
	o.Locked(func() {
		for _, login := range []string{"twin-one", "twin-two"} {
			if o.FindUser(login) == nil {
				o.AddUser(login, "member").Public = address
			}
		}
	})
	return account(address)
}

// Throttle uses up the primary limit, until now when no delay is named; else it is
// the secondary limit that asks to wait.
func (o *observer) Throttle(_ integrationtest.T, delay time.Duration) (undo func()) {
	o.Locked(func() {
		o.Limited = func(w http.ResponseWriter) {
			if delay > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(delay.Seconds())))
				githubtest.Refuse(w, http.StatusForbidden, "You have exceeded a secondary rate limit.")
				return
			}
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Unix(), 10))
			githubtest.Refuse(w, http.StatusForbidden, "API rate limit exceeded")
		}
	})
	return func() { o.Locked(func() { o.Limited = nil }) }
}

func (o *observer) Shut(_ integrationtest.T, r access.Resource) (undo func()) {
	o.Locked(func() { o.Hub.Shut = r.String() })
	return func() { o.Locked(func() { o.Hub.Shut = "" }) }
}

func (o *observer) Deafen(integrationtest.T) (undo func()) {
	o.Locked(func() { o.Deaf = true })
	return func() { o.Locked(func() { o.Deaf = false }) }
}

// RunByHand runs the steps with the token of an owner.
func (o *observer) RunByHand(t integrationtest.T, head, steps string) error {
	return certificationtest.Shell(t, strings.ReplaceAll(head, "...", githubtest.Token)+steps, "")
}
