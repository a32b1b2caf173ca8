// Package mariadb gives access to MariaDB 10.6 to 12.
//
// Access is membership in a role. For a permission on a database or table Lapse
// makes one role for each such entitlement and gives it the privileges; for a
// role that the customer has, access is membership in that role, which Lapse
// never changes or drops.
//
// MariaDB activates one role at login. So each account has an umbrella, a role of
// its own that is its default, and the roles that carry access are given to the
// umbrella. What is in the umbrella is Lapse's; what somebody gives to the
// account itself is not.
//
// A person has one account. It can log in only while the person holds something.
// At the end of access Lapse takes the role out of the umbrella and ends every
// session of the account. An account that is the definer of views, triggers,
// routines or events is kept, locked and without access, because MariaDB would
// drop it and leave what it defined broken.
package mariadb

import (
	"context"
	_ "embed" // the certification

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/catalog"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
	"github.com/lapse-access/lapse/internal/turn"
)

// Config says where the server is and how Lapse treats it.
type Config struct {
	Hostname string `json:"hostname" doc:"host name or address of the primary server; connect directly, not through a proxy" example:"db.example.com" minLength:"1"`
	Port     int    `json:"port" doc:"TCP port" default:"3306" minimum:"1" maximum:"65535"`
	TLSMode  string `json:"tls_mode" doc:"encryption and verification of the server; below verify-ca nobody proves who answers" enum:"disable,preferred,required,verify-ca,verify-full" default:"required"`
	// CACertificate replaces the system's authorities.
	CACertificate      string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the server's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	AccountHostPattern string          `json:"account_host_pattern" doc:"hosts from which people may log in, as in 'name'@'10.0.%'" default:"%" minLength:"1" maxLength:"255"`
	AdminRoleName      string          `json:"admin_role_name" doc:"role of the connector, which administers every role that Lapse makes" default:"lapse_admin" minLength:"1" maxLength:"80"`
	TerminateSessions  string          `json:"terminate_sessions" doc:"when revoke ends the sessions of the account: always, only when its last access ends, or never" enum:"always,last,never" default:"always"`
	SessionHosts       []string        `json:"session_hosts,omitempty" doc:"replicas on which sessions are ended too, as HOST or HOST:PORT" example:"replica.example.com:3306"`
	StatementTimeout   access.Duration `json:"statement_timeout" doc:"limit of one statement" default:"30s" minimum:"1s" maximum:"10m"`
	Include            []string        `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"database:shop"`
	Exclude            []string        `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"table:*/secrets"`
	MaxResources       int             `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
	AllowRoles         []string        `json:"allow_roles,omitempty" doc:"roles that can be requested although they hold powers over the whole server" example:"operators"`
}

// Secret is the connector's own login.
type Secret struct {
	Username string              `json:"username" doc:"account of the connector" example:"lapse" minLength:"1"`
	Password integrations.Secret `json:"password" doc:"its password" writeOnly:"true" minLength:"1"`
}

//go:embed certification.json
var certification []byte

// dialect is how names are written.
var dialect = sqlname.MariaDB

// Kind declares MariaDB.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:          "mariadb",
		Title:         "MariaDB",
		Doc:           "Membership in a role that carries the permission, by a default role of the person's own account.",
		Config:        func() any { return new(Config) },
		Secret:        func() any { return new(Secret) },
		ResourceTypes: mysqldb.ResourceTypes(dialect),
		Sessions: "Revoke ends every session of the account, on the server and on the hosts in `session_hosts`, and looks until there are none. " +
			"`terminate_sessions: last` or `never` keeps them; a session then keeps what it had on its current database until its next `USE`.",
		Limits: []string{
			"What runs with its definer's rights does not get those of roles: a trigger, event, view or routine that a person makes fails for everybody unless its `DEFINER` is `CURRENT_ROLE`, or it has `SQL SECURITY INVOKER`. So `admin` has neither TRIGGER nor EVENT: a trigger that fails makes every insert fail.",
			"A role that the customer made is used by its privileges; in it people cannot `SET ROLE` further.",
			"What `PUBLIC` has, everybody has; a revoke cannot change that.",
			"A person who was given a role by hand, beside Lapse, has it after `SET ROLE` only: MariaDB activates one role at login, and that is Lapse's.",
			"Privileges on single columns, routines and sequences are not granted.",
			"Roles that reach the whole server or database `mysql`, or that can be handed on, are offered only when listed in `allow_roles`.",
			"Sessions are those of one server: name replicas and the other nodes of a cluster in `session_hosts`.",
		},
		Credentials:   true,
		RotatesSecret: true,
		Setup:         integrations.Setup{Language: "sql", Options: func() any { return new(setup) }, Tiers: tiers},
		LastResort:    lastResort(),
		Told:          told,
		Certification: certification,
		New:           New,
		Witness:       newWitness,
	}
}

// integration is one configured server.
type integration struct {
	instance string
	id       string
	config   Config
	server   *mysqldb.Server
	hosts    []mysqldb.Endpoint
	filter   catalog.Filter
}

var (
	_ integrations.CredentialSetter = (*integration)(nil)
	_ integrations.Maintainer       = (*integration)(nil)
	_ integrations.Cleaner          = (*integration)(nil)
	_ integrations.SecretRotator    = (*integration)(nil)
)

// New makes an integration. It does not connect.
func New(t integrations.Target) (integrations.Integration, error) {
	config, ok := t.Config.(*Config)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the configuration is a %T", t.Name, t.Config)
	}
	secret, ok := t.Secret.(*Secret)
	if !ok {
		return nil, access.Errorf(access.Invalid, "integration %s: the secret is a %T", t.Name, t.Secret)
	}
	i := &integration{instance: t.Instance, id: t.ID, config: *config,
		filter: catalog.Filter{Include: config.Include, Exclude: config.Exclude, Max: config.MaxResources}}
	endpoint, err := config.endpoint(config.Hostname)
	if err != nil {
		return nil, access.Errorf(access.Invalid, "integration %s: %v", t.Name, err)
	}
	for _, host := range config.SessionHosts {
		e, err := config.endpoint(host)
		if err != nil {
			return nil, access.Errorf(access.Invalid, "integration %s: session_hosts: %v", t.Name, err)
		}
		i.hosts = append(i.hosts, e)
	}
	i.server = mysqldb.NewServer(dialect, endpoint, secret.Username, secret.Password, mysqldb.LockName(t.ID))
	return i, nil
}

func (c Config) endpoint(host string) (mysqldb.Endpoint, error) {
	return mysqldb.NewEndpoint(host, c.Port, c.TLSMode, c.CACertificate, c.StatementTimeout.Std())
}

// Check reads what the connector's own account may do.
func (i *integration) Check(ctx context.Context) (report access.CheckReport, err error) {
	connected := false
	err = i.reading(ctx, func(ctx context.Context, o *operation) error {
		connected = true
		report, err = o.check(ctx)
		return err
	})
	if err != nil && !connected {
		return access.CheckReport{Items: []access.CheckItem{failed("connect", "connect", err)}}, nil
	}
	return report, err
}

// Discover reads roles, then each database with its tables, page by page.
func (i *integration) Discover(ctx context.Context, cursor string) (page access.Page, err error) {
	err = i.reading(ctx, func(ctx context.Context, o *operation) error {
		grants, err := o.mine(ctx)
		if err != nil {
			return err
		}
		page, err = o.Discover(ctx, cursor, i.filter, grants, o.discoverRoles)
		return err
	})
	return page, err
}

// Held reports roles of the customer that the account was given by hand. What is
// in the umbrella nobody had before Lapse.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	err = i.reading(ctx, func(ctx context.Context, o *operation) error {
		found, err := o.find(ctx, a)
		if err != nil {
			return err
		}
		slots = nil
		for _, t := range targets {
			slot := access.Slot{Key: t.role, Write: mysqldb.Member, Entitlements: []access.Entitlement{t.Entitlement}}
			if !t.Ours() && found.directly(t.role) {
				slot.Held, slot.Write, slot.HeldAs = mysqldb.Member, "", slot.Entitlements
			}
			slots = append(slots, slot)
		}
		return nil
	})
	return slots, err
}

// Grant makes what is missing of the roles and the account, and enables the login
// last.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	targets, err := i.parseAll(req.Want)
	if err != nil {
		return res, err
	}
	for _, t := range targets {
		if !i.filter.Offers(t.Resource) {
			return res, access.Errorf(access.Invalid, "%s is left out by include and exclude of the integration", t.Resource)
		}
	}
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, o *operation) (integrations.GrantResult, error) {
		return o.grant(ctx, req, targets)
	})
}

// Revoke closes the login first when no hold remains, takes the roles out of the
// umbrella one by one, ends the sessions, and reads what is left.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	end, err := i.parseAll(req.End)
	if err != nil {
		return res, err
	}
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, o *operation) (integrations.RevokeResult, error) {
		return o.revoke(ctx, req, end)
	})
}

// Verify reads membership, login and the privileges of the roles.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	return turn.Of(ctx, i.reading, func(ctx context.Context, o *operation) ([]access.Entry, error) { return o.verify(ctx, a, targets) })
}

// DeleteAccount drops an account that is nobody's definer, and closes one that is.
func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, o *operation) (integrations.DeleteResult, error) {
		return o.deleteAccount(ctx, req)
	})
}

// Accounts lists accounts and tombstones by name; the cursor is the last name.
func (i *integration) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	return turn.Of(ctx, i.reading, func(ctx context.Context, o *operation) (access.PrincipalPage, error) { return o.accounts(ctx, cursor) })
}

// Close has nothing to release: connections live as long as one operation.
func (i *integration) Close() error { return nil }

// SetCredential sets a new password and logs in with it once.
func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, o *operation) (integrations.Credential, error) {
		return o.setCredential(ctx, req)
	})
}

// Maintain gives the entitlement roles that are in use what they lack, and drops
// the others: they are quickly made again.
func (i *integration) Maintain(ctx context.Context) (notes []string, err error) {
	return i.eachEntitlement(ctx, (*operation).maintain)
}

// Clean drops the entitlement roles that nobody has.
func (i *integration) Clean(ctx context.Context) (left []string, err error) {
	return i.eachEntitlement(ctx, (*operation).clean)
}
