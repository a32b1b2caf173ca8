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
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
)

// Config says where the server is and how Lapse treats it.
type Config struct {
	Hostname     string `json:"hostname" doc:"host name or address of the primary server; connect directly, not through a pooler" example:"db.example.com" minLength:"1"`
	Port         int    `json:"port" doc:"TCP port" default:"5432" minimum:"1" maximum:"65535"`
	DatabaseName string `json:"database_name" doc:"maintenance database: where Lapse connects first and takes its lock" default:"postgres" minLength:"1"`
	SSLMode      string `json:"ssl_mode" doc:"encryption and verification of the server, as libpq has it; below verify-ca nobody proves who answers" enum:"disable,allow,prefer,require,verify-ca,verify-full" default:"require"`
	// CACertificate replaces the system's authorities.
	CACertificate     string          `json:"ca_certificate,omitempty" doc:"PEM certificates of the authorities that may sign the server's certificate; the system's when empty"`
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
			{Name: typeDatabase, Path: []string{"DATABASE"}, Doc: "every schema of a database", Permissions: levels},
			{Name: typeSchema, Path: []string{"DATABASE", "SCHEMA"}, Doc: "a schema and what is in it", Permissions: levels},
			{Name: typeTable, Path: []string{"DATABASE", "SCHEMA", "TABLE"}, Doc: "one table, view or materialized view", Permissions: levels},
			{Name: typeRole, Path: []string{"NAME"}, Doc: "a role that the database's administrators made", Permissions: []permission{
				{Name: member, Doc: "membership in the role"},
			}},
		},
		Sessions: "Revoke ends every session of the account, on the primary and on the hosts in session_hosts, and looks until there are none. " +
			"terminate_sessions: last or never keeps them; a session then keeps what it has begun, and up to PostgreSQL 15 also the role that it had set.",
		Limits: []string{
			"ALTER and DROP need ownership, which Lapse never gives; request membership in the owner role instead.",
			"PUBLIC may connect to every database unless that was revoked; a revoke cannot change what PUBLIC has.",
			"Tables of an owner that appears after the grant are covered at the next grant of the same access, or at once when the owner is in owner_roles.",
			"Large objects, types, foreign servers and columns are not granted.",
		},
		NativeExpiry: true,
		Credentials:  true,
		New:          New,
	}
}

// integration is one configured server.
type integration struct {
	instance string
	id       string
	config   Config
	secret   Secret
	endpoint endpoint
	// turn lets one operation of this process at a time wait for the lock on
	// the server, so that the others hold no connection meanwhile.
	turn chan struct{}
}

var (
	_ integrations.CredentialSetter = (*integration)(nil)
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
	i := &integration{instance: t.Instance, id: t.ID, config: *config, secret: *secret, turn: make(chan struct{}, 1)}
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

// Close has nothing to release: connections live as long as one operation.
func (i *integration) Close() error { return nil }

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

func isMember(held []membership, role string) bool {
	return slices.ContainsFunc(held, func(m membership) bool { return m.Role == role })
}

// Grant makes what is missing of the entitlement roles and the account, and
// enables the login last.
func (i *integration) Grant(ctx context.Context, req integrations.GrantRequest) (res integrations.GrantResult, err error) {
	targets, err := i.parseAll(req.Want)
	if err != nil {
		return res, err
	}
	for _, t := range targets {
		if !i.offers(t.Resource) {
			return res, access.Errorf(access.Invalid, "%s is left out by include and exclude of the integration", t.Resource)
		}
	}
	err = i.inTurn(ctx, func(ctx context.Context, s *session) error {
		res, err = s.grant(ctx, req, targets)
		return err
	})
	if err != nil {
		return integrations.GrantResult{}, err
	}
	return res, nil
}

func (s *session) grant(ctx context.Context, req integrations.GrantRequest, targets []target) (res integrations.GrantResult, err error) {
	a, err := s.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	if a.stranger != nil {
		return res, a.taken()
	}
	var held []membership
	if a.role != nil {
		if held, err = s.memberships(ctx, a.role.OID); err != nil {
			return res, err
		}
	}
	plans := make([]plan, len(targets))
	var grantors []string
	for n, t := range targets {
		if plans[n], err = s.plan(ctx, t, time.Now().Add(-defaultsAge)); err != nil {
			return res, err
		}
		grantors = append(grantors, plans[n].grantors...)
		res.Notes = append(res.Notes, plans[n].notes...)
	}

	// The roles, without login and without any right.
	var creations []statement
	if a.role == nil {
		creations = append(creations, ddl("CREATE ROLE ? NOLOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 20", ident(a.name)))
	}
	creations = append(creations, s.numbered(a, req.Sequence, grantors...))
	for _, p := range plans {
		if p.ours() && !p.exists {
			creations = append(creations, ddl("CREATE ROLE ? NOLOGIN", ident(p.role)), s.entitlementMark(p, time.Time{}))
		}
	}
	if err := s.execOn(ctx, a.name, creations...); err != nil {
		return res, during("making the roles of "+a.name, err)
	}

	// What the entitlement roles stand for, in each database.
	for _, p := range plans {
		if err := s.define(ctx, p); err != nil {
			return res, err
		}
	}

	// Membership, and the login last.
	var join []statement
	for _, p := range plans {
		if len(p.define) > 0 {
			join = append(join, s.entitlementMark(p, time.Now().UTC().Truncate(time.Second)))
		}
		if usable(held, p.role) {
			continue
		}
		join = append(join, s.membershipIn(p.target, a.name))
	}
	if err := s.execOn(ctx, a.name, append(join, a.enable(req.End))...); err != nil {
		return res, during("giving the memberships of "+a.name, err)
	}

	res.AccountName = a.name
	res.Wrote = wrote(req.Wrote)
	if res.Entries, err = s.verify(ctx, req.Account, targets); err != nil {
		return res, err
	}
	for n, p := range plans {
		e := &res.Entries[n]
		if e.Outcome != access.Granted {
			return res, access.Errorf(access.Conflict, "%s was changed by somebody else while it was granted: %s", p.Entitlement, strings.Join(e.Facts, "; "))
		}
		if !p.ours() && isMember(held, p.role) && req.Wrote[p.role] == "" {
			e.Outcome = access.AlreadyHeld
			continue
		}
		res.Wrote[p.role] = member
	}
	return res, nil
}

// wrote begins a result from what was written before.
func wrote(before map[string]string) map[string]string {
	if before == nil {
		return map[string]string{}
	}
	return maps.Clone(before)
}

// entitlementMark is the mark of a role that carries an entitlement.
func (s *session) entitlementMark(p plan, applied time.Time) statement {
	m := mark{Kind: kindEntitlement, Instance: s.i.instance, Integration: s.i.id, Entitlement: &p.Entitlement, Applied: applied}
	return m.comment(p.role)
}

// membershipIn gives a role to an account. In Lapse's own roles it is without
// SET where PostgreSQL can say so: a session that had set the role would keep
// it, and what it makes would belong to the role.
func (s *session) membershipIn(t target, account string) statement {
	if t.ours() && s.server.grantorsMatter() {
		return ddl("GRANT ? TO ? WITH INHERIT TRUE, SET FALSE", ident(t.role), ident(account))
	}
	return ddl("GRANT ? TO ?", ident(t.role), ident(account))
}

// usable is true when a membership is there and gives the role's privileges.
func usable(held []membership, role string) bool {
	return slices.ContainsFunc(held, func(m membership) bool { return m.Role == role && m.Inherits })
}

// Revoke closes the login first when no hold remains, takes the memberships
// back one by one, ends the sessions, and reads what is left.
func (i *integration) Revoke(ctx context.Context, req integrations.RevokeRequest) (res integrations.RevokeResult, err error) {
	end, err := i.parseAll(req.End)
	if err != nil {
		return res, err
	}
	err = i.inTurn(ctx, func(ctx context.Context, s *session) error {
		res, err = s.revoke(ctx, req, end)
		return err
	})
	return res, err
}

func (s *session) revoke(ctx context.Context, req integrations.RevokeRequest, end []target) (res integrations.RevokeResult, err error) {
	a, err := s.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	if a.role == nil {
		return s.nothingToRevoke(ctx, a, end)
	}
	remain := map[string]bool{}
	open := false
	for _, claim := range req.Remain {
		t, err := s.i.parse(claim.Entitlement)
		if err != nil {
			return res, err
		}
		remain[t.role] = true
		open = open || !claim.Baseline
	}
	before, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return res, err
	}

	var errs []error
	first := []statement{s.numbered(a, req.Sequence)}
	if !open {
		first = append(first, disable(a.name))
	}
	errs = append(errs, during("closing the login of "+a.name, s.execOn(ctx, a.name, first...)))

	for _, m := range before {
		e, ours := s.carried(m)
		ended := slices.ContainsFunc(end, func(t target) bool { return t.role == m.Role })
		switch {
		case remain[m.Role]:
		case ours && !ended:
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s held %s for which there is no hold; it was taken back", a.name, e))
			errs = append(errs, s.withdraw(ctx, a.name, m))
		case ours, ended && a.byUs(m):
			errs = append(errs, s.withdraw(ctx, a.name, m))
		case !ended:
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s is a member of %s, granted by %s", a.name, m.Role, m.Grantor))
		}
	}

	var ended int32
	if s.i.config.TerminateSessions == "always" || (s.i.config.TerminateSessions == "last" && !open) {
		n, err := s.endSessions(ctx, a.name, a.role.OID)
		ended, errs = n, append(errs, err)
	}

	after, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return res, access.Worst(append(errs, err)...)
	}
	var common []string
	if !open {
		common = append(common, "login is disabled")
	}
	if ended > 0 {
		common = append(common, fmt.Sprintf("sessions ended: %d", ended))
	}
	res.Wrote = wrote(req.Wrote)
	for _, t := range end {
		if !remain[t.role] {
			delete(res.Wrote, t.role)
		}
		entry, err := closed(t, before, after, remain[t.role])
		errs = append(errs, err)
		entry.Facts = append(entry.Facts, common...)
		entry.Facts = append(entry.Facts, s.otherWays(ctx, t, a.role.OID)...)
		res.Entries = append(res.Entries, entry)
	}
	return res, access.Worst(errs...)
}

// closed is what became of one membership. One in Lapse's own roles that is
// still there, and need not be, is an error.
func closed(t target, before, after []membership, keep bool) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement}
	var grantors []string
	for _, m := range after {
		if m.Role == t.role {
			grantors = append(grantors, m.Grantor)
		}
	}
	by := strings.Join(grantors, ", ")
	switch {
	case len(grantors) == 0 && isMember(before, t.role):
		entry.Outcome, entry.Facts = access.Gone, []string{"membership in " + t.role + " is gone"}
	case len(grantors) == 0:
		entry.Outcome, entry.Facts = access.WasGone, []string{"there was no membership in " + t.role}
	case keep:
		entry.Outcome, entry.Facts = access.Lowered, []string{"membership in " + t.role + " is kept for another hold or the baseline"}
	case t.ours():
		entry.Outcome = access.Blocked
		return entry, access.Errorf(access.Conflict, "membership in %s is still granted by %s", t.role, by)
	default:
		entry.Outcome, entry.Facts = access.Lowered, []string{"still has access through " + t.role + ": granted by " + by}
	}
	return entry, nil
}

// nothingToRevoke answers for an account that is not there. A role of its name
// without our mark must not hide access that is to end.
func (s *session) nothingToRevoke(ctx context.Context, a *account, end []target) (res integrations.RevokeResult, err error) {
	var held []membership
	if a.stranger != nil {
		if held, err = s.memberships(ctx, a.stranger.OID); err != nil {
			return res, err
		}
	}
	res.Wrote = map[string]string{}
	for _, t := range end {
		if isMember(held, t.role) {
			return res, a.taken()
		}
		res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{"there is no account " + a.name}})
	}
	return res, nil
}

// otherWays tells how an account still comes by the privileges of an
// entitlement: PUBLIC, another role, ownership. It is a fact and no failure,
// and so is not being able to look.
func (s *session) otherWays(ctx context.Context, t target, role int64) []string {
	if !t.ours() {
		return nil
	}
	c, err := s.database(ctx, t.database)
	if err != nil {
		return []string{"not looked into " + t.database + ": " + err.Error()}
	}
	sources, err := ask[source](ctx, c, throughSQL, role, null(t.schema), null(t.table), t.wants(s.server.Version).table)
	if err != nil {
		return []string{"not looked into " + t.database + ": " + err.Error()}
	}
	var facts []string
	for _, from := range sources {
		name := from.Name
		if e, ok := s.carried(membership{Comment: from.Comment}); ok {
			name = e.String()
		}
		facts = append(facts, fmt.Sprintf("still has access to %s through %s", t.Resource, name))
	}
	return facts
}

// Verify reads membership, login and, in the database itself, the privileges.
func (i *integration) Verify(ctx context.Context, a access.Account, want []access.Entitlement) (entries []access.Entry, err error) {
	targets, err := i.parseAll(want)
	if err != nil {
		return nil, err
	}
	err = i.reading(ctx, func(ctx context.Context, s *session) error {
		entries, err = s.verify(ctx, a, targets)
		return err
	})
	return entries, err
}

func (s *session) verify(ctx context.Context, who access.Account, targets []target) ([]access.Entry, error) {
	a, err := s.find(ctx, who)
	if err != nil {
		return nil, err
	}
	var held []membership
	if a.role != nil {
		if held, err = s.memberships(ctx, a.role.OID); err != nil {
			return nil, err
		}
	}
	entries := make([]access.Entry, len(targets))
	for n, t := range targets {
		if entries[n], err = s.verifyOne(ctx, a, held, t); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func (s *session) verifyOne(ctx context.Context, a *account, held []membership, t target) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone}
	if a.role == nil {
		entry.Facts = []string{"there is no account " + a.name}
		return entry, nil
	}
	if !isMember(held, t.role) {
		entry.Facts = append([]string{"no membership in " + t.role}, s.otherWays(ctx, t, a.role.OID)...)
		return entry, nil
	}
	entry.Facts = []string{"member of " + t.role}
	entry.Outcome = access.Granted
	switch {
	case !a.role.CanLogin:
		entry.Outcome = access.Blocked
		entry.Facts = append(entry.Facts, "the login is disabled")
	case a.role.ValidUntil != nil && time.Now().After(*a.role.ValidUntil):
		entry.Outcome = access.Blocked
		entry.Facts = append(entry.Facts, "the login was valid until "+a.role.ValidUntil.UTC().Format(time.RFC3339))
	}
	if !t.ours() {
		return entry, nil
	}
	all, fact, err := s.reach(ctx, t, a.role.OID)
	if access.KindOf(err) == access.ResourceMissing {
		entry.Outcome = access.Blocked
		entry.Facts = append(entry.Facts, err.Error())
		return entry, nil
	}
	if err != nil {
		return entry, err
	}
	entry.Facts = append(entry.Facts, fact)
	if !all && entry.Outcome == access.Granted {
		entry.Outcome = access.Lowered
	}
	return entry, nil
}

// SetCredential sends a verifier instead of a new password and logs in with the
// password once.
func (i *integration) SetCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	err = i.inTurn(ctx, func(ctx context.Context, s *session) error {
		cred, err = s.setCredential(ctx, req)
		return err
	})
	if err != nil {
		return integrations.Credential{}, err
	}
	return cred, nil
}

func (s *session) setCredential(ctx context.Context, req integrations.CredentialRequest) (cred integrations.Credential, err error) {
	a, err := s.find(ctx, req.Account)
	if err != nil {
		return cred, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return cred, err
	}
	switch {
	case a.role == nil && a.stranger != nil:
		return cred, a.taken()
	case a.role == nil:
		return cred, access.Errorf(access.Invalid, "there is no account %s to give a password to", a.name)
	case !a.role.CanLogin:
		return cred, access.Errorf(access.Invalid, "account %s holds nothing and gets no password", a.name)
	}
	database, err := s.homeOf(ctx, a)
	if err != nil {
		return cred, err
	}
	password := integrations.Secret(principal.Password(a.name))
	verifier, err := scramVerifier(password)
	if err != nil {
		return cred, access.Errorf(access.Unknown, "making the password's verifier: %v", err)
	}
	if err := s.execOn(ctx, a.name, s.numbered(a, req.Sequence),
		ddl("ALTER ROLE ? PASSWORD ?", ident(a.name), literal(verifier))); err != nil {
		return cred, during("setting the password of "+a.name, err)
	}
	if err := s.login(ctx, a.name, password, database); err != nil {
		return cred, err
	}
	return s.i.credential(a.name, password, database), nil
}

// homeOf is a database that the account may connect to: one in which it holds
// something, else the maintenance database, else any.
func (s *session) homeOf(ctx context.Context, a *account) (string, error) {
	held, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return "", err
	}
	maintenance := s.pg.Config().Database
	var entitled []string
	for _, m := range held {
		if e, ok := s.carried(m); ok {
			if t, err := s.i.parse(e); err == nil {
				entitled = append(entitled, t.database)
			}
		}
	}
	const connectable = `SELECT datname::text FROM pg_database
		WHERE datallowconn AND has_database_privilege($1::int8::oid, oid, 'CONNECT')
		ORDER BY datname = ANY ($2::text[]) DESC, datname = $3::text DESC, datname LIMIT 1`
	rows, err := ask[only[string]](ctx, s.conn, connectable, a.role.OID, nonNil(entitled), maintenance)
	if err != nil {
		return "", during("choosing a database for "+a.name, err)
	}
	if len(rows) == 0 {
		return maintenance, nil
	}
	return rows[0].Value, nil
}

// login proves a password by a connection of its own.
func (s *session) login(ctx context.Context, name string, password integrations.Secret, database string) error {
	c, err := s.i.endpoint.open(ctx, name, password, database)
	if access.KindOf(err) == access.Auth || access.KindOf(err) == access.Privilege {
		// Not the connector's own login, about which these kinds would speak.
		return access.Errorf(access.Invalid, "account %s cannot log in to database %s with its new password", name, database).
			WithRemedy("let pg_hba.conf admit the account from the connector by scram-sha-256, and let it CONNECT to the database")
	}
	if err != nil {
		return during("trying the new password of "+name, err)
	}
	c.close()
	return nil
}

// DeleteAccount drops an account that owns nothing, and closes and renames one
// that does.
func (i *integration) DeleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	err = i.inTurn(ctx, func(ctx context.Context, s *session) error {
		res, err = s.deleteAccount(ctx, req)
		return err
	})
	return res, err
}

// accountsPage bounds a page of Accounts.
const accountsPage = 200

// Accounts lists accounts and tombstones by name; the cursor is the last name.
func (i *integration) Accounts(ctx context.Context, cursor string) (page access.PrincipalPage, err error) {
	err = i.reading(ctx, func(ctx context.Context, s *session) error {
		page, err = s.accounts(ctx, cursor)
		return err
	})
	return page, err
}

func (s *session) accounts(ctx context.Context, cursor string) (page access.PrincipalPage, err error) {
	rows, err := s.marked(ctx, cursor, accountsPage)
	if err != nil {
		return page, err
	}
	if len(rows) == accountsPage {
		page.Next = rows[accountsPage-1].Name
	}
	var roles []int64
	for _, r := range rows {
		roles = append(roles, r.OID)
	}
	held, err := s.memberships(ctx, roles...)
	if err != nil {
		return page, err
	}
	needed, err := s.dependencies(ctx, roles...)
	if err != nil {
		return page, err
	}
	for _, r := range rows {
		if r.mark.Kind == kindAccount || r.mark.Kind == kindTombstone {
			page.Principals = append(page.Principals, s.principal(r, held, needed))
		}
	}
	return page, nil
}

// principal is what one of our accounts holds and owns.
func (s *session) principal(r ownRole, held []membership, needed []dependency) access.Principal {
	p := access.Principal{Name: r.Name, AccountID: r.mark.Account, Enabled: r.CanLogin, Tombstone: r.mark.Kind == kindTombstone}
	a := account{mark: r.mark}
	for _, m := range held {
		if m.Member != r.OID {
			continue
		}
		e, ours := s.carried(m)
		if !ours {
			e = access.Entitlement{Integration: s.i.id, Resource: access.NewResource(typeRole, m.Role), Permission: member}
		}
		switch {
		case !ours && !a.byUs(m):
			p.Foreign = append(p.Foreign, fmt.Sprintf("member of %s, granted by %s", m.Role, m.Grantor))
		case !slices.Contains(p.Entitlements, e):
			p.Entitlements = append(p.Entitlements, e)
		}
	}
	for _, d := range needed {
		switch {
		case d.Role != r.OID:
		case d.Kind == "owned":
			p.Owns = true
		default:
			p.Foreign = append(p.Foreign, d.String())
		}
	}
	return p
}
