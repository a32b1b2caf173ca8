package mysql

import (
	"context"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// Without roles the account itself has the privileges, and its mark what they
// were given for. A database or table is a scope: what the account has there is
// computed anew from all that remains, so that ending one of two entitlements
// keeps what the other still needs.

// marksDatabase has the table of the marks, with which nobody may meddle.
const marksDatabase = "lapse"

// giveDirectly writes down what is to be given and gives it.
func (s *session) giveDirectly(ctx context.Context, a *account, _ []membership, plans []plan) error {
	for _, p := range plans {
		if !slices.Contains(a.mark.Given, p.Entitlement) {
			a.mark.Given = append(a.mark.Given, p.Entitlement)
		}
	}
	todo := s.marking(a.Principal, a.mark, "")
	for _, p := range plans {
		todo = append(todo, p.Give(s.Conn, p.give, a.Principal))
	}
	return s.exec(ctx, todo...)
}

// change is what a scope is to lose and to have.
type change struct {
	scope      mysqldb.Target
	take, give []string
}

// changes compares what an account has with what the remaining entitlements
// need, in each scope that one of them, or of the ending ones, is about.
func changes(given mysqldb.Grants, remaining, ending []mysqldb.Target, cut func(mysqldb.Target) []string) (out []change) {
	for _, t := range slices.Concat(ending, remaining) {
		if slices.ContainsFunc(out, func(c change) bool { return c.scope.Resource == t.Resource }) {
			continue
		}
		c := change{scope: t}
		for _, r := range remaining {
			if r.Resource != t.Resource {
				continue
			}
			for _, p := range cut(r) {
				if !slices.Contains(c.give, p) {
					c.give = append(c.give, p)
				}
			}
		}
		for _, p := range t.Given(given) {
			if !slices.Contains(c.give, p) && !slices.Contains(c.take, p) && p != "USAGE" {
				c.take = append(c.take, p)
			}
		}
		out = append(out, c)
	}
	return out
}

// takeDirectly takes back what no remaining entitlement needs, gives again what
// one does, and then writes down what is left.
func (s *session) takeDirectly(ctx context.Context, a *account, before, leaving []membership, end []target) error {
	mine, err := s.mine(ctx)
	if err != nil {
		return err
	}
	given, err := s.ShowGrants(ctx, a.Principal)
	if err != nil {
		return err
	}
	var remaining, ending []mysqldb.Target
	var left []access.Entitlement
	for _, m := range before {
		e, _ := m.carried()
		t, err := s.i.parse(e)
		switch {
		case err != nil:
			return err
		case isMember(leaving, m.role()):
			ending = append(ending, t.Target)
		default:
			remaining, left = append(remaining, t.Target), append(left, e)
		}
	}
	for _, t := range end {
		// An earlier attempt may have written down already that it is gone.
		if t.Ours() && !slices.ContainsFunc(remaining, func(r mysqldb.Target) bool { return r.Entitlement == t.Entitlement }) {
			ending = append(ending, t.Target)
		}
	}
	var errs []error
	for _, c := range changes(given, remaining, ending, func(t mysqldb.Target) []string {
		give, _, _ := t.Cut(mine)
		return give
	}) {
		var todo []sqlname.Statement
		if len(c.take) > 0 {
			todo = append(todo, c.scope.Take(s.Conn, c.take, a.Principal))
		}
		if len(c.give) > 0 {
			todo = append(todo, c.scope.Give(s.Conn, c.give, a.Principal))
		}
		err := s.exec(ctx, todo...)
		if access.KindOf(err) == access.ResourceMissing {
			// Of a table that is gone the privileges stay; nobody can use them.
			err = nil
		}
		errs = append(errs, mysqldb.During("taking back what "+a.User+" has on "+c.scope.Resource.String(), err))
	}
	if err := access.Worst(errs...); err != nil {
		return err
	}
	if given, err = s.ShowGrants(ctx, a.Principal); err != nil {
		return err
	}
	for _, t := range ending {
		for _, c := range changes(given, remaining, []mysqldb.Target{t}, func(t mysqldb.Target) []string { return t.All() }) {
			if c.scope.Resource == t.Resource && len(c.take) > 0 {
				return access.Errorf(access.Conflict, "%s on %s is still there", strings.Join(c.take, ", "), t.Resource)
			}
		}
	}
	a.mark.Given = left
	a.row.mark.Given = left
	return s.exec(ctx, s.marking(a.Principal, a.mark, "")...)
}
