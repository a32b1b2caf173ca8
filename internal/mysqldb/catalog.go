package mysqldb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// The resource types and permissions.
const (
	TypeDatabase = "database"
	TypeTable    = "table"
	TypeRole     = "role"

	ReadOnly  = "read_only"
	ReadWrite = "read_write"
	Admin     = "admin"
	Member    = "member"
)

// SystemDatabases belong to the server; nothing in them is offered.
var SystemDatabases = []string{"information_schema", "mysql", "performance_schema", "sys"}

// privileges are the words of SQL that a permission stands for: those without
// which it is not offered, and those that come with it where the connector can
// give them. https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html
type privileges struct{ core, more []string }

var levels = map[string]map[string]privileges{
	TypeDatabase: {
		ReadOnly:  {[]string{"SELECT"}, []string{"SHOW VIEW"}},
		ReadWrite: {[]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, []string{"SHOW VIEW", "CREATE TEMPORARY TABLES", "LOCK TABLES", "EXECUTE"}},
		Admin: {[]string{"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX"},
			[]string{"SHOW VIEW", "CREATE TEMPORARY TABLES", "LOCK TABLES", "EXECUTE", "REFERENCES", "CREATE VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "TRIGGER", "EVENT"}},
	},
	TypeTable: {
		ReadOnly:  {[]string{"SELECT"}, []string{"SHOW VIEW"}},
		ReadWrite: {[]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, []string{"SHOW VIEW"}},
		Admin: {[]string{"SELECT", "INSERT", "UPDATE", "DELETE", "ALTER", "DROP", "INDEX"},
			[]string{"SHOW VIEW", "TRIGGER", "REFERENCES", "CREATE VIEW"}},
	},
}

// Permissions are those on databases and tables, weakest first.
var Permissions = []string{ReadOnly, ReadWrite, Admin}

// of is what a permission stands for on a dialect. On MariaDB a trigger or an
// event has nothing of the rights that its definer has by roles: with a trigger
// made so, every change of its table fails. So nobody is made able to make one.
func (p privileges) of(d *sqlname.Dialect) privileges {
	if d == sqlname.MariaDB {
		p.more = slices.DeleteFunc(slices.Clone(p.more), func(word string) bool { return word == "TRIGGER" || word == "EVENT" })
	}
	return p
}

// ResourceTypes declares databases, tables and roles.
func ResourceTypes(d *sqlname.Dialect) []integrations.ResourceType {
	permissions := func(typ string) (out []integrations.Permission) {
		var before []string
		for i, name := range Permissions {
			p := levels[typ][name].of(d)
			all := slices.Concat(p.core, p.more)
			doc := strings.Join(slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(before, p) }), ", ")
			if i > 0 {
				doc = Permissions[i-1] + ", and " + doc
			}
			out, before = append(out, integrations.Permission{Name: name, Doc: doc}), all
		}
		return out
	}
	return []integrations.ResourceType{
		{Name: TypeDatabase, Path: []string{"DATABASE"}, Doc: "a database and what is in it, now and later", Permissions: permissions(TypeDatabase), Ordered: true},
		{Name: TypeTable, Path: []string{"DATABASE", "TABLE"}, Doc: "one table or view", Permissions: permissions(TypeTable), Ordered: true},
		{Name: TypeRole, Path: []string{"NAME"}, Doc: "a role that the database's administrators made", Permissions: []integrations.Permission{
			{Name: Member, Doc: "membership in the role"},
		}},
	}
}

// Target is an entitlement as the server sees it.
type Target struct {
	access.Entitlement
	// Database and Table are "" for a role, Table for a database as well.
	Database, Table string
	// Role is the NAME of a role.
	Role    string
	dialect *sqlname.Dialect
}

// Parse reads an entitlement of an integration.
func Parse(d *sqlname.Dialect, integration string, e access.Entitlement) (Target, error) {
	t := Target{Entitlement: e, dialect: d}
	if e.Integration != integration {
		return t, access.Errorf(access.Invalid, "entitlement %s is of another integration", e)
	}
	names, err := e.Resource.Names()
	if err != nil {
		return t, access.Errorf(access.Invalid, "%v", err)
	}
	types := ResourceTypes(d)
	i := slices.IndexFunc(types, func(t integrations.ResourceType) bool { return t.Name == e.Resource.Type })
	if i < 0 || len(names) != len(types[i].Path) {
		return t, access.Errorf(access.Invalid, "resource %s: want database:DATABASE, table:DATABASE/TABLE or role:NAME", e.Resource)
	}
	permission := func(p integrations.Permission) bool { return p.Name == e.Permission }
	if !slices.ContainsFunc(types[i].Permissions, permission) {
		var have []string
		for _, p := range types[i].Permissions {
			have = append(have, p.Name)
		}
		return t, access.Errorf(access.Invalid, "permission %q: a %s has %s", e.Permission, types[i].Name, strings.Join(have, ", "))
	}
	if e.Resource.Type == TypeRole {
		t.Role = names[0]
		return t, nil
	}
	t.Database = names[0]
	if len(names) > 1 {
		t.Table = names[1]
	}
	if slices.Contains(SystemDatabases, strings.ToLower(t.Database)) {
		return t, access.Errorf(access.Invalid, "resource %s: database %s belongs to the server", e.Resource, t.Database)
	}
	for _, n := range names {
		if _, err := d.Quote(sqlname.Ident(n)); err != nil {
			return t, access.Errorf(access.Invalid, "resource %s: %v", e.Resource, err)
		}
	}
	return t, nil
}

// Ours is true for an entitlement that a role of Lapse's own carries.
func (t Target) Ours() bool { return t.Resource.Type != TypeRole }

// on is the database as a pattern, or the table as a name. With partial_revokes
// a database is no pattern, and a backslash in front of "_" one too many:
// https://dev.mysql.com/doc/refman/8.4/en/partial-revokes.html
func (t Target) on(c *Conn) sqlname.Fragment {
	switch {
	case t.Table != "":
		return sqlname.Qualified{t.Database, t.Table}
	case c.Info.PartialRevokes:
		return sqlname.Ident(t.Database)
	}
	return sqlname.Pattern(t.Database)
}

// Give gives privileges on the database or table.
func (t Target) Give(c *Conn, privileges []string, to sqlname.Principal) sqlname.Statement {
	text := "GRANT ? ON ?.* TO ?"
	if t.Table != "" {
		text = "GRANT ? ON ? TO ?"
	}
	return c.Statement(text, sqlname.Keywords(privileges), t.on(c), to)
}

// Take takes privileges back, with the spelling with which they were given.
func (t Target) Take(c *Conn, privileges []string, from sqlname.Principal) sqlname.Statement {
	text := "REVOKE ? ON ?.* FROM ?"
	if t.Table != "" {
		text = "REVOKE ? ON ? FROM ?"
	}
	return c.Statement(text, sqlname.Keywords(privileges), t.on(c), from)
}

// Core are the privileges without which the entitlement is not had, and All
// those with which it is whole.
func (t Target) Core() []string { return levels[t.Resource.Type][t.Permission].core }

// All is Core, and what comes with it where the connector can give it.
func (t Target) All() []string {
	p := levels[t.Resource.Type][t.Permission].of(t.dialect)
	return slices.Concat(p.core, p.more)
}

// Cut is what a connector with these grants can give of the entitlement, and
// what it cannot; ok is false when a part of its core is missing.
func (t Target) Cut(g Grants) (give, lost []string, ok bool) {
	for _, p := range t.All() {
		if g.Grantable(p, t.Database, t.Table) {
			give = append(give, p)
		} else {
			lost = append(lost, p)
		}
	}
	return give, lost, !slices.ContainsFunc(t.Core(), func(p string) bool { return slices.Contains(lost, p) })
}

// Lacking are those of some privileges that were not given on exactly this
// database or table.
func (t Target) Lacking(given Grants, want []string) (missing []string) {
	for _, p := range want {
		if !slices.ContainsFunc(given, func(g Grant) bool { return t.is(g) && g.has(p) }) {
			missing = append(missing, p)
		}
	}
	return missing
}

// Given are the privileges that were given on exactly this database or table.
func (t Target) Given(given Grants) (have []string) {
	for _, g := range given {
		if t.is(g) {
			have = append(have, g.Privileges...)
		}
	}
	return have
}

// is tells whether a grant is on exactly this database or table: a database
// stands in it with its wildcards escaped, unless it is no pattern.
func (t Target) is(g Grant) bool {
	if g.Taken || g.Routine || g.Roles != nil {
		return false
	}
	if t.Table != "" {
		return g.Database == t.Database && g.Table == t.Table
	}
	if g.Table != "*" || g.Database == "*" {
		return false
	}
	match, exact := g.matches(t.Database)
	return match && (g.Exact || exact > utf8.RuneCountInString(g.Database))
}

// Exists tells whether the database or table is there, in exactly this
// spelling: where the server folds names, another one is the same database and
// would be an entitlement of its own.
func (t Target) Exists(ctx context.Context, c *Conn) error {
	query, args := "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", []any{t.Database}
	name := t.Database
	if t.Table != "" {
		query, args = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", []any{t.Database, t.Table}
		name = t.Table
	}
	rows, err := Ask[only[string]](ctx, c, query, args...)
	if err != nil {
		return During("reading "+t.Resource.String(), err)
	}
	if !slices.Contains(rows, only[string]{name}) {
		return access.Errorf(access.ResourceMissing, "%s is not there", t.Resource)
	}
	return nil
}

// pageSize bounds what one page reads of tables and roles.
const pageSize = 500

// Databases lists the databases that the connector can see, but the server's
// own.
func (c *Conn) Databases(ctx context.Context) ([]string, error) {
	rows, err := Ask[only[string]](ctx, c, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
	if err != nil {
		return nil, During("reading the databases", err)
	}
	var out []string
	for _, r := range rows {
		if !slices.Contains(SystemDatabases, strings.ToLower(r.Value)) {
			out = append(out, r.Value)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Table is a table or view, and its comment.
type Table struct{ Name, Comment string }

// Tables lists a page of the tables and views of a database after a name. A
// page that is not full is the last one.
func (c *Conn) Tables(ctx context.Context, database, after string) (page []Table, full bool, err error) {
	const query = `SELECT TABLE_NAME, IF(TABLE_TYPE = 'VIEW', '', TABLE_COMMENT) FROM information_schema.TABLES
		WHERE TABLE_SCHEMA = ? AND CAST(TABLE_NAME AS BINARY) > CAST(? AS BINARY) ORDER BY CAST(TABLE_NAME AS BINARY) LIMIT ?`
	page, err = Ask[Table](ctx, c, query, database, after, pageSize)
	return page, len(page) == pageSize, During(fmt.Sprintf("reading the tables of %s", database), err)
}

// Offers are the permissions on a database or table that the connector can
// give.
func (c *Conn) Offers(g Grants, r access.Resource) (permissions []string) {
	for _, p := range Permissions {
		t, err := Parse(c.Dialect, "", access.Entitlement{Resource: r, Permission: p})
		if err != nil || t.Give(c, nil, sqlname.Principal{User: "x"}).Err != nil {
			return nil
		}
		if _, _, ok := t.Cut(g); ok {
			permissions = append(permissions, p)
		}
	}
	return permissions
}
