// Package databricks gives access to groups of a Databricks account, by SCIM.
//
// Access is to be a member of a group. Lapse makes no people and no groups: it
// adds one member, or removes one, each by a PATCH that names the member. Groups
// that an identity provider or Databricks itself keeps are refused.
//
// A membership has no place for a mark. Which ones are Lapse's is known from
// Lapse's own record, which names group and person by their ids: a group that is
// renamed is still the one that was granted.
//
// Databricks shows a change a little later. What this process changed within the
// last minutes and does not see yet is on its way, and never taken for what
// somebody had before.
//
// The SDK's configuration and login are not used, because they read files and the
// environment and heed no context; nor its retries, or its lists, which ask for
// every page. Requests and answers are its own, over a transport of ours.
package databricks

import (
	"context"
	_ "embed" // the certification
	"sync"
	"sync/atomic"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/catalog"
	"github.com/lapse-access/lapse/internal/turn"
)

// Config says which account it is about, and what of it can be requested.
type Config struct {
	AccountsURL       string          `json:"accounts_url" doc:"address of the account console, not of a workspace: https://accounts.cloud.databricks.com, https://accounts.azuredatabricks.net or https://accounts.gcp.databricks.com" example:"https://accounts.cloud.databricks.com" minLength:"1"`
	AccountID         string          `json:"account_id" doc:"id of the account, as the account console shows it" example:"2b7a1c9e-0f4d-4c55-9a51-6f0d3c1e8b72" pattern:"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"`
	CACertificate     string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the API's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	RequestTimeout    access.Duration `json:"request_timeout" doc:"limit of one request" default:"30s" minimum:"1s" maximum:"10m"`
	RequestsPerSecond int             `json:"requests_per_second" doc:"how many requests Lapse makes at most; Databricks publishes no limit, and the default is its own client's" default:"15" minimum:"1" maximum:"1000"`
	AdminGroups       bool            `json:"admin_groups" doc:"also offer groups that have a role over the whole account, such as account_admin" default:"false"`
	Include           []string        `json:"include,omitempty" doc:"patterns of the groups that can be requested, * within one name; all when empty" example:"group:data-*"`
	Exclude           []string        `json:"exclude,omitempty" doc:"patterns of groups that cannot be requested, even when included" example:"group:*-owners"`
	MaxResources      int             `json:"max_resources" doc:"discovery stops after so many groups" default:"10000" minimum:"1" maximum:"1000000"`
}

// Secret is the OAuth secret of the connector's service principal.
type Secret struct {
	ClientID     string              `json:"client_id" doc:"application id of the service principal" example:"9f6c1f1e-5d0b-4c0a-8f35-0d2a7c9e4b11" minLength:"1"`
	ClientSecret integrations.Secret `json:"client_secret" doc:"an OAuth secret of the service principal" writeOnly:"true" minLength:"1"`
}

//go:embed certification.json
var certification []byte

// Kind declares Databricks.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:   "databricks",
		Title:  "Databricks",
		Doc:    "Membership in groups of the account, for people whom the account knows.",
		Config: func() any { return new(Config) },
		Secret: func() any { return new(Secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: typeGroup, Path: []string{"GROUP"}, Doc: "a group of the account", Ordered: true, Permissions: []integrations.Permission{
				{Name: member, Doc: "what the group gives in its workspaces, in Unity Catalog and on the account"},
			}},
		},
		Sessions: "Databricks has no sessions that could be ended: it asks for the groups of a person again and again, and a change reaches the workspaces within seconds to minutes. " +
			"Clusters and jobs that run, and tokens of the person, go on without what the group gave.",
		Limits: []string{
			"The account has to know the person, as an active user whose user name is their address. Lapse makes and deletes no users.",
			"Groups that an identity provider keeps are refused, whatever the account's setting for them is. So are the system's group `account users` and the groups of a single workspace.",
			"Groups with a role over the account, such as account_admin, are offered only with `admin_groups`.",
			"Somebody who is in a group by another group is no member of it: Lapse adds them, and removes them, and leaves the other group alone.",
			"What somebody made while they had access stays theirs: tables, jobs that run as them, tokens.",
			"Databricks knows no \"compare and set\", and no mark: a membership that Lapse gave and that somebody then gives again by hand ends with Lapse's.",
			"An account has at most 10,000 users and service principals and 5,000 groups.",
		},
		Setup:         integrations.Setup{Language: "sh", Options: func() any { return new(setup) }, Tiers: tiers},
		LastResort:    lastResort(),
		Told:          told,
		Certification: certification,
		New:           func(t integrations.Target) (integrations.Integration, error) { return newIntegration(t, realTime) },
	}
}

// integration is one configured account.
type integration struct {
	id     string
	config Config
	me     string // application id of the connector
	api    *api
	clock  clock
	// groups let one PATCH of this process at a time change a group.
	groups sync.Map // of turn.Turn, by ids of groups
	// recent is what this process wrote a short time ago.
	recent sync.Map // of change, by membership
	// sourceless is true in accounts without the API that says who made a
	// membership.
	sourceless atomic.Bool
}

// clock is where time comes from.
type clock struct {
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error
}

var realTime = clock{time.Now, func(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return turn.Stopped(ctx.Err())
	}
}}

func newIntegration(t integrations.Target, c clock) (*integration, error) {
	config, err := integrations.ConfigOf[Config](t)
	if err != nil {
		return nil, err
	}
	secret, ok := t.Secret.(*Secret)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the secret is a %T", t.Name, t.Secret)
	}
	api, err := newAPI(*config, *secret, nil)
	if err != nil {
		return nil, during("integration "+t.Name, err)
	}
	return &integration{id: t.ID, config: *config, me: secret.ClientID, api: api, clock: c}, nil
}

func (i *integration) filter() catalog.Filter {
	return catalog.Filter{Include: i.config.Include, Exclude: i.config.Exclude, Max: i.config.MaxResources}
}

// Check reads who the connector is, and what it sees.
func (i *integration) Check(ctx context.Context) (access.CheckReport, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.check(ctx), nil
}

// Discover reads the groups page by page.
func (i *integration) Discover(ctx context.Context, from string) (access.Page, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.discover(ctx, from)
}

// Held reads the members of the groups.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Slot, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.held(ctx, a, want)
}

// Grant adds the person to each group, and looks until they are in it.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.grant(ctx, req)
}

// Revoke removes the person from each group to which Lapse added them, and looks
// until they are out of it.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.revoke(ctx, req)
}

// Verify reads the members of the groups.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	return i.verify(ctx, a, want)
}

// DeleteAccount has nothing to do: people are the account's own.
func (i *integration) DeleteAccount(context.Context, integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return integrations.DeleteResult{Outcome: access.WasGone}, nil
}

// Accounts is empty: nothing carries a mark. It fails where the connector is let
// in no more.
func (i *integration) Accounts(ctx context.Context, _ string) (access.PrincipalPage, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	_, err := i.api.groups(ctx, "", 1, 1)
	return access.PrincipalPage{}, err
}

// Close closes connections that are not in use.
func (i *integration) Close() error {
	i.api.close()
	return nil
}
