package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// maxConnections bounds the sessions of one person at a time.
const maxConnections = 20

// grant reads first, and writes nothing when the resource or a right is missing;
// then it makes the roles, gives them what they stand for, and only then lets
// the account in.
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
	if a.mark.Kept {
		return res, access.Errorf(access.Retry, "the last access of %s has not ended: it keeps what its triggers need, and is not closed yet", a.User)
	}
	held, err := s.heldBy(ctx, a)
	if err != nil {
		return res, err
	}
	plans := make([]plan, len(targets))
	for n, t := range targets {
		if plans[n], err = s.plan(ctx, t); err != nil {
			return res, err
		}
		res.Notes = append(res.Notes, plans[n].notes...)
	}
	if err := s.mayMake(ctx); err != nil {
		return res, err
	}

	if err := s.open(ctx, req, a, held, plans); err != nil {
		return res, err
	}

	res.AccountName = a.User
	res.Wrote = mysqldb.Wrote(req.Wrote)
	who := req.Account
	who.Name = a.User
	if res.Entries, err = s.verify(ctx, who, targets); err != nil {
		return res, err
	}
	for n, p := range plans {
		e := &res.Entries[n]
		if e.Outcome != access.Granted {
			return res, access.Errorf(access.Conflict, "%s was changed by somebody else while it was granted: %s", p.Entitlement, strings.Join(e.Facts, "; "))
		}
		if !p.Ours() && isMember(held, p.role) && req.Wrote[p.slot()] == "" {
			e.Outcome = access.AlreadyHeld
			continue
		}
		res.Wrote[p.slot()] = mysqldb.Member
	}
	return res, nil
}

// open is all that a grant writes.
func (s *session) open(ctx context.Context, req integrations.GrantRequest, a *account, held []membership, plans []plan) error {
	var err error
	if a.row == nil {
		err = s.create(ctx, a, req.Sequence)
	} else {
		err = s.exec(ctx, s.numbered(a, req.Sequence, "")...)
	}
	if err != nil {
		return mysqldb.During("making account "+a.User, err)
	}
	for _, p := range plans {
		if !s.legacy && p.Ours() {
			if err := s.define(ctx, p); err != nil {
				return mysqldb.During("giving "+p.Permission+" on "+p.Resource.String(), err)
			}
		}
	}
	join := s.join
	if s.legacy {
		join = s.giveDirectly
	}
	if err := join(ctx, a, held, plans); err != nil {
		return mysqldb.During("giving the access of "+a.User, err)
	}
	return mysqldb.During("unlocking "+a.User, s.exec(ctx, s.Statement("ALTER USER ? ACCOUNT UNLOCK", a.Principal)))
}

// mayMake refuses before the first write what would fail halfway.
func (s *session) mayMake(ctx context.Context) error {
	mine, err := s.mine(ctx)
	if err != nil {
		return err
	}
	needed := []right{createUser}
	if !s.legacy {
		needed = append(needed, roleAdmin)
	}
	for _, r := range needed {
		if !r.held(mine) {
			return access.Errorf(access.Privilege, "the connector lacks %s", r.name).WithRemedy("%s", s.remedy(r))
		}
	}
	return nil
}

// create makes an account that is locked, and has a password that nobody knows.
func (s *session) create(ctx context.Context, a *account, sequence int64) error {
	text, with := s.identified("CREATE USER ?")
	if s.i.config.RequireTLS {
		text += " REQUIRE SSL"
	}
	text += " WITH MAX_USER_CONNECTIONS ? PASSWORD EXPIRE NEVER ACCOUNT LOCK"
	s.numbered(a, sequence, "") // fills the mark in
	var before []sqlname.Statement
	if s.legacy {
		before = append(before, s.remember(a.Principal, a.mark))
	} else {
		text += " ATTRIBUTE ?"
	}
	if err := s.exec(ctx, before...); err != nil {
		return err
	}
	return s.withPassword(ctx, a.User, func(password integrations.Secret) sqlname.Statement {
		args := append([]sqlname.Fragment{a.Principal}, with(password)...)
		args = append(args, sqlname.Number(maxConnections))
		if !s.legacy {
			args = append(args, a.mark.attribute())
		}
		return s.Statement(text, args...)
	})
}

// define makes an entitlement role and gives it what it stands for. It is made
// as a locked account with a password that nobody knows, which is what a role
// is: so its mark is there from the first moment.
func (s *session) define(ctx context.Context, p plan) error {
	m := mark{Kind: kindEntitlement, Instance: s.i.instance, Integration: s.i.id, Entitlement: &p.Entitlement, Applied: s.Now()}
	if !p.exists {
		err := s.withPassword(ctx, p.role.User, func(password integrations.Secret) sqlname.Statement {
			return s.Statement("CREATE USER ? IDENTIFIED BY ? PASSWORD EXPIRE NEVER ACCOUNT LOCK ATTRIBUTE ?", p.role, sqlname.Literal(password.Reveal()), m.attribute())
		})
		if err != nil {
			return err
		}
	} else if !p.fresh() {
		if err := s.exec(ctx, s.marking(p.role, m, "")...); err != nil {
			return err
		}
	}
	todo := p.wrong
	if len(p.lack) > 0 {
		todo = append(todo, p.Give(s.Conn, p.lack, p.role))
	}
	err := s.exec(ctx, todo...)
	if access.KindOf(err) == access.ResourceMissing {
		// It was there when it was read: somebody drops at the same time.
		err = access.Errorf(access.Conflict, "%v", err)
	}
	return err
}

// join makes the account a member, and every role that it holds by Lapse one
// that is active at login. A role that somebody gave it by hand stays as it is.
func (s *session) join(ctx context.Context, a *account, held []membership, plans []plan) error {
	var todo []sqlname.Statement
	var active []sqlname.Principal
	for _, m := range held {
		if m.Default || m.mark.Kind == kindEntitlement {
			active = append(active, m.role())
		}
	}
	for _, p := range plans {
		if !isMember(held, p.role) {
			todo = append(todo, s.Statement("GRANT ? TO ?", p.role, a.Principal))
		}
		if !slices.Contains(active, p.role) && (p.Ours() || !isMember(held, p.role)) {
			active = append(active, p.role)
		}
	}
	return s.exec(ctx, append(todo, s.defaults(a, active))...)
}

func (s *session) verify(ctx context.Context, who access.Account, targets []target) ([]access.Entry, error) {
	a, err := s.find(ctx, who)
	if err != nil {
		return nil, err
	}
	held, err := s.heldBy(ctx, a)
	if err != nil {
		return nil, err
	}
	entries := make([]access.Entry, len(targets))
	for n, t := range targets {
		if entries[n], err = s.verifyOne(ctx, a, held, t); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// verifyOne is Lowered when only a part of the privileges is there or they are
// not active at login, and Blocked when the account cannot use them.
func (s *session) verifyOne(ctx context.Context, a *account, held []membership, t target) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement, Outcome: access.Gone}
	if a.row == nil {
		entry.Facts = []string{"there is no account " + a.User}
		return entry, nil
	}
	i := slices.IndexFunc(held, func(m membership) bool { return m.role() == t.role })
	if i < 0 {
		entry.Facts = append([]string{"no membership in " + roleName(t.role)}, s.otherWays(ctx, t, a, held)...)
		return entry, nil
	}
	entry.Outcome, entry.Facts = access.Granted, []string{"member of " + roleName(t.role)}
	if a.row.Locked {
		entry.Outcome = access.Blocked
		entry.Facts = append(entry.Facts, "the account is locked")
	}
	if !t.Ours() {
		return entry, nil
	}
	lower := func(fact string) {
		if entry.Outcome == access.Granted {
			entry.Outcome = access.Lowered
		}
		entry.Facts = append(entry.Facts, fact)
	}
	if !held[i].Default {
		lower(roleName(t.role) + " is not active at login")
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return entry, err
	}
	if _, _, sees := t.Cut(mine); sees {
		err = t.Exists(ctx, s.Conn)
	}
	if access.KindOf(err) == access.ResourceMissing {
		entry.Outcome = access.Blocked
		entry.Facts = append(entry.Facts, err.Error())
		return entry, nil
	}
	if err != nil {
		return entry, err
	}
	carrier := t.role
	if s.legacy {
		carrier = a.Principal
	}
	given, err := s.ShowGrants(ctx, carrier)
	if mysqldb.Number(err) == 1141 {
		lower("role " + roleName(t.role) + " is not there")
		return entry, nil
	}
	if err != nil {
		return entry, err
	}
	if missing := t.Lacking(given, t.Core()); len(missing) > 0 {
		lower(fmt.Sprintf("%s is not given on %s", strings.Join(missing, ", "), t.Resource))
	}
	entry.Facts = append(entry.Facts, fmt.Sprintf("%s on %s", strings.Join(t.Given(given), ", "), t.Resource))
	return entry, nil
}
