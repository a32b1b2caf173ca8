package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// target is an entitlement as MySQL sees it.
type target struct {
	mysqldb.Target
	// role is the role whose membership is the access: one of Lapse's own, or
	// the customer's for the resource type role.
	role sqlname.Principal
}

// entitlementRole is the role that carries an entitlement.
func entitlementRole(instance string, e access.Entitlement) sqlname.Principal {
	return sqlname.Principal{User: principal.Role(instance, e), Host: "%"}
}

// parse reads an entitlement of this integration.
func (i *integration) parse(e access.Entitlement) (target, error) {
	parsed, err := mysqldb.Parse(dialect, i.id, e)
	if err != nil {
		return target{}, err
	}
	t := target{Target: parsed, role: entitlementRole(i.instance, e)}
	if !t.Ours() {
		t.role = readRole(t.Role)
	}
	if _, err := dialect.Quote(t.role); err != nil {
		return target{}, access.Errorf(access.Invalid, "resource %s: %v", e.Resource, err)
	}
	return t, nil
}

// parseAll reads entitlements, all of them or none.
func (i *integration) parseAll(es []access.Entitlement) ([]target, error) {
	out := make([]target, len(es))
	for n, e := range es {
		t, err := i.parse(e)
		if err != nil {
			return nil, err
		}
		out[n] = t
	}
	return out, nil
}

// slot is the key under which the entitlement is remembered.
func (t target) slot() string { return roleName(t.role) }

// idleAge is how long an entitlement role stays after it was last in use, and
// freshAge how long that is not written down anew.
const (
	idleAge  = 7 * 24 * time.Hour
	freshAge = time.Hour
)

// plan is what a grant of one entitlement has to do, as it was read before
// anything is written.
type plan struct {
	target
	exists  bool // the role does
	applied time.Time
	// give are the privileges that the connector can give, and lack those that
	// the role does not have; wrong is what it has and should not.
	give, lack []string
	wrong      []sqlname.Statement
	notes      []string
}

func (p plan) fresh() bool { return time.Since(p.applied) < freshAge }

// plan reads whether an entitlement can be granted and what that takes. It
// fails, and nothing was written, when the resource is missing or a right is.
func (s *session) plan(ctx context.Context, t target) (plan, error) {
	p := plan{target: t}
	mine, err := s.mine(ctx)
	if err != nil {
		return p, err
	}
	if !t.Ours() {
		return p, s.mayJoin(ctx, t.role, mine)
	}
	if s.legacy && t.Database == marksDatabase {
		return p, access.Errorf(access.Invalid, "database %s has the marks of Lapse", t.Database)
	}
	if !s.legacy {
		rows, err := s.rows(ctx, "WHERE u.User = ? AND u.Host = ?", t.role.User, t.role.Host)
		if err != nil {
			return p, err
		}
		if p.exists = len(rows) == 1; p.exists {
			if rows[0].mark.Kind != kindEntitlement {
				return p, access.Errorf(access.NameTaken, "role %s does not carry the mark of this integration", t.role.User).
					WithRemedy("rename or drop the role that is in the way")
			}
			p.applied = rows[0].mark.Applied
		}
	}
	return p, s.planPrivileges(ctx, &p, mine)
}

// planPrivileges compares what the role has with what it is to have. Everything
// else that it was given on databases and tables is wrong: the spelling of a
// database depends on partial_revokes, and under the other setting a name with
// "_" in it would mean others, too.
func (s *session) planPrivileges(ctx context.Context, p *plan, mine mysqldb.Grants) error {
	var has mysqldb.Grants
	if p.exists {
		var err error
		if has, err = s.ShowGrants(ctx, p.role); err != nil {
			return err
		}
		for _, g := range has {
			if stray := p.stray(g); len(stray) > 0 {
				p.wrong = append(p.wrong, s.takeStray(g, stray, p.role))
			}
		}
	}
	give, lost, ok := p.Cut(mine)
	p.give = give
	if ok {
		// What it may give it also sees, so that what is not there is missing.
		if err := p.Exists(ctx, s.Conn); err != nil {
			return err
		}
	} else {
		return access.Errorf(access.Privilege, "the connector may not give %s on %s: it lacks %s", p.Permission, p.Resource, strings.Join(lost, ", ")).
			WithRemedy("%s", s.giveRemedy(lost, p.Target))
	}
	if len(lost) > 0 {
		p.notes = append(p.notes, fmt.Sprintf("%s comes without %s, which the connector may not give (%s)", p.Entitlement, strings.Join(lost, ", "), s.giveRemedy(lost, p.Target)))
	}
	p.lack = p.Lacking(has, give)
	return nil
}

// stray are the privileges of a role's grant that its entitlement does not have.
func (p plan) stray(g mysqldb.Grant) []string {
	if g.Roles != nil || g.Taken || g.Routine || slices.Equal(g.Privileges, []string{"USAGE"}) {
		return nil
	}
	allowed := p.All()
	if len(p.Given(mysqldb.Grants{g})) == 0 {
		allowed = nil // on something else
	}
	return slices.DeleteFunc(slices.Clone(g.Privileges), func(w string) bool { return slices.Contains(allowed, w) })
}

// takeStray takes back what stands in a grant, in its own spelling.
func (s *session) takeStray(g mysqldb.Grant, privileges []string, from sqlname.Principal) sqlname.Statement {
	words := sqlname.Keywords(privileges)
	switch {
	case g.Database == "*":
		return s.Statement("REVOKE ? ON *.* FROM ?", words, from)
	case g.Table == "*":
		return s.Statement("REVOKE ? ON ?.* FROM ?", words, sqlname.Ident(g.Database), from)
	}
	return s.Statement("REVOKE ? ON ? FROM ?", words, sqlname.Qualified{g.Database, g.Table}, from)
}

// giveRemedy is the statement with which the connector can hand privileges on:
// everywhere, when it hands something on everywhere.
func (s *session) giveRemedy(privileges []string, t mysqldb.Target) string {
	on := "*.*"
	if !slices.ContainsFunc(s.grants, func(g mysqldb.Grant) bool { return g.Option && g.Database == "*" }) {
		var name sqlname.Fragment = sqlname.Pattern(t.Database)
		if s.Info.PartialRevokes {
			name = sqlname.Ident(t.Database)
		}
		on = dialect.Shown(name) + ".*"
	}
	return fmt.Sprintf("GRANT %s ON %s TO %s WITH GRANT OPTION", strings.Join(privileges, ", "), on, shown(s.Info.CurrentUser))
}

// roleRow is a role as something to request.
type roleRow struct {
	User, Host string
	// IsRole is how CREATE ROLE stores one: locked, expired, without a password.
	// An account of an external directory has no password here either.
	IsRole bool
	Mark   string
}

// roles reads roles; where speaks of u.
func (s *session) roles(ctx context.Context, where string, args ...any) ([]roleRow, error) {
	const query = `SELECT u.User, u.Host, u.account_locked = 'Y' AND u.password_expired = 'Y' AND u.authentication_string = '',
		COALESCE(CAST(JSON_EXTRACT(u.User_attributes, '$.metadata.lapse') AS CHAR), '') FROM mysql.user u `
	rows, err := mysqldb.Ask[roleRow](ctx, s.Conn, query+where, args...)
	return rows, mysqldb.During("reading the roles", err)
}

// mayJoin tells whether membership in a role of the customer can be given.
func (s *session) mayJoin(ctx context.Context, role sqlname.Principal, mine mysqldb.Grants) error {
	if s.legacy {
		return access.Errorf(access.Unsupported, "MySQL %s is treated as one without roles", s.Info.Text).WithRemedy("upgrade it to 8.0.21 or later")
	}
	rows, err := s.roles(ctx, "WHERE u.User = ? AND u.Host = ?", role.User, role.Host)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return access.Errorf(access.ResourceMissing, "role %s is not there", roleName(role))
	}
	mandatory, err := s.mandatory(ctx)
	if err != nil {
		return err
	}
	if err := s.refuses(ctx, rows[0], mandatory); err != nil {
		return err
	}
	if !mayGive(mine, role) {
		return access.Errorf(access.Privilege, "the connector may not give membership in role %s", roleName(role)).
			WithRemedy("%s", s.remedy(roleAdmin))
	}
	return nil
}

// mayGive tells whether a connector can give membership in a role.
func mayGive(mine mysqldb.Grants, role sqlname.Principal) bool {
	return roleAdmin.held(mine) || slices.ContainsFunc(mine, func(g mysqldb.Grant) bool {
		return g.Option && slices.Contains(g.Roles, role)
	})
}

// mandatory are the roles that everybody has and nobody can lose.
func (s *session) mandatory(ctx context.Context) ([]sqlname.Principal, error) {
	settings, err := s.Variables(ctx, "mandatory_roles")
	if err != nil {
		return nil, err
	}
	return mysqldb.ParsePrincipals(settings["mandatory_roles"]), nil
}

// refuses says why a role cannot be requested: it is Lapse's own, it is
// somebody's login, everybody has it, or a member would come by powers over the
// whole server.
func (s *session) refuses(ctx context.Context, r roleRow, mandatory []sqlname.Principal) error {
	role := sqlname.Principal{User: r.User, Host: r.Host}
	name := roleName(role)
	if r.Mark != "" {
		return access.Errorf(access.Invalid, "role %s is Lapse's own", name)
	}
	if slices.Contains(mandatory, role) {
		return access.Errorf(access.Invalid, "role %s is mandatory: everybody has it", name)
	}
	if slices.Contains(s.i.config.AllowRoles, name) {
		return nil
	}
	remedy := fmt.Sprintf("list it in allow_roles if it shall be requested all the same: allow_roles: [%q]", name)
	if !r.IsRole {
		return access.Errorf(access.Invalid, "role %s is a login", name).WithRemedy("%s", remedy)
	}
	found, err := s.powers(ctx, role, map[sqlname.Principal]bool{})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return access.Errorf(access.Invalid, "role %s gives powers over the whole server (%s)", name, strings.Join(found, ", ")).WithRemedy("%s", remedy)
	}
	return nil
}

// harmless are the privileges on the whole server that are about data only; the
// others reach further, or can be handed on.
// https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html
var harmless = []string{
	"USAGE", "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES", "LOCK TABLES", "EXECUTE", "CREATE TEMPORARY TABLES",
	"CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER", "SHOW DATABASES", "SHOW_ROUTINE",
}

// powers are what a role reaches beyond data, by itself or through its roles.
// Privileges on all databases count: the accounts themselves stand in one.
func (s *session) powers(ctx context.Context, role sqlname.Principal, seen map[sqlname.Principal]bool) (found []string, err error) {
	if seen[role] {
		return nil, nil
	}
	seen[role] = true
	given, err := s.ShowGrants(ctx, role)
	if err != nil {
		return nil, err
	}
	add := func(p string) {
		if !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	for _, g := range given {
		_, system := slices.BinarySearch(mysqldb.SystemDatabases, g.Database)
		system = system && g.Database != "information_schema" && g.Database != "performance_schema"
		for _, p := range g.Privileges {
			writes := p != "USAGE" && p != "SELECT" && p != "SHOW VIEW" && p != "SHOW DATABASES" && p != "EXECUTE" && p != "SHOW_ROUTINE"
			switch {
			case g.Taken:
			case !slices.Contains(harmless, p), g.Database == "*" && writes:
				add(p)
			case system && g.Database == "mysql" && p != "USAGE", system && writes:
				add(p + " on " + g.Database)
			}
		}
		if g.Option && g.Roles == nil {
			add("GRANT OPTION")
		}
		if g.Option && g.Roles != nil {
			add("ADMIN OPTION")
		}
		for _, r := range g.Roles {
			more, err := s.powers(ctx, r, seen)
			if err != nil {
				return nil, err
			}
			for _, p := range more {
				add(p)
			}
		}
	}
	return found, nil
}

// discoverRoles reads a page of the customer's roles; after is where the next
// one begins, empty at the end.
func (s *session) discoverRoles(ctx context.Context, after string) (found []access.Found, next string, err error) {
	if s.legacy {
		return nil, "", nil
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return nil, "", err
	}
	mandatory, err := s.mandatory(ctx)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.roles(ctx, `WHERE u.account_locked = 'Y' AND u.password_expired = 'Y' AND u.authentication_string = '' AND u.User > ? ORDER BY u.User, u.Host LIMIT ?`, after, pageSize)
	if err != nil {
		return nil, "", err
	}
	if len(rows) == pageSize {
		// A name may stand at two hosts: its others come with the next page.
		next = rows[len(rows)-1].User
		whole := slices.DeleteFunc(slices.Clone(rows), func(r roleRow) bool { return r.User == next })
		if len(whole) > 0 {
			rows, next = whole, whole[len(whole)-1].User
		}
	}
	for _, r := range rows {
		role := sqlname.Principal{User: r.User, Host: r.Host}
		if _, err := dialect.Quote(role); err != nil || !mayGive(mine, role) {
			continue
		}
		switch err := s.refuses(ctx, r, mandatory); {
		case err == nil:
			found = append(found, access.Found{Resource: access.NewResource(mysqldb.TypeRole, roleName(role)), Permissions: []string{mysqldb.Member}})
		case access.KindOf(err) != access.Invalid && mysqldb.Number(err) != 1141:
			return nil, "", err
		}
	}
	return found, next, nil
}
