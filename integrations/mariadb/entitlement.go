package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// target is an entitlement as MariaDB sees it.
type target struct {
	mysqldb.Target
	// role is the one that carries the access: one of Lapse's own, or the
	// customer's for the resource type role.
	role string
}

// parse reads an entitlement of this integration.
func (i *integration) parse(e access.Entitlement) (target, error) {
	parsed, err := mysqldb.Parse(dialect, i.id, e)
	t := target{Target: parsed, role: parsed.Role}
	if err == nil && t.Ours() {
		t.role = principal.Role(i.instance, e)
	}
	if err == nil {
		_, err = dialect.Quote(role(t.role))
	}
	if err != nil && access.KindOf(err) == access.Unknown {
		err = access.Errorf(access.Invalid, "resource %s: %v", e.Resource, err)
	}
	return t, err
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

// plan is what a grant of one entitlement has to do, as it was read before
// anything is written.
type plan struct {
	target
	exists  bool     // the role does
	members int      // that have it
	lacks   []string // privileges that the role has to be given
	note    string
}

// plan reads whether an entitlement can be granted and what that takes. It fails,
// and nothing was written, when the resource is missing or a right is.
func (o *operation) plan(ctx context.Context, t target) (plan, error) {
	p := plan{target: t}
	administered, err := o.readRole(ctx, &p)
	if err != nil {
		return p, err
	}
	if !t.Ours() {
		switch {
		case !p.exists:
			return p, access.Errorf(access.ResourceMissing, "role %s is not there", t.role)
		case !administered:
			return p, o.notAdministered(t.role)
		}
		return p, o.refuses(ctx, t.role)
	}
	if err := t.Exists(ctx, o.Conn); err != nil {
		return p, err
	}
	mine, err := o.mine(ctx)
	if err != nil {
		return p, err
	}
	give, lost, ok := t.Cut(mine)
	if !ok {
		return p, access.Errorf(access.Privilege, "the connector may not give %s on %s", strings.Join(lost, ", "), t.Resource).
			WithRemedy("%s", o.i.handOn(t.Target, t.All()).Text)
	}
	if len(lost) > 0 {
		p.note = fmt.Sprintf("%s comes without %s, which the connector may not give: %s", t.Entitlement, strings.Join(lost, ", "), o.i.handOn(t.Target, lost).Text)
	}
	p.lacks = give
	if p.exists {
		if !administered {
			return p, o.notAdministered(t.role)
		}
		given, err := o.ShowGrants(ctx, role(t.role))
		if err != nil {
			return p, err
		}
		p.lacks = t.Lacking(given, give)
	}
	return p, nil
}

// readRole reads whether a role exists, who has it, and whether the connector
// administers it, itself or by its own role.
func (o *operation) readRole(ctx context.Context, p *plan) (administered bool, err error) {
	type member struct {
		User, Host string
		Admin      bool
	}
	const query = `SELECT COALESCE(m.User, ''), COALESCE(m.Host, ''), COALESCE(m.Admin_option = 'Y', 0)
		FROM mysql.global_priv g LEFT JOIN mysql.roles_mapping m ON m.Role = g.User
		WHERE g.User = ? AND g.Host = '' AND JSON_VALUE(g.Priv, '$.is_role') = '1'`
	members, err := mysqldb.Ask[member](ctx, o.Conn, query, p.role)
	if err != nil {
		return false, mysqldb.During("reading role "+p.role, err)
	}
	p.exists = len(members) > 0
	for _, m := range members {
		who := sqlname.Principal{User: m.User, Host: m.Host}
		admin := m.Admin && (who == o.Info.CurrentUser || (o.administers && who == o.i.admin()))
		administered = administered || admin
		if !m.Admin && m.User != "" {
			p.members++
		}
	}
	return administered, nil
}

func (o *operation) notAdministered(name string) error {
	return access.Errorf(access.Privilege, "the connector may not give role %s", name).WithRemedy("%s", o.i.administer(name).Text)
}

// administer is the statement with which the connector may give a role.
func (i *integration) administer(name string) sqlname.Statement {
	return dialect.Statement("GRANT ? TO ? WITH ADMIN OPTION", role(name), i.admin())
}

// handOn is the statement with which the connector may give privileges.
func (i *integration) handOn(t mysqldb.Target, privileges []string) sqlname.Statement {
	s := t.Give(new(mysqldb.Conn{Dialect: dialect}), privileges, i.admin())
	s.Text += " WITH GRANT OPTION"
	return s
}

// define gives an entitlement role what it lacks.
func (o *operation) define(p plan) []sqlname.Statement {
	var statements []sqlname.Statement
	if !p.Ours() {
		return nil
	}
	if !p.exists {
		statements = append(statements, o.create(p.role))
	}
	if len(p.lacks) > 0 {
		statements = append(statements, p.Give(o.Conn, p.lacks, role(p.role)))
	}
	return statements
}

// create makes a role that whoever has the connector's role administers. Without
// that nobody could give it but the account that made it, not even root.
func (o *operation) create(name string) sqlname.Statement {
	return o.Statement("CREATE ROLE IF NOT EXISTS ? WITH ADMIN ?", role(name), o.i.admin())
}

// harmless are privileges on the whole server that reach nothing.
var harmless = []string{"USAGE", "SHOW DATABASES"}

// refuses says why a role of the customer cannot be requested: it is Lapse's own,
// or whoever has it comes by powers over the whole server.
func (o *operation) refuses(ctx context.Context, name string) error {
	if o.i.own(name) || name == "PUBLIC" {
		return access.Errorf(access.Invalid, "role %s cannot be requested", name)
	}
	if slices.Contains(o.i.config.AllowRoles, name) {
		return nil
	}
	grants, err := o.ShowGrants(ctx, role(name))
	if err != nil {
		return err
	}
	if power := power(grants); power != "" {
		return access.Errorf(access.Invalid, "role %s gives powers over the whole server (%s)", name, power).
			WithRemedy("list it in allow_roles if it shall be requested all the same: allow_roles: [%q]", name)
	}
	return nil
}

// power is a right that reaches beyond the data of some databases; "" when there
// is none.
func power(grants mysqldb.Grants) string {
	for _, g := range grants {
		words := strings.Join(g.Privileges, ", ")
		switch {
		case g.Roles != nil && g.Option:
			return "a role that can be handed on"
		case g.Roles != nil:
		case g.Option:
			return "rights that can be handed on"
		case g.Database == "*" && slices.ContainsFunc(g.Privileges, func(p string) bool { return !slices.Contains(harmless, p) }):
			return words + " on the whole server"
		case g.Database != "*" && reachesSystem(g.Database) && words != "USAGE":
			return words + " on database mysql"
		}
	}
	return ""
}

func reachesSystem(pattern string) bool {
	match, _ := sqlname.Match(pattern, "mysql")
	return match
}

// carried reads which entitlement each of Lapse's roles carries. A role has no
// room for that, but its grants name the resource, and its own name, which is a
// hash of the entitlement, tells the permission.
func (o *operation) carried(ctx context.Context) (map[string]access.Entitlement, error) {
	type on struct{ Role, Database, Table string }
	const query = `SELECT User, Db, '' FROM mysql.db WHERE Host = '' AND LEFT(User, 8) = '` + entitlementPrefix + `'
		UNION SELECT User, Db, Table_name FROM mysql.tables_priv WHERE Host = '' AND LEFT(User, 8) = '` + entitlementPrefix + `'`
	rows, err := mysqldb.Ask[on](ctx, o.Conn, query)
	if err != nil {
		return nil, mysqldb.During("reading what Lapse's roles carry", err)
	}
	out := map[string]access.Entitlement{}
	for _, r := range rows {
		resource := access.NewResource(mysqldb.TypeDatabase, plain(r.Database))
		if r.Table != "" {
			resource = access.NewResource(mysqldb.TypeTable, r.Database, r.Table)
		}
		for _, permission := range mysqldb.Permissions {
			e := access.Entitlement{Integration: o.i.id, Resource: resource, Permission: permission}
			if principal.Role(o.i.instance, e) == r.Role {
				out[r.Role] = e
			}
		}
	}
	return out, nil
}

// plain is the name that a pattern of a grant stands for.
func plain(pattern string) string {
	var b strings.Builder
	escaped := false
	for _, r := range pattern {
		if escaped = r == '\\' && !escaped; !escaped {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// rolesPage bounds a page of roles.
const rolesPage = 200

// discoverRoles reads a page of the customer's roles.
func (o *operation) discoverRoles(ctx context.Context, after string) (found []access.Found, next string, err error) {
	rows, err := o.customerRoles(ctx, after)
	if err != nil {
		return nil, "", err
	}
	for _, r := range rows {
		if !r.Mine {
			continue
		}
		err := o.refuses(ctx, r.Name)
		if err != nil && access.KindOf(err) != access.Invalid && access.KindOf(err) != access.ResourceMissing {
			return nil, "", err
		}
		if _, cannot := dialect.Quote(role(r.Name)); err == nil && cannot == nil {
			found = append(found, access.Found{Resource: access.NewResource(mysqldb.TypeRole, r.Name), Permissions: []string{mysqldb.Member}})
		}
	}
	if len(rows) == rolesPage {
		next = rows[rolesPage-1].Name
	}
	return found, next, nil
}

type customerRole struct {
	Name string
	Mine bool // the connector administers it
}

// customerRoles reads a page of the roles that are not Lapse's.
func (o *operation) customerRoles(ctx context.Context, after string) ([]customerRole, error) {
	admin := ""
	if o.administers {
		admin = o.i.config.AdminRoleName
	}
	const query = `SELECT g.User, EXISTS (SELECT 1 FROM mysql.roles_mapping m WHERE m.Role = g.User AND m.Admin_option = 'Y'
			AND ((m.User = ? AND m.Host = '') OR (m.User = ? AND m.Host = ?)))
		FROM mysql.global_priv g
		WHERE g.Host = '' AND JSON_VALUE(g.Priv, '$.is_role') = '1' AND g.User NOT IN ('PUBLIC', ?)
			AND LEFT(g.User, 8) NOT IN ('` + accountPrefix + `', '` + tombstonePrefix + `', '` + umbrellaPrefix + `', '` + entitlementPrefix + `') AND g.User > ?
		ORDER BY g.User LIMIT ?`
	rows, err := mysqldb.Ask[customerRole](ctx, o.Conn, query, admin, o.Info.CurrentUser.User, o.Info.CurrentUser.Host, o.i.config.AdminRoleName, after, rolesPage)
	return rows, o.withRemedy(mysqldb.During("reading the roles", err), "GRANT SELECT ON `mysql`.* TO ?")
}
