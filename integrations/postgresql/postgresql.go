// Package postgresql gives access to PostgreSQL 14 to 18.
//
// Access is membership in a role. For a permission on a database, schema or
// table Lapse makes one role without login for each such entitlement, gives it
// the privileges and, by default privileges for each owner, those on what will
// be made later; people are only ever made its members. For a role that the
// customer has, access is membership in that role; Lapse never changes or drops
// it.
//
// A person has one account, a login role with the mark of this Lapse in its
// comment. It can log in only while the person holds something. At the end of
// access Lapse takes back the membership and ends every session of the account.
// What an account owns is never dropped and never given to somebody else: such
// an account is kept, renamed and closed.
package postgresql

import (
	"context"
	_ "embed" // the certification
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/turn"
)

// Config says where the server is and how Lapse treats it.
type Config struct {
	Hostname     string `json:"hostname" doc:"host name or address of the primary server; connect directly, not through a pooler" example:"db.example.com" minLength:"1"`
	Port         int    `json:"port" doc:"TCP port" default:"5432" minimum:"1" maximum:"65535"`
	DatabaseName string `json:"database_name" doc:"maintenance database: where Lapse connects first and takes its lock" default:"postgres" minLength:"1"`
	SSLMode      string `json:"ssl_mode" doc:"encryption and verification of the server, as libpq has it; below verify-ca nobody proves who answers" enum:"disable,allow,prefer,require,verify-ca,verify-full" default:"require"`
	// CACertificate replaces the system's authorities.
	CACertificate     string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the server's certificate; the system's when empty" example:"-----BEGIN CERTIFICATE----- ..."`
	OwnerRoles        []string        `json:"owner_roles,omitempty" doc:"roles that will own tables later, beside those that own some now" example:"app_owner"`
	TerminateSessions string          `json:"terminate_sessions" doc:"when revoke ends the sessions of the account: always, only when its last access ends, or never" enum:"always,last,never" default:"always"`
	SessionHosts      []string        `json:"session_hosts,omitempty" doc:"standbys on which sessions are ended too, as HOST or HOST:PORT" example:"replica.example.com:5432"`
	StatementTimeout  access.Duration `json:"statement_timeout" doc:"limit of one statement" default:"30s" minimum:"1s" maximum:"10m"`
	Include           []string        `json:"include,omitempty" doc:"patterns of the resources that can be requested, * within one part; all when empty" example:"schema:shop/*"`
	Exclude           []string        `json:"exclude,omitempty" doc:"patterns of resources that cannot be requested, even when included" example:"table:*/*/secrets"`
	MaxResources      int             `json:"max_resources" doc:"discovery stops after so many resources" default:"10000" minimum:"1" maximum:"1000000"`
	AllowRoles        []string        `json:"allow_roles,omitempty" doc:"roles that can be requested although they hold powers over the whole server" example:"pg_signal_backend"`
}

// Secret is the connector's own login.
type Secret struct {
	Username string              `json:"username" doc:"login role of the connector" example:"lapse" minLength:"1"`
	Password integrations.Secret `json:"password" doc:"its password" writeOnly:"true" minLength:"1"`
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// dangerous are predefined roles that reach beyond data, to files, programs,
// other people's sessions or replication. pg_database_owner cannot be given:
// https://www.postgresql.org/docs/current/predefined-roles.html
var dangerous = []string{
	"pg_read_server_files", "pg_write_server_files", "pg_execute_server_program", "pg_signal_backend",
	"pg_checkpoint", "pg_create_subscription", "pg_maintain", "pg_signal_autovacuum_worker", "pg_database_owner",
}

//go:embed certification.json
var certification []byte

type permission = integrations.Permission

func permissionNames(t integrations.ResourceType) string {
	names := make([]string, len(t.Permissions))
	for i, p := range t.Permissions {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// Kind declares PostgreSQL.
func Kind() integrations.Kind {
	levels := []permission{
		{Name: readOnly, Doc: "SELECT on tables, views and sequences, also on those made later"},
		{Name: readWrite, Doc: "read_only, and INSERT, UPDATE, DELETE, use of sequences, EXECUTE on routines"},
		{Name: admin, Doc: "read_write, and TRUNCATE, REFERENCES, TRIGGER, MAINTAIN (17+), CREATE in schemas and databases; ALTER and DROP stay with owners"},
	}
	return integrations.Kind{
		Name:   "postgresql",
		Title:  "PostgreSQL",
		Doc:    "Membership in a role that carries the permission, on a login role of the person's own.",
		Config: func() any { return new(Config) },
		Secret: func() any { return new(Secret) },
		ResourceTypes: []integrations.ResourceType{
			{Name: typeDatabase, Path: []string{"DATABASE"}, Doc: "every schema of a database", Permissions: levels, Ordered: true},
			{Name: typeSchema, Path: []string{"DATABASE", "SCHEMA"}, Doc: "a schema and what is in it", Permissions: levels, Ordered: true},
			{Name: typeTable, Path: []string{"DATABASE", "SCHEMA", "TABLE"}, Doc: "one table, view or materialized view", Permissions: levels, Ordered: true},
			{Name: typeRole, Path: []string{"NAME"}, Doc: "a role that the database's administrators made", Permissions: []permission{
				{Name: member, Doc: "membership in the role"},
			}},
		},
		Sessions: "Revoke ends every session of the account, on the primary and on the hosts in `session_hosts`, and looks until there are none. " +
			"`terminate_sessions: last` or `never` keeps them; a session then keeps what it has begun, and up to PostgreSQL 15 also the role that it had set.",
		Limits: []string{
			"`ALTER` and `DROP` need ownership, which Lapse never gives: offer membership in the owner role for that.",
			"PUBLIC may connect to every database until you `REVOKE CONNECT ON DATABASE shop FROM PUBLIC`; a revoke cannot change what PUBLIC has.",
			"Tables of an owner that is new are covered at the next grant of the same access, by the next maintenance, or at once when the owner stands in `owner_roles`.",
			"What belongs to an extension and what the connector may not give is left out.",
			"Large objects, types, foreign servers and single columns are not granted.",
			"To drop a role that owns tables, first run `DROP OWNED BY` it: Lapse's default privileges for its later tables depend on it.",
			"Roles that reach beyond data, such as `pg_execute_server_program` or anything with SUPERUSER, CREATEROLE, REPLICATION or BYPASSRLS behind it, are offered only when listed in `allow_roles`.",
		},
		NativeExpiry:  true,
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
	secret   Secret
	endpoint endpoint
	turn     turn.Turn
}

var (
	_ integrations.CredentialSetter = (*integration)(nil)
	_ integrations.Maintainer       = (*integration)(nil)
	_ integrations.Cleaner          = (*integration)(nil)
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
	i := &integration{instance: t.Instance, id: t.ID, config: *config, secret: *secret, turn: turn.New()}
	var err error
	if i.endpoint, err = config.endpoint(config.Hostname); err != nil {
		return nil, access.Errorf(access.Invalid, "integration %s: %v", t.Name, err)
	}
	for _, host := range config.SessionHosts {
		if _, err := config.endpoint(host); err != nil {
			return nil, access.Errorf(access.Invalid, "integration %s: session_hosts: %v", t.Name, err)
		}
	}
	return i, nil
}

// Check reads what the connector's own role may do.
func (i *integration) Check(ctx context.Context) (access.CheckReport, error) {
	ctx, cancel := turn.Bounded(ctx)
	defer cancel()
	s, err := i.connect(ctx)
	if err != nil {
		return access.CheckReport{Items: []access.CheckItem{failed("connect", "connect", err)}}, nil
	}
	defer s.close()
	return s.check(ctx)
}

// Discover reads roles, then for each database the database itself with its
// schemas, then its tables, page by page.
func (i *integration) Discover(ctx context.Context, from string) (page access.Page, err error) {
	c, err := readCursor(from)
	if err != nil {
		return page, err
	}
	return turn.Of(ctx, i.reading, func(ctx context.Context, s *session) (access.Page, error) { return s.discover(ctx, c) })
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
		var held []membership
		if found.role != nil {
			if held, err = s.memberships(ctx, found.role.OID); err != nil {
				return err
			}
		}
		slots = nil
		for _, t := range targets {
			slot := access.Slot{Key: t.role, Write: member, Entitlements: []access.Entitlement{t.Entitlement}}
			if !t.ours() && isMember(held, t.role) {
				slot.Held, slot.Write, slot.HeldAs = member, "", slot.Entitlements
			}
			slots = append(slots, slot)
		}
		return nil
	})
	return slots, err
}

// Grant makes what is missing of the entitlement roles and the account, and
// enables the login last.
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

// Revoke closes the login first when no hold remains, takes the memberships
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

// Verify reads membership, login and, in the database itself, the privileges.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	return turn.Of(ctx, i.reading, func(ctx context.Context, s *session) ([]access.Entry, error) { return s.verify(ctx, a, targets) })
}

// DeleteAccount drops an account that owns nothing, and closes and renames one
// that does.
func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (integrations.DeleteResult, error) {
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, s *session) (integrations.DeleteResult, error) {
		return s.deleteAccount(ctx, req)
	})
}

// accountsPage bounds a page of Accounts.
const accountsPage = 200

// Accounts lists accounts and tombstones by name; the cursor is the last name.
func (i *integration) Accounts(ctx context.Context, cursor string) (access.PrincipalPage, error) {
	return turn.Of(ctx, i.reading, func(ctx context.Context, s *session) (access.PrincipalPage, error) { return s.accounts(ctx, cursor) })
}

// Close has nothing to release: connections live as long as one operation.
func (i *integration) Close() error { return nil }

// SetCredential sends a verifier instead of a new password and logs in with the
// password once.
func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (integrations.Credential, error) {
	return turn.Of(ctx, i.inTurn, func(ctx context.Context, s *session) (integrations.Credential, error) {
		return s.setCredential(ctx, req)
	})
}

// Maintain gives the entitlement roles that are in use what owners who are new
// have made, and drops those that nobody has had for a week.
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
		var roles []ownRole
		err := i.reading(ctx, func(ctx context.Context, s *session) error {
			roles, err = s.marked(ctx, after, pageSize)
			return err
		})
		if err != nil {
			return notes, access.Worst(append(errs, err)...)
		}
		for _, r := range roles {
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
		if len(roles) < pageSize {
			return notes, access.Worst(errs...)
		}
		after = roles[pageSize-1].Name
	}
}
