package postgresql

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
)

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
	var held []membership
	if a.role != nil {
		if held, err = s.memberships(ctx, a.role.OID); err != nil {
			return res, err
		}
	}
	plans := make([]plan, len(targets))
	var grantors []string
	for n, t := range targets {
		if plans[n], err = s.plan(ctx, t); err != nil {
			return res, err
		}
		grantors = append(grantors, plans[n].grantors...)
		res.Notes = append(res.Notes, plans[n].notes...)
	}

	if err := s.open(ctx, req, a, held, plans, grantors); err != nil {
		return res, err
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

// open is all that a grant writes.
func (s *session) open(ctx context.Context, req integrations.GrantRequest, a *account, held []membership, plans []plan, grantors []string) error {
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
		return during("making the roles of "+a.name, err)
	}

	// What the entitlement roles stand for, in each database.
	for _, p := range plans {
		if err := s.define(ctx, p); err != nil {
			return err
		}
	}

	// Membership, and the login last.
	var join []statement
	for _, p := range plans {
		if len(p.define) > 0 {
			join = append(join, s.entitlementMark(p, s.now()))
		}
		if !usable(held, p.target) {
			join = append(join, s.membershipIn(p.target, a.name))
		}
	}
	return during("giving the memberships of "+a.name, s.execOn(ctx, a.name, append(join, a.enable(req.End))...))
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
	if t.ours() && s.server.Version == unread {
		return ddl("GRANT ? TO ??", ident(t.role), ident(account), signature(integrations.Found(" WITH INHERIT TRUE, SET FALSE from PostgreSQL 16 on")))
	}
	if t.ours() && s.server.grantorsMatter() {
		return ddl("GRANT ? TO ? WITH INHERIT TRUE, SET FALSE", ident(t.role), ident(account))
	}
	return ddl("GRANT ? TO ?", ident(t.role), ident(account))
}

func isMember(held []membership, role string) bool {
	return slices.ContainsFunc(held, func(m membership) bool { return m.Role == role })
}

// usable is true when a membership is there that need not be given again. One
// in Lapse's own roles must give their privileges by itself; how somebody gave
// a role of the customer by hand is theirs to decide.
func usable(held []membership, t target) bool {
	return slices.ContainsFunc(held, func(m membership) bool { return m.Role == t.role && (m.Inherits || !t.ours()) })
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

// verifyOne is Lowered when only a part of the privileges is there, and Blocked
// when the account has them and cannot use them.
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
