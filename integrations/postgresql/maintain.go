package postgresql

import (
	"context"
	"fmt"
	"time"

	"github.com/lapse-access/lapse/access"
)

// idleAge is how long an entitlement role stays after it was last in use.
const idleAge = 7 * 24 * time.Hour

// maintain looks at one entitlement role, again now that it has the turn.
func (s *session) maintain(ctx context.Context, e access.Entitlement) (notes []string, err error) {
	t, err := s.i.parse(e)
	if err != nil {
		return nil, err
	}
	p, err := s.plan(ctx, t)
	missing := access.KindOf(err) == access.ResourceMissing
	switch {
	case err != nil && !missing:
		return nil, err
	case !p.exists:
		return nil, nil
	case p.members == 0 && (missing || time.Since(p.applied) > idleAge):
		return s.dropRole(ctx, p)
	case missing:
		return []string{fmt.Sprintf("%d accounts hold %s, which is not there any more", p.members, e)}, nil
	case p.members == 0, len(p.define) == 0 && p.fresh():
		return p.notes, nil
	}
	if err := s.define(ctx, p); err != nil {
		return p.notes, err
	}
	return p.notes, during("marking role "+p.role, s.execOn(ctx, p.role, s.entitlementMark(p, time.Now().UTC().Truncate(time.Second))))
}

// dropRole drops an entitlement role without members, unless it owns things.
func (s *session) dropRole(ctx context.Context, p plan) (notes []string, err error) {
	needed, err := s.release(ctx, p.role, p.oid)
	if err != nil {
		return nil, err
	}
	if len(needed) > 0 {
		return []string{fmt.Sprintf("role %s is not in use and is kept: %s", p.role, needed[0])}, nil
	}
	return []string{"dropped role " + p.role + ", which nobody has had for a while: " + p.Entitlement.String()},
		during("dropping role "+p.role, s.execOn(ctx, p.role, ddl("DROP ROLE IF EXISTS ?", ident(p.role))))
}
