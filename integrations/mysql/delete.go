package mysql

import (
	"context"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
	"github.com/lapse-access/lapse/internal/mysqldb"
	"github.com/lapse-access/lapse/internal/sqlname"
)

// deleteAccount locks the account first; from then on nothing can be lost by
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
	case a.row == nil && a.stranger != nil:
		return res, a.taken()
	case a.row == nil:
		return s.deletedBefore(ctx, a)
	}
	if err := s.exec(ctx, s.numbered(a, req.Sequence, "ACCOUNT LOCK")...); err != nil {
		return res, mysqldb.During("locking "+a.User, err)
	}
	if _, err := s.endSessions(ctx, a); err != nil {
		return res, err
	}
	defined, err := s.Definers(ctx, a.Principal)
	if err != nil {
		return res, err
	}
	if len(defined) == 0 {
		if err := s.mayDrop(ctx, a); err != nil {
			return res, err
		}
		// Its memberships go with the account, whoever gave them.
		err := s.Exec(ctx, s.forget(a.Principal)...)
		if mysqldb.Number(err) != 4006 {
			res.Outcome = access.Gone
			return res, mysqldb.During("dropping "+a.User, err)
		}
		res.Owns = []string{"something that the connector cannot see: the server says that the account is the definer of it"}
	}
	for _, d := range defined {
		res.Owns = append(res.Owns, d.String())
	}
	res.Outcome = access.KeptDisabled
	held, err := s.heldBy(ctx, a)
	if err != nil {
		return res, err
	}
	if _, err := s.keep(ctx, a, held); err != nil {
		return res, err
	}
	withdraw := s.withdraw
	if s.legacy {
		withdraw = s.takeDirectly
	}
	if err := withdraw(ctx, a, held, held, nil); err != nil {
		return res, err
	}
	if s.legacy {
		if _, err := s.keep(ctx, a, held); err != nil {
			return res, err
		}
	}
	if err := s.scramble(ctx, a); err != nil {
		return res, err
	}
	return res, s.bury(ctx, a)
}

// mayDrop refuses to drop an account of which the connector cannot know that
// nothing needs it: the server itself looks only when the caller may not make
// definers that do not exist, and not at all before 8.0.22.
// https://dev.mysql.com/doc/refman/8.4/en/stored-objects-security.html#stored-objects-security-orphan-objects
func (s *session) mayDrop(ctx context.Context, a *account) error {
	mine, err := s.mine(ctx)
	if err != nil {
		return err
	}
	blind := mine.Blind()
	if len(blind) == 0 {
		return nil
	}
	for _, p := range orphaning {
		if mine.Has(p) {
			return access.Errorf(access.Privilege, "with %s the connector would drop %s although something may need it, and without %s it cannot see that", p, a.User, strings.Join(blind, ", ")).
				WithRemedy("REVOKE %s ON *.* FROM %s", p, shown(s.Info.CurrentUser))
		}
	}
	if s.Info.Version < 80022 {
		return access.Errorf(access.Privilege, "without %s the connector cannot see whether something needs %s", strings.Join(blind, ", "), a.User).
			WithRemedy("GRANT %s ON *.* TO %s", strings.Join(blind, ", "), shown(s.Info.CurrentUser))
	}
	return nil
}

// orphaning are the privileges with which DROP USER takes a definer away.
var orphaning = []string{"ALLOW_NONEXISTENT_DEFINER", "SET_USER_ID"}

// deletedBefore answers for an account that is not there: one that was kept says
// so as long as something needs it.
func (s *session) deletedBefore(ctx context.Context, a *account) (res integrations.DeleteResult, err error) {
	res.Outcome = access.WasGone
	for _, t := range a.tombstones {
		defined, err := s.Definers(ctx, t.principal())
		if err != nil {
			return res, err
		}
		for _, d := range defined {
			res.Outcome, res.Owns = access.KeptDisabled, append(res.Owns, d.String())
		}
	}
	return res, nil
}

// keeping is what a closed account keeps for its triggers.
type keeping struct {
	give  []sqlname.Statement
	facts []string
}

// keep gives a locked account what the triggers that it is the definer of need,
// before its access is taken back.
func (s *session) keep(ctx context.Context, a *account, held []membership) (k keeping, err error) {
	defined, err := s.Definers(ctx, a.Principal)
	if err != nil {
		return k, err
	}
	mine, err := s.mine(ctx)
	if err != nil {
		return k, err
	}
	had, err := s.reach(ctx, a.Principal, map[sqlname.Principal]bool{})
	if err != nil {
		return k, err
	}
	if k.give, k.facts, err = s.Keep(ctx, a.Principal, defined, had, mine); err != nil {
		return k, err
	}
	if len(k.give) == 0 {
		return k, nil
	}
	a.mark.Kept = true
	give := append(s.marking(a.Principal, a.mark, ""), k.give...)
	return k, mysqldb.During("keeping what the triggers of "+a.User+" need", s.exec(ctx, give...))
}

// bury closes an account for good, under its name: the triggers, views and
// routines know it by that. The person gets another account, and nobody ever
// the rights of this one.
func (s *session) bury(ctx context.Context, a *account) error {
	a.mark.Kind = kindTombstone
	return mysqldb.During("closing "+a.User+" for good", s.exec(ctx, s.marking(a.Principal, a.mark, "ACCOUNT LOCK")...))
}
