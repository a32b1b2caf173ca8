package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// revoke goes through every step, also after one that failed, and returns what
// failed together.
func (s *session) revoke(ctx context.Context, req integrations.RevokeRequest, end []target) (res integrations.RevokeResult, err error) {
	a, err := s.find(ctx, req.Account)
	if err != nil {
		return res, err
	}
	if err := a.admit(req.Sequence); err != nil {
		return res, err
	}
	if a.row == nil {
		return s.nothingToRevoke(ctx, a, end)
	}
	remain := map[sqlname.Principal]bool{}
	open := false
	for _, claim := range req.Remain {
		t, err := s.i.parse(claim.Entitlement)
		if err != nil {
			return res, err
		}
		remain[t.role] = true
		open = open || !claim.Baseline
	}

	var errs []error
	lock := ""
	if !open {
		lock = "ACCOUNT LOCK"
	}
	lockErr := mysqldb.During("locking "+a.User, s.exec(ctx, s.numbered(a, req.Sequence, lock)...))
	errs = append(errs, lockErr)
	before, err := s.heldBy(ctx, a)
	if err != nil {
		return res, access.Worst(append(errs, err)...)
	}
	var kept keeping
	if !open && lockErr == nil {
		// A lock is enough; what is left of a password is for who unlocks it.
		if err := s.scramble(ctx, a); err != nil {
			res.Notes = append(res.Notes, fmt.Sprintf("the password of %s could not be changed: %v", a.User, err))
		}
		if kept, err = s.keep(ctx, a, before); err != nil {
			errs = append(errs, err)
		}
	}

	var leaving []membership
	for _, m := range before {
		e, ours := m.carried()
		ended := slices.ContainsFunc(end, func(t target) bool { return t.role == m.role() })
		switch {
		case remain[m.role()]:
		case ours && !ended:
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s held %s for which there is no hold; it was taken back", a.User, e))
			leaving = append(leaving, m)
		case ended:
			leaving = append(leaving, m)
		default:
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s is a member of %s", a.User, m.name()))
		}
	}
	withdraw := s.withdraw
	if s.legacy {
		withdraw = s.takeDirectly
	}
	errs = append(errs, withdraw(ctx, a, before, leaving, end))
	if s.legacy {
		errs = append(errs, s.exec(ctx, kept.give...))
	}

	ended := 0
	if s.i.config.TerminateSessions == "always" || (s.i.config.TerminateSessions == "last" && !open) {
		n, err := s.endSessions(ctx, a)
		ended, errs = n, append(errs, err)
	}

	after, err := s.heldBy(ctx, a)
	if err != nil {
		return res, access.Worst(append(errs, err)...)
	}
	var common []string
	if !open {
		common = append(common, "the account is locked")
	}
	if ended > 0 {
		common = append(common, fmt.Sprintf("sessions ended: %d", ended))
	}
	common = append(common, kept.facts...)
	res.Wrote = mysqldb.Wrote(req.Wrote)
	for _, t := range end {
		if !remain[t.role] {
			delete(res.Wrote, t.slot())
		}
		entry, err := closed(t, before, after, remain[t.role])
		errs = append(errs, err)
		entry.Facts = append(entry.Facts, common...)
		if len(kept.give) == 0 {
			entry.Facts = append(entry.Facts, s.otherWays(ctx, t, a, after)...)
		}
		res.Entries = append(res.Entries, entry)
	}
	if err := access.Worst(errs...); err != nil {
		return res, err
	}
	if len(kept.give) > 0 {
		return res, s.bury(ctx, a)
	}
	return res, nil
}

// withdraw takes memberships back, one by one, and then looks that none of them
// is a default role any more.
func (s *session) withdraw(ctx context.Context, a *account, before, leaving []membership, _ []target) error {
	var errs []error
	for _, m := range leaving {
		err := s.exec(ctx, s.Statement("REVOKE ? FROM ?", m.role(), a.Principal))
		if n := mysqldb.Number(err); n == 3523 || n == 3530 {
			err = nil // the role is gone, and the membership with it
		}
		errs = append(errs, mysqldb.During("taking back membership in "+m.name(), err))
	}
	if len(leaving) == 0 {
		return access.Worst(errs...)
	}
	var active []sqlname.Principal
	for _, m := range before {
		if m.Default && !isMember(leaving, m.role()) {
			active = append(active, m.role())
		}
	}
	errs = append(errs, mysqldb.During("setting the default roles of "+a.User, s.exec(ctx, s.defaults(a, active))))
	return access.Worst(errs...)
}

// closed is what became of one membership. One in Lapse's own roles that is
// still there, and need not be, is an error.
func closed(t target, before, after []membership, keep bool) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement}
	name := roleName(t.role)
	switch {
	case !isMember(after, t.role) && isMember(before, t.role):
		entry.Outcome, entry.Facts = access.Gone, []string{"membership in " + name + " is gone"}
	case !isMember(after, t.role):
		entry.Outcome, entry.Facts = access.WasGone, []string{"there was no membership in " + name}
	case keep:
		entry.Outcome, entry.Facts = access.Lowered, []string{"membership in " + name + " is kept for another hold or the baseline"}
	default:
		entry.Outcome = access.Blocked
		return entry, access.Errorf(access.Conflict, "membership in %s is still there", name)
	}
	return entry, nil
}

// nothingToRevoke answers for an account that is not there. One of its name
// without our mark must not hide access that is to end.
func (s *session) nothingToRevoke(ctx context.Context, a *account, end []target) (res integrations.RevokeResult, err error) {
	var held []membership
	if a.stranger != nil && !s.legacy {
		if held, err = s.memberships(ctx, "WHERE e.TO_USER = ? AND e.TO_HOST = ?", a.stranger.User, a.stranger.Host); err != nil {
			return res, err
		}
	}
	res.Wrote = map[string]string{}
	for _, t := range end {
		if isMember(held, t.role) {
			return res, a.taken()
		}
		res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{"there is no account " + a.User}})
	}
	return res, nil
}

// otherWays tells how an account still comes by the privileges of an
// entitlement: given to itself, or through another role. It is a fact and no
// failure, and so is not being able to look.
func (s *session) otherWays(ctx context.Context, t target, a *account, held []membership) (facts []string) {
	if !t.Ours() || s.legacy {
		return nil
	}
	look := func(p sqlname.Principal, name string) {
		given, err := s.reach(ctx, p, map[sqlname.Principal]bool{})
		if err != nil {
			facts = append(facts, "not looked into "+name+": "+err.Error())
			return
		}
		if slices.ContainsFunc(t.Core(), func(w string) bool { return given.Holds(w, t.Database, t.Table) }) {
			facts = append(facts, fmt.Sprintf("still has access to %s through %s", t.Resource, name))
		}
	}
	for _, m := range held {
		name := m.name()
		if e, ok := m.carried(); ok {
			name = e.String()
		}
		if m.role() != t.role {
			look(m.role(), name)
		}
	}
	direct, err := s.ShowGrants(ctx, a.Principal)
	if err != nil {
		return append(facts, "not looked into the account's own privileges: "+err.Error())
	}
	if slices.ContainsFunc(t.Core(), func(w string) bool { return direct.Holds(w, t.Database, t.Table) }) {
		facts = append(facts, fmt.Sprintf("still has access to %s through privileges of its own", t.Resource))
	}
	return facts
}

// reach is what an account or role was given, and what its roles were.
func (s *session) reach(ctx context.Context, p sqlname.Principal, seen map[sqlname.Principal]bool) (mysqldb.Grants, error) {
	if seen[p] {
		return nil, nil
	}
	seen[p] = true
	given, err := s.ShowGrants(ctx, p)
	if err != nil {
		return nil, err
	}
	all := given
	for _, r := range given.Roles() {
		more, err := s.reach(ctx, r, seen)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}
