package mariadb

import (
	"context"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// grant reads first, and writes nothing when the resource or a right is missing;
// then it makes the roles and the account, and only then lets the account in. No
// statement of MariaDB about accounts can be rolled back: the account stays locked
// until all is there, and each step can be taken again.
func (o *operation) grant(ctx context.Context, req integrations.GrantRequest, targets []target) (res integrations.GrantResult, err error) {
	a, err := o.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	if a.stranger != nil {
		return res, a.taken()
	}
	if err := o.need(ctx, "grant"); err != nil {
		return res, err
	}
	plans := make([]plan, len(targets))
	for n, t := range targets {
		if plans[n], err = o.plan(ctx, t); err != nil {
			return res, err
		}
		if plans[n].note != "" {
			res.Notes = append(res.Notes, plans[n].note)
		}
	}
	if err := o.open(ctx, req, a, slices.Concat(plans, o.lost(ctx, a, req))); err != nil {
		return res, err
	}

	res.AccountName = a.name
	res.Wrote = mysqldb.Wrote(req.Wrote)
	if res.Entries, err = o.verify(ctx, req.Account, targets); err != nil {
		return res, err
	}
	for n, p := range plans {
		e := &res.Entries[n]
		if e.Outcome != access.Granted {
			return res, access.Errorf(access.Conflict, "%s was changed by somebody else while it was granted: %s", p.Entitlement, strings.Join(e.Facts, "; "))
		}
		if !p.Ours() && a.directly(p.role) && req.Wrote[p.role] == "" {
			e.Outcome = access.AlreadyHeld
			continue
		}
		res.Wrote[p.role] = mysqldb.Member
	}
	return res, nil
}

// open is all that a grant writes.
func (o *operation) open(ctx context.Context, req integrations.GrantRequest, a *account, plans []plan) error {
	if err := o.Exec(ctx, o.prepare(a, req.Sequence)...); err != nil {
		return mysqldb.During("making account "+a.name, err)
	}
	var give []sqlname.Statement
	for _, p := range plans {
		if !p.Ours() && a.directly(p.role) && req.Wrote[p.role] == "" {
			continue
		}
		if give = append(give, o.define(p)...); !slices.Contains(a.held, p.role) {
			give = append(give, o.Statement("GRANT ? TO ?", role(p.role), role(umbrella(a.name))))
		}
	}
	give = append(give, o.enable(a, req.Sequence)...)
	err := o.Exec(ctx, give...)
	if access.KindOf(err) == access.ResourceMissing {
		// It was there when it was read: somebody drops at the same time.
		err = access.Errorf(access.Conflict, "%v", err)
	}
	return mysqldb.During("giving the roles of "+a.name, err)
}

// prepare are the statements that make the account, locked and marked, with its
// umbrella; of one that is there only the operation's number is written.
func (o *operation) prepare(a *account, sequence int64) (statements []sqlname.Statement) {
	if a.row == nil {
		// An umbrella whose account was dropped would bring along what was in it.
		statements = append(statements, o.Statement("DROP ROLE IF EXISTS ?", role(umbrella(a.name))))
		identified, secret := o.identified(o.NewPassword(a.name))
		statements = append(statements, o.Statement(
			"CREATE USER ? "+identified+" REQUIRE SUBJECT ? "+limits(sequence)+" ACCOUNT LOCK PASSWORD EXPIRE NEVER",
			a.principal(o.i), secret, sqlname.Literal(a.mark.account())))
	} else {
		statements = append(statements, o.alter(a, sequence, "", ""))
	}
	if !a.directly(a.mark.account()) {
		statements = append(statements, o.create(a.mark.account()), o.Statement("GRANT ? TO ?", role(a.mark.account()), a.principal(o.i)))
	}
	if name := umbrella(a.name); !a.directly(name) {
		statements = append(statements, o.create(name), o.Statement("GRANT ? TO ?", role(name), a.principal(o.i)))
	}
	return statements
}

// enable are the statements that let the account in, with its umbrella open.
func (o *operation) enable(a *account, sequence int64) (statements []sqlname.Statement) {
	if a.row == nil || a.row.DefaultRole != umbrella(a.name) {
		statements = append(statements, o.Statement("SET DEFAULT ROLE ? FOR ?", role(umbrella(a.name)), a.principal(o.i)))
	}
	login := ""
	if a.row == nil || a.row.Subject == a.mark.account() {
		login = "REQUIRE NONE"
	}
	return append(statements, o.alter(a, sequence, login, "ACCOUNT UNLOCK"))
}

// lost plans again what other holds have written and somebody took away since, the
// whole umbrella perhaps. What cannot be granted any more is left out.
func (o *operation) lost(ctx context.Context, a *account, req integrations.GrantRequest) (plans []plan) {
	for _, claim := range req.Remain {
		t, err := o.i.parse(claim.Entitlement)
		if err != nil || claim.Baseline || slices.Contains(a.held, t.role) || req.Wrote[t.role] == "" {
			continue
		}
		if p, err := o.plan(ctx, t); err == nil {
			plans = append(plans, p)
		}
	}
	return plans
}

func (o *operation) verify(ctx context.Context, who access.Account, targets []target) ([]access.Entry, error) {
	a, err := o.find(ctx, who)
	if err != nil {
		return nil, err
	}
	entries := make([]access.Entry, len(targets))
	for n, t := range targets {
		if entries[n], err = o.verifyOne(ctx, a, t); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// verifyOne is Lowered when only a part of the privileges is there, and Blocked
// when the account has them and cannot use them.
func (o *operation) verifyOne(ctx context.Context, a *account, t target) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone}
	if a.row == nil {
		entry.Facts = []string{"there is no account " + a.name}
		return entry, nil
	}
	inUmbrella := slices.Contains(a.held, t.role)
	if !inUmbrella && (t.Ours() || !a.directly(t.role)) {
		facts, err := o.otherWays(ctx, a, t)
		entry.Facts = append([]string{"role " + t.role + " is not given"}, facts...)
		return entry, err
	}
	entry.Outcome = access.Granted
	entry.Facts = []string{"has role " + t.role}
	if !inUmbrella {
		entry.Facts = []string{"has role " + t.role + " by hand, after SET ROLE " + shown(role(t.role))}
	}
	blocked := func(why string) {
		entry.Outcome, entry.Facts = access.Blocked, append(entry.Facts, why)
	}
	switch {
	case a.row.Locked:
		blocked("the account is locked")
	case inUmbrella && (a.row.DefaultRole != umbrella(a.name) || !a.directly(umbrella(a.name))):
		blocked("role " + umbrella(a.name) + " is not the account's default")
	}
	if !t.Ours() {
		return entry, nil
	}
	given, err := o.ShowGrants(ctx, role(t.role))
	if err != nil && access.KindOf(err) != access.ResourceMissing {
		return entry, err
	}
	lacking := t.Lacking(given, t.Core())
	entry.Facts = append(entry.Facts, strings.Join(t.Given(given), ", ")+" on "+t.Resource.String())
	if err := t.Exists(ctx, o.Conn); access.KindOf(err) == access.ResourceMissing {
		blocked(err.Error())
	} else if err != nil {
		return entry, err
	}
	if len(lacking) > 0 && entry.Outcome == access.Granted {
		entry.Outcome, entry.Facts = access.Lowered, append(entry.Facts, "without "+strings.Join(lacking, ", "))
	}
	return entry, nil
}

// otherWays tells how an account still comes by the privileges of an entitlement:
// another role, PUBLIC, or what somebody gave it by hand. It is a fact and no
// failure.
func (o *operation) otherWays(ctx context.Context, a *account, t target) ([]string, error) {
	if !t.Ours() {
		return nil, nil
	}
	grants, err := o.ShowGrants(ctx, a.principal(o.i))
	if err != nil {
		return nil, err
	}
	ways := slices.DeleteFunc(slices.Clone(a.given), o.i.own)
	if ways = append(ways, umbrella(a.name)); o.Info.Version >= 101100 {
		ways = append(ways, "PUBLIC")
	}
	for _, name := range ways {
		more, err := o.ShowGrants(ctx, role(name))
		if err != nil && access.KindOf(err) != access.ResourceMissing {
			return nil, err
		}
		grants = append(grants, more...)
	}
	var still []string
	for _, p := range t.Core() {
		if grants.Holds(p, t.Database, t.Table) {
			still = append(still, p)
		}
	}
	if len(still) == 0 {
		return nil, nil
	}
	return []string{"still has " + strings.Join(still, ", ") + " on " + t.Resource.String() + " by another role, PUBLIC, or by hand"}, nil
}
