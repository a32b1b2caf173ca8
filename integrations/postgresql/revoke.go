package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/integrations"
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
	if a.role == nil {
		return s.nothingToRevoke(ctx, a, end)
	}
	remain := map[string]bool{}
	open := false
	for _, claim := range req.Remain {
		t, err := s.i.parse(claim.Entitlement)
		if err != nil {
			return res, err
		}
		remain[t.role] = true
		open = open || !claim.Baseline
	}
	before, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return res, err
	}

	var errs []error
	first := []statement{s.numbered(a, req.Sequence)}
	if !open {
		first = append(first, disable(a.name))
	}
	errs = append(errs, during("closing the login of "+a.name, s.execOn(ctx, a.name, first...)))

	for _, m := range before {
		e, ours := s.carried(m)
		ended := slices.ContainsFunc(end, func(t target) bool { return t.role == m.Role })
		switch {
		case remain[m.Role]:
		case ours && !ended:
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s held %s for which there is no hold; it was taken back", a.name, e))
			errs = append(errs, s.withdraw(ctx, a.name, m))
		case ours, ended && a.byUs(m):
			errs = append(errs, s.withdraw(ctx, a.name, m))
		case !ended:
			res.Notes = append(res.Notes, fmt.Sprintf("drift: %s is a member of %s, granted by %s", a.name, m.Role, m.Grantor))
		}
	}

	var ended int32
	if s.i.config.TerminateSessions == "always" || (s.i.config.TerminateSessions == "last" && !open) {
		n, err := s.endSessions(ctx, a.name, a.role.OID)
		ended, errs = n, append(errs, err)
	}

	after, err := s.memberships(ctx, a.role.OID)
	if err != nil {
		return res, access.Worst(append(errs, err)...)
	}
	var common []string
	if !open {
		common = append(common, "login is disabled")
	}
	if ended > 0 {
		common = append(common, fmt.Sprintf("sessions ended: %d", ended))
	}
	res.Wrote = wrote(req.Wrote)
	for _, t := range end {
		if !remain[t.role] {
			delete(res.Wrote, t.role)
		}
		entry, err := closed(t, before, after, remain[t.role])
		errs = append(errs, err)
		entry.Facts = append(entry.Facts, common...)
		entry.Facts = append(entry.Facts, s.otherWays(ctx, t, a.role.OID)...)
		res.Entries = append(res.Entries, entry)
	}
	return res, access.Worst(errs...)
}

// closed is what became of one membership. One in Lapse's own roles that is
// still there, and need not be, is an error.
func closed(t target, before, after []membership, keep bool) (access.Entry, error) {
	entry := access.Entry{Entitlement: t.Entitlement}
	var grantors []string
	for _, m := range after {
		if m.Role == t.role {
			grantors = append(grantors, m.Grantor)
		}
	}
	by := strings.Join(grantors, ", ")
	switch {
	case len(grantors) == 0 && isMember(before, t.role):
		entry.Outcome, entry.Facts = access.Gone, []string{"membership in " + t.role + " is gone"}
	case len(grantors) == 0:
		entry.Outcome, entry.Facts = access.WasGone, []string{"there was no membership in " + t.role}
	case keep:
		entry.Outcome, entry.Facts = access.Lowered, []string{"membership in " + t.role + " is kept for another hold or the baseline"}
	case t.ours():
		entry.Outcome = access.Blocked
		return entry, access.Errorf(access.Conflict, "membership in %s is still granted by %s", t.role, by)
	default:
		entry.Outcome, entry.Facts = access.Lowered, []string{"still has access through " + t.role + ": granted by " + by}
	}
	return entry, nil
}

// nothingToRevoke answers for an account that is not there. A role of its name
// without our mark must not hide access that is to end.
func (s *session) nothingToRevoke(ctx context.Context, a *account, end []target) (res integrations.RevokeResult, err error) {
	var held []membership
	if a.stranger != nil {
		if held, err = s.memberships(ctx, a.stranger.OID); err != nil {
			return res, err
		}
	}
	res.Wrote = map[string]string{}
	for _, t := range end {
		if isMember(held, t.role) {
			return res, a.taken()
		}
		res.Entries = append(res.Entries, access.Entry{Entitlement: t.Entitlement, Outcome: access.WasGone, Facts: []string{"there is no account " + a.name}})
	}
	return res, nil
}

// otherWays tells how an account still comes by the privileges of an
// entitlement: PUBLIC, another role, ownership. It is a fact and no failure,
// and so is not being able to look.
func (s *session) otherWays(ctx context.Context, t target, role int64) []string {
	if !t.ours() {
		return nil
	}
	c, err := s.database(ctx, t.database)
	if err != nil {
		return []string{"not looked into " + t.database + ": " + err.Error()}
	}
	sources, err := ask[source](ctx, c, throughSQL, role, null(t.schema), null(t.table), t.wants(s.server.Version).table)
	if err != nil {
		return []string{"not looked into " + t.database + ": " + err.Error()}
	}
	var facts []string
	for _, from := range sources {
		name := from.Name
		if e, ok := s.carried(membership{Comment: from.Comment}); ok {
			name = e.String()
		}
		facts = append(facts, fmt.Sprintf("still has access to %s through %s", t.Resource, name))
	}
	return facts
}
