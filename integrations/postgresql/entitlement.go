package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// The resource types and permissions.
const (
	typeDatabase = "database"
	typeSchema   = "schema"
	typeTable    = "table"
	typeRole     = "role"

	readOnly  = "read_only"
	readWrite = "read_write"
	admin     = "admin"
	member    = "member"
)

// privileges are the words of SQL that a permission stands for, by the kind of
// object: https://www.postgresql.org/docs/current/ddl-priv.html
type privileges struct {
	database, schema, table, sequence, routine []string
}

// levels are the permissions on databases, schemas and tables.
var levels = map[string]privileges{
	readOnly: {
		database: []string{"CONNECT"},
		schema:   []string{"USAGE"},
		table:    []string{"SELECT"},
		sequence: []string{"SELECT"},
	},
	readWrite: {
		database: []string{"CONNECT"},
		schema:   []string{"USAGE"},
		table:    []string{"SELECT", "INSERT", "UPDATE", "DELETE"},
		sequence: []string{"SELECT", "USAGE"},
		routine:  []string{"EXECUTE"},
	},
	admin: {
		database: []string{"CONNECT"},
		schema:   []string{"USAGE", "CREATE"},
		table:    []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"},
		sequence: []string{"SELECT", "USAGE", "UPDATE"},
		routine:  []string{"EXECUTE"},
	},
}

// target is an entitlement as PostgreSQL sees it.
type target struct {
	access.Entitlement
	database, schema, table string
	// role is the role whose membership is the access: one of Lapse's own, or
	// the customer's for the resource type role.
	role string
}

// parse reads an entitlement of this integration.
func (i *integration) parse(e access.Entitlement) (target, error) {
	t := target{Entitlement: e}
	if e.Integration != i.id {
		return t, access.Errorf(access.Invalid, "entitlement %s is of another integration", e)
	}
	names, err := e.Resource.Names()
	if err != nil {
		return t, access.Errorf(access.Invalid, "%v", err)
	}
	typ, ok := Kind().Type(e.Resource.Type)
	if !ok || len(names) != len(typ.Path) {
		return t, access.Errorf(access.Invalid, "resource %s: want database:DATABASE, schema:DATABASE/SCHEMA, table:DATABASE/SCHEMA/TABLE or role:NAME", e.Resource)
	}
	if !slices.ContainsFunc(typ.Permissions, func(p permission) bool { return p.Name == e.Permission }) {
		return t, access.Errorf(access.Invalid, "permission %q: a %s has %s", e.Permission, typ.Name, permissionNames(typ))
	}
	for _, n := range names {
		if _, err := sqlname.PostgreSQL.Quote(ident(n)); err != nil {
			return t, access.Errorf(access.Invalid, "resource %s: %v", e.Resource, err)
		}
	}
	if typ.Name == typeRole {
		t.role = names[0]
		return t, nil
	}
	t.role = principal.Role(i.instance, e)
	t.database = names[0]
	if len(names) > 1 {
		t.schema = names[1]
	}
	if len(names) > 2 {
		t.table = names[2]
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

// ours is true for an entitlement that a role of Lapse's own carries.
func (t target) ours() bool { return t.Resource.Type != typeRole }

// wants are the privileges that the entitlement stands for on a version.
func (t target) wants(version int) privileges {
	p := levels[t.Permission]
	if t.Permission == admin {
		switch {
		case version == unread:
			p.table = slices.Clone(p.table)
			p.table[len(p.table)-1] += integrations.Found(", MAINTAIN from PostgreSQL 17 on")
		case version >= 170000:
			p.table = append(slices.Clone(p.table), "MAINTAIN")
		}
		if t.Resource.Type == typeDatabase {
			p.database = []string{"CONNECT", "CREATE", "TEMPORARY"}
		}
	}
	if t.Resource.Type == typeTable {
		p.schema, p.routine = []string{"USAGE"}, nil
	}
	return p
}

// objects reads what the entitlement covers, as it stands for a role.
func (t target) objects(ctx context.Context, c *conn, version int, role int64) ([]object, error) {
	p := t.wants(version)
	return ask[object](ctx, c, objectsSQL, role, null(t.schema), null(t.table),
		nonNil(p.database), nonNil(p.schema), nonNil(p.table), nonNil(p.sequence), nonNil(p.routine))
}

// null is a parameter that is NULL when it is empty.
func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// nonNil is a parameter that is never NULL.
func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// present tells whether the resource itself is among the objects.
func (t target) present(objects []object) bool {
	switch t.Resource.Type {
	case typeSchema:
		return slices.ContainsFunc(objects, func(o object) bool { return o.Kind == "schema" })
	case typeTable:
		return slices.ContainsFunc(objects, func(o object) bool { return o.Kind == "table" })
	}
	return true
}

// lacking are the objects on which a privilege is missing that the connector
// can be asked to give. What belongs to an extension is left to its owner.
func lacking(objects []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool {
		return len(o.Held) == int(o.Wanted) || (o.Extension && !o.Grantable)
	})
}

// defaultsAge is how old the default privileges of an entitlement role may be
// before they are set again, for owners that are new.
const defaultsAge = time.Hour

// batch bounds the objects in one GRANT.
const batch = 200

// plan is what a grant of one entitlement has to do, as it was read before
// anything is written.
type plan struct {
	target
	exists   bool // the role does
	oid      int64
	members  int32
	applied  time.Time
	grantors []string    // in whose name the membership will be
	define   []statement // what the role lacks, in its database
	notes    []string
}

// fresh is true when the default privileges were set a short time ago.
func (p plan) fresh() bool { return time.Since(p.applied) < defaultsAge }

// plan reads whether an entitlement can be granted and what that takes. It
// fails, and nothing was written, when the resource is missing or a right is.
func (s *session) plan(ctx context.Context, t target) (plan, error) {
	p := plan{target: t}
	rows, err := ask[roleRow](ctx, s.conn, roleSQL, t.role, dangerous, "", 1)
	if err != nil {
		return p, during("reading role "+t.role, err)
	}
	p.exists = len(rows) == 1
	if p.exists && !rows[0].Mine {
		return p, access.Errorf(access.Privilege, "the connector may not give membership in role %s", t.role).
			WithRemedy("%s", s.server.adminRemedy(t.role))
	}
	if !t.ours() {
		if !p.exists {
			return p, access.Errorf(access.ResourceMissing, "role %s is not there", t.role)
		}
		p.grantors = rows[0].Grantors
		return p, s.i.refuses(rows[0])
	}
	// Without a role its oid stays 0, which is PUBLIC: so is what holds nothing.
	if p.exists {
		m, _ := readMark(rows[0].Comment)
		if m.Kind != kindEntitlement || !s.i.owns(m) {
			return p, access.Errorf(access.NameTaken, "role %s does not carry the mark of this integration", t.role).
				WithRemedy("rename or drop the role that is in the way")
		}
		p.oid, p.members, p.applied = rows[0].OID, rows[0].Members, m.Applied
	}
	c, err := s.database(ctx, t.database)
	if err != nil {
		return p, err
	}
	objects, err := t.objects(ctx, c, s.server.Version, p.oid)
	if err != nil {
		return p, during("reading "+t.Resource.String(), err)
	}
	if !t.present(objects) {
		return p, access.Errorf(access.ResourceMissing, "%s is not there", t.Resource)
	}
	err = s.planDefinition(ctx, c, &p, lacking(objects))
	return p, err
}

// planDefinition adds the statements that give the entitlement role what it
// lacks, and what owners will make later.
func (s *session) planDefinition(ctx context.Context, c *conn, p *plan, missing []object) error {
	for _, o := range missing {
		if !o.Grantable {
			return access.Errorf(access.Privilege, "the connector may not give %s on %s %s, which %s owns", p.Permission, o.Kind, o.display(), o.Owner).
				WithRemedy("%s", s.actFor(ctx, o.Owner))
		}
	}
	if len(missing) == 0 && p.fresh() {
		return nil
	}
	if p.Resource.Type == typeTable {
		p.define = s.definition(p.target, missing, nil)
		return nil
	}
	owners, err := ask[owner](ctx, c, ownersSQL, null(p.schema), nonNil(s.i.config.OwnerRoles))
	if err != nil {
		return during("reading the owners of "+p.Resource.String(), err)
	}
	var makers []string
	for _, o := range owners {
		if o.Mine {
			makers = append(makers, o.Name)
			continue
		}
		p.notes = append(p.notes, fmt.Sprintf("what %s makes later in %s is not covered: %s", o.Name, p.Resource, s.actFor(ctx, o.Name)))
	}
	p.define = s.definition(p.target, missing, makers)
	return nil
}

// definition gives the role of an entitlement what is missing, and what some will
// make later.
func (s *session) definition(t target, missing []object, makers []string) []statement {
	words := t.wants(s.server.Version)
	all := grants(missing, words, t.role)
	for _, name := range makers {
		all = append(all, defaults(name, t, words)...)
	}
	return all
}

// actFor is what lets the connector give what somebody owns. Membership in a
// superuser is not: it would make the connector one.
func (s *session) actFor(ctx context.Context, owner string) string {
	rows, err := ask[only[bool]](ctx, s.conn, "SELECT rolsuper FROM pg_roles WHERE rolname = $1", owner)
	if err == nil && len(rows) == 1 && rows[0].Value {
		return "ALTER ... OWNER TO a role that is no superuser, or GRANT each privilege TO " + shown(s.server.User) + " WITH GRANT OPTION"
	}
	return "GRANT " + shown(owner) + " TO " + shown(s.server.User)
}

// define carries out a plan's definition, in the database of the entitlement.
func (s *session) define(ctx context.Context, p plan) error {
	if len(p.define) == 0 {
		return nil
	}
	c, err := s.database(ctx, p.database)
	if err != nil {
		return err
	}
	// Not all at once: the server keeps a lock for each object of a
	// transaction, and has room for some thousands.
	for some := range slices.Chunk(p.define, 5) {
		err := c.exec(ctx, some...)
		if access.KindOf(err) == access.ResourceMissing {
			// It was there when it was read: somebody drops at the same time.
			err = access.Errorf(access.Conflict, "%v", err)
		}
		if err != nil {
			return during("giving "+p.Permission+" on "+p.Resource.String(), err)
		}
	}
	return nil
}

func (o object) display() string {
	if o.Schema == "" || o.Kind == "routine" {
		return o.Name
	}
	return o.Schema + "." + o.Name
}

// grants are the statements that give a role what is missing, in batches.
func grants(missing []object, p privileges, role string) []statement {
	names := map[string]list{}
	for _, o := range missing {
		var name fragment = qualified{o.Schema, o.Name}
		switch {
		case o.Kind == "database", o.Kind == "schema":
			name = ident(o.Name)
		case o.Kind == "routine", o.Schema == "":
			name = signature(o.Name)
		}
		names[o.Kind] = append(names[o.Kind], name)
	}
	var out []statement
	for _, kind := range []struct {
		name, text string
		privileges []string
	}{
		{"database", "GRANT ? ON DATABASE ? TO ?", p.database},
		{"schema", "GRANT ? ON SCHEMA ? TO ?", p.schema},
		{"table", "GRANT ? ON TABLE ? TO ?", p.table},
		{"sequence", "GRANT ? ON SEQUENCE ? TO ?", p.sequence},
		{"routine", "GRANT ? ON ROUTINE ? TO ?", p.routine},
	} {
		for some := range slices.Chunk(names[kind.name], batch) {
			out = append(out, ddl(kind.text, keywords(kind.privileges), some, ident(role)))
		}
	}
	return out
}

// defaults are the statements that give a role the same on what an owner makes
// later. Without FOR ROLE they would speak of what the connector makes:
// https://www.postgresql.org/docs/current/sql-alterdefaultprivileges.html
func defaults(owner string, t target, p privileges) []statement {
	in := func(kind string, words []string) statement {
		if t.schema != "" {
			return ddl("ALTER DEFAULT PRIVILEGES FOR ROLE ? IN SCHEMA ? GRANT ? ON "+kind+" TO ?",
				ident(owner), ident(t.schema), keywords(words), ident(t.role))
		}
		return ddl("ALTER DEFAULT PRIVILEGES FOR ROLE ? GRANT ? ON "+kind+" TO ?", ident(owner), keywords(words), ident(t.role))
	}
	out := []statement{in("TABLES", p.table), in("SEQUENCES", p.sequence)}
	if len(p.routine) > 0 {
		out = append(out, in("ROUTINES", p.routine))
	}
	if t.schema == "" {
		out = append(out, in("SCHEMAS", p.schema))
	}
	return out
}

// reach says in words what a role has of an entitlement: all of it, or which
// part of the tables. The facts are for people.
func (s *session) reach(ctx context.Context, t target, role int64) (all bool, fact string, err error) {
	c, err := s.database(ctx, t.database)
	if err != nil {
		return false, "", err
	}
	objects, err := t.objects(ctx, c, s.server.Version, role)
	if err != nil {
		return false, "", during("reading "+t.Resource.String(), err)
	}
	if !t.present(objects) {
		return false, "", access.Errorf(access.ResourceMissing, "%s is not there", t.Resource)
	}
	tables, covered := 0, 0
	for _, o := range objects {
		if o.Kind != "table" || (o.Extension && !o.Grantable) {
			continue
		}
		tables++
		if len(o.Held) == int(o.Wanted) {
			covered++
		}
	}
	fact = fmt.Sprintf("%s on %d of %d tables of %s", strings.Join(t.wants(s.server.Version).table, ", "), covered, tables, t.Resource)
	return len(lacking(objects)) == 0, fact, nil
}
