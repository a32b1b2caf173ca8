package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
	"github.com/lapse-access/lapse/internal/mysqldb"
)

// maintain looks at one entitlement role, again now that it has the turn.
// Privileges outlive the database or table that they are on, and would be on the
// next one of its name: they are taken from the role when it is gone.
func (s *session) maintain(ctx context.Context, e access.Entitlement) (notes []string, err error) {
	t, err := s.i.parse(e)
	if err != nil {
		return nil, err
	}
	p, err := s.plan(ctx, t)
	missing := access.KindOf(err) == access.ResourceMissing
	if (err != nil && !missing) || !p.exists {
		return nil, err
	}
	members, err := s.memberships(ctx, "WHERE e.FROM_USER = ? AND e.FROM_HOST = ?", p.role.User, p.role.Host)
	if err != nil {
		return nil, err
	}
	switch {
	case len(members) == 0 && (missing || time.Since(p.applied) > idleAge):
		err := s.exec(ctx, s.forget(p.role)...)
		return []string{"dropped role " + p.role.User + ", which nobody has had for a while: " + p.Entitlement.String()}, mysqldb.During("dropping role "+p.role.User, err)
	case missing:
		given, err := s.ShowGrants(ctx, p.role)
		if err != nil {
			return nil, err
		}
		if words := p.Given(given); len(words) > 0 {
			if err := s.exec(ctx, p.Take(s.Conn, words, p.role)); err != nil {
				return nil, mysqldb.During("taking back the privileges on "+p.Resource.String(), err)
			}
		}
		return []string{fmt.Sprintf("%d accounts hold %s, which is not there any more", len(members), e)}, nil
	case len(members) == 0:
		return p.notes, nil
	}
	return p.notes, mysqldb.During("giving "+p.Permission+" on "+p.Resource.String(), s.define(ctx, p))
}

// clean drops one entitlement role, unless somebody has it.
func (s *session) clean(ctx context.Context, e access.Entitlement) (left []string, err error) {
	role := entitlementRole(s.i.instance, e)
	rows, err := s.rows(ctx, "WHERE u.User = ? AND u.Host = ?", role.User, role.Host)
	if err != nil || len(rows) == 0 || rows[0].mark.Kind != kindEntitlement {
		return nil, err
	}
	members, err := s.memberships(ctx, "WHERE e.FROM_USER = ? AND e.FROM_HOST = ?", role.User, role.Host)
	if err != nil {
		return nil, err
	}
	if len(members) > 0 {
		return []string{fmt.Sprintf("role %s: %s has it", role.User, members[0].Account)}, nil
	}
	return nil, mysqldb.During("dropping role "+role.User, s.exec(ctx, s.forget(role)...))
}
