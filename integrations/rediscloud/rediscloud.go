// Package rediscloud gives access to databases of Redis Cloud, by its REST API.
//
// Access is a user of the databases and one role, which only this user has. The
// role says which rule holds on which database; every grant and every revoke
// writes it anew from all that is held. On one database one rule holds, the
// strongest that is held. Lapse assigns rules and never makes or changes one.
//
// A user cannot be without a role, nor a role without a rule: the last revoke
// deletes the user, and then the role. The next grant makes both again.
//
// The API has no place for a mark but names. The role's name holds a hash of this
// Lapse and this integration, and the person's id. A user is Lapse's as long as
// its role is there; a user of the right name without it is somebody else's.
package rediscloud

import (
	"context"
	_ "embed" // the certification
	"sync"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/httpapi"
	"github.com/lapse-access/lapse/internal/principal"
)

// Config says which account it is about, and what of it can be requested.
type Config struct {
	APIURL         string          `json:"api_url" doc:"address of the API" default:"https://api.redislabs.com/v1" minLength:"1"`
	CACertificate  string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the API's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	RequestTimeout access.Duration `json:"request_timeout" doc:"limit of one request" default:"60s" minimum:"1s" maximum:"10m"`
	Subscriptions  []int           `json:"subscriptions,omitempty" doc:"ids of the subscriptions whose databases can be requested; all when empty" example:"1206"`
	Endpoint       string          `json:"endpoint" doc:"where people and the connector reach databases" enum:"public,private" default:"public"`
	CheckLogin     bool            `json:"check_login" doc:"log in to a database once with each new password; false where the connector reaches none" default:"true"`
	Include        []string        `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"database:production/*"`
	Exclude        []string        `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"rule:*/*/*"`
	MaxResources   int             `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
}

// Secret is the connector's own pair of keys.
type Secret struct {
	APIKey    integrations.Secret `json:"api_key" doc:"account key, sent as x-api-key" writeOnly:"true" minLength:"1"`
	SecretKey integrations.Secret `json:"secret_key" doc:"user key of an owner of the account, sent as x-api-secret-key" writeOnly:"true" minLength:"1"`
}

//go:embed certification.json
var certification []byte

type permission = integrations.Permission

// Kind declares Redis Cloud.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:   "rediscloud",
		Title:  "Redis Cloud",
		Doc:    "A user of the databases with a role of its own, which has a rule on each database that is held.",
		Config: func() any { return new(Config) },
		Secret: func() any { return new(Secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: typeDatabase, Path: []string{"SUBSCRIPTION", "DATABASE"}, Doc: "a database of a Pro or an Essentials subscription", Ordered: true, Permissions: []permission{
				{Name: readOnly, Doc: "the vendor's rule Read-Only: commands of the category read, on every key"},
				{Name: readWrite, Doc: "the vendor's rule Read-Write: all commands but those of the category dangerous, on every key"},
				{Name: fullAccess, Doc: "the vendor's rule Full-Access: all commands, on every key"},
			}},
			{Name: typeRule, Path: []string{"SUBSCRIPTION", "DATABASE", "RULE"}, Doc: "a rule of the customer, on a database", Permissions: []permission{
				{Name: use, Doc: "what the rule allows"},
			}},
			{Name: typeRole, Path: []string{"NAME"}, Doc: "a role of the customer", Permissions: []permission{
				{Name: assume, Doc: "the rules that the role has on its databases; later changes of the role come with the next grant"},
			}},
		},
		Sessions: "The API can neither list nor end sessions. Redis itself ends those of a user that is deleted, as the last revoke does, and holds open ones to a narrower rule at once; " +
			"whether Redis Cloud does so as promptly is not documented.",
		Limits: []string{
			"Redis Cloud runs one change of an account at a time: a grant takes about half a minute, a revoke hardly less, and many at once wait for each other. All integrations with the same account key share one queue.",
			"The last revoke deletes the user; the next grant makes it again, with a new password.",
			"On one database one rule holds, the strongest. `KEYS` and `SORT_RO` are dangerous commands of the category read: read_only has them, and read_write has not.",
			"A rule of the customer cannot be held on a database together with another rule, except Full-Access.",
			"Access to a role is a copy of its rules, so it looks like the same rules asked for one by one.",
			"A role of Lapse that is renamed by hand is not Lapse's any more.",
			"Subscriptions of one name are told apart by their id, as in `production (1206)`. What was granted under the bare name before a second one came ends with the next change of the account.",
			"The user `default` of a database has nothing to do with roles: turn it off, or whoever knows its password needs no grant. Memcached databases have no roles.",
			"A database that demands client certificates is not tried with a new password.",
		},
		Credentials:   true,
		Setup:         integrations.Setup{Language: "text", Options: func() any { return new(setup) }, Tiers: tiers},
		LastResort:    lastResort(),
		Told:          told,
		Certification: certification,
		New:           func(t integrations.Target) (integrations.Integration, error) { return newIntegration(t, realTime) },
	}
}

// integration is one configured account of Redis Cloud, or a part of one.
type integration struct {
	instance string
	id       string
	config   Config
	api      *httpapi.Client
	clock    clock
	account  *account
	running  sync.Map // of unfinished, by account ids
	password func(user string) string
}

var _ integrations.CredentialSetter = (*integration)(nil)

func newIntegration(t integrations.Target, c clock) (integrations.Integration, error) {
	config, ok := t.Config.(*Config)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the configuration is a %T", t.Name, t.Config)
	}
	secret, ok := t.Secret.(*Secret)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the secret is a %T", t.Name, t.Secret)
	}
	api, err := httpapi.New(httpapi.Options{URL: config.APIURL, CACertificate: config.CACertificate, Authorize: secret.authorize, Failure: failure})
	if err != nil {
		return nil, err
	}
	return &integration{instance: t.Instance, id: t.ID, config: *config, api: api, clock: c, account: accountOf(config.APIURL, secret.APIKey), password: principal.Password}, nil
}

// Check reads what the connector's keys may do.
func (i *integration) Check(ctx context.Context) (access.CheckReport, error) { return i.check(ctx) }

// Discover reads the roles, then each subscription's databases, page by page.
func (i *integration) Discover(ctx context.Context, from string) (access.Page, error) {
	return i.discover(ctx, from)
}

// Held reports nothing as held: nobody had the account before Lapse made it, and
// what somebody else puts into its role is overwritten.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	if _, err := i.parse(want); err != nil {
		return nil, err
	}
	if _, err := i.find(ctx, a); err != nil {
		return nil, err
	}
	for _, e := range want {
		slots = append(slots, access.Slot{Key: e.Resource.String(), Write: e.Permission, Entitlements: []access.Entitlement{e}})
	}
	return slots, nil
}

// Grant writes the role, then the user.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (integrations.GrantResult, error) {
	want, err := i.parse(req.Want)
	if err != nil {
		return integrations.GrantResult{}, err
	}
	for _, w := range want {
		if !i.offers(w.Resource) {
			return integrations.GrantResult{}, access.Errorf(access.Invalid, "%s is left out by include and exclude of the integration", w.Resource)
		}
	}
	return i.grant(ctx, req, want)
}

// Revoke writes the role with what remains, or deletes the user and then the
// role.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (integrations.RevokeResult, error) {
	end, err := i.parse(req.End)
	if err != nil {
		return integrations.RevokeResult{}, err
	}
	return i.revoke(ctx, req, end)
}

// Verify reads the user and its role.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) ([]access.Entry, error) {
	parsed, err := i.parse(want)
	if err != nil {
		return nil, err
	}
	return i.verify(ctx, a, parsed)
}

// DeleteAccount deletes the user and the role, where a revoke was not the last
// or was cut between them.
func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return i.deleteAccount(ctx, req)
}

// Accounts lists what has a role of ours, in one page, as the API does.
func (i *integration) Accounts(ctx context.Context, _ string) (access.PrincipalPage, error) {
	return i.accounts(ctx)
}

// Close closes connections that are not in use.
func (i *integration) Close() error {
	i.api.Close()
	return nil
}

// SetCredential changes the password and logs in to a database with it.
func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	return i.setCredential(ctx, req)
}
