package mariadb

import (
	"context"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// deleteAccount closes the account first; from then on nothing can be lost by
// beginning again.
func (o *operation) deleteAccount(ctx context.Context, req integrations.DeleteRequest) (res integrations.DeleteResult, err error) {
	a, err := o.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	switch {
	case a.row == nil && a.stranger != nil:
		return res, a.taken()
	case a.row == nil:
		return o.deletedBefore(ctx, a)
	}
	if err := o.Exec(ctx, o.disable(a, req.Sequence)); err != nil {
		return res, o.withRemedy(mysqldb.During("closing the login of "+a.name, err), "GRANT CREATE USER ON *.* TO ?")
	}
	if _, err := o.endSessions(ctx, a, func(there *account) bool { return there.last >= req.Sequence && there.row.Locked }); err != nil && o.i.config.TerminateSessions != "never" {
		return res, err
	}
	// DROP USER does not ask whether something depends on the account.
	if err := o.need(ctx, "delete"); err != nil {
		return res, err
	}
	defined, err := o.definedBy(ctx, a.principal(o.i))
	if err != nil {
		return res, err
	}
	if len(defined) > 0 {
		res.Outcome = access.KeptDisabled
		res.Owns, err = o.bury(ctx, a)
		return res, err
	}
	res.Outcome = access.Gone
	drop := append([]sqlname.Statement{o.Statement("DROP USER IF EXISTS ?", a.principal(o.i))}, o.dropRoles(a.name, a.mark.account())...)
	return res, mysqldb.During("dropping "+a.name, o.Exec(ctx, drop...))
}

// dropRoles are the statements that drop the roles that are for one account only.
func (o *operation) dropRoles(account, mark string) []sqlname.Statement {
	return []sqlname.Statement{o.Statement("DROP ROLE IF EXISTS ?", role(umbrella(account))), o.Statement("DROP ROLE IF EXISTS ?", role(mark))}
}

// deletedBefore answers for an account that is not there: it drops what an earlier
// attempt left, and the tombstones that are the definer of nothing any more.
func (o *operation) deletedBefore(ctx context.Context, a *account) (res integrations.DeleteResult, err error) {
	res.Outcome = access.WasGone
	err = mysqldb.During("dropping the roles of "+a.name, o.Exec(ctx, o.dropRoles(a.name, a.mark.account())...))
	if err != nil || len(a.tombstones) == 0 {
		return res, err
	}
	if err := o.need(ctx, "delete"); err != nil {
		return res, err
	}
	var empty []accountRow
	for _, t := range a.tombstones {
		defined, err := o.definedBy(ctx, t.principal())
		if err != nil {
			return res, err
		}
		if len(defined) == 0 {
			empty = append(empty, t)
		}
		for _, d := range defined {
			res.Owns = append(res.Owns, d.String())
		}
	}
	for _, t := range empty {
		err := o.Exec(ctx, o.Statement("DROP USER IF EXISTS ?", t.principal()), o.Statement("DROP ROLE IF EXISTS ?", role(umbrella(t.User))))
		if err != nil {
			return res, mysqldb.During("dropping "+t.User, err)
		}
		res.Outcome = access.Gone
	}
	if len(res.Owns) > 0 {
		res.Outcome = access.KeptDisabled
		return res, nil
	}
	return res, mysqldb.During("dropping the mark of "+a.name, o.Exec(ctx, o.Statement("DROP ROLE IF EXISTS ?", role(a.mark.tombstone()))))
}

// bury closes an account for good. It keeps its name, because that is how what it
// defined knows it; the person's next account has another one. It has no role any
// more but the mark of a tombstone, and gets itself only what its triggers need:
// without that every change of their tables would fail, for everybody.
func (o *operation) bury(ctx context.Context, a *account) (owns []string, err error) {
	mine, err := o.mine(ctx)
	if err != nil {
		return nil, err
	}
	var keep []sqlname.Statement
	umbrellaDefines := false
	for _, definer := range []sqlname.Principal{a.principal(o.i), role(umbrella(a.name))} {
		its, err := o.Definers(ctx, definer)
		if err != nil {
			return nil, err
		}
		if len(its) == 0 {
			continue
		}
		umbrellaDefines = umbrellaDefines || definer.Host == ""
		had, err := o.ShowGrants(ctx, definer)
		if err != nil {
			return nil, err
		}
		give, facts, err := o.Keep(ctx, definer, its, had, mine)
		if err != nil {
			return nil, err
		}
		keep, owns = append(keep, give...), append(owns, facts...)
		for _, d := range its {
			owns = append(owns, d.String())
		}
	}
	statements := append(keep, o.Statement("SET DEFAULT ROLE NONE FOR ?", a.principal(o.i)))
	for _, name := range a.held {
		statements = append(statements, o.Statement("REVOKE ? FROM ?", role(name), role(umbrella(a.name))))
	}
	for _, name := range a.given {
		// What somebody gave by hand stays with the definer, and the mark till the end.
		if o.i.own(name) && name != a.mark.account() {
			statements = append(statements, o.Statement("REVOKE ? FROM ?", role(name), a.principal(o.i)))
		}
	}
	if !umbrellaDefines {
		statements = append(statements, o.Statement("DROP ROLE IF EXISTS ?", role(umbrella(a.name))))
	}
	statements = append(statements, o.create(a.mark.tombstone()), o.Statement("GRANT ? TO ?", role(a.mark.tombstone()), a.principal(o.i)),
		o.Statement("DROP ROLE IF EXISTS ?", role(a.mark.account())))
	return owns, mysqldb.During("closing "+a.name+" for good", o.Exec(ctx, statements...))
}
