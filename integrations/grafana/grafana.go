// Package grafana gives access to one organization of Grafana: permissions on
// data sources, folders and dashboards, membership of teams, and the role in the
// organization. Grafana keeps one level for each person and resource.
//
// Lapse makes nobody. It finds people by their address and remembers their id.
// What a person had before is read first and comes back; what comes by a team, a
// role or a folder above is not Lapse's and is never touched. Calls that replace
// the permissions of everybody are not used.
//
// Of the vendor's client only the types are used, over internal/httpapi: its
// calls drop the messageId by which failures are told apart, follow redirects with
// the token, read answers without a limit, and know none for the token's rights.
package grafana

import (
	"context"
	_ "embed" // the certification
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/catalog"
	"github.com/lapse-access/lapse/internal/turn"
)

// Config says which Grafana it is about, and what of it can be requested.
type Config struct {
	URL           string   `json:"url" doc:"address of Grafana, with its sub-path" example:"https://grafana.example.com" minLength:"1"`
	CACertificate string   `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign Grafana's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	TLSSkipVerify bool     `json:"tls_skip_verify" doc:"take any certificate; nobody proves then who answers" default:"false"`
	ResourceTypes []string `json:"resource_types,omitempty" doc:"what can be requested; all when empty" enum:"data_source,folder,dashboard,team,organization" example:"folder"`
	Include       []string `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"folder:Ops*/*"`
	Exclude       []string `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"dashboard:Salaries/*"`
	MaxResources  int      `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
}

// Secret is what the connector authenticates with.
type Secret struct {
	Token integrations.Secret `json:"token" doc:"token of a service account, or an API key; it belongs to one organization" writeOnly:"true" minLength:"1"`
}

//go:embed certification.json
var certification []byte

// Kind declares Grafana.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:          "grafana",
		Title:         "Grafana",
		Doc:           "A level on a data source, a folder or a dashboard, membership of a team, or a role in the organization, for a person whom Grafana knows.",
		Config:        func() any { return new(Config) },
		Secret:        func() any { return new(Secret) },
		ResourceTypes: resourceTypes(),
		Sessions:      "Open sessions stay, and are judged anew with every request. Grafana remembers what a person may do for up to a minute, so that a page that is open may still work that long.",
		Limits: []string{
			"Permissions on data sources are a feature of Grafana Enterprise and Cloud. On open-source Grafana (OSS) the catalog shows data sources with that reason, and nobody can ask for them.",
			"The role of a person whom an identity provider signs in is that provider's, unless `skip_org_role_sync` is set: Grafana refuses to change it. The same holds for memberships of synced teams, and for teams that were provisioned.",
			"Somebody who has never signed in to the organization is unknown there, and gets nothing.",
			"People are found by their address in Grafana, which they may change themselves where no identity provider sets it: whoever takes a colleague's address is taken for them.",
			"A token belongs to one organization: several organizations are several integrations.",
			"Nobody can give a role that is higher than their own: to give the role Admin, the connector's service account has it too.",
			"The last Admin of an organization is not demoted; the revoke waits until there is another one.",
			"Levels are those of the person alone. Somebody who may use a resource by a team, a role or a folder above keeps that, and the evidence names it.",
			"What somebody made while they had more stays: tokens of service accounts, public dashboards, alert rules.",
			"Roles of role-based access control (RBAC) cannot be requested.",
		},
		Setup:         integrations.Setup{Language: "sh", Options: func() any { return new(setup) }, Tiers: tiers},
		LastResort:    lastResort(),
		Told:          told,
		Certification: certification,
		New:           newIntegration,
	}
}

// integration is one configured organization.
type integration struct {
	id     string
	config Config
	api    *api
	// roles lets one change of a role at a time look who else is an Admin.
	roles turn.Turn
}

func newIntegration(t integrations.Target) (integrations.Integration, error) {
	config, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	secret, ok := t.Secret.(*Secret)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the secret is a %T", t.Name, t.Secret)
	}
	api, err := newAPI(config, secret, nil)
	if err != nil {
		return nil, err
	}
	return &integration{id: t.ID, config: *config, api: api, roles: turn.New()}, nil
}

// wants is true for types of resources that the configuration lets people ask for.
func (i *integration) wants(typ string) bool {
	return len(i.config.ResourceTypes) == 0 || slices.Contains(i.config.ResourceTypes, typ)
}

// offers is false for what the configuration leaves out.
func (i *integration) offers(r access.Resource) bool { return i.wants(r.Type) && i.filter().Offers(r) }

func (i *integration) filter() catalog.Filter {
	return catalog.Filter{Include: i.config.Include, Exclude: i.config.Exclude, Max: i.config.MaxResources}
}

// Check reads the edition and the rights of the token.
func (i *integration) Check(ctx context.Context) (access.CheckReport, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.check(ctx)
}

// Discover reads the organization, then each type of resource, page by page.
func (i *integration) Discover(ctx context.Context, from string) (access.Page, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.discover(ctx, from)
}

// Held reads the person's own levels. A level that is covered in another way is
// named to be written all the same: that way may be a hold of Lapse, which only
// Grant knows.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	targets, err := parse(want)
	if err != nil {
		return nil, err
	}
	return i.held(ctx, a, targets)
}

// Grant raises the person's own level where nothing else covers what is wanted.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	want, err := parse(req.Want)
	if err != nil {
		return integrations.GrantResult{}, err
	}
	for _, t := range want {
		if !i.offers(t.Resource) {
			return integrations.GrantResult{}, access.Errorf(access.Invalid, "%s is left out by the settings of the integration", t.Resource)
		}
	}
	return i.grant(ctx, req, want)
}

// Revoke lowers the person's own level to what is owed.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	end, err := parse(req.End)
	if err != nil {
		return integrations.RevokeResult{}, err
	}
	return i.revoke(ctx, req, end)
}

// Verify reads all ways in which the person has access.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	targets, err := parse(want)
	if err != nil {
		return nil, err
	}
	return i.verify(ctx, a, targets)
}

// DeleteAccount has nothing to do: people are Grafana's own.
func (i *integration) DeleteAccount(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return integrations.DeleteResult{Outcome: access.WasGone}, nil
}

// Accounts is empty: a level carries no mark.
func (i *integration) Accounts(context.Context, string) (access.PrincipalPage, error) {
	return access.PrincipalPage{}, nil
}

// Close closes connections that are not in use.
func (i *integration) Close() error {
	i.api.Close()
	return nil
}

// baseURL is where the API is.
func (c *Config) baseURL() string { return strings.TrimRight(c.URL, "/") + "/api" }
