// Package github gives access on an organization of GitHub, by its REST and
// GraphQL APIs.
//
// Access is a level that a person has directly: on a repository, in a team, in an
// organization role, or as an owner of the organization. On each of them a person
// has one level, and what Lapse writes replaces the one before. So a revoke writes
// what is owed to other holds and to what the person had before; what teams and
// the organization give is never touched.
//
// People are GitHub's own. Lapse finds them by their address, and from then on by
// their number, which survives a new login. It neither makes nor removes a member
// of the organization. People from outside are invited to a repository where the
// configuration allows it, and the invitation is withdrawn by the revoke.
//
// A level has no place for a mark. What Lapse wrote is in its store, by the node id
// of the repository or team, which survives a new name.
package github

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed" // the certification
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v89/github"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/catalog"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/turn"
)

// Config says which organization it is about, and how people are found.
type Config struct {
	Organization   string          `json:"organization" doc:"login of the organization" example:"acme"`
	APIURL         string          `json:"api_url" doc:"address of the REST API: https://HOST/api/v3 for GitHub Enterprise Server, https://api.SUBDOMAIN.ghe.com with data residency" default:"https://api.github.com" minLength:"1"`
	CACertificate  string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the API's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	Enterprise     string          `json:"enterprise,omitempty" doc:"slug of the enterprise, where people sign in by its identity provider" example:"acme-inc"`
	IdentitySource string          `json:"identity_source" doc:"how an address is found: by the identity provider of the organization or the enterprise (SAML attributes, or those of SCIM), by addresses of verified domains, by public addresses; auto tries them in this order" enum:"auto,org_saml,enterprise_saml,scim,verified_domain,public_email" default:"auto"`
	AllowOutside   bool            `json:"allow_outside_collaborators" doc:"invite people who are not members of the organization to repositories" default:"false"`
	ResourceTypes  []string        `json:"resource_types,omitempty" doc:"what can be requested: repository, repository_role, team, organization_role, organization; all but repository_role when empty" example:"repository"`
	RequestTimeout access.Duration `json:"request_timeout" doc:"limit of one request" default:"30s" minimum:"1s" maximum:"10m"`
	BetweenChanges access.Duration `json:"between_changes" doc:"least time between two changes, for which GitHub asks; 0s on a server without limits" default:"1s" minimum:"0s" maximum:"1m"`
	Include        []string        `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"repository:service-*"`
	Exclude        []string        `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"organization:*"`
	MaxResources   int             `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
}

// Secret is a token of an organization owner, or the key of a GitHub App.
type Secret struct {
	Token          integrations.Secret `json:"token,omitempty" doc:"personal access token of an owner of the organization; instead of an App" writeOnly:"true"`
	AppID          string              `json:"app_id,omitempty" doc:"id or client id of a GitHub App" example:"123456"`
	InstallationID int64               `json:"installation_id,omitempty" doc:"id of the App's installation in the organization" example:"7654321"`
	PrivateKey     integrations.Secret `json:"private_key,omitempty" doc:"the App's private key, PEM" writeOnly:"true"`
}

//go:embed certification.json
var certification []byte

type permission = integrations.Permission

var resourceTypes = []integrations.ResourceType{
	{Name: typeRepository, Path: []string{"REPOSITORY"}, Doc: "a repository of the organization that is not archived", Ordered: true, Permissions: []permission{
		{Name: "read", Doc: "reading and cloning, issues and discussions"},
		{Name: "triage", Doc: "managing issues and pull requests"},
		{Name: "write", Doc: "pushing"},
		{Name: "maintain", Doc: "managing the repository, but for what is sensitive or destructive"},
		{Name: "admin", Doc: "everything, deletion and access of others included"},
	}},
	{Name: typeRepositoryRole, Path: []string{"REPOSITORY", "ROLE"}, Doc: "a custom repository role, on a repository", Permissions: []permission{
		{Name: assigned, Doc: "what the role allows"},
	}},
	{Name: typeTeam, Path: []string{"TEAM"}, Doc: "a team, by its slug", Ordered: true, Permissions: []permission{
		{Name: "member", Doc: "what the team may"},
		{Name: "maintainer", Doc: "what the team may, and who is in it"},
	}},
	{Name: typeRole, Path: []string{"ROLE"}, Doc: "an organization role, predefined or custom", Permissions: []permission{
		{Name: assigned, Doc: "what the role allows in the organization"},
	}},
	{Name: typeOrganization, Path: []string{"ORGANIZATION"}, Doc: "the organization itself", Permissions: []permission{
		{Name: owner, Doc: "everything in the organization"},
	}},
}

// Kind declares GitHub.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:          "github",
		Title:         "GitHub",
		Doc:           "A level on a repository or in a team, an organization role, or the ownership of the organization, of somebody who has a login already.",
		Config:        func() any { return new(Config) },
		Secret:        func() any { return new(Secret) },
		ResourceTypes: resourceTypes,
		Sessions:      "There are none to end: GitHub judges every request and every push anew, with the level of that moment. What people made while they had a level stays: deploy keys, webhooks, tokens, collaborators whom they added, clones.",
		Limits: []string{
			"A person needs a login on GitHub, and all but outside collaborators a membership in the organization: Lapse never adds a member.",
			"An invitation ends after 7 days. GitHub takes 50 invitations for a repository in 24 hours.",
			"A level has no mark: what Lapse gave is in its store alone, and a level that somebody changed by hand to the very level that Lapse wrote looks like Lapse's.",
			"Taking the last access to a private repository away deletes the person's forks of it and their assignments to issues, as GitHub does. Where the person had a level before, it is written instead.",
			"The last owner is never demoted, nor the owner of the connector's own token: such a hold stays overdue until there is another owner.",
			"Nothing can be taken away on an archived repository: such a hold stays overdue until it is unarchived. GitHub itself lets people only read there.",
			"Teams that an identity provider fills cannot be changed.",
			"On a repository two roles of which neither covers the other cannot be held at once.",
			"GitHub asks for a second between two changes: a thousand revokes at once take a quarter of an hour.",
		},
		Setup:         integrations.Setup{Language: "sh", Options: func() any { return new(setup) }, Tiers: tiers},
		LastResort:    lastResort(),
		Told:          told,
		Certification: certification,
		New:           New,
	}
}

// integration is one organization.
type integration struct {
	instance string
	id       string
	config   Config
	types    []string
	filter   catalog.Filter
	rest     *gh.Client
	graphql  *httpapi.Client
	idle     func()
	auth     *authority
	writes   turn.Turn
	pace     *pace

	mu      sync.Mutex
	logins  map[string]remembered // by address
	changes map[string]lastChange // by slot
}

// New makes an integration. It does not connect.
func New(t integrations.Target) (integrations.Integration, error) {
	config, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	secret, ok := t.Secret.(*Secret)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the secret is a %T", t.Name, t.Secret)
	}
	i := &integration{instance: t.Instance, id: t.ID, config: *config, types: config.ResourceTypes, writes: turn.New(), logins: map[string]remembered{}, changes: map[string]lastChange{},
		filter: catalog.Filter{Include: config.Include, Exclude: config.Exclude, Max: config.MaxResources}, pace: paceOf(config.APIURL, secret)}
	if len(i.types) == 0 {
		i.types = []string{typeRepository, typeTeam, typeRole, typeOrganization}
	}
	for _, name := range i.types {
		if !slices.ContainsFunc(resourceTypes, func(t integrations.ResourceType) bool { return t.Name == name }) {
			return nil, access.Errorf(access.Invalid, "resource_types: there is no type %q", name)
		}
	}
	if !loginForm.MatchString(config.Organization) {
		return nil, access.Errorf(access.Invalid, "organization: %q cannot be a login", config.Organization)
	}
	if config.IdentitySource == fromEnterprise && config.Enterprise == "" {
		return nil, access.Errorf(access.Invalid, "identity_source enterprise_saml needs the setting enterprise")
	}
	if err := i.connectTo(strings.TrimSuffix(config.APIURL, "/")); err != nil {
		return nil, err
	}
	i.auth, err = newAuthority(secret, i.rest)
	return i, err
}

// connectTo makes the clients of both APIs.
func (i *integration) connectTo(api string) error {
	graphql := api
	if server, ok := strings.CutSuffix(api, "/api/v3"); ok {
		graphql = server + "/api" // of GitHub Enterprise Server
	}
	var err error
	i.graphql, err = httpapi.New(httpapi.Options{URL: graphql, CACertificate: i.config.CACertificate, Failure: refusal,
		Authorize: func(r *http.Request) { r.Header.Set("Authorization", authorization(r.Context())) }})
	if err != nil {
		return err
	}
	transport, err := httpapi.Transport(i.config.CACertificate, false)
	if err != nil {
		return err
	}
	base, err := url.Parse(api + "/")
	if err != nil {
		return access.Errorf(access.Invalid, "api_url is no address")
	}
	i.idle = transport.CloseIdleConnections
	return i.connectBy(base.String(), carrier{base: base, transport: transport, seen: i.saw})
}

// connectBy makes the client of the REST API.
func (i *integration) connectBy(base string, transport http.RoundTripper) (err error) {
	i.rest, err = gh.NewClient(gh.WithURLs(&base, &base), gh.WithUserAgent("lapse"), gh.WithDisableRateLimitCheck(), gh.WithHTTPClient(&http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return access.Errorf(access.Invalid, "api_url is no address")
	}
	return nil
}

// saw notes what GitHub says of the token with each answer.
func (i *integration) saw(h http.Header) {
	if _, ok := h["X-Oauth-Scopes"]; ok {
		scopes := h.Get("X-OAuth-Scopes")
		i.auth.scopes.Store(&scopes)
	}
}

// Check reads what the connector's token may do.
func (i *integration) Check(ctx context.Context) (access.CheckReport, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.check(ctx)
}

// Discover reads the organization, its roles and teams, and then the repositories,
// page by page.
func (i *integration) Discover(ctx context.Context, cursor string) (access.Page, error) {
	return run(ctx, i, func(ctx context.Context) (access.Page, error) { return i.discover(ctx, cursor) })
}

// Held reads the levels that the person has directly.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	parsed, err := i.parse(want)
	if err != nil {
		return nil, err
	}
	return run(ctx, i, func(ctx context.Context) ([]access.Slot, error) { return i.held(ctx, a, parsed) })
}

// Grant raises, and never lowers.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	want, err := i.parse(req.Want)
	if err != nil {
		return integrations.GrantResult{}, err
	}
	for _, w := range want {
		if !i.offers(w.Resource) {
			return integrations.GrantResult{}, access.Errorf(access.Invalid, "%s is left out by resource_types, include or exclude of the integration", w.Resource)
		}
	}
	return run(ctx, i, func(ctx context.Context) (integrations.GrantResult, error) { return i.grant(ctx, req, want) })
}

// Revoke withdraws invitations and writes the level that is owed.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	end, err := i.parse(req.End)
	if err != nil {
		return integrations.RevokeResult{}, err
	}
	return run(ctx, i, func(ctx context.Context) (integrations.RevokeResult, error) { return i.revoke(ctx, req, end) })
}

// Verify reads the levels that the person has, by whatever way.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	parsed, err := i.parse(want)
	if err != nil {
		return nil, err
	}
	return run(ctx, i, func(ctx context.Context) ([]access.Entry, error) { return i.verify(ctx, a, parsed) })
}

// DeleteAccount has nothing to do: people are GitHub's own.
func (i *integration) DeleteAccount(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return integrations.DeleteResult{Outcome: access.WasGone}, nil
}

// Accounts is empty: a level carries no mark.
func (i *integration) Accounts(ctx context.Context, _ string) (access.PrincipalPage, error) {
	return run(ctx, i, func(ctx context.Context) (p access.PrincipalPage, err error) {
		_, err = i.organization(ctx)
		return p, err
	})
}

// Close closes connections that are not in use.
func (i *integration) Close() error {
	i.graphql.Close()
	i.idle()
	return nil
}

// run runs an operation with an end of its own and the connector's authorization.
func run[R any](ctx context.Context, i *integration, operation func(context.Context) (R, error)) (R, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	ctx, err := i.auth.authorized(ctx)
	if err != nil {
		var none R
		return none, err
	}
	res, err := operation(ctx)
	if access.KindOf(err) == access.Auth {
		i.auth.forget()
	}
	return res, err
}

// pace keeps the changes apart that are made with one token or App, also those in
// several organizations: GitHub counts them together.
type pace struct {
	mu   sync.Mutex
	next time.Time
}

var paces sync.Map // by a hash of whose they are

func paceOf(api string, s *Secret) *pace {
	whose := sha256.Sum256([]byte(strings.Join([]string{api, s.Token.Reveal(), s.AppID, strconv.FormatInt(s.InstallationID, 10)}, "\n")))
	p, _ := paces.LoadOrStore(whose, new(pace))
	return p.(*pace)
}

// wait waits until the next change may be made, so long after the one before.
func (p *pace) wait(ctx context.Context, apart time.Duration) error {
	p.mu.Lock()
	now := time.Now()
	at := now
	if p.next.After(now) {
		at = p.next
	}
	p.next = at.Add(apart)
	p.mu.Unlock()
	select {
	case <-time.After(at.Sub(now)):
		return nil
	case <-ctx.Done():
		return cmp.Or(turn.Stopped(ctx.Err()), ctx.Err())
	}
}
