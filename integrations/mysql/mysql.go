// Package mysql gives access to MySQL 8.0, 8.4 and 9, and without roles to 5.7.
//
// Access is membership in a role. For a permission on a database or table Lapse
// makes one role for each such entitlement and gives it the privileges; people
// are only ever made its members, and it is one of their default roles. For a
// role that the customer has, access is membership in that role; Lapse never
// changes or drops it.
//
// A person has one account, with the mark of this Lapse in its attributes. It is
// locked unless the person holds something. At the end of access Lapse locks it,
// takes back the membership and ends every session of the account. An account
// that is the definer of a view, trigger, routine or event is never dropped,
// because they would stop working: it is kept, locked and without access.
//
// A server without account attributes (before 8.0.21) gets no roles: privileges
// are given to the account itself, and the marks stand in a table of Lapse's own.
package mysql

import (
	"context"
	_ "embed" // the certification
	"strings"

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
	CACertificate        string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the server's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	AccountHostPattern   string          `json:"account_host_pattern" doc:"from where people may log in: the host part of their accounts" default:"%" example:"10.%" minLength:"1" maxLength:"255"`
	RequireTLS           bool            `json:"require_tls_for_accounts" doc:"people's accounts take encrypted connections only" default:"false"`
	AuthenticationPlugin string          `json:"authentication_plugin,omitempty" doc:"plugin of people's accounts, for old clients; the server's default when empty" example:"mysql_native_password" enum:"caching_sha2_password,mysql_native_password,sha256_password"`
	ManagedService       string          `json:"managed_service" doc:"how sessions are ended: auto looks for the procedure of a managed service" enum:"auto,none,rds,aurora,cloudsql,azure" default:"auto"`
	TerminateSessions    string          `json:"terminate_sessions" doc:"when revoke ends the sessions of the account: always, only when its last access ends, or never" enum:"always,last,never" default:"always"`
	SessionHosts         []string        `json:"session_hosts,omitempty" doc:"replicas on which sessions are ended too, as HOST or HOST:PORT" example:"replica.example.com:3306"`
	StatementTimeout     access.Duration `json:"statement_timeout" doc:"limit of one reading statement" default:"30s" minimum:"1s" maximum:"10m"`
	Include              []string        `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"database:shop*"`
	Exclude              []string        `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"table:*/secrets"`
	MaxResources         int             `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
	AllowRoles           []string        `json:"allow_roles,omitempty" doc:"roles that can be requested although they hold powers over the whole server" example:"backup_admin"`
}

// Secret is the connector's own login.
type Secret struct {
	Username string              `json:"username" doc:"account of the connector" example:"lapse" minLength:"1"`
	Password integrations.Secret `json:"password" doc:"its password" writeOnly:"true" minLength:"1"`
}

//go:embed certification.json
var certification []byte

// dialect is how this kind writes SQL.
var dialect = sqlname.MySQL

// Kind declares MySQL.
func Kind() integrations.Kind {
	return integrations.Kind{
		Name:          "mysql",
		Title:         "MySQL",
		Doc:           "Membership in a role that carries the permission, on an account of the person's own.",
		Config:        func() any { return new(Config) },
		Secret:        func() any { return new(Secret) },
		ResourceTypes: mysqldb.ResourceTypes(dialect),
		Sessions: "Revoke ends every session of the account, on the primary and on the hosts in `session_hosts`, and looks until there are none, also of clients that are just logging in. " +
			"`terminate_sessions: last` or `never` keeps them; a session then keeps the privileges of its current database until its next `USE`.",
		Limits: []string{
			"A session that is open at a grant has the new access after it connects again, or after `SET ROLE DEFAULT`.",
			"The account that made a view, trigger, routine or event stays its definer. Lapse keeps such an account, locked; its views, routines and events lose the access that ended. " +
				"When the last access of the definer of a trigger ends, that account is closed for good and keeps, on the tables that its triggers are on and name, what they need: otherwise every change of these tables would fail. The person gets another account.",
			"A view or routine with SQL SECURITY DEFINER that somebody else made may show data after the end of access.",
			"A permission leaves out what the connector cannot give; a permission whose core it cannot give is not offered.",
			"A database whose name, with a backslash before each `_` and `%`, is longer than 64 characters is offered only where `partial_revokes` is on.",
			"Roles that reach beyond data, such as one with SUPER, FILE, CREATE USER or SYSTEM_USER, are offered only when listed in `allow_roles`. Mandatory roles are never offered.",
			"Single columns and routines are not granted.",
			"Before 8.0.21, so on 5.7 too, there are no roles: privileges are given to the account itself.",
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
	// legacy is set by tests only: it treats any server as one without roles.
	legacy bool
}

var (
	_ integrations.CredentialSetter = (*integration)(nil)
	_ integrations.SecretRotator    = (*integration)(nil)
	_ integrations.Cleaner          = (*integration)(nil)
	_ integrations.Maintainer       = (*integration)(nil)
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
	endpoint, err := config.endpoint(config.Hostname)
	if err != nil {
		return nil, access.Errorf(access.Invalid, "integration %s: %v", t.Name, err)
	}
	for _, host := range config.SessionHosts {
		if _, err := config.endpoint(host); err != nil {
			return nil, access.Errorf(access.Invalid, "integration %s: session_hosts: %v", t.Name, err)
		}
	}
	if _, err := dialect.Quote(sqlname.Principal{User: "x", Host: config.AccountHostPattern}); err != nil {
		return nil, access.Errorf(access.Invalid, "integration %s: account_host_pattern: %v", t.Name, err)
	}
	return &integration{instance: t.Instance, id: t.ID, config: *config,
		server: mysqldb.NewServer(dialect, endpoint, secret.Username, secret.Password, mysqldb.LockName(t.ID))}, nil
}

// endpoint is how to reach a host of the configured kind.
func (c Config) endpoint(host string) (mysqldb.Endpoint, error) {
	return mysqldb.NewEndpoint(host, c.Port, c.TLSMode, c.CACertificate, c.StatementTimeout.Std())
}

// session is what one operation has of the server. It is used by one goroutine.
type session struct {
	*mysqldb.Conn
	i *integration
	// legacy is true where there are no roles and no attributes.
	legacy bool
	// grants are the connector's own, read once.
	grants mysqldb.Grants
}

// withRoles is the first version that has all that marks and roles need. Before it
// an integration is legacy.
const withRoles = 80021

func (i *integration) session(c *mysqldb.Conn) (*session, error) {
	if c.Info.MariaDB {
		return nil, access.Errorf(access.Unsupported, "this server is MariaDB %s", c.Info.Text).WithRemedy("use the kind mariadb: its roles are others")
	}
	return &session{Conn: c, i: i, legacy: i.legacy || c.Info.Version < withRoles}, nil
}

// reading runs an operation that only reads.
func (i *integration) reading(ctx context.Context, operation func(context.Context, *session) error) error {
	return i.server.Reading(ctx, func(ctx context.Context, c *mysqldb.Conn) error {
		s, err := i.session(c)
		if err != nil {
			return err
		}
		return operation(ctx, s)
	})
}

// inTurn runs an operation alone on the server; everything in it may be run
// twice.
func (i *integration) inTurn(ctx context.Context, operation func(context.Context, *session) error) error {
	return i.server.InTurn(ctx, func(ctx context.Context, c *mysqldb.Conn) error {
		s, err := i.session(c)
		if err != nil {
			return err
		}
		return operation(ctx, s)
	})
}

func (i *integration) filter() catalog.Filter {
	return catalog.Filter{Include: i.config.Include, Exclude: i.config.Exclude, Max: i.config.MaxResources}
}

// mine reads what the connector may do, once for an operation.
func (s *session) mine(ctx context.Context) (mysqldb.Grants, error) {
	if s.grants == nil {
		g, err := s.ShowGrants(ctx, sqlname.Principal{})
		if err != nil {
			return nil, err
		}
		s.grants = g
	}
	return s.grants, nil
}

// Check reads what the connector's own account may do.
func (i *integration) Check(ctx context.Context) (report access.CheckReport, err error) {
	failure := i.reading(ctx, func(ctx context.Context, s *session) error {
		report, err = s.check(ctx)
		return nil
	})
	if failure != nil {
		return access.CheckReport{Items: []access.CheckItem{failed("connect", "connect", failure)}}, nil
	}
	return report, err
}

// Discover reads roles, then databases, then the tables of each, page by page.
func (i *integration) Discover(ctx context.Context, from string) (page access.Page, err error) {
	err = i.reading(ctx, func(ctx context.Context, s *session) error {
		mine, err := s.mine(ctx)
		if err != nil {
			return err
		}
		filter := i.filter()
		if s.legacy {
			filter.Exclude = append([]string{"database:" + marksDatabase, "table:" + marksDatabase + "/*"}, filter.Exclude...)
		}
		page, err = s.Conn.Discover(ctx, from, filter, mine, s.discoverRoles)
		return err
	})
	return page, err
}

// Held reports membership in the customer's roles, whoever gave it. Membership
// in one of Lapse's own roles is never a baseline: nobody had it before Lapse.
func (i *integration) Held(ctx context.Context, a access.Account, want []access.Entitlement) (slots []access.Slot, err error) {
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	err = i.reading(ctx, func(ctx context.Context, s *session) error {
		found, err := s.find(ctx, a)
		if err != nil {
			return err
		}
		held, err := s.heldBy(ctx, found)
		if err != nil {
			return err
		}
		slots = nil
		for _, t := range targets {
			slot := access.Slot{Key: t.slot(), Write: mysqldb.Member, Entitlements: []access.Entitlement{t.Entitlement}}
			if !t.Ours() && isMember(held, t.role) {
				slot.Held, slot.Write, slot.HeldAs = mysqldb.Member, "", slot.Entitlements
			}
			slots = append(slots, slot)
		}
		return nil
	})
	return slots, err
}

// Grant makes what is missing of the entitlement roles and the account, and
// unlocks the account last.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	targets, err := i.parseAll(req.Want)
	if err != nil {
		return res, err
	}
	for _, t := range targets {
		if !i.filter().Offers(t.Resource) {
			return res, access.Errorf(access.Invalid, "%s is left out by include and exclude of the integration", t.Resource)
		}
	}
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, s *session) (integrations.GrantResult, error) {
		return s.grant(ctx, req, targets)
	})
}

// Revoke locks the account first when no hold remains, takes the memberships
// back one by one, ends the sessions, and reads what is left.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	end, err := i.parseAll(req.End)
	if err != nil {
		return res, err
	}
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, s *session) (integrations.RevokeResult, error) {
		return s.revoke(ctx, req, end)
	})
}

// Verify reads membership, lock and the role's privileges.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	return turn.Of(ctx, i.reading, func(ctx context.Context, s *session) ([]access.Entry, error) { return s.verify(ctx, a, targets) })
}

// DeleteAccount drops an account that is the definer of nothing, and keeps one
// that is, locked and without access.
func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, s *session) (integrations.DeleteResult, error) {
		return s.deleteAccount(ctx, req)
	})
}

// Accounts lists accounts and tombstones by name; the cursor is the last name.
func (i *integration) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	return turn.Of(ctx, i.reading, func(ctx context.Context, s *session) (access.PrincipalPage, error) { return s.accounts(ctx, cursor) })
}

// Close has nothing to release: connections live as long as one operation.
func (i *integration) Close() error { return nil }

// SetCredential sets a new password and logs in with it once.
func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, s *session) (integrations.Credential, error) {
		return s.setCredential(ctx, req)
	})
}

// Maintain gives the entitlement roles that are in use what they lack, takes
// back what they should not have, and drops those that nobody has had for a
// week.
func (i *integration) Maintain(ctx context.Context) (notes []string, err error) {
	return i.eachEntitlement(ctx, (*session).maintain)
}

// Clean drops the entitlement roles that nobody has.
func (i *integration) Clean(ctx context.Context) (left []string, err error) {
	return i.eachEntitlement(ctx, (*session).clean)
}

// eachEntitlement does something with each entitlement role, in a turn of its
// own, and goes on after one that failed.
func (i *integration) eachEntitlement(ctx context.Context, do func(*session, context.Context, access.Entitlement) ([]string, error)) (notes []string, err error) {
	var errs []error
	for after := ""; ; {
		var rows []row
		err := i.reading(ctx, func(ctx context.Context, s *session) error {
			rows, err = s.marked(ctx, after)
			return err
		})
		if err != nil {
			return notes, access.Worst(append(errs, err)...)
		}
		for _, r := range rows {
			if r.mark.Kind != kindEntitlement || r.mark.Entitlement == nil {
				continue
			}
			var said []string
			err := i.inTurn(ctx, func(ctx context.Context, s *session) error {
				said, err = do(s, ctx, *r.mark.Entitlement)
				return err
			})
			notes, errs = append(notes, said...), append(errs, err)
		}
		if len(rows) < pageSize {
			return notes, access.Worst(errs...)
		}
		after = rows[len(rows)-1].User
	}
}

// shown is a name as it is typed in SQL, for people.
func shown(p sqlname.Principal) string { return dialect.Shown(p) }

// roleName is a role as it stands in a resource: its host is left out when it
// is "%", unless the name itself has an "@".
func roleName(p sqlname.Principal) string {
	if p.Host == "%" && !strings.Contains(p.User, "@") {
		return p.User
	}
	return p.User + "@" + p.Host
}

// readRole undoes roleName.
func readRole(name string) sqlname.Principal {
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		return sqlname.Principal{User: name[:at], Host: name[at+1:]}
	}
	return sqlname.Principal{User: name, Host: "%"}
}
