package postgresql

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/principal"
)

// deleteAccount closes the account first; from then on nothing can be lost by
// beginning again.
func (s *session) deleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	a, err := s.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	switch {
	case a.role == nil && a.stranger != nil:
		return res, a.taken()
	case a.role == nil:
		return s.deletedBefore(ctx, a)
	}
	if err := s.execOn(ctx, a.name, s.numbered(a, req.Sequence), disable(a.name)); err != nil {
		return res, during("closing the login of "+a.name, err)
	}
	if _, err := s.endSessions(ctx, a.name, a.role.OID); err != nil {
		return res, err
	}
	needed, err := s.release(ctx, a.name, a.role.OID)
	if err != nil {
		return res, err
	}
	if len(needed) == 0 {
		// Its memberships go with the role, whoever gave them.
		res.Outcome = access.Gone
		return res, during("dropping "+a.name, s.execOn(ctx, a.name, ddl("DROP ROLE IF EXISTS ?", ident(a.name))))
	}
	res.Outcome = access.KeptDisabled
	if res.Owns, err = s.describe(ctx, a.role.OID, needed); err != nil {
		return res, err
	}
	held, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return res, err
	}
	for _, m := range held {
		err := s.withdraw(ctx, a.name, m)
		if access.KindOf(err) == access.Privilege {
			// Somebody else gave it, and only they take it back.
			res.Owns = append(res.Owns, "foreign_grants: "+err.Error())
		} else if err != nil {
			return res, err
		}
	}
	return res, s.bury(ctx, a)
}

// deletedBefore answers for an account that is not there: a tombstone that
// still owns something says so.
func (s *session) deletedBefore(ctx context.Context, a *account) (res integrations.DeleteResult, err error) {
	res.Outcome = access.WasGone
	for _, t := range a.tombstones {
		needed, err := s.dependencies(ctx, t.OID)
		if err != nil {
			return res, err
		}
		if len(needed) == 0 {
			continue
		}
		owns, err := s.describe(ctx, t.OID, needed)
		if err != nil {
			return res, err
		}
		res.Outcome, res.Owns = access.KeptDisabled, append(res.Owns, owns...)
	}
	return res, nil
}

// dependencies reads what depends on roles, in the whole cluster.
func (s *session) dependencies(ctx context.Context, roles ...int64) ([]dependency, error) {
	d, err := ask[dependency](ctx, s.conn, dependenciesSQL, roles)
	return d, during("reading what depends on the account", err)
}

// String tells people what depends on an account other than what it owns.
func (d dependency) String() string {
	where := "database " + d.Database
	if !d.Local {
		where = "the server"
	}
	return fmt.Sprintf("%d entries in %s of %s name the account", d.Count, d.Class, where)
}

// keeps is true when a role must not be dropped.
func keeps(needed []dependency) bool {
	return slices.ContainsFunc(needed, func(d dependency) bool { return d.Kind != "privilege" })
}

// localTo are the databases in which something depends on a role; what belongs
// to the whole server is cleared from any of them.
func localTo(needed []dependency, maintenance string) []string {
	var out []string
	for _, d := range needed {
		database := maintenance
		if d.Local {
			database = d.Database
		}
		if !slices.Contains(out, database) {
			out = append(out, database)
		}
	}
	return out
}

// release takes back what was given to a role, unless it owns things, and
// returns what still depends on it.
func (s *session) release(ctx context.Context, name string, role int64) ([]dependency, error) {
	needed, err := s.dependencies(ctx, role)
	if err != nil || keeps(needed) {
		return needed, err
	}
	for _, database := range localTo(needed, s.pg.Config().Database) {
		if err := s.clear(ctx, database, name); err != nil {
			return nil, err
		}
	}
	return s.dependencies(ctx, role)
}

// clear takes back what was given to a role that owns nothing, in one database.
// DROP OWNED then has nothing to drop. It needs the role's own privileges, which
// the connector gives itself for that moment:
// https://www.postgresql.org/docs/current/sql-drop-owned.html
func (s *session) clear(ctx context.Context, database, name string) error {
	c, err := s.database(ctx, database)
	if err != nil {
		return err
	}
	statements := []statement{ddl("DROP OWNED BY ?", ident(name))}
	if !s.server.Superuser {
		give := ddl("GRANT ? TO ?", ident(name), ident(s.server.User))
		take := ddl("REVOKE ? FROM ?", ident(name), ident(s.server.User))
		if s.server.grantorsMatter() {
			give = ddl("GRANT ? TO ? WITH INHERIT TRUE, SET FALSE", ident(name), ident(s.server.User))
			take = ddl("REVOKE ? FROM ? GRANTED BY ?", ident(name), ident(s.server.User), ident(s.server.User))
		}
		statements = []statement{give, statements[0], take}
	}
	err = c.exec(ctx, statements...)
	if access.KindOf(err) == access.Privilege {
		// What somebody else gave, only they take back; the caller looks again.
		return nil
	}
	return during("taking back the privileges of "+name+" in "+database, err)
}

// describe lists what keeps an account, in words.
func (s *session) describe(ctx context.Context, role int64, needed []dependency) ([]string, error) {
	var out []string
	shared := true
	for _, d := range needed {
		if d.Kind != "owned" {
			out = append(out, "foreign_grants: "+d.String())
		}
	}
	for _, database := range localTo(slices.DeleteFunc(slices.Clone(needed), func(d dependency) bool { return d.Kind != "owned" }), s.pg.Config().Database) {
		c, err := s.database(ctx, database)
		if err != nil {
			out = append(out, "things in "+database+", which cannot be read: "+err.Error())
			continue
		}
		rows, err := ask[only[string]](ctx, c, ownedSQL, role, shared)
		if err != nil {
			return nil, during("reading what the account owns", err)
		}
		shared = false
		for _, r := range rows {
			out = append(out, database+": "+r.Value)
		}
	}
	return out, nil
}

// bury closes an account for good and frees its name. What it owns stays with
// it, so that nobody else runs its code with more rights than it had.
func (s *session) bury(ctx context.Context, a *account) error {
	_, person, err := access.SplitAccountID(a.ID)
	if err != nil {
		return access.Errorf(access.Invalid, "%v", err)
	}
	name := ""
	for n := 1; ; n++ {
		name = principal.Tombstone(s.i.instance, s.i.id, person, time.Now(), n)
		rows, err := ask[only[bool]](ctx, s.conn, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name)
		if err != nil {
			return during("choosing a name for the closed account", err)
		}
		if !rows[0].Value {
			break
		}
	}
	m := a.mark
	m.Kind = kindTombstone
	err = s.execOn(ctx, a.name,
		ddl("ALTER ROLE ? NOLOGIN PASSWORD NULL VALID UNTIL 'epoch' CONNECTION LIMIT 0", ident(a.name)),
		ddl("ALTER ROLE ? RENAME TO ?", ident(a.name), ident(name)),
		m.comment(name))
	return during("closing "+a.name+" for good", err)
}
